package apiserver

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	authenticationv1 "k8s.io/api/authentication/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	informers "k8s.io/apiextensions-apiserver/pkg/client/informers/externalversions/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	utilversion "k8s.io/apimachinery/pkg/version"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kube-openapi/pkg/cached"
	"k8s.io/kube-openapi/pkg/spec3"
)

// groupDiscovery tells clients about the groups of CRDs, which come and go with
// their CRDs: it lists them under /apis for clients that do not ask for the
// aggregated form, and describes them under /openapi/v3.
//
// A description takes more to make than all else about a definition, and few
// clients ask, so it is made when one does. apiextensions' own controller, which
// makes each at start and at every change, is not run.
type groupDiscovery struct {
	definitions  informers.CustomResourceDefinitionInformer
	server       *server.GenericAPIServer
	registration cache.ResourceEventHandlerRegistration
	described    map[string][]string // versions by group; the informer's goroutine alone has it
}

func newGroupDiscovery(definitions informers.CustomResourceDefinitionInformer, server *server.GenericAPIServer) (*groupDiscovery, error) {
	d := &groupDiscovery{definitions: definitions, server: server, described: map[string][]string{}}
	update := func(obj any) {
		if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		d.update(obj.(*apiextensionsv1.CustomResourceDefinition).Spec.Group)
	}
	var err error
	d.registration, err = definitions.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    update,
		UpdateFunc: func(_, obj any) { update(obj) },
		DeleteFunc: update,
	})
	return d, err
}

// synced waits until all groups known at start are listed.
func (d *groupDiscovery) synced(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), d.registration.HasSynced) {
		return context.Cause(ctx)
	}
	return nil
}

// update lists a group with the versions that its established CRDs serve,
// preferred first, and removes a group without any.
func (d *groupDiscovery) update(group string) {
	all, err := d.definitions.Lister().List(labels.Everything())
	if err != nil {
		return // a lister reads memory and has no errors
	}
	serving := map[string][]*apiextensionsv1.CustomResourceDefinition{} // by version
	for _, crd := range all {
		if crd.Spec.Group != group || !established(crd) {
			continue
		}
		for _, v := range crd.Spec.Versions {
			if v.Served {
				serving[v.Name] = append(serving[v.Name], crd)
			}
		}
	}
	d.describe(group, serving)
	if len(serving) == 0 {
		d.server.DiscoveryGroupManager.RemoveGroup(group)
		return
	}
	versions := slices.SortedFunc(maps.Keys(serving), func(a, b string) int { return utilversion.CompareKubeAwareVersionStrings(b, a) })
	out := metav1.APIGroup{Name: group}
	for _, v := range versions {
		out.Versions = append(out.Versions, metav1.GroupVersionForDiscovery{GroupVersion: group + "/" + v, Version: v})
	}
	out.PreferredVersion = out.Versions[0]
	d.server.DiscoveryGroupManager.AddGroup(out)
}

// describe replaces the OpenAPI documents of a group, one for each version.
func (d *groupDiscovery) describe(group string, serving map[string][]*apiextensionsv1.CustomResourceDefinition) {
	for _, version := range d.described[group] {
		if len(serving[version]) == 0 {
			d.server.OpenAPIV3VersionedService.DeleteGroupVersion(openAPIPath(group, version))
		}
	}
	for version, definitions := range serving {
		d.server.OpenAPIV3VersionedService.UpdateGroupVersionLazy(openAPIPath(group, version), cached.Once(cached.Func(
			func() (*spec3.OpenAPI, string, error) {
				document, err := openAPIOf(definitions, version)
				return document, rand.Text(), err // never the tag of an earlier one
			})))
	}
	d.described[group] = slices.Collect(maps.Keys(serving))
}

func openAPIPath(group, version string) string { return "apis/" + group + "/" + version }

// openAPIOf describes one version of a group, of which these are the definitions.
func openAPIOf(definitions []*apiextensionsv1.CustomResourceDefinition, version string) (*spec3.OpenAPI, error) {
	var parts []*spec3.OpenAPI
	for _, crd := range definitions {
		part, err := builder.BuildOpenAPIV3(crd, version, builder.Options{IncludeSelectableFields: true})
		if err != nil {
			continue // what has no description is served all the same
		}
		parts = append(parts, part)
	}
	return builder.MergeSpecsV3(parts...)
}

func established(crd *apiextensionsv1.CustomResourceDefinition) bool {
	for _, c := range crd.Status.Conditions {
		if c.Type == apiextensionsv1.Established {
			return c.Status == apiextensionsv1.ConditionTrue
		}
	}
	return false
}

// serveEmptyOpenAPIV2 answers /openapi/v2, which kubectl asks about a kind that
// version 3 does not describe. An empty document lets it go on to say that
// there is no such kind; the real one would take some 15 MB and nobody else
// reads it.
func serveEmptyOpenAPIV2(mux *mux.PathRecorderMux) error {
	doc := &openapiv2.Document{
		Swagger: "2.0",
		Info:    &openapiv2.Info{Title: "Serin: see /openapi/v3", Version: kubernetesVersion},
		Paths:   &openapiv2.Paths{},
	}
	binary, err := proto.Marshal(doc)
	if err != nil {
		return err
	}
	text := []byte(`{"swagger":"2.0","info":{"title":"` + doc.Info.Title + `","version":"` + doc.Info.Version + `"},"paths":{}}`)
	mux.HandleFunc("/openapi/v2", func(w http.ResponseWriter, r *http.Request) {
		body, mime := text, "application/json"
		if strings.Contains(r.Header.Get("Accept"), "protobuf") {
			body, mime = binary, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
		}
		w.Header().Set("Content-Type", mime)
		_, _ = w.Write(body) // a client that went away needs no answer
	})
	return nil
}

// selfReview answers `kubectl auth whoami`.
type selfReview struct{}

var (
	_ rest.Creater              = selfReview{}
	_ rest.SingularNameProvider = selfReview{}
)

func (selfReview) New() runtime.Object     { return &authenticationv1.SelfSubjectReview{} }
func (selfReview) Destroy()                {}
func (selfReview) NamespaceScoped() bool   { return false }
func (selfReview) GetSingularName() string { return "selfsubjectreview" }

func (selfReview) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	review, ok := obj.(*authenticationv1.SelfSubjectReview)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("a SelfSubjectReview is expected, not a %T", obj))
	}
	if validate != nil {
		if err := validate(ctx, review); err != nil {
			return nil, err
		}
	}
	who, ok := genericapirequest.UserFrom(ctx)
	if !ok {
		return nil, apierrors.NewBadRequest("the request has no user")
	}
	review.Status.UserInfo = authenticationv1.UserInfo{Username: who.GetName(), UID: who.GetUID(), Groups: who.GetGroups()}
	return review, nil
}
