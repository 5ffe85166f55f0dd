package kube

import (
	"context"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Of what a revision uses of ConfigMaps and Secrets there are two copies: one
// that the stable pods use and one that is kept under the revision's name. A
// pod cannot start without the first, and a revision not be run again without
// the second, so each is made anew from the other when somebody deletes or
// edits it. The kept one is the truth.

// repairCopies makes the copies that the stable copy's template uses as they
// have to be. It writes nothing where that is so already.
func (c *Client) repairCopies(ctx context.Context, d *Delivery, revision string) error {
	stable, err := c.deployment(d, d.Names.Stable)
	if err != nil {
		return err
	}
	if stable.Spec.Template.Annotations[annotationRevision] != revision {
		return nil // it uses no copies
	}
	suffix := d.Names.Stable[len(d.Names.Target):]
	for _, used := range configsOf(&stable.Spec.Template) {
		name, ok := strings.CutSuffix(used.name, suffix)
		if !ok {
			continue
		}
		kept := configRef{used.kind, keptName(name, revision)}
		if err := c.repairCopy(ctx, d, configRef{used.kind, name}, kept, used, revision); err != nil {
			return err
		}
	}
	return nil
}

// repairCopy makes both copies of one of the user's objects say the same.
// Where both are gone, the user's own is what they were as long as the target
// runs the same revision; otherwise nothing can be done, and the pods that miss
// it say so.
func (c *Client) repairCopy(ctx context.Context, d *Delivery, own, kept, used configRef, revision string) error {
	from := cachedConfigs{c}
	want, isKept := kept.read(from, d.Names.Namespace)
	have, isUsed := used.read(from, d.Names.Namespace)
	mine, _ := c.isCopy(d, used)
	switch {
	case isKept && isUsed && want == have:
		return nil
	case isKept:
		return c.copyConfig(ctx, d, kept, used.name, nil)
	case isUsed && mine:
		return c.copyConfig(ctx, d, used, kept.name, map[string]string{labelKept: revision})
	case !isUsed && d.Target.Revision == revision:
		if _, ok := own.read(from, d.Names.Namespace); ok {
			return c.copyConfig(ctx, d, own, kept.name, map[string]string{labelKept: revision})
		}
	}
	return nil
}

// configsKept reports whether all that the target uses is kept as it is.
func (c *Client) configsKept(d *Delivery, target *appsv1.Deployment) bool {
	if d.Target.Config == "" {
		return true
	}
	from := cachedConfigs{c}
	for _, ref := range configsOf(&target.Spec.Template) {
		want, ok := ref.read(from, target.Namespace)
		if !ok {
			continue
		}
		if have, ok := (configRef{ref.kind, keptName(ref.name, d.Target.Revision)}).read(from, target.Namespace); !ok || have != want {
			return false
		}
	}
	return true
}

// isCopy reports whether an object exists and is one that this Release made;
// taken, that it is somebody else's.
func (c *Client) isCopy(d *Delivery, r configRef) (mine, taken bool) {
	var o metav1.Object
	var err error
	if from := (cachedConfigs{c}); r.kind == configMapKind {
		o, err = from.ConfigMap(d.Names.Namespace, r.name)
	} else {
		o, err = from.Secret(d.Names.Namespace, r.name)
	}
	if err != nil {
		return false, false
	}
	mine = o.GetLabels()[LabelRelease] == d.Release.Name
	return mine, !mine
}

// applyWhole applies a copy, and removes the keys that somebody else added,
// which an apply leaves alone.
func (c *Client) applyWhole(ctx context.Context, gvr schema.GroupVersionResource, copied runtime.Object) error {
	got, err := c.apply(ctx, gvr, copied)
	if err != nil {
		return err
	}
	want, err := toUnstructured(copied)
	if err != nil {
		return err
	}
	foreign := map[string]any{}
	for _, field := range []string{"data", "binaryData"} {
		wanted, _ := want.Object[field].(map[string]any)
		have, _ := got.Object[field].(map[string]any)
		remove := map[string]any{}
		for key := range have {
			if _, ok := wanted[key]; !ok {
				remove[key] = nil
			}
		}
		if len(remove) > 0 {
			foreign[field] = remove
		}
	}
	if len(foreign) == 0 {
		return nil
	}
	return c.patch(ctx, gvr, got.GetNamespace(), got.GetName(), foreign)
}
