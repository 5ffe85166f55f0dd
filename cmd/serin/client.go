package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"serin.dev/serin/api/v1alpha1"
)

// releaseClient reads Releases from the API and writes their annotations.
type releaseClient struct {
	rest   rest.Interface
	params runtime.ParameterCodec
	core   kubernetes.Interface
}

func newReleaseClient(config *rest.Config) (*releaseClient, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	typed := rest.CopyConfig(config)
	typed.GroupVersion = &v1alpha1.GroupVersion
	typed.APIPath = "/apis"
	typed.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(typed)
	if err != nil {
		return nil, err
	}
	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &releaseClient{client, runtime.NewParameterCodec(scheme), core}, nil
}

// list reads the Releases of a namespace, or of all when it is empty, ordered
// by namespace and name. A field selector narrows it down.
func (c *releaseClient) list(ctx context.Context, namespace string, selector fields.Selector) (*v1alpha1.ReleaseList, error) {
	var out v1alpha1.ReleaseList
	err := c.rest.Get().Namespace(namespace).Resource("releases").
		VersionedParams(&metav1.ListOptions{FieldSelector: selector.String()}, c.params).
		Do(ctx).Into(&out)
	if err != nil {
		return nil, sayWhy(err)
	}
	slices.SortFunc(out.Items, func(a, b v1alpha1.Release) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	for i := range out.Items {
		setKind(&out.Items[i])
	}
	return &out, nil
}

func (c *releaseClient) get(ctx context.Context, namespace, name string) (*v1alpha1.Release, error) {
	var out v1alpha1.Release
	err := c.rest.Get().Namespace(namespace).Resource("releases").Name(name).Do(ctx).Into(&out)
	if err != nil {
		return nil, sayWhy(err)
	}
	return setKind(&out), nil
}

// patch merges a JSON document into a Release.
func (c *releaseClient) patch(ctx context.Context, namespace, name string, doc []byte) (*v1alpha1.Release, error) {
	var out v1alpha1.Release
	err := c.rest.Patch(types.MergePatchType).Namespace(namespace).Resource("releases").Name(name).
		Param("fieldManager", "serin-cli").Body(doc).Do(ctx).Into(&out)
	if err != nil {
		return nil, sayWhy(err)
	}
	return setKind(&out), nil
}

// watch streams what happens to the selected Releases after the resource
// version of a list.
func (c *releaseClient) watch(ctx context.Context, namespace string, selector fields.Selector, from string) (watch.Interface, error) {
	w, err := c.rest.Get().Namespace(namespace).Resource("releases").
		VersionedParams(&metav1.ListOptions{Watch: true, FieldSelector: selector.String(), ResourceVersion: from}, c.params).
		Watch(ctx)
	if err != nil {
		return nil, sayWhy(err)
	}
	return w, nil
}

// setKind restores what typed decoding leaves out, so that printed objects can
// be applied again.
func setKind(r *v1alpha1.Release) *v1alpha1.Release {
	r.APIVersion, r.Kind = v1alpha1.GroupVersion.String(), "Release"
	return r
}

// sayWhy says what is wrong when the API does not know Releases at all.
func sayWhy(err error) error {
	if apierrors.IsNotFound(err) {
		if s, ok := err.(apierrors.APIStatus); ok && (s.Status().Details == nil || s.Status().Details.Name == "") {
			return fmt.Errorf("this API has no Releases: install Serin's resource definitions, or choose another API with --kubeconfig")
		}
	}
	return err
}
