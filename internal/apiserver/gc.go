package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	informers "k8s.io/apiextensions-apiserver/pkg/client/informers/externalversions/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// collector deletes what a deletion leaves behind: objects whose owners are
// gone, and the content of namespaces that go.
//
// It watches the metadata of every kind and keeps who owns whom. A change puts
// the objects it concerns into a queue; a worker looks at one object at a time
// and does what its present state asks for, so an event that was missed or came
// twice does no harm.
type collector struct {
	client      metadata.Interface
	definitions informers.CustomResourceDefinitionInformer
	queue       workqueue.TypedRateLimitingInterface[types.UID]

	mu         sync.Mutex
	objects    map[types.UID]*object
	dependents map[types.UID]map[types.UID]bool // by owner
	kinds      map[schema.GroupKind]watched
}

// object is what the collector knows of an object; it is never changed.
type object struct {
	kind       watched
	namespace  string
	name       string
	uid        types.UID
	owners     []metav1.OwnerReference
	finalizers []string
	deleting   bool
}

func (o *object) has(finalizer string) bool {
	return o.deleting && slices.Contains(o.finalizers, finalizer)
}

// watched is a kind whose objects are followed.
type watched struct {
	resource   schema.GroupVersionResource
	namespaced bool
	stop       context.CancelFunc
	synced     cache.InformerSynced
}

func newCollector(config *restclient.Config, definitions informers.CustomResourceDefinitionInformer) (*collector, error) {
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &collector{
		client:      client,
		definitions: definitions,
		queue:       workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](10*time.Millisecond, 10*time.Second)),
		objects:     map[types.UID]*object{},
		dependents:  map[types.UID]map[types.UID]bool{},
		kinds:       map[schema.GroupKind]watched{},
	}, nil
}

// workers: deleting a Deployment of a hundred pods is a hundred small requests;
// a few at a time hide their latency.
const workers = 4

func (c *collector) run(ctx context.Context) {
	defer c.queue.ShutDown()
	for _, r := range resources() {
		if r.name != "events" { // they go by themselves and own nothing
			c.watch(ctx, r.version.WithKind(r.kind).GroupKind(), r.groupVersionResource(), !r.clusterScoped)
		}
	}
	registration, err := c.definitions.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { c.follow(ctx, obj.(*apiextensionsv1.CustomResourceDefinition)) },
		UpdateFunc: func(_, obj any) { c.follow(ctx, obj.(*apiextensionsv1.CustomResourceDefinition)) },
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			crd := obj.(*apiextensionsv1.CustomResourceDefinition)
			c.unwatch(schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Spec.Names.Kind})
		},
	})
	if err != nil || !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return // the server is stopping
	}
	for _, k := range c.watchedKinds() {
		if !cache.WaitForCacheSync(ctx.Done(), k.synced) {
			return
		}
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for c.work(ctx) {
			}
		})
	}
	<-ctx.Done()
	c.queue.ShutDown()
	wg.Wait()
}

// follow watches the kind of an established CRD, in its stored version.
func (c *collector) follow(ctx context.Context, crd *apiextensionsv1.CustomResourceDefinition) {
	kind := schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Spec.Names.Kind}
	if !established(crd) || crd.DeletionTimestamp != nil {
		return
	}
	for _, v := range crd.Spec.Versions {
		if v.Served && (v.Storage || len(crd.Spec.Versions) == 1) {
			resource := schema.GroupVersionResource{Group: kind.Group, Version: v.Name, Resource: crd.Spec.Names.Plural}
			c.watch(ctx, kind, resource, crd.Spec.Scope == apiextensionsv1.NamespaceScoped)
			return
		}
	}
}

func (c *collector) watch(ctx context.Context, kind schema.GroupKind, resource schema.GroupVersionResource, namespaced bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, known := c.kinds[kind]
	if known && old.resource == resource {
		return
	}
	if known {
		old.stop()
	}
	watchCtx, stop := context.WithCancel(ctx)
	informer := metadatainformer.NewFilteredMetadataInformer(c.client, resource, metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
	w := watched{resource: resource, namespaced: namespaced, stop: stop, synced: informer.HasSynced}
	c.kinds[kind] = w
	// The two calls fail only on an informer that runs already.
	err1 := informer.SetTransform(onlyOwnership)
	_, err2 := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { c.observe(w, obj.(*metav1.PartialObjectMetadata)) },
		UpdateFunc: func(_, obj any) { c.observe(w, obj.(*metav1.PartialObjectMetadata)) },
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			c.forget(obj.(*metav1.PartialObjectMetadata).UID)
		},
	})
	if err1 != nil || err2 != nil {
		panic(fmt.Sprintf("apiserver: watch %s: %v %v", resource, err1, err2))
	}
	go informer.RunWithContext(watchCtx)
}

