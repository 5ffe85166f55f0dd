package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/mesh"
)

// finalizer keeps a Release until its traffic was handed back.
const finalizer = "serin.dev/hand-back"

// targetFinalizer keeps a target until no route leads to its pods: without it
// they would go at the same time as the routes, and users meet the gap.
const targetFinalizer = "serin.dev/take-back"

// ErrOvertaken says that the journal of a Release is not the one that was read:
// another process has moved the Release on.
var ErrOvertaken = errors.New("another process has moved this release on")

// WriteStatus replaces the status of a Release, if its journal is still the one
// that this process read or wrote last, which is given: of two processes that
// decide at once, one has decided for nobody. When it returns nil the status is
// durable, and r has the version that it was given. A user's edit of the spec
// in the same moment is no obstacle.
func (c *Client) WriteStatus(ctx context.Context, r *v1alpha1.Release, journal *runtime.RawExtension) error {
	api := c.dynamic.Resource(releasesResource).Namespace(r.Namespace)
	obj := &v1alpha1.Release{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Release"},
		ObjectMeta: metav1.ObjectMeta{Name: r.Name, Namespace: r.Namespace, UID: r.UID}, // a re-created one is another
		Status:     r.Status,
	}
	u, err := toUnstructured(obj)
	if err != nil {
		return err
	}
	delete(u.Object, "spec")
	opts := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	for {
		u.SetResourceVersion(r.ResourceVersion)
		got, err := api.Apply(ctx, r.Name, u, opts, "status")
		switch {
		case err == nil:
			r.ResourceVersion = got.GetResourceVersion()
			return nil
		case !apierrors.IsConflict(err):
			return fmt.Errorf("release %s/%s: write status: %w", r.Namespace, r.Name, kindOf(err))
		}
		now, err := api.Get(ctx, r.Name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("release %s/%s: write status: %w", r.Namespace, r.Name, kindOf(err))
		}
		if now.GetUID() != r.UID {
			return fmt.Errorf("release %s/%s: write status: %w", r.Namespace, r.Name, ErrNotFound)
		}
		if !sameJournal(now, journal) {
			return fmt.Errorf("release %s/%s: write status: %w", r.Namespace, r.Name, ErrOvertaken)
		}
		r.ResourceVersion = now.GetResourceVersion() // something else of it was changed
	}
}

// sameJournal compares what journals say, not how they are written.
func sameJournal(now *unstructured.Unstructured, want *runtime.RawExtension) bool {
	have, _, err := unstructured.NestedFieldNoCopy(now.Object, "status", "journal")
	if err != nil {
		return false
	}
	var asked any
	if want != nil && utiljson.Unmarshal(want.Raw, &asked) != nil { // with whole numbers whole
		return false
	}
	return sameJSON(have, asked)
}

// applyStatus replaces the status of an object whose spec is the user's.
func (c *Client) applyStatus(ctx context.Context, gvr schema.GroupVersionResource, obj runtime.Object) error {
	u, err := toUnstructured(obj)
	if err != nil {
		return err
	}
	delete(u.Object, "spec")
	opts := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	_, err = c.dynamic.Resource(gvr).Namespace(u.GetNamespace()).Apply(ctx, u.GetName(), u, opts, "status")
	return kindOf(err)
}

// SetFinalizer adds or removes Serin's finalizer.
func (c *Client) SetFinalizer(ctx context.Context, r *v1alpha1.Release, on bool) error {
	return c.setFinalizer(ctx, releasesResource, r, on)
}

func (c *Client) setFinalizer(ctx context.Context, gvr schema.GroupVersionResource, o metav1.Object, on bool) error {
	if slices.Contains(o.GetFinalizers(), finalizer) == on {
		return nil
	}
	err := c.patch(ctx, gvr, o.GetNamespace(), o.GetName(), finalizers(o, finalizer, on))
	if isNotFound(err) && !on {
		return nil
	}
	return err
}

// finalizers is a patch that adds one to an object, or removes it. It fails
// where the object was changed since, so that no other finalizer is lost.
func finalizers(o metav1.Object, name string, on bool) any {
	list := slices.DeleteFunc(slices.Clone(o.GetFinalizers()), func(f string) bool { return f == name })
	if on {
		list = append(list, name)
	}
	return map[string]any{
		"metadata": map[string]any{"finalizers": list, "resourceVersion": o.GetResourceVersion()},
	}
}

// Event tells people about a Release, or about the Canary that owns it.
func (c *Client) Event(r *v1alpha1.Release, warning bool, reason, message string) {
	kind := corev1.EventTypeNormal
	if warning {
		kind = corev1.EventTypeWarning
	}
	c.events.Event(r, kind, reason, message)
	if o := metav1.GetControllerOf(r); o != nil {
		owner := &corev1.ObjectReference{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, Namespace: r.Namespace, UID: o.UID}
		c.events.Event(owner, kind, reason, message)
	}
}

