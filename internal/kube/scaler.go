package kube

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"serin.dev/serin/api/v1alpha1"
)

// scalerKind is how a kind of autoscaler says what it does. Both are handled as
// data: neither KEDA's module nor a second version of the other is needed for a
// copy of which a few fields differ.
type scalerKind struct {
	resource    schema.GroupVersionResource
	least, most string // fields of spec
	// pausable: an annotation keeps it from scaling. The other one leaves a
	// Deployment of no replicas alone by itself.
	pausable bool
}

var scalerKinds = map[string]scalerKind{
	v1alpha1.KindHPA: {
		resource: schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"},
		least:    "minReplicas", most: "maxReplicas",
	},
	v1alpha1.KindScaledObject: {
		resource: schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"},
		least:    "minReplicaCount", most: "maxReplicaCount", pausable: true,
	},
}

const (
	// annotationPaused is KEDA's: so many pods and no scaling.
	annotationPaused = "autoscaling.keda.sh/paused-replicas"
	// annotationFloor on a stable copy's autoscaler is the run for which its
	// least number of pods was raised, and to what: "3/5".
	annotationFloor = "serin.dev/floor"

	// readTime is how long an API may take to list autoscalers; one that does
	// not serve the kind never does.
	readTime = 5 * time.Second

	// scaledObjectDefaultMax is what KEDA takes for an absent maxReplicaCount.
	scaledObjectDefaultMax = 100
)

// Scaler is the autoscaler of a Release's target, and what its copy for the
// stable copy has to say. The zero value: there is none, and replicas are
// nobody's but the user's.
type Scaler struct {
	Named bool // the Release names one
	// Least is what the target's asks for at least; 0 without one.
	Least int32
	// Floor is the least number of pods that the stable copy may have now.
	Floor int32
	// Problem says why the autoscaler cannot be followed; nil = it can.
	Problem error

	own, stable *unstructured.Unstructured   // as the API has them; nil = not there
	strays      []*unstructured.Unstructured // of the Release, for an autoscaler that it does not name any more
	unread      bool                         // the API was asked a moment ago for the first time
}

// Scaling is what a Release's present state asks of its autoscalers.
type Scaling struct {
	Run int64 // its number, while a run is on; 0 = none is
	// Stable is how many pods the stable copy needs at least; 0 = as its
	// autoscaler likes.
	Stable int32
	// Canary: the target runs pods.
	Canary bool
}

// scaler reads what a Release's autoscaler says.
func (c *Client) scaler(d *Delivery) Scaler {
	ref := d.Release.Spec.Autoscaler
	s := Scaler{strays: c.strays(d)}
	if ref == nil {
		return s
	}
	s.Named, s.Floor = true, 1 // until it is read
	kind := scalerKinds[ref.Kind]
	watch := c.scalers[ref.Kind].watch()
	if !watch.informer.HasSynced() {
		if s.unread = time.Since(watch.since) < readTime; !s.unread {
			s.Problem = fmt.Errorf("the API does not serve any %s: install what does, or remove spec.autoscaler", ref.Kind)
		}
		return s
	}
	get := func(name string) *unstructured.Unstructured {
		obj, ok, err := watch.informer.GetStore().GetByKey(d.Names.Namespace + "/" + name)
		if err != nil || !ok {
			return nil
		}
		return obj.(*unstructured.Unstructured)
	}
	s.own, s.stable = get(ref.Name), get(scalerName(d))
	switch {
	case s.own == nil:
		s.Problem = fmt.Errorf("%s %s not found in namespace %s: create it, or remove spec.autoscaler", ref.Kind, ref.Name, d.Names.Namespace)
	case scaled(s.own) != d.Names.Target:
		s.Problem = fmt.Errorf("%s %s scales %q: let it scale %s, or name another in spec.autoscaler", ref.Kind, ref.Name, scaled(s.own), d.Names.Target)
	case s.stable != nil && !isScalerOf(d.Release, s.stable):
		s.Problem = fmt.Errorf("%s %s %w, and the stable copy's needs its name: rename or delete it", ref.Kind, scalerName(d), ErrTaken)
	default:
		s.Least = number(s.own, kind.least, 0)
	}
	s.Floor = floor(d.Release, kind, s.stable)
	return s
}

