package kube

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MakeWarm keeps the pods of a revision beside, as many as the stable copy has,
// under a Deployment and a Service of their own; "" removes them. It writes
// nothing where that is so already.
func (c *Client) MakeWarm(ctx context.Context, d *Delivery, revision string) error {
	have, err := c.coreInformers.Apps().V1().Deployments().Lister().Deployments(d.Names.Namespace).Get(d.Names.Warm)
	exists := err == nil // the lister's only error is "not found"
	switch {
	case revision == "" && exists && have.Labels[LabelRelease] == d.Release.Name:
		return c.dropWarm(ctx, d)
	case revision == "":
		return nil
	case exists && have.Labels[LabelRelease] != d.Release.Name:
		return fmt.Errorf("%s: deployment %s is somebody else's, and the version before needs its name to be kept warm: rename it, or remove spec.keepWarm", releaseName(d), have.Name)
	case exists && Revision(&have.Spec.Template) == revision:
		return c.makeService(ctx, d, d.Names.WarmService, have.Spec.Selector.MatchLabels)
	case !d.Target.Exists:
		return nil // nothing to copy; and nobody waits for it
	}
	target, err := c.deployment(d, d.Names.Target)
	if err != nil {
		return err
	}
	template, err := c.keptTemplate(ctx, d, revision)
	if err != nil {
		return err
	}
	if err := c.onCopies(ctx, d, template, revision, ""); err != nil {
		return err
	}
	want := copyOf(d, target, d.Names.Warm, template, copyLabels(target, d.Names.Warm))
	if exists {
		return c.replaceTemplate(ctx, want)
	}
	replicas := max(d.Stable.Replicas, 1)
	want.Spec.Replicas = &replicas
	_, err = c.apply(ctx, deploymentsResource, want)
	return err
}

// dropWarm deletes what MakeWarm made.
func (c *Client) dropWarm(ctx context.Context, d *Delivery) error {
	if svc, err := c.coreInformers.Core().V1().Services().Lister().Services(d.Names.Namespace).Get(d.Names.WarmService); err == nil && svc.Labels[LabelRelease] == d.Release.Name {
		err := c.core.CoreV1().Services(d.Names.Namespace).Delete(ctx, d.Names.WarmService, metav1.DeleteOptions{})
		if err = kindOf(err); err != nil && !isNotFound(err) {
			return fmt.Errorf("%s: delete service %s: %w", releaseName(d), d.Names.WarmService, err)
		}
	}
	err := c.core.AppsV1().Deployments(d.Names.Namespace).Delete(ctx, d.Names.Warm, metav1.DeleteOptions{})
	if err = kindOf(err); err != nil && !isNotFound(err) {
		return fmt.Errorf("%s: delete deployment %s: %w", releaseName(d), d.Names.Warm, err)
	}
	return nil
}