// onlyOwnership drops the metadata that nobody here reads.
func onlyOwnership(obj any) (any, error) {
	if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
		m.ManagedFields, m.Annotations, m.Labels = nil, nil, nil
	}
	return obj, nil
}

func (c *collector) watchedKinds() []watched {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []watched
	for _, w := range c.kinds {
		all = append(all, w)
	}
	return all
}

// unwatch forgets a kind that is no longer served, and its objects.
func (c *collector) unwatch(kind schema.GroupKind) {
	c.mu.Lock()
	w, ok := c.kinds[kind]
	delete(c.kinds, kind)
	var gone []types.UID
	for uid, o := range c.objects {
		if ok && o.kind.resource == w.resource {
			gone = append(gone, uid)
		}
	}
	c.mu.Unlock()
	if ok {
		w.stop()
	}
	for _, uid := range gone {
		c.forget(uid)
	}
}

// observe takes in the present state of an object.
func (c *collector) observe(w watched, m *metav1.PartialObjectMetadata) {
	o := &object{
		kind: w, namespace: m.Namespace, name: m.Name, uid: m.UID,
		owners: m.OwnerReferences, finalizers: m.Finalizers, deleting: m.DeletionTimestamp != nil,
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disown(c.objects[o.uid])
	c.objects[o.uid] = o
	for _, ref := range o.owners {
		if c.dependents[ref.UID] == nil {
			c.dependents[ref.UID] = map[types.UID]bool{}
		}
		c.dependents[ref.UID][o.uid] = true
	}
	if o.deleting || len(o.owners) > 0 {
		c.queue.Add(o.uid)
	}
}

// forget removes an object that is gone and looks at those it concerned.
func (c *collector) forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.objects[uid]
	if o == nil {
		return
	}
	c.disown(o)
	delete(c.objects, uid)
	for dependent := range c.dependents[uid] {
		c.queue.Add(dependent)
	}
	for _, other := range c.objects {
		if other.name == o.namespace && other.has(namespaceFinalizer) {
			c.queue.Add(other.uid)
		}
	}
}

// disown removes an object from its owners' dependents; owners that wait for
// it look again. The caller holds mu.
func (c *collector) disown(o *object) {
	if o == nil {
		return
	}
	for _, ref := range o.owners {
		delete(c.dependents[ref.UID], o.uid)
		if len(c.dependents[ref.UID]) == 0 {
			delete(c.dependents, ref.UID)
		}
		if owner := c.objects[ref.UID]; owner != nil && owner.deleting {
			c.queue.Add(ref.UID)
		}
	}
}

func (c *collector) work(ctx context.Context) bool {
	uid, quit := c.queue.Get()
	if quit {
		return false
	}
	defer c.queue.Done(uid)
	c.mu.Lock()
	o := c.objects[uid]
	c.mu.Unlock()
	if o == nil {
		c.queue.Forget(uid)
		return true
	}
	if err := c.process(ctx, o); err != nil && ctx.Err() == nil {
		c.queue.AddRateLimited(uid) // a conflict or a server that is stopping
		return true
	}
	c.queue.Forget(uid)
	return true
}

// process does what one object's state asks for.
func (c *collector) process(ctx context.Context, o *object) error {
	switch {
	case o.has(namespaceFinalizer):
		return c.sweep(ctx, o)
	case o.has(metav1.FinalizerOrphanDependents):
		return c.orphan(ctx, o)
	case o.has(metav1.FinalizerDeleteDependents):
		return c.deleteDependents(ctx, o)
	case !o.deleting && len(o.owners) > 0:
		return c.checkOwners(ctx, o)
	}
	return nil
}

func (c *collector) dependentsOf(uid types.UID) []*object {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*object
	for d := range c.dependents[uid] {
		if o := c.objects[d]; o != nil {
			all = append(all, o)
		}
	}
	return all
}

// orphan cuts the dependents off and lets the owner go.
func (c *collector) orphan(ctx context.Context, o *object) error {
	for _, d := range c.dependentsOf(o.uid) {
		if err := c.dropOwners(ctx, d, map[types.UID]bool{o.uid: true}); err != nil {
			return err
		}
	}
	return c.dropFinalizer(ctx, o, metav1.FinalizerOrphanDependents)
}

// deleteDependents is foreground deletion: dependents first. Only those that
// block it (blockOwnerDeletion) are waited for.
func (c *collector) deleteDependents(ctx context.Context, o *object) error {
	waiting := false
	for _, d := range c.dependentsOf(o.uid) {
		for _, ref := range d.owners {
			if ref.UID == o.uid && ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion {
				waiting = true
			}
		}
		if !d.deleting {
			c.queue.Add(d.uid)
		}
	}
	if waiting {
		return nil
	}
	return c.dropFinalizer(ctx, o, metav1.FinalizerDeleteDependents)
}