// floor is the least number of pods that the stable copy may have: what its
// autoscaler says, also while that cannot follow the target's any more, or what
// the Release asks of one that is not there.
func floor(r *v1alpha1.Release, kind scalerKind, stable *unstructured.Unstructured) int32 {
	out := int32(1)
	if least := r.Spec.Autoscaler.MinReplicas; least != nil {
		out = max(out, *least)
	}
	if stable != nil && isScalerOf(r, stable) {
		out = max(out, number(stable, kind.least, 1))
	}
	return out
}

// strays are autoscalers of the stable copy besides the one that is wanted.
func (c *Client) strays(d *Delivery) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for name, scalers := range c.scalers {
		if !scalers.watched.Load() {
			continue
		}
		list, err := scalers.watch().informer.GetIndexer().ByIndex(cache.NamespaceIndex, d.Names.Namespace)
		if err != nil {
			continue // there is such an index
		}
		for _, obj := range list {
			o := obj.(*unstructured.Unstructured)
			ref := d.Release.Spec.Autoscaler
			wanted := ref != nil && ref.Kind == name && o.GetName() == scalerName(d)
			if !wanted && o.GetLabels()[LabelRelease] == d.Release.Name {
				out = append(out, o)
			}
		}
	}
	return out
}

// scalerName is that of the stable copy's autoscaler.
func scalerName(d *Delivery) string {
	return d.Release.Spec.Autoscaler.Name + d.Names.suffix()
}

// isScalerOf reports whether an autoscaler is the stable copy's: made by Serin,
// or by Flagger for the Canary that owns the Release.
func isScalerOf(r *v1alpha1.Release, o *unstructured.Unstructured) bool {
	if o.GetLabels()[LabelRelease] == r.Name {
		return true
	}
	canary, owner := metav1.GetControllerOf(r), metav1.GetControllerOf(o)
	return canary != nil && owner != nil && canary.UID == owner.UID
}

// scaled is the name of what an autoscaler scales.
func scaled(o *unstructured.Unstructured) string {
	name, _, err := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "name")
	if err != nil {
		return "" // of a type that the kind's schema refuses
	}
	return name
}

// number is a field of a spec; def where it is absent.
func number(o *unstructured.Unstructured, field string, def int32) int32 {
	n, ok, err := unstructured.NestedInt64(o.Object, "spec", field)
	if err != nil || !ok {
		return def
	}
	return int32(n)
}

// MakeScaler makes the stable copy's autoscaler say what the target's does, but
// for the Release's own bounds and queries, and never less than what the state
// asks for: while a run is on the stable copy keeps the pods that it had when
// the run began, because all of the traffic may come back at any moment. The
// target's ScaledObject is paused while the target has no pods. It writes
// nothing where that is so already.
func (c *Client) MakeScaler(ctx context.Context, d *Delivery, want Scaling) error {
	s := &d.Scaler
	for _, stray := range s.strays {
		if err := c.deleteScaler(ctx, d, stray); err != nil {
			return err
		}
	}
	if !s.Named || s.unread {
		return nil
	}
	if s.Problem != nil {
		return fmt.Errorf("%s: %w", releaseName(d), s.Problem)
	}
	kind := scalerKinds[d.Release.Spec.Autoscaler.Kind]
	if kind.pausable {
		if err := c.pauseScaler(ctx, d, !want.Canary); err != nil {
			return err
		}
	}
	if !d.Stable.Exists {
		return nil
	}
	copied := stableScaler(d, kind, want)
	if s.stable != nil && sameJSON(s.stable.Object["spec"], copied.Object["spec"]) &&
		contains(s.stable.GetLabels(), copied.GetLabels()) && s.stable.GetAnnotations()[annotationFloor] == copied.GetAnnotations()[annotationFloor] {
		return nil
	}
	if s.stable == nil {
		_, err := c.apply(ctx, kind.resource, copied)
		return err
	}
	// Not applied: that would leave behind what only the target's had before.
	next := s.stable.DeepCopy()
	next.Object["spec"] = copied.Object["spec"]
	next.SetAnnotations(copied.GetAnnotations())
	next.SetLabels(copied.GetLabels())
	_, err := c.dynamic.Resource(kind.resource).Namespace(next.GetNamespace()).Update(ctx, next, metav1.UpdateOptions{FieldManager: fieldManager})
	if err != nil && !apierrors.IsConflict(err) { // else what was read is not the newest, and there is another look
		return fmt.Errorf("%s: %s %s: %w", releaseName(d), next.GetKind(), next.GetName(), kindOf(err))
	}
	return nil
}

