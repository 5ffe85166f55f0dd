package apiserver

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ConfigMaps, Secrets and Events: objects that are data for others.

func prepareSecret(obj, _ runtime.Object) {
	secret := obj.(*corev1.Secret)
	// stringData is for writing only: Kubernetes stores and serves data.
	if len(secret.StringData) > 0 && secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	for k, v := range secret.StringData {
		secret.Data[k] = []byte(v)
	}
	secret.StringData = nil
}

func validateSecret(obj, old runtime.Object) field.ErrorList {
	secret := obj.(*corev1.Secret)
	errs := validateName(secret, validation.NameIsDNSSubdomain)
	for k := range secret.Data {
		errs = append(errs, dataKey(field.NewPath("data").Key(k), k)...)
	}
	if old == nil {
		return errs
	}
	was := old.(*corev1.Secret)
	errs = append(errs, validation.ValidateImmutableField(secret.Type, was.Type, field.NewPath("type"))...)
	if isTrue(was.Immutable) && (!isTrue(secret.Immutable) || !equality.Semantic.DeepEqual(secret.Data, was.Data)) {
		errs = append(errs, field.Forbidden(field.NewPath("data"), "field is immutable when `immutable` is set"))
	}
	return errs
}

func secretFields(obj runtime.Object) fields.Set {
	return fields.Set{"type": string(obj.(*corev1.Secret).Type)}
}

func validateServiceAccount(obj, _ runtime.Object) field.ErrorList {
	return validateName(obj.(*corev1.ServiceAccount), validation.NameIsDNSSubdomain)
}

func validateConfigMap(obj, old runtime.Object) field.ErrorList {
	cm := obj.(*corev1.ConfigMap)
	errs := validateName(cm, validation.NameIsDNSSubdomain)
	for k := range cm.Data {
		errs = append(errs, dataKey(field.NewPath("data").Key(k), k)...)
	}
	for k := range cm.BinaryData {
		path := field.NewPath("binaryData").Key(k)
		errs = append(errs, dataKey(path, k)...)
		if _, both := cm.Data[k]; both {
			errs = append(errs, field.Invalid(path, k, "duplicate of key present in data"))
		}
	}
	if old == nil {
		return errs
	}
	was := old.(*corev1.ConfigMap)
	if isTrue(was.Immutable) && (!isTrue(cm.Immutable) || !maps.Equal(cm.Data, was.Data) || !equality.Semantic.DeepEqual(cm.BinaryData, was.BinaryData)) {
		errs = append(errs, field.Forbidden(field.NewPath("data"), "field is immutable when `immutable` is set"))
	}
	return errs
}

func dataKey(path *field.Path, key string) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range utilvalidation.IsConfigMapKey(key) {
		errs = append(errs, field.Invalid(path, key, msg))
	}
	return errs
}

func isTrue(b *bool) bool { return b != nil && *b }

func validateEvent(obj, _ runtime.Object) field.ErrorList {
	event := obj.(*corev1.Event)
	errs := validateName(event, validation.NameIsDNSSubdomain)
	// An event lives where its object does; that of a cluster-wide object lives
	// in namespace default.
	if ns := event.InvolvedObject.Namespace; ns != "" && ns != event.Namespace {
		errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), ns, "does not match the event's namespace"))
	}
	return errs
}

func eventFields(obj runtime.Object) fields.Set {
	e := obj.(*corev1.Event)
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	o := e.InvolvedObject
	return fields.Set{
		"involvedObject.kind": o.Kind, "involvedObject.namespace": o.Namespace, "involvedObject.name": o.Name,
		"involvedObject.uid": string(o.UID), "involvedObject.apiVersion": o.APIVersion,
		"involvedObject.resourceVersion": o.ResourceVersion, "involvedObject.fieldPath": o.FieldPath,
		"reason": e.Reason, "reportingComponent": e.ReportingController, "source": source, "type": e.Type,
	}
}
