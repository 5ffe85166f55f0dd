package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// MakeShared makes the users' Service select the pods of both sides, and
// removes the routes: then each pod gets the same share. The pods of the target
// are labelled one by one, because their template is the user's. It writes
// nothing where that is so already.
func (c *Client) MakeShared(ctx context.Context, d *Delivery) error {
	if d.Target.Exists && d.Target.Replicas > 0 {
		if err := c.labelPods(ctx, d); err != nil {
			return err
		}
	}
	if err := c.makeService(ctx, d, d.Names.Service, map[string]string{LabelRelease: d.Release.Name}); err != nil {
		return err
	}
	_, err := c.dropRoutes(ctx, d)
	return err
}

func (c *Client) labelPods(ctx context.Context, d *Delivery) error {
	target, err := c.deployment(d, d.Names.Target)
	if err != nil {
		return err
	}
	pods, err := c.coreInformers.Core().V1().Pods().Lister().Pods(d.Names.Namespace).List(selectorOf(target))
	if err != nil {
		return fmt.Errorf("%s: pods of the target: %w", releaseName(d), err)
	}
	label := map[string]any{"metadata": map[string]any{"labels": map[string]any{LabelRelease: d.Release.Name}}}
	for _, pod := range pods {
		if pod.Labels[LabelRelease] == d.Release.Name || pod.DeletionTimestamp != nil {
			continue
		}
		err := c.patch(ctx, corev1.SchemeGroupVersion.WithResource("pods"), pod.Namespace, pod.Name, label)
		if err != nil && !isNotFound(err) {
			return err
		}
	}
	return nil
}
