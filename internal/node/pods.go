package node

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// pods runs a pod for each Pod object of this node, and brings to this node
// the ones that have none.
type pods struct {
	node *Node

	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup
	byName  map[types.NamespacedName]*pod
}

func newPods(n *Node) *pods {
	return &pods{node: n, byName: map[types.NamespacedName]*pod{}}
}

// run runs pods until ctx ends and all their processes are gone.
func (ps *pods) run(ctx context.Context) error {
	informer := ps.node.informers.Core().V1().Pods().Informer()
	_, err := informer.AddEventHandler(handler(func(o *corev1.Pod, gone bool) { ps.observe(ctx, o, gone) }))
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	<-ctx.Done()
	ps.mu.Lock()
	ps.stopped = true
	ps.mu.Unlock()
	ps.running.Wait()
	return nil
}

func (ps *pods) observe(ctx context.Context, o *corev1.Pod, gone bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	name := types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
	p := ps.byName[name]
	if p != nil && p.object().UID != o.UID {
		if gone {
			return // its end has been seen already
		}
		p.vanish() // another pod took its name, and the end was missed
		p = nil
	}
	switch {
	case ps.stopped:
	case gone:
		if p != nil {
			delete(ps.byName, name)
			p.vanish()
		}
	case o.Spec.NodeName == "":
		ps.running.Go(func() { ps.bind(ctx, o) })
	case o.Spec.NodeName != ps.node.name:
	case p != nil:
		p.observe(o)
	default:
		p = newPod(ps.node, o)
		ps.byName[name] = p
		ps.running.Go(func() { p.run(ctx) })
	}
}

// find returns a pod that this node runs; nil without one.
func (ps *pods) find(name types.NamespacedName) *pod {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.byName[name]
}

// bind assigns a pod to this node. There is nothing to choose.
func (ps *pods) bind(ctx context.Context, o *corev1.Pod) {
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": o.UID, "resourceVersion": o.ResourceVersion},
		"spec":     map[string]any{"nodeName": ps.node.name},
	})
	if err == nil {
		_, err = ps.node.client.CoreV1().Pods(o.Namespace).Patch(ctx, o.Name, types.MergePatchType, data, metav1.PatchOptions{})
	}
	// A conflict means that the pod changed, which brings it here again.
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
		ps.node.events.Event(o, corev1.EventTypeWarning, "FailedScheduling", err.Error())
	}
}
