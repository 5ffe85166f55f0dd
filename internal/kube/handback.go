package kube

import (
	"context"
	"encoding/json"
	"fmt"
)

// HandBack ends a Release that is being deleted without taking its service
// down: the target runs the stable version again, and only then Serin's
// objects may go. It returns nil when done or when there is still something to
// wait for; it is called until the Release is gone. Where the target is gone
// as well nothing is left to serve, and the Release goes at once.
func (c *Client) HandBack(ctx context.Context, d *Delivery) error {
	if !d.Target.Exists || !d.Stable.Exists || c.terminating(d.Names.Namespace) {
		return c.SetFinalizer(ctx, d.Release, false)
	}
	if d.Target.Revision != d.Stable.Revision {
		if err := c.restoreTarget(ctx, d); err != nil {
			return err
		}
		return nil
	}
	if d.Target.Replicas == 0 {
		return c.ScaleTarget(ctx, d, max(d.Stable.Replicas, 1))
	}
	if !d.Target.Ready {
		return nil
	}
	if err := c.restoreService(ctx, d); err != nil {
		return err
	}
	return c.SetFinalizer(ctx, d.Release, false)
}

func (c *Client) terminating(namespace string) bool {
	ns, err := c.coreInformers.Core().V1().Namespaces().Lister().Get(namespace)
	return err == nil && ns.DeletionTimestamp != nil
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
	want.Spec.Template = *stable.Spec.Template.DeepCopy()
	delete(want.Spec.Template.Labels, LabelRelease)
	for k, v := range target.Spec.Selector.MatchLabels {
		want.Spec.Template.Labels[k] = v
	}
	return c.replaceTemplate(ctx, want)
}

// restoreService gives a user's Service its own selector back. One that Serin
// made goes with the Release.
func (c *Client) restoreService(ctx context.Context, d *Delivery) error {
	have, err := c.coreInformers.Core().V1().Services().Lister().Services(d.Names.Namespace).Get(d.Names.Service)
	if err != nil {
		return nil // deleted by the user: nothing to restore
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
	return c.patch(ctx, servicesResource, have.Namespace, have.Name, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{annotationSelector: nil}},
		"spec":     map[string]any{"selector": patch},
	})
}
