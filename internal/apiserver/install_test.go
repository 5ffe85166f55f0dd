package apiserver

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"

	"serin.dev/serin/internal/apiserver/crds"
)

// The first start writes definitions into the store, later ones send what is
// missing to the API. Nobody can tell from a definition which it was.
func TestBothRoadsInstallTheSameDefinitions(t *testing.T) {
	all, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := start(t, Config{DataDir: dir})
	seeded := storedDefinitions(t, s)
	if len(seeded) != len(all) {
		t.Errorf("the first start installed %d definitions; want %d", len(seeded), len(all))
	}
	// The one that stays tells the next start that it is not the first.
	deleteDefinitions(t, s, fields.OneTermNotEqualSelector("metadata.name", all[0].Name), len(all)-1)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}

	sent := storedDefinitions(t, start(t, Config{DataDir: dir}))
	diff := cmp.Diff(seeded, sent,
		cmpopts.IgnoreFields(metav1.ObjectMeta{}, "UID", "CreationTimestamp", "ResourceVersion", "ManagedFields"),
		cmpopts.IgnoreFields(apiextensionsv1.CustomResourceDefinitionCondition{}, "LastTransitionTime"))
	if diff != "" {
		t.Errorf("definitions in the store (-) differ from those that the API made (+):\n%s", diff)
	}
	for name, crd := range sent {
		if name != all[0].Name && (crd.UID == seeded[name].UID || crd.UID == "") {
			t.Errorf("%s has UID %q in both; want it made anew", name, crd.UID)
		}
	}
}

// Of two servers that start on a new etcd cluster one may look while the other
// writes, and then make what is there by now.
func TestADefinitionThatAnotherServerMadeMeanwhileIsNoFailure(t *testing.T) {
	s := start(t, Config{})
	client := apiextensionsclient.NewForConfigOrDie(s.RESTConfig()).CustomResourceDefinitions()
	all, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	const seen = false
	crd, err := ensureDefinition(t.Context(), client, all[0], seen)
	if err != nil || crd.Name != all[0].Name || !established(crd) {
		t.Errorf("%v, error %v; want %s as it is", crd.Name, err, all[0].Name)
	}
}

// deleteDefinitions returns when the n that are selected are gone.
func deleteDefinitions(t *testing.T, s *Server, which fields.Selector, n int) {
	t.Helper()
	client := apiextensionsclient.NewForConfigOrDie(s.RESTConfig()).CustomResourceDefinitions()
	list, err := client.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := client.Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := client.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: which.String()}); err != nil {
		t.Fatal(err)
	}
	for event := range w.ResultChan() {
		if event.Type == watch.Deleted {
			n--
		}
		if n == 0 {
			return
		}
	}
	t.Fatalf("the watch ended, and %d definitions are not gone", n)
}

func storedDefinitions(t *testing.T, s *Server) map[string]apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	list, err := apiextensionsclient.NewForConfigOrDie(s.RESTConfig()).CustomResourceDefinitions().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]apiextensionsv1.CustomResourceDefinition{}
	for _, crd := range list.Items {
		out[crd.Name] = crd
	}
	return out
}