// stableScaler builds the stable copy's autoscaler.
func stableScaler(d *Delivery, kind scalerKind, want Scaling) *unstructured.Unstructured {
	own, ref := d.Scaler.own, d.Release.Spec.Autoscaler
	out := &unstructured.Unstructured{Object: map[string]any{"apiVersion": own.GetAPIVersion(), "kind": own.GetKind()}}
	out.SetName(scalerName(d))
	out.SetNamespace(d.Names.Namespace)
	labels := maps.Clone(own.GetLabels())
	if labels == nil {
		labels = map[string]string{}
	}
	labels[LabelRelease] = d.Release.Name
	out.SetLabels(labels)
	out.SetOwnerReferences(ownedBy(d.Release))

	spec, ok := own.DeepCopy().Object["spec"].(map[string]any)
	if !ok {
		spec = map[string]any{}
	}
	out.Object["spec"] = spec
	if target, ok := spec["scaleTargetRef"].(map[string]any); ok {
		target["name"] = d.Names.Stable
	}
	// No pods at all would be no answer to users, who have no other pods.
	delete(spec, "idleReplicaCount")
	least := max(1, number(own, kind.least, 1))
	if ref.MinReplicas != nil {
		least = *ref.MinReplicas
	}
	most := number(own, kind.most, scaledObjectDefaultMax)
	if ref.MaxReplicas != nil {
		most = *ref.MaxReplicas
	}
	if want.Run > 0 {
		floor := max(d.Scaler.floorOf(want.Run, d.Stable.Replicas), want.Stable)
		out.SetAnnotations(map[string]string{annotationFloor: fmt.Sprintf("%d/%d", want.Run, floor)})
		least = max(least, floor)
	}
	spec[kind.least] = int64(least)
	spec[kind.most] = int64(max(most, least)) // for a run that needs more than the user foresaw
	setQueries(spec, d)
	return out
}

// floorOf is what the stable copy's autoscaler was raised to for a run; def
// where it was not yet.
func (s *Scaler) floorOf(run int64, def int32) int32 {
	if s.stable == nil {
		return def
	}
	of, floor, _ := strings.Cut(s.stable.GetAnnotations()[annotationFloor], "/")
	if of != strconv.FormatInt(run, 10) {
		return def
	}
	n, err := strconv.ParseInt(floor, 10, 32)
	if err != nil {
		return def // a foreign hand's
	}
	return int32(n)
}

