package kube

import (
	"context"
	"errors"
)

// MakeShared makes the users' Service select the pods of both sides, and
// removes the routes: then each pod gets the same share. The pods of the target
// are labelled one by one, because their template is the user's; one that cannot
// be labelled holds nothing else up. More of them take part only with more, and
// none but those of the target's present revision. It writes nothing where that
// is so already.
func (c *Client) MakeShared(ctx context.Context, d *Delivery, more bool) error {
	var unlabelled error
	if more && d.Target.Exists && d.Target.Replicas > 0 {
		unlabelled = c.labelPods(ctx, d)
	}
	if err := c.makeService(ctx, d, d.Names.Service, map[string]string{LabelRelease: d.Release.Name}); err != nil {
		return errors.Join(unlabelled, err)
	}
	_, err := c.dropRoutes(ctx, d)
	return errors.Join(unlabelled, err)
}

func (c *Client) labelPods(ctx context.Context, d *Delivery) error {
	target, err := c.deployment(d, d.Names.Target)
	if err != nil {
		return err
	}
	pods, err := c.podsOf(target)
	if err != nil {
		return err
	}
	label := map[string]any{"metadata": map[string]any{"labels": map[string]any{LabelRelease: d.Release.Name}}}
	judged := ofRevision(target, &d.Target)
	var errs []error
	for _, pod := range pods {
		if pod.Labels[LabelRelease] == d.Release.Name || !contains(pod.Labels, judged) {
			continue
		}
		err := c.patch(ctx, podsResource, pod.Namespace, pod.Name, label)
		if err != nil && !isNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
