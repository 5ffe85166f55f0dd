package apiserver

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/client/informers/externalversions"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/kube-openapi/pkg/handler3"
)

// A client that asks gets the description of what is served at that moment.
func TestDescriptionsFollowDefinitions(t *testing.T) {
	documents := handler3.NewOpenAPIService()
	mux := http.NewServeMux()
	mux.HandleFunc("/openapi/v3", documents.HandleDiscovery)
	mux.HandleFunc("/openapi/v3/", documents.HandleGroupVersion)
	definitions := externalversions.NewSharedInformerFactory(nil, 0).Apiextensions().V1().CustomResourceDefinitions()
	groups, err := newGroupDiscovery(definitions, &server.GenericAPIServer{
		DiscoveryGroupManager:     discovery.NewRootAPIsHandler(discovery.DefaultAddresses{}, apiextensionsserver.Codecs),
		OpenAPIV3VersionedService: documents,
	})
	if err != nil {
		t.Fatal(err)
	}
	stored := definitions.Informer().GetStore()
	put := func(crd *apiextensionsv1.CustomResourceDefinition) {
		t.Helper()
		if err := stored.Update(crd); err != nil {
			t.Fatal(err)
		}
		groups.update(crd.Spec.Group)
	}
	get := func(path string) string {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Body.String()
	}
	wantIn := func(path string, want, not []string) {
		t.Helper()
		body := get(path)
		for _, s := range want {
			if !strings.Contains(body, s) {
				t.Errorf("%s does not say %q:\n%.600s", path, s, body)
			}
		}
		for _, s := range not {
			if strings.Contains(body, s) {
				t.Errorf("%s says %q:\n%.600s", path, s, body)
			}
		}
	}
	const index, v1 = "/openapi/v3", "/openapi/v3/apis/example.com/v1"

	put(definition("Bird", "sings", false, "v1"))
	wantIn(index, nil, []string{"example.com"}) // not established, not served
	put(definition("Bird", "sings", true, "v1", "v2"))
	wantIn(index, []string{"apis/example.com/v1?hash=", "apis/example.com/v2?hash="}, nil)
	wantIn(v1, []string{"/apis/example.com/v1/namespaces/{namespace}/birds/{name}", `"sings"`}, nil)

	before := get(index)
	put(definition("Bird", "croaks", true, "v1"))
	wantIn(v1, []string{`"croaks"`}, []string{`"sings"`})
	wantIn(index, []string{"apis/example.com/v1?hash="}, []string{"example.com/v2"})
	if get(index) == before {
		t.Error("the index still has the hash of the description before the change")
	}
	put(definition("Egg", "weighs", true, "v1"))
	wantIn(v1, []string{`"croaks"`, `"weighs"`}, nil)

	for _, kind := range []string{"Bird", "Egg"} {
		crd := definition(kind, "", true, "v1")
		if err := stored.Delete(crd); err != nil {
			t.Fatal(err)
		}
		groups.update(crd.Spec.Group)
	}
	wantIn(index, nil, []string{"example.com"})
}

// definition is one of group example.com, with one field in its spec.
func definition(kind, field string, established bool, versions ...string) *apiextensionsv1.CustomResourceDefinition {
	plural := strings.ToLower(kind) + "s"
	names := apiextensionsv1.CustomResourceDefinitionNames{Kind: kind, ListKind: kind + "List", Plural: plural, Singular: strings.ToLower(kind)}
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: plural + ".example.com"},
		Spec:       apiextensionsv1.CustomResourceDefinitionSpec{Group: "example.com", Names: names, Scope: apiextensionsv1.NamespaceScoped},
		Status:     apiextensionsv1.CustomResourceDefinitionStatus{AcceptedNames: names},
	}
	object := apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{field: {Type: "boolean"}}}
	for i, v := range versions {
		crd.Spec.Versions = append(crd.Spec.Versions, apiextensionsv1.CustomResourceDefinitionVersion{
			Name: v, Served: true, Storage: i == 0,
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
				Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": object},
			}},
		})
	}
	if established {
		crd.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue}}
	}
	return crd
}