// setQueries lets the triggers of a ScaledObject measure the stable copy.
func setQueries(spec map[string]any, d *Delivery) {
	triggers, ok := spec["triggers"].([]any)
	if !ok {
		return
	}
	queries := d.Release.Spec.Autoscaler.Queries
	// At each place the first that fits is taken: the longer name comes first.
	renamed := strings.NewReplacer(
		d.Names.Target+"-canary", d.Names.Stable, d.Names.Stable, d.Names.Stable, d.Names.Target, d.Names.Stable)
	for _, t := range triggers {
		trigger, _ := t.(map[string]any)
		metadata, _ := trigger["metadata"].(map[string]any)
		query, ok := metadata["query"].(string)
		name, _ := trigger["name"].(string)
		given, named := queries[name]
		switch {
		case named && name != "" && metadata != nil:
			metadata["query"] = given
		case ok && len(queries) == 0:
			metadata["query"] = renamed.Replace(query)
		}
	}
}

// pauseScaler keeps the target's ScaledObject from starting pods, or lets it
// again. A pause of another number is the user's own.
func (c *Client) pauseScaler(ctx context.Context, d *Delivery, on bool) error {
	const none = "0"
	own := d.Scaler.own
	have, paused := own.GetAnnotations()[annotationPaused]
	if paused == on || paused && have != none {
		return nil
	}
	var value any
	if on {
		value = none
	}
	resource := scalerKinds[d.Release.Spec.Autoscaler.Kind].resource
	return c.patch(ctx, resource, own.GetNamespace(), own.GetName(),
		map[string]any{"metadata": map[string]any{"annotations": map[string]any{annotationPaused: value}}})
}

// dropScaler gives the target its autoscaler back, and takes the stable copy's
// away.
func (c *Client) dropScaler(ctx context.Context, d *Delivery) error {
	s := &d.Scaler
	if !s.Named || s.unread || s.Problem != nil {
		return nil // there is nothing of ours
	}
	kind := scalerKinds[d.Release.Spec.Autoscaler.Kind]
	if kind.pausable {
		if err := c.pauseScaler(ctx, d, false); err != nil && !isNotFound(err) {
			return err
		}
	}
	if s.stable == nil {
		return nil
	}
	return c.deleteScaler(ctx, d, s.stable)
}

func (c *Client) deleteScaler(ctx context.Context, d *Delivery, o *unstructured.Unstructured) error {
	err := c.dynamic.Resource(scalerKinds[o.GetKind()].resource).Namespace(o.GetNamespace()).Delete(ctx, o.GetName(), metav1.DeleteOptions{})
	if err = kindOf(err); err != nil && !isNotFound(err) {
		return fmt.Errorf("%s: delete %s %s: %w", releaseName(d), o.GetKind(), o.GetName(), err)
	}
	return nil
}

// scalers are all autoscalers of a kind. They are watched from the start where
// the API serves the kind, and else when a Release names one.
type scalers struct {
	watched atomic.Bool
	watch   func() scalerWatch
}

// scalerWatch knows all autoscalers of a kind.
type scalerWatch struct {
	informer cache.SharedIndexInformer
	since    time.Time
}

// prepareScalers makes the watches, and starts none.
func (c *Client) prepareScalers() {
	c.scalers = map[string]*scalers{}
	for name, kind := range scalerKinds {
		s := &scalers{}
		s.watch = sync.OnceValue(func() scalerWatch {
			s.watched.Store(true)
			return c.watchScalers(kind)
		})
		c.scalers[name] = s
	}
}

// startScalers starts the watches of what the API serves.
func (c *Client) startScalers() {
	for name, kind := range scalerKinds {
		list, err := c.core.Discovery().ServerResourcesForGroupVersion(kind.resource.GroupVersion().String())
		if err != nil {
			continue // most probably it does not serve the kind
		}
		if slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == kind.resource.Resource }) {
			c.scalers[name].watch()
		}
	}
}

func (c *Client) watchScalers(kind scalerKind) scalerWatch {
	informer := dynamicinformer.NewFilteredDynamicInformer(c.dynamic, kind.resource, metav1.NamespaceAll, 0,
		cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}, nil).Informer()
	// The one error is that of an informer which was stopped.
	_, _ = informer.AddEventHandler(c.releaseChanged.handler())
	go informer.Run(c.running.Done())
	return scalerWatch{informer, time.Now()}
}
