package kube

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Adopt makes the Release the owner of what bears its label and has no owner:
// copies that were restored from a backup, where the owner they had does not
// exist any more. It writes nothing where that is so already.
func (c *Client) Adopt(ctx context.Context, d *Delivery) error {
	core, apps, own := c.coreInformers.Core().V1(), c.coreInformers.Apps().V1(), ownLabels(d.Release)
	orphans := map[schema.GroupVersionResource][]string{}
	note := func(gvr schema.GroupVersionResource, o metav1.Object) {
		if len(o.GetOwnerReferences()) == 0 && o.GetDeletionTimestamp() == nil {
			orphans[gvr] = append(orphans[gvr], o.GetName())
		}
	}
	deployments, err := apps.Deployments().Lister().Deployments(d.Names.Namespace).List(own)
	for _, o := range deployments {
		if o.Name == d.Names.Stable {
			note(deploymentsResource, o)
		}
	}
	if err == nil {
		revisions, e := apps.ControllerRevisions().Lister().ControllerRevisions(d.Names.Namespace).List(own)
		for _, o := range revisions {
			note(revisionsResource, o)
		}
		err = e
	}
	if err == nil {
		configs, e := core.ConfigMaps().Lister().ConfigMaps(d.Names.Namespace).List(own)
		for _, o := range configs {
			note(configMapsResource, o)
		}
		err = e
	}
	if err == nil {
		secrets, e := core.Secrets().Lister().Secrets(d.Names.Namespace).List(own)
		for _, o := range secrets {
			note(secretsResource, o)
		}
		err = e
	}
	if err != nil {
		return fmt.Errorf("%s: restored copies: %w", releaseName(d), err)
	}
	owner := map[string]any{"metadata": map[string]any{"ownerReferences": ownedBy(d.Release)}}
	for gvr, names := range orphans {
		for _, name := range names {
			if err := c.patch(ctx, gvr, d.Names.Namespace, name, owner); err != nil && !isNotFound(err) {
				return err
			}
		}
	}
	return nil
}