// checkOwners deletes an object when none of its owners stays.
func (c *collector) checkOwners(ctx context.Context, o *object) error {
	leaving := map[types.UID]bool{}
	foreground := false
	for _, ref := range o.owners {
		owner, err := c.find(ctx, o, ref)
		switch {
		case err != nil:
			return err
		case owner == nil:
			leaving[ref.UID] = true
		case owner.has(metav1.FinalizerDeleteDependents):
			leaving[ref.UID] = true
			foreground = true
		}
	}
	switch {
	case len(leaving) == 0:
		return nil
	case len(leaving) < len(o.owners):
		return c.dropOwners(ctx, o, leaving)
	}
	policy := metav1.DeletePropagationBackground
	if foreground && len(c.dependentsOf(o.uid)) > 0 {
		policy = metav1.DeletePropagationForeground
	}
	return ignoreGone(c.resource(o).Delete(ctx, o.name, metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &o.uid},
		PropagationPolicy: &policy,
	}))
}

// find looks an owner up, nil when it does not exist. What is not known yet is
// asked of the API: a dependent may be heard of before its owner.
func (c *collector) find(ctx context.Context, o *object, ref metav1.OwnerReference) (*object, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	owner := c.objects[ref.UID]
	kind, known := c.kinds[gv.WithKind(ref.Kind).GroupKind()]
	c.mu.Unlock()
	if owner != nil && owner.name == ref.Name && (owner.namespace == "" || owner.namespace == o.namespace) {
		return owner, nil
	}
	if !known {
		// Nobody can say whether it exists; keep the object.
		return nil, fmt.Errorf("owner %s %s: no such kind", ref.Kind, ref.Name)
	}
	stub := &object{kind: kind, name: ref.Name}
	if kind.namespaced {
		stub.namespace = o.namespace
	}
	m, err := c.resource(stub).Get(ctx, ref.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	case m.UID != ref.UID:
		return nil, nil // another one of the same name
	}
	stub.deleting, stub.finalizers, stub.uid = m.DeletionTimestamp != nil, m.Finalizers, m.UID
	return stub, nil
}

func (c *collector) resource(o *object) metadata.ResourceInterface {
	if o.kind.namespaced {
		return c.client.Resource(o.kind.resource).Namespace(o.namespace)
	}
	return c.client.Resource(o.kind.resource)
}

// dropOwners removes references to owners that are gone or going.
func (c *collector) dropOwners(ctx context.Context, o *object, gone map[types.UID]bool) error {
	return c.edit(ctx, o, func(m *metav1.PartialObjectMetadata) map[string]any {
		return map[string]any{"ownerReferences": slices.DeleteFunc(m.OwnerReferences, func(ref metav1.OwnerReference) bool { return gone[ref.UID] })}
	})
}

func (c *collector) dropFinalizer(ctx context.Context, o *object, finalizer string) error {
	return c.edit(ctx, o, func(m *metav1.PartialObjectMetadata) map[string]any {
		return map[string]any{"finalizers": slices.DeleteFunc(m.Finalizers, func(f string) bool { return f == finalizer })}
	})
}

// edit patches the metadata of an object that is still the one we know, and
// that nobody changed in between.
func (c *collector) edit(ctx context.Context, o *object, change func(*metav1.PartialObjectMetadata) map[string]any) error {
	m, err := c.resource(o).Get(ctx, o.name, metav1.GetOptions{})
	if err != nil {
		return ignoreGone(err)
	}
	if m.UID != o.uid {
		return nil
	}
	fields := change(m)
	fields["resourceVersion"] = m.ResourceVersion
	fields["uid"] = m.UID
	patch, err := json.Marshal(map[string]any{"metadata": fields})
	if err != nil {
		return err
	}
	_, err = c.resource(o).Patch(ctx, o.name, types.MergePatchType, patch, metav1.PatchOptions{})
	return ignoreGone(err)
}

// ignoreGone: an object that is gone, or replaced by another of its name, needs
// nothing more.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// kindsIn lists the established CRDs' resources that live in namespaces, beside
// the built-in ones.
func (c *collector) kindsIn() ([]schema.GroupVersionResource, error) {
	var all []schema.GroupVersionResource
	for _, r := range resources() {
		if !r.clusterScoped {
			all = append(all, r.groupVersionResource())
		}
	}
	crds, err := c.definitions.Lister().List(labels.Everything())
	if err != nil {
		return nil, err
	}
	for _, crd := range crds {
		if !established(crd) || crd.Spec.Scope != apiextensionsv1.NamespaceScoped {
			continue
		}
		for _, v := range crd.Spec.Versions {
			if v.Served {
				all = append(all, schema.GroupVersionResource{Group: crd.Spec.Group, Version: v.Name, Resource: crd.Spec.Names.Plural})
				break
			}
		}
	}
	return all, nil
}
