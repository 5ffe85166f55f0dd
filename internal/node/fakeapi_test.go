package node

import (
	"fmt"
	"reflect"
	"strconv"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// fakeAPI is an API in memory with what this package relies on and the fake
// clientset lacks: UIDs, generations, optimistic locking, a status that is
// apart from the rest, and pods that are deleted gracefully.
func fakeAPI() *fake.Clientset {
	c := fake.NewClientset()
	var mu sync.Mutex
	serial := 0
	next := func() string {
		serial++
		return strconv.Itoa(serial)
	}
	locked := func(f func(clienttesting.Action) (bool, runtime.Object, error)) clienttesting.ReactionFunc {
		return func(a clienttesting.Action) (bool, runtime.Object, error) {
			mu.Lock()
			defer mu.Unlock()
			return f(a)
		}
	}
	c.PrependReactor("create", "*", locked(func(a clienttesting.Action) (bool, runtime.Object, error) {
		o, err := meta.Accessor(a.(clienttesting.CreateAction).GetObject())
		if err != nil {
			return true, nil, err
		}
		o.SetUID(types.UID(fmt.Sprintf("uid-%s", next())))
		o.SetResourceVersion(next())
		o.SetGeneration(1)
		o.SetCreationTimestamp(metav1.Now())
		return false, nil, nil
	}))
	c.PrependReactor("update", "*", locked(func(a clienttesting.Action) (bool, runtime.Object, error) {
		obj := a.(clienttesting.UpdateAction).GetObject().DeepCopyObject()
		o, err := meta.Accessor(obj)
		if err != nil {
			return true, nil, err
		}
		old, err := c.Tracker().Get(a.GetResource(), a.GetNamespace(), o.GetName())
		if err != nil {
			return true, nil, err
		}
		was, err := meta.Accessor(old)
		if err != nil {
			return true, nil, err
		}
		if o.GetResourceVersion() != "" && o.GetResourceVersion() != was.GetResourceVersion() {
			return true, nil, apierrors.NewConflict(a.GetResource().GroupResource(), o.GetName(), fmt.Errorf("changed meanwhile"))
		}
		if d, ok := obj.(*appsv1.Deployment); ok {
			old := old.DeepCopyObject().(*appsv1.Deployment)
			if a.GetSubresource() == "status" {
				old.Status = d.Status
				obj, d = old, old
			} else if d.Status = old.Status; !reflect.DeepEqual(d.Spec, old.Spec) {
				d.Generation = old.Generation + 1
			}
			o = d
		}
		o.SetResourceVersion(next())
		return true, obj, c.Tracker().Update(a.GetResource(), obj, a.GetNamespace())
	}))
	c.PrependReactor("delete", "pods", locked(func(a clienttesting.Action) (bool, runtime.Object, error) {
		d := a.(clienttesting.DeleteAction)
		obj, err := c.Tracker().Get(a.GetResource(), a.GetNamespace(), d.GetName())
		if err != nil {
			return true, nil, err
		}
		o := obj.DeepCopyObject().(*corev1.Pod)
		opts := d.GetDeleteOptions()
		if p := opts.Preconditions; p != nil && p.UID != nil && *p.UID != o.UID {
			return true, nil, apierrors.NewConflict(a.GetResource().GroupResource(), o.Name, fmt.Errorf("another UID"))
		}
		grace := int64(30)
		if o.Spec.TerminationGracePeriodSeconds != nil {
			grace = *o.Spec.TerminationGracePeriodSeconds
		}
		if opts.GracePeriodSeconds != nil {
			grace = *opts.GracePeriodSeconds
		}
		if grace == 0 || o.Spec.NodeName == "" || over(o) {
			return true, nil, c.Tracker().Delete(a.GetResource(), a.GetNamespace(), o.Name)
		}
		now := metav1.Now()
		o.DeletionTimestamp, o.DeletionGracePeriodSeconds = &now, &grace
		o.ResourceVersion = next()
		return true, o, c.Tracker().Update(a.GetResource(), o, a.GetNamespace())
	}))
	return c
}
