package apiserver

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	restclient "k8s.io/client-go/rest"

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
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	for i, d := range all {
		if old := known[d.Name]; old != nil && old.Annotations[hashAnnotation] == d.Hash && established(old) {
			continue
		}
		wg.Go(func() { errs[i] = ensureDefinition(ctx, client.CustomResourceDefinitions(), d, known[d.Name]) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("install definition %s: %w", all[i].Name, err)
		}
	}
	return nil
}

func ensureDefinition(ctx context.Context, client apiextensionsclient.CustomResourceDefinitionInterface, d crds.Definition, old *apiextensionsv1.CustomResourceDefinition) error {
	crd, err := d.Parse()
	if err != nil {
		return err
	}
	crd.Annotations = map[string]string{hashAnnotation: d.Hash}
	if old == nil {
		crd, err = client.Create(ctx, crd, metav1.CreateOptions{})
	} else {
		crd.ResourceVersion = old.ResourceVersion
		crd, err = client.Update(ctx, crd, metav1.UpdateOptions{})
	}
	if err != nil || established(crd) {
		return err
	}
	w, err := client.Watch(ctx, metav1.ListOptions{
		FieldSelector:   fields.OneTermEqualSelector("metadata.name", d.Name).String(),
		ResourceVersion: crd.ResourceVersion,
	})
	if err != nil {
		return err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		if crd, ok := event.Object.(*apiextensionsv1.CustomResourceDefinition); ok && established(crd) {
			return nil
		}
		if event.Type == watch.Error {
			return apierrors.FromObject(event.Object)
		}
	}
	return context.Cause(ctx)
}
