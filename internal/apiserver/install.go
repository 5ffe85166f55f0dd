package apiserver

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	apiextensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	informers "k8s.io/apiextensions-apiserver/pkg/client/informers/externalversions/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/client-go/discovery"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"

	"serin.dev/serin/internal/apiserver/crds"
)

// hashAnnotation on a CRD says from which file it was made. A restart rewrites
// only what a new version of Serin has changed.
const hashAnnotation = "serin.dev/definition-hash"

func ensureNamespaces(ctx context.Context, config *restclient.Config) error {
	client, err := corev1client.NewForConfig(config)
	if err != nil {
		return err
	}
	for _, name := range permanentNamespaces {
		_, err := client.Namespaces().Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = client.Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		}
		if err != nil && !apierrors.IsAlreadyExists(err) { // by another server on the same etcd cluster
			return fmt.Errorf("namespace %s: %w", name, err)
		}
	}
	return nil
}

// seedDefinitions writes the embedded CRDs into a store that has none yet, in the
// state in which the API and its controllers leave them: defaulted, with their
// names accepted, established. By that road the same takes a second of CPU, four
// writes of each schema, and waiting. There is nobody yet whose names could be
// in the way, and a test holds that both roads lead to the same.
func seedDefinitions(ctx context.Context, db *database) error {
	store, err := customresourcedefinition.NewREST(apiextensionsserver.Scheme, db.options(definitionOptions()))
	if err != nil {
		return err
	}
	defer store.Destroy()
	if stored, err := store.Storage.Stats(ctx); err != nil || stored.ObjectCount > 0 {
		return err
	}
	all, err := crds.All()
	if err != nil {
		return err
	}
	now := metav1.Now()
	return forEach(all, func(d crds.Definition) error {
		crd, err := d.Parse()
		if err != nil {
			return err
		}
		establish(crd, d.Hash, now)
		key, err := store.KeyFunc(ctx, d.Name)
		if err != nil {
			return err
		}
		err = store.Storage.Create(ctx, key, crd, nil, 0, false)
		if storage.IsExist(err) {
			return nil // another server on the same etcd cluster is as new
		}
		return err
	})
}

// establish gives a definition what the API adds to one that it accepts.
func establish(crd *apiextensionsv1.CustomResourceDefinition, hash string, now metav1.Time) {
	crd.Annotations = map[string]string{hashAnnotation: hash}
	crd.UID, crd.CreationTimestamp, crd.Generation = uuid.NewUUID(), now, 1
	apiextensionsserver.Scheme.Default(crd)
	crd.Status.AcceptedNames = crd.Spec.Names
	crd.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{
		{Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue, LastTransitionTime: now, Reason: "NoConflicts", Message: "no conflicts found"},
		{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue, LastTransitionTime: now, Reason: "InitialNamesAccepted", Message: "the initial names have been accepted"},
	}
}

// forEach does f with all definitions at once.
func forEach(all []crds.Definition, f func(crds.Definition) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	for i, d := range all {
		wg.Go(func() { errs[i] = f(d) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("install definition %s: %w", all[i].Name, err)
		}
	}
	return nil
}

// ensureDefinitions installs those embedded CRDs that are not stored as they are
// in this binary, and waits until they are served.
func ensureDefinitions(ctx context.Context, config *restclient.Config, stored informers.CustomResourceDefinitionInformer) error {
	all, err := crds.All()
	if err != nil {
		return err
	}
	if !cache.WaitForCacheSync(ctx.Done(), stored.Informer().HasSynced) {
		return context.Cause(ctx)
	}
	present, err := stored.Lister().List(labels.Everything())
	if err != nil {
		return err
	}
	known := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, crd := range present {
		known[crd.Name] = crd
	}
	client, err := apiextensionsclient.NewForConfig(config)
	if err != nil {
		return err
	}
	served, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	return forEach(all, func(d crds.Definition) error {
		old := known[d.Name]
		if old != nil && old.Annotations[hashAnnotation] == d.Hash && established(old) {
			return nil
		}
		crd, err := ensureDefinition(ctx, client.CustomResourceDefinitions(), d, old != nil)
		if err != nil {
			return err
		}
		return waitServed(ctx, served, crd)
	})
}

// ensureDefinition writes one definition and returns it. One that did not exist
// may do so by now: another server on the same etcd cluster starts as well.
func ensureDefinition(ctx context.Context, client apiextensionsclient.CustomResourceDefinitionInterface, d crds.Definition, exists bool) (*apiextensionsv1.CustomResourceDefinition, error) {
	crd, err := d.Parse()
	if err != nil {
		return nil, err
	}
	crd.Annotations = map[string]string{hashAnnotation: d.Hash}
	if !exists {
		created, err := client.Create(ctx, crd, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return created, err
		}
	}
	var updated *apiextensionsv1.CustomResourceDefinition
	// The definition's own controllers write its status at the same time.
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		now, err := client.Get(ctx, d.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		now.Spec, now.Annotations = crd.Spec, crd.Annotations
		updated, err = client.Update(ctx, now, metav1.UpdateOptions{})
		return err
	})
	return updated, err
}

// waitServed waits until clients find the kind, in all its versions and under
// all its names. Four controllers have to pass it on until then.
func waitServed(ctx context.Context, client discovery.DiscoveryInterface, crd *apiextensionsv1.CustomResourceDefinition) error {
	const every = 10 * time.Millisecond
	return wait.PollUntilContextCancel(ctx, every, true, func(ctx context.Context) (bool, error) {
		for _, v := range crd.Spec.Versions {
			if v.Served && !lists(client, crd, v.Name) {
				return false, nil
			}
		}
		return true, nil
	})
}

func lists(client discovery.DiscoveryInterface, crd *apiextensionsv1.CustomResourceDefinition, version string) bool {
	list, err := client.ServerResourcesForGroupVersion(crd.Spec.Group + "/" + version)
	if err != nil {
		return false // not served yet
	}
	for _, r := range list.APIResources {
		if r.Name == crd.Spec.Names.Plural {
			return r.Kind == crd.Spec.Names.Kind && slices.Equal(r.ShortNames, crd.Spec.Names.ShortNames)
		}
	}
	return false
}
