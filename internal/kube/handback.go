package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// reasonHandedBack is that of the event that says that the target does not run
// what its user wrote any more.
const reasonHandedBack = "HandedBack"

// HasToHandBack reports whether anybody is left to be served when a Release
// goes: not where its target is gone as well, nor where another Release has it.
func (c *Client) HasToHandBack(d *Delivery) bool {
	return d.Holder == "" && d.Target.Exists && d.Stable.Exists && !c.terminating(d.Names.Namespace)
}

// HandBack ends a Release that is being deleted without taking its service
// down: the target runs the stable version again, the Service selects it again,
// and the split is gone. It is called until it reports true; the stable copy
// serves until the caller, who knows when the proxies have followed, removes
// the finalizer.
func (c *Client) HandBack(ctx context.Context, d *Delivery) (done bool, err error) {
	switch {
	case !c.restored(d):
		return false, c.restoreTarget(ctx, d)
	case d.Target.Replicas == 0:
		return false, c.ScaleTarget(ctx, d, max(d.Stable.Replicas, 1))
	case !d.Target.Ready:
		return false, c.RefreshPods(ctx, d, true)
	}
	if err := c.dropScaler(ctx, d); err != nil {
		return false, err
	}
	if err := c.restoreService(ctx, d); err != nil {
		return false, err
	}
	return c.dropRoutes(ctx, d)
}

// restored reports whether the target has the template that serves users. What
// its ConfigMaps say is the user's: they are never written to.
func (c *Client) restored(d *Delivery) bool {
	target, err := c.deployment(d, d.Names.Target)
	if err != nil {
		return false
	}
	stable, err := c.deployment(d, d.Names.Stable)
	if err != nil {
		return false
	}
	return Revision(&target.Spec.Template) == Revision(offCopies(&stable.Spec.Template, d.Names.suffix()))
}

func (c *Client) terminating(namespace string) bool {
	ns, err := c.coreInformers.Core().V1().Namespaces().Lister().Get(namespace)
	return err == nil && ns.DeletionTimestamp != nil
}

// dropRoutes deletes the Release's own VirtualServices but for those to keep, and
// reports whether there are no others any more.
func (c *Client) dropRoutes(ctx context.Context, d *Delivery, keep ...string) (done bool, err error) {
	all, err := c.istioInformers.Networking().V1().VirtualServices().Lister().VirtualServices(d.Names.Namespace).List(labels.Everything())
	if err != nil {
		return false, fmt.Errorf("%s: routes: %w", releaseName(d), err)
	}
	done = true
	for _, vs := range all {
		if !d.owns(vs) || slices.Contains(keep, vs.Name) {
			continue
		}
		done = false
		err := c.dynamic.Resource(routesResource).Namespace(vs.Namespace).Delete(ctx, vs.Name, metav1.DeleteOptions{})
		if err = kindOf(err); err != nil && !isNotFound(err) {
			return false, fmt.Errorf("%s: delete VirtualService %s: %w", releaseName(d), vs.Name, err)
		}
	}
	return done, nil
}

// restoreTarget gives the target the template of the stable copy: what serves
// users now is what shall serve them after the Release is gone.
func (c *Client) restoreTarget(ctx context.Context, d *Delivery) error {
	target, err := c.deployment(d, d.Names.Target)
	if err != nil {
		return err
	}
	stable, err := c.deployment(d, d.Names.Stable)
	if err != nil {
		return err
	}
	want := target.DeepCopy()
	want.Spec.Template = *offCopies(&stable.Spec.Template, d.Names.suffix())
	delete(want.Spec.Template.Labels, LabelRelease)
	for k, v := range target.Spec.Selector.MatchLabels {
		want.Spec.Template.Labels[k] = v
	}
	if err := c.replaceTemplate(ctx, want); err != nil {
		return err
	}
	message := fmt.Sprintf("release %s was deleted before revision %s (%s) was promoted: deployment %s runs revision %s (%s) again, which serves users; apply your manifest again to bring the other to all of them",
		d.Release.Name, d.Target.Template, d.Target.Version.Image, target.Name, d.Stable.Version.Revision, d.Stable.Version.Image)
	c.Event(d.Release, true, reasonHandedBack, message)
	c.events.Event(target, corev1.EventTypeWarning, reasonHandedBack, message)
	return c.disown(ctx, deploymentsResource, want.Namespace, want.Name)
}

// restoreService gives a user's Service its own selector back. One that Serin
// made goes with the Release, and serves from the target until then.
func (c *Client) restoreService(ctx context.Context, d *Delivery) error {
	have, err := c.coreInformers.Core().V1().Services().Lister().Services(d.Names.Namespace).Get(d.Names.Service)
	if err != nil {
		return nil // deleted by the user: nothing to restore
	}
	if have.Labels[LabelRelease] == d.Release.Name {
		target, err := c.deployment(d, d.Names.Target)
		if err != nil {
			return err
		}
		return c.makeService(ctx, d, have.Name, target.Spec.Selector.MatchLabels)
	}
	kept := have.Annotations[annotationSelector]
	if kept == "" {
		return nil
	}
	var selector map[string]string
	if err := json.Unmarshal([]byte(kept), &selector); err != nil {
		return fmt.Errorf("%s: service %s: annotation %s: %w", releaseName(d), have.Name, annotationSelector, err)
	}
	patch := map[string]any{}
	for k := range have.Spec.Selector {
		patch[k] = nil
	}
	for k, v := range selector {
		patch[k] = v
	}
	return c.borrow(ctx, servicesResource, have.Namespace, have.Name, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{annotationSelector: nil}},
		"spec":     map[string]any{"selector": patch},
	})
}
