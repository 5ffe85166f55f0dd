package apiserver

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// store serves one resource from etcd.
type store struct {
	*genericregistry.Store
	shortNames, categories []string
}

func (s store) ShortNames() []string { return s.shortNames }
func (s store) Categories() []string { return s.categories }

// newStore opens the storage of a resource.
func newStore(scheme *runtime.Scheme, opts generic.RESTOptionsGetter, r resource) (store, error) {
	var strategy interface {
		rest.RESTCreateStrategy
		rest.RESTUpdateStrategy
		rest.RESTDeleteStrategy
		rest.ResetFieldsStrategy
	}
	plain := newStrategy(scheme, r)
	strategy = plain
	if r.kind == "Pod" {
		strategy = podStrategy{plain}
	}
	s := &genericregistry.Store{
		NewFunc:                   r.newObject,
		NewListFunc:               r.newList,
		DefaultQualifiedResource:  r.groupResource(),
		SingularQualifiedResource: schema.GroupResource{Group: r.version.Group, Resource: r.singular},
		CreateStrategy:            strategy,
		UpdateStrategy:            strategy,
		DeleteStrategy:            strategy,
		ResetFieldsStrategy:       strategy,
		ReturnDeletedObject:       r.kind == "Pod" || r.kind == "Service",
		TableConvertor:            table{r},
		PredicateFunc: func(label labels.Selector, field fields.Selector) storage.SelectionPredicate {
			return storage.SelectionPredicate{Label: label, Field: field, GetAttrs: r.attributes}
		},
	}
	if r.ttl > 0 {
		s.TTLFunc = func(runtime.Object, uint64, bool) (uint64, error) { return r.ttl, nil }
	}
	if err := s.CompleteWithOptions(&generic.StoreOptions{RESTOptions: opts, AttrFunc: r.attributes}); err != nil {
		return store{}, fmt.Errorf("storage of %s: %w", r.name, err)
	}
	return store{Store: s, shortNames: r.shortNames, categories: r.categories}, nil
}

func newStrategy(scheme *runtime.Scheme, r resource) strategy {
	return strategy{ObjectTyper: scheme, NameGenerator: names.SimpleNameGenerator, resource: r}
}

// attributes are what selectors look at.
func (r resource) attributes(obj runtime.Object) (labels.Set, fields.Set, error) {
	m := mustMeta(obj)
	set := fields.Set{"metadata.name": m.GetName()}
	if !r.clusterScoped {
		set["metadata.namespace"] = m.GetNamespace()
	}
	if r.fields != nil {
		for k, v := range r.fields(obj) {
			set[k] = v
		}
	}
	return m.GetLabels(), set, nil
}

// statusStore serves the status subresource of a store.
type statusStore struct{ store *genericregistry.Store }

var (
	_ rest.Patcher             = statusStore{}
	_ rest.ResetFieldsStrategy = statusStore{}
)

func newStatusStore(scheme *runtime.Scheme, r resource, main store) statusStore {
	status := *main.Store
	strategy := statusStrategy{newStrategy(scheme, r)}
	status.UpdateStrategy = strategy
	status.ResetFieldsStrategy = strategy
	return statusStore{&status}
}

func (s statusStore) New() runtime.Object { return s.store.New() }
func (s statusStore) Destroy()            {} // the main store closes the storage they share

func (s statusStore) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	return s.store.Get(ctx, name, opts)
}

func (s statusStore) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, _ rest.ValidateObjectFunc, validate rest.ValidateObjectUpdateFunc, _ bool, opts *metav1.UpdateOptions) (runtime.Object, bool, error) {
	// A status of an absent object is nothing: never create.
	return s.store.Update(ctx, name, info, nil, validate, false, opts)
}

func (s statusStore) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return s.store.GetResetFields()
}

func (s statusStore) ConvertToTable(ctx context.Context, obj runtime.Object, opts runtime.Object) (*metav1.Table, error) {
	return s.store.ConvertToTable(ctx, obj, opts)
}

// scaleStore serves deployments/scale: the replica count and the selector as a
// Scale object, so that clients can scale without knowing the kind.
type scaleStore struct{ deployments *genericregistry.Store }

