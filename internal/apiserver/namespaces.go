package apiserver

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// namespaceFinalizer keeps a deleted namespace until the sweeper has emptied
// it. On a cluster the same hold is spec.finalizers; as a metadata finalizer it
// needs no storage of its own.
const namespaceFinalizer = "serin.dev/namespace-content"

func prepareNamespace(obj, old runtime.Object) {
	ns := obj.(*corev1.Namespace)
	if old == nil {
		ns.Status.Phase = corev1.NamespaceActive
	}
	if ns.DeletionTimestamp == nil && !slices.Contains(ns.Finalizers, namespaceFinalizer) {
		ns.Finalizers = append(ns.Finalizers, namespaceFinalizer)
	}
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

func validateNamespace(obj, _ runtime.Object) field.ErrorList {
	return validateName(obj, validation.ValidateNamespaceName)
}

func namespaceFields(obj runtime.Object) fields.Set {
	return fields.Set{"status.phase": string(obj.(*corev1.Namespace).Status.Phase)}
}
