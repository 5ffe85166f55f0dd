package apiserver

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// sweepAgain is the time after which a namespace is looked at again although
// nothing in it was seen to go; the deletions themselves bring it back sooner.
const sweepAgain = time.Second

// sweep empties a namespace that is being deleted, and lets it go when nothing
// is left in it.
func (c *collector) sweep(ctx context.Context, ns *object) error {
	// New objects are refused from the deletion on (admission.go); the phase is
	// for people and clients to see.
	phase := []byte(`{"status":{"phase":"` + string(corev1.NamespaceTerminating) + `"}}`)
	if _, err := c.resource(ns).Patch(ctx, ns.name, types.MergePatchType, phase, metav1.PatchOptions{}, "status"); err != nil {
		return ignoreGone(err)
	}
	kinds, err := c.kindsIn()
	if err != nil {
		return err
	}
	left := false
	for _, kind := range kinds {
		content := c.client.Resource(kind).Namespace(ns.name)
		list, err := content.List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range list.Items {
			left = true
			if list.Items[i].DeletionTimestamp != nil {
				continue
			}
			background := metav1.DeletePropagationBackground
			err := content.Delete(ctx, list.Items[i].Name, metav1.DeleteOptions{PropagationPolicy: &background})
			if ignoreGone(err) != nil {
				return err
			}
		}
	}
	if left {
		c.queue.AddAfter(ns.uid, sweepAgain)
		return nil
	}
	return c.dropFinalizer(ctx, ns, namespaceFinalizer)
}