var (
	_ rest.Patcher                  = scaleStore{}
	_ rest.GroupVersionKindProvider = scaleStore{}
)

func (scaleStore) New() runtime.Object { return &autoscalingv1.Scale{} }
func (scaleStore) Destroy()            {}

func (scaleStore) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return autoscalingv1.SchemeGroupVersion.WithKind("Scale")
}

func (s scaleStore) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	obj, err := s.deployments.Get(ctx, name, opts)
	if err != nil {
		return nil, err
	}
	return scaleOf(obj.(*appsv1.Deployment))
}

func (s scaleStore) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, _ rest.ValidateObjectFunc, validate rest.ValidateObjectUpdateFunc, _ bool, opts *metav1.UpdateOptions) (runtime.Object, bool, error) {
	obj, _, err := s.deployments.Update(ctx, name, scaleUpdate{info, name, validate}, nil, rest.ValidateAllObjectUpdateFunc, false, opts)
	if err != nil {
		return nil, false, err
	}
	scale, err := scaleOf(obj.(*appsv1.Deployment))
	return scale, false, err
}

func (s scaleStore) ConvertToTable(ctx context.Context, obj runtime.Object, opts runtime.Object) (*metav1.Table, error) {
	return rest.NewDefaultTableConvertor(schema.GroupResource{Group: "autoscaling", Resource: "scales"}).ConvertToTable(ctx, obj, opts)
}

// scaleUpdate turns an update of a Scale into one of its Deployment.
type scaleUpdate struct {
	rest.UpdatedObjectInfo
	name     string
	validate rest.ValidateObjectUpdateFunc
}

func (u scaleUpdate) UpdatedObject(ctx context.Context, old runtime.Object) (runtime.Object, error) {
	d := old.DeepCopyObject().(*appsv1.Deployment)
	if d.ResourceVersion == "" {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: appsv1.GroupName, Resource: "deployments/scale"}, u.name)
	}
	// Who owns .spec.replicas follows the scaling, so that a later server-side
	// apply of the Deployment conflicts with it as it does on a cluster.
	owners := managedfields.NewScaleHandler(d.ManagedFields,
		schema.GroupVersion{Group: appsv1.GroupName, Version: "v1"},
		managedfields.ResourcePathMappings{"apps/v1": fieldpath.MakePathOrDie("spec", "replicas")})
	scaleOwners, err := owners.ToSubresource()
	if err != nil {
		return nil, err
	}
	oldScale, err := scaleOf(d)
	if err != nil {
		return nil, err
	}
	oldScale.ManagedFields = scaleOwners
	obj, err := u.UpdatedObjectInfo.UpdatedObject(ctx, oldScale)
	if err != nil {
		return nil, err
	}
	scale, ok := obj.(*autoscalingv1.Scale)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("a Scale is expected, not a %T", obj))
	}
	if scale.Spec.Replicas < 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: "autoscaling", Kind: "Scale"}, u.name, negativeReplicas(scale.Spec.Replicas))
	}
	if scale.ResourceVersion != "" && scale.ResourceVersion != d.ResourceVersion {
		return nil, apierrors.NewConflict(schema.GroupResource{Group: appsv1.GroupName, Resource: "deployments/scale"}, u.name,
			fmt.Errorf(genericregistry.OptimisticLockErrorMsg))
	}
	if u.validate != nil {
		if err := u.validate(ctx, scale, oldScale); err != nil {
			return nil, err
		}
	}
	d.Spec.Replicas = &scale.Spec.Replicas
	if d.ManagedFields, err = owners.ToParent(scale.ManagedFields); err != nil {
		return nil, err
	}
	return d, nil
}

func scaleOf(d *appsv1.Deployment) (*autoscalingv1.Scale, error) {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	scale := &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Name: d.Name, Namespace: d.Namespace, UID: d.UID,
			ResourceVersion: d.ResourceVersion, CreationTimestamp: d.CreationTimestamp,
		},
		Status: autoscalingv1.ScaleStatus{Replicas: d.Status.Replicas, Selector: selector.String()},
	}
	if d.Spec.Replicas != nil {
		scale.Spec.Replicas = *d.Spec.Replicas
	}
	return scale, nil
}
