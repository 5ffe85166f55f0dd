package kube

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"serin.dev/serin/internal/mesh"
)

// HoldTarget lets whoever deletes the target wait, or lets it go. A target that
// was deleted while it is held does not exist for the Release any more, and its
// pods serve until it is let go. So do those that end because it was changed or
// scaled to 0, for as long as their grace period lets them. It writes nothing
// where that is so already.
//
// Who deletes with --cascade=foreground is not held up: Kubernetes then ends the
// pods first, whoever else waits for the Deployment.
func (c *Client) HoldTarget(ctx context.Context, d *Delivery, hold bool) error {
	target, err := c.deployment(d, d.Names.Target)
	if err != nil {
		return nil // there is nothing to hold
	}
	return c.hold(ctx, target, hold)
}

// FreeTargets ends the hold of Deployments that are the target of none of the
// Releases, as of one that was edited to have another.
func (c *Client) FreeTargets(ctx context.Context, all []*Delivery) error {
	// The lister's only error is "not found".
	deployments, err := c.coreInformers.Apps().V1().Deployments().Lister().List(labels.Everything())
	if err != nil {
		return fmt.Errorf("deployments: %w", err)
	}
	for _, dep := range deployments {
		if !held(dep) || slices.ContainsFunc(all, func(d *Delivery) bool {
			return d.Names.Namespace == dep.Namespace && d.Names.Target == dep.Name
		}) {
			continue
		}
		if err := c.hold(ctx, dep, false); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) hold(ctx context.Context, dep *appsv1.Deployment, on bool) error {
	if held(dep) == on || on && dep.DeletionTimestamp != nil { // the latter: it is too late
		return nil
	}
	err := c.borrow(ctx, deploymentsResource, dep.Namespace, dep.Name, finalizers(dep, targetFinalizer, on))
	if isNotFound(err) || apierrors.IsConflict(err) {
		return nil // it has changed, which brings the next look
	}
	return err
}

func held(dep *appsv1.Deployment) bool { return slices.Contains(dep.Finalizers, targetFinalizer) }

// targetsHeld are the held ones of all Deployments, as workloadKey names them.
func targetsHeld(all []*appsv1.Deployment) map[mesh.Workload]bool {
	out := map[mesh.Workload]bool{}
	for _, dep := range all {
		if held(dep) {
			out[mesh.Workload{Namespace: dep.Namespace, Name: dep.Name}] = true
		}
	}
	return out
}

// workloadKey is what the pods of one Deployment have in common.
func workloadKey(w mesh.Workload) mesh.Workload {
	return mesh.Workload{Namespace: w.Namespace, Name: w.Name}
}
