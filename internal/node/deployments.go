package node

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/workqueue"
)

// deployments makes and deletes the pods of Deployments.
type deployments struct {
	node  *Node
	queue workqueue.TypedRateLimitingInterface[types.NamespacedName]
}

func newDeployments(n *Node) *deployments {
	return &deployments{node: n, queue: newQueue()}
}

func newQueue() workqueue.TypedRateLimitingInterface[types.NamespacedName] {
	return workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](20*time.Millisecond, 30*time.Second))
}

// run works until ctx ends.
func (ds *deployments) run(ctx context.Context) error {
	factory := ds.node.informers
	_, err := factory.Apps().V1().Deployments().Informer().AddEventHandler(handler(func(d *appsv1.Deployment, gone bool) {
		ds.queue.Add(types.NamespacedName{Namespace: d.Namespace, Name: d.Name})
	}))
	if err == nil {
		_, err = factory.Core().V1().Pods().Informer().AddEventHandler(handler(func(o *corev1.Pod, gone bool) {
			if ref := metav1.GetControllerOf(o); ref != nil && ref.Kind == "Deployment" {
				ds.queue.Add(types.NamespacedName{Namespace: o.Namespace, Name: ref.Name})
			}
		}))
	}
	if err != nil {
		return fmt.Errorf("watch deployments: %w", err)
	}
	work(ctx, ds.queue, ds.sync, func(name types.NamespacedName, err error) {
		ds.node.log.Warn("deployment", "namespace", name.Namespace, "name", name.Name, "err", err)
	})
	return nil
}

// work hands queued names to sync, one at a time, until ctx ends. sync says
// when it wants to see the name again; 0: when something changes.
func work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[types.NamespacedName],
	sync func(context.Context, types.NamespacedName) (time.Duration, error), failed func(types.NamespacedName, error)) {
	defer context.AfterFunc(ctx, queue.ShutDown)()
	for {
		name, shutdown := queue.Get()
		if shutdown {
			return
		}
		wait, err := sync(ctx, name)
		switch {
		case ctx.Err() != nil:
		case apierrors.IsConflict(err): // somebody else wrote; look again
			queue.AddRateLimited(name)
		case err != nil:
			failed(name, err)
			queue.AddRateLimited(name)
		default:
			queue.Forget(name)
			if wait > 0 {
				queue.AddAfter(name, wait)
			}
		}
		queue.Done(name)
	}
}

// sync does the next step of one Deployment. The pods that it makes and deletes
// bring the name back, at the end of the queue: so Deployments take turns, and
// each step begins with what the API says then. It reads pods from the API, not
// from a cache: a cache that lags would make it create a pod twice.
func (ds *deployments) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	client := ds.node.client
	d, err := client.AppsV1().Deployments(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if d.DeletionTimestamp != nil {
		return 0, nil // its pods go by their owner reference
	}
	pods, err := ds.pods(ctx, d)
	if err != nil {
		return 0, err
	}
	p := planDeployment(d, pods, time.Now())
	var failure error
	for range p.create {
		o, err := client.CoreV1().Pods(d.Namespace).Create(ctx, podFor(d, ds.node.name), metav1.CreateOptions{})
		if err != nil {
			ds.node.events.Event(d, corev1.EventTypeWarning, "FailedCreate", err.Error())
			failure = err
			break
		}
		ds.node.events.Event(d, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+o.Name)
		pods = append(pods, o)
	}
	for _, o := range p.remove {
		err := client.CoreV1().Pods(o.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &o.UID}})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return 0, err
		}
		ds.node.events.Event(d, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+o.Name)
		now := metav1.Now()
		o.DeletionTimestamp = &now // in our list, so that the status counts it as ending
	}
	status, wait := deploymentStatus(d, pods, failure, time.Now())
	if !reflect.DeepEqual(status, d.Status) {
		d.Status = status
		_, err := client.AppsV1().Deployments(d.Namespace).UpdateStatus(ctx, d, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			return 0, nil // deleted in the meantime
		}
		if err != nil {
			return 0, errors.Join(err, failure)
		}
	}
	return wait, failure
}

// pods lists the pods that the Deployment controls.
func (ds *deployments) pods(ctx context.Context, d *appsv1.Deployment) ([]*corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("selector: %w", err)
	}
	if !selector.Matches(labels.Set(d.Spec.Template.Labels)) {
		// It would never find the pods it makes, and make more for ever.
		return nil, errors.New("selector does not match the labels of the template: change either of them")
	}
	list, err := ds.node.client.CoreV1().Pods(d.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, err
	}
	var out []*corev1.Pod
	for i := range list.Items {
		if metav1.IsControlledBy(&list.Items[i], d) {
			out = append(out, &list.Items[i])
		}
	}
	return out, nil
}

func quarter() *intstr.IntOrString {
	q := intstr.FromString("25%")
	return &q
}
