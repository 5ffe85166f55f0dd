package apiserver

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	restclient "k8s.io/client-go/rest"
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
		if err != nil {
			return fmt.Errorf("namespace %s: %w", name, err)
		}
	}
	return nil
}

// ensureDefinitions installs the embedded CRDs and waits until they are served.
func ensureDefinitions(ctx context.Context, config *restclient.Config) error {
	all, err := crds.All()
	if err != nil {
		return err
	}
	client, err := apiextensionsclient.NewForConfig(config)
	if err != nil {
		return err
	}
	present, err := client.CustomResourceDefinitions().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	known := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for i := range present.Items {
		known[present.Items[i].Name] = &present.Items[i]
	}
	served, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	for i, d := range all {
		if old := known[d.Name]; old != nil && old.Annotations[hashAnnotation] == d.Hash && established(old) {
			continue
		}
		wg.Go(func() {
			crd, err := ensureDefinition(ctx, client.CustomResourceDefinitions(), d, known[d.Name] != nil)
			if err == nil {
				err = waitServed(ctx, served, crd)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("install definition %s: %w", all[i].Name, err)
		}
	}
	return nil
}

// ensureDefinition writes one definition and returns it.
func ensureDefinition(ctx context.Context, client apiextensionsclient.CustomResourceDefinitionInterface, d crds.Definition, exists bool) (*apiextensionsv1.CustomResourceDefinition, error) {
	crd, err := d.Parse()
	if err != nil {
		return nil, err
	}
	crd.Annotations = map[string]string{hashAnnotation: d.Hash}
	if !exists {
		return client.Create(ctx, crd, metav1.CreateOptions{})
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