// ObjectEvent tells people about an object that a snapshot was made from.
func (c *Client) ObjectEvent(kind, namespace, name string, warning bool, reason, message string) {
	obj := c.reference(kind, namespace, name)
	if obj == nil {
		return
	}
	typ := corev1.EventTypeNormal
	if warning {
		typ = corev1.EventTypeWarning
	}
	c.events.Event(obj, typ, reason, message)
}

func (c *Client) reference(kind, namespace, name string) runtime.Object {
	m, _ := c.meshObject(mesh.Origin{Kind: kind, Namespace: namespace, Name: name})
	if m == nil {
		return nil
	}
	return &corev1.ObjectReference{APIVersion: "networking.istio.io/v1", Kind: kind, Namespace: namespace, Name: name, UID: m.GetUID()}
}

// Canary is a Flagger Canary with the Release that does its work, if there is
// one already.
type Canary struct {
	Canary  *flaggerv1.Canary
	Release *v1alpha1.Release
}

// Own reports whether there is a Release and the Canary made it.
func (cn Canary) Own() bool {
	return cn.Release != nil && metav1.IsControlledBy(cn.Release, cn.Canary)
}

// Canaries lists the Flagger Canaries.
func (c *Client) Canaries() []Canary {
	var out []Canary
	for _, obj := range c.canaries.GetStore().List() {
		cn := Canary{Canary: obj.(*flaggerv1.Canary).DeepCopy()}
		if r, ok, err := c.releases.GetStore().GetByKey(cn.Canary.Namespace + "/" + cn.Canary.Name); err == nil && ok {
			cn.Release = r.(*v1alpha1.Release).DeepCopy()
		}
		out = append(out, cn)
	}
	return out
}

// ErrTaken says that an object of that name exists and belongs to someone else.
var ErrTaken = errors.New("belongs to someone else")

// MakeCanaryRelease makes the Release of a Canary have the given spec.
func (c *Client) MakeCanaryRelease(ctx context.Context, cn Canary, spec v1alpha1.ReleaseSpec) error {
	if r := cn.Release; r != nil {
		if !cn.Own() {
			return fmt.Errorf("canary %s/%s: a Release of that name %w: delete one of the two", r.Namespace, r.Name, ErrTaken)
		}
		if sameJSON(r.Spec, spec) {
			return nil
		}
	}
	_, err := c.apply(ctx, releasesResource, CanaryRelease(cn.Canary, spec))
	return err
}

// CanaryRelease is the Release that does the work of a Canary.
func CanaryRelease(cn *flaggerv1.Canary, spec v1alpha1.ReleaseSpec) *v1alpha1.Release {
	yes := true
	return &v1alpha1.Release{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Release"},
		ObjectMeta: metav1.ObjectMeta{
			Name: cn.Name, Namespace: cn.Namespace,
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: flaggerv1.SchemeGroupVersion.String(), Kind: flaggerv1.CanaryKind,
				Name: cn.Name, UID: cn.UID, Controller: &yes, BlockOwnerDeletion: &yes,
			}},
		},
		Spec: spec,
	}
}

// WriteCanaryStatus replaces the status of a Canary; it writes nothing where
// that is so already.
func (c *Client) WriteCanaryStatus(ctx context.Context, cn *flaggerv1.Canary, status flaggerv1.CanaryStatus) error {
	if sameJSON(cn.Status, status) {
		return nil
	}
	return c.patchStatus(ctx, cn, status)
}

func (c *Client) patchStatus(ctx context.Context, cn *flaggerv1.Canary, status flaggerv1.CanaryStatus) error {
	fields, err := statusFields(cn.Status, status)
	if err != nil {
		return fmt.Errorf("canary %s/%s: %w", cn.Namespace, cn.Name, err)
	}
	data, err := json.Marshal(map[string]any{"status": fields})
	if err != nil {
		return fmt.Errorf("canary %s/%s: %w", cn.Namespace, cn.Name, err)
	}
	opts := metav1.PatchOptions{FieldManager: fieldManager}
	if _, err := c.dynamic.Resource(canariesResource).Namespace(cn.Namespace).Patch(ctx, cn.Name, mergePatch, data, opts, "status"); err != nil {
		return fmt.Errorf("canary %s/%s: write status: %w", cn.Namespace, cn.Name, kindOf(err))
	}
	return nil
}

// statusFields are those of next for a merge patch: what only before had is null.
func statusFields(before, next flaggerv1.CanaryStatus) (map[string]any, error) {
	was, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&before)
	if err != nil {
		return nil, err
	}
	is, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&next)
	if err != nil {
		return nil, err
	}
	for name := range was {
		if _, ok := is[name]; !ok {
			is[name] = nil
		}
	}
	return is, nil
}

func ownLabels(r *v1alpha1.Release) labels.Selector {
	return labels.SelectorFromSet(labels.Set{LabelRelease: r.Name})
}

func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }

func sameJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// CanaryEvent tells people about a Canary.
func (c *Client) CanaryEvent(cn Canary, warning bool, reason, message string) {
	kind := corev1.EventTypeNormal
	if warning {
		kind = corev1.EventTypeWarning
	}
	c.events.Event(cn.Canary, kind, reason, message)
}
