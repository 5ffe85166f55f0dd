package apiserver

import (
	"context"
	"reflect"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// strategy says how objects of one resource are created, updated and deleted.
//
// The rules that all Kubernetes kinds share are here, read off the object's
// Spec and Status fields: a status is written through the status subresource
// only, and metadata.generation counts changes of the spec. What is particular
// to a kind comes from its resource.
type strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	resource resource
}

func (s strategy) NamespaceScoped() bool                                     { return !s.resource.clusterScoped }
func (s strategy) AllowCreateOnUpdate(context.Context) bool                  { return s.resource.createOnUpdate }
func (s strategy) AllowUnconditionalUpdate(context.Context) bool             { return true }
func (s strategy) Canonicalize(runtime.Object)                               {}
func (s strategy) WarningsOnCreate(context.Context, runtime.Object) []string { return nil }

func (s strategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

// DefaultGarbageCollectionPolicy is what a deletion does to dependents when the
// client does not say: kubectl and Kubernetes' v1 APIs delete them.
func (s strategy) DefaultGarbageCollectionPolicy(context.Context) rest.GarbageCollectionPolicy {
	if s.resource.name == "events" {
		return rest.Unsupported
	}
	return rest.DeleteDependents
}

func (s strategy) PrepareForCreate(_ context.Context, obj runtime.Object) {
	if s.resource.status {
		setZero(obj, "Status")
	}
	if s.countsGeneration() {
		mustMeta(obj).SetGeneration(1)
	}
	if s.resource.prepare != nil {
		s.resource.prepare(obj, nil)
	}
}

func (s strategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	if s.resource.status {
		copyPart(obj, old, "Status")
	}
	if s.resource.prepare != nil {
		s.resource.prepare(obj, old)
	}
	if !s.countsGeneration() {
		return
	}
	generation := mustMeta(old).GetGeneration()
	if !equality.Semantic.DeepEqual(part(obj, "Spec").Interface(), part(old, "Spec").Interface()) {
		generation++
	}
	mustMeta(obj).SetGeneration(generation)
}

// countsGeneration: a generation is there to be compared with a status's
// observedGeneration, so kinds without a status have none.
func (s strategy) countsGeneration() bool { return s.resource.status }

func (s strategy) Validate(_ context.Context, obj runtime.Object) field.ErrorList {
	if s.resource.validate == nil {
		return nil
	}
	return s.resource.validate(obj, nil)
}

func (s strategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	// An object on its way out only loses finalizers; refusing that because of
	// an older, looser validation would keep it for ever.
	if s.resource.validate == nil || mustMeta(obj).GetDeletionTimestamp() != nil {
		return nil
	}
	return s.resource.validate(obj, old)
}

// GetResetFields tells server-side apply which fields a request cannot own.
func (s strategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	if !s.resource.status {
		return nil
	}
	return resetFields(s.resource, "status")
}

func resetFields(r resource, path ...any) map[fieldpath.APIVersion]*fieldpath.Set {
	return map[fieldpath.APIVersion]*fieldpath.Set{
		fieldpath.APIVersion(r.version.String()): fieldpath.NewSet(fieldpath.MakePathOrDie(path...)),
	}
}

// statusStrategy serves the status subresource: everything but status, labels,
// annotations and finalizers stays as stored.
type statusStrategy struct{ strategy }

func (s statusStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	copyPart(obj, old, "Spec")
	m, oldMeta := mustMeta(obj), mustMeta(old)
	m.SetGeneration(oldMeta.GetGeneration())
	m.SetDeletionTimestamp(oldMeta.GetDeletionTimestamp())
	m.SetOwnerReferences(oldMeta.GetOwnerReferences())
}

func (s statusStrategy) ValidateUpdate(context.Context, runtime.Object, runtime.Object) field.ErrorList {
	return nil
}

func (s statusStrategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return resetFields(s.resource, "spec")
}

// part is a top-level field of an API object, the zero Value if it has none.
func part(obj runtime.Object, name string) reflect.Value {
	return reflect.ValueOf(obj).Elem().FieldByName(name)
}

func setZero(obj runtime.Object, name string) { part(obj, name).SetZero() }

func copyPart(to, from runtime.Object, name string) {
	if p := part(to, name); p.IsValid() {
		p.Set(part(from, name))
	}
}

// mustMeta is the metadata of an object of a built-in kind; all have it.
func mustMeta(obj runtime.Object) metav1.Object {
	m, err := meta.Accessor(obj)
	if err != nil {
		panic("apiserver: " + err.Error())
	}
	return m
}
