package kube

import "context"

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
	pods, err := c.podsOf(target)
	if err != nil {
		return err
	}
	label := map[string]any{"metadata": map[string]any{"labels": map[string]any{LabelRelease: d.Release.Name}}}
	for _, pod := range pods {
		if pod.Labels[LabelRelease] == d.Release.Name {
			continue
		}
		err := c.patch(ctx, podsResource, pod.Namespace, pod.Name, label)
		if err != nil && !isNotFound(err) {
			return err
		}
	}
	return nil
}
