package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

// objectClient speaks to the API about objects of one kind and namespace.
type objectClient = dynamic.ResourceInterface

// verb is what can be done with an object; it returns the object as the API
// then has it.
type verb func(context.Context, objectClient, *unstructured.Unstructured) (*unstructured.Unstructured, error)

// doManifests does something with each object of a file of YAML documents, in
// order, and returns what became of them.
func doManifests(ctx context.Context, config *rest.Config, data []byte, do verb) ([]*unstructured.Unstructured, error) {
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	groups, err := restmapper.GetAPIGroupResources(disco)
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		doc, err := reader.Read()
		switch {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, err
		}
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(doc, &obj.Object); err != nil {
			return nil, err
		}
		if len(obj.Object) == 0 {
			continue // a document of comments
		}
		kind := obj.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", obj.GetKind(), obj.GetName(), err)
		}
		namespace := obj.GetNamespace()
		if namespace == "" && mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			namespace = metav1.NamespaceDefault
		}
		obj.SetNamespace(namespace)
		done, err := do(ctx, client.Resource(mapping.Resource).Namespace(namespace), obj)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", obj.GetKind(), obj.GetName(), err)
		}
		out = append(out, done)
	}
}

// applyObject is `kubectl apply --server-side`.
func applyObject(ctx context.Context, client objectClient, obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	data, err := obj.MarshalJSON()
	if err != nil {
		return nil, err
	}
	yes := true
	return client.Patch(ctx, obj.GetName(), types.ApplyPatchType, data,
		metav1.PatchOptions{FieldManager: "serin-demo", Force: &yes, FieldValidation: metav1.FieldValidationStrict})
}

// getObject is `kubectl get`.
func getObject(ctx context.Context, client objectClient, obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return client.Get(ctx, obj.GetName(), metav1.GetOptions{})
}

// deleteObject is `kubectl delete --ignore-not-found`; it returns obj itself.
func deleteObject(ctx context.Context, client objectClient, obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	err := client.Delete(ctx, obj.GetName(), metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		err = nil
	}
	return obj, err
}
