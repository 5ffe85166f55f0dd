package apiserver

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// ContainerUsage is what a running container uses.
type ContainerUsage struct {
	Name   string
	CPU    float64 // cores, on average over Window
	Memory int64   // bytes
	At     time.Time
	Window time.Duration
}

// UsageSource tells what the containers of a pod use, each since it was asked
// for last; none when it does not know.
type UsageSource func(namespace, pod string) []ContainerUsage

// podMetrics is the read-only resource behind kubectl top pods, as a cluster has
// it from its metrics-server (github.com/kubernetes/metrics).
type podMetrics struct {
	rest.TableConvertor
	pods  *genericregistry.Store
	usage UsageSource
}

var (
	_ rest.Getter               = podMetrics{}
	_ rest.Lister               = podMetrics{}
	_ rest.SingularNameProvider = podMetrics{}
)

func newPodMetrics(pods *genericregistry.Store, usage UsageSource) podMetrics {
	return podMetrics{rest.NewDefaultTableConvertor(schema.GroupResource{Group: metricsv1beta1.GroupName, Resource: "pods"}), pods, usage}
}

func (podMetrics) New() runtime.Object     { return &metricsv1beta1.PodMetrics{} }
func (podMetrics) NewList() runtime.Object { return &metricsv1beta1.PodMetricsList{} }
func (podMetrics) Destroy()                {}
func (podMetrics) NamespaceScoped() bool   { return true }
func (podMetrics) GetSingularName() string { return "pod" }

func (m podMetrics) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	obj, err := m.pods.Get(ctx, name, opts)
	if err != nil {
		return nil, err
	}
	out, ok := m.of(obj.(*corev1.Pod))
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: metricsv1beta1.GroupName, Resource: "pods"}, name)
	}
	return &out, nil
}

// List leaves out the pods of which nothing is known yet.
func (m podMetrics) List(ctx context.Context, opts *internalversion.ListOptions) (runtime.Object, error) {
	obj, err := m.pods.List(ctx, opts)
	if err != nil {
		return nil, err
	}
	pods := obj.(*corev1.PodList)
	out := &metricsv1beta1.PodMetricsList{ListMeta: pods.ListMeta}
	for i := range pods.Items {
		if one, ok := m.of(&pods.Items[i]); ok {
			out.Items = append(out.Items, one)
		}
	}
	return out, nil
}

// of makes the metrics of one pod; ok is false where none are known.
func (m podMetrics) of(pod *corev1.Pod) (out metricsv1beta1.PodMetrics, ok bool) {
	if m.usage == nil {
		return out, false
	}
	out.ObjectMeta = metav1.ObjectMeta{
		Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels, CreationTimestamp: metav1.Now(),
	}
	for _, u := range m.usage(pod.Namespace, pod.Name) {
		out.Timestamp, out.Window = metav1.NewTime(u.At), metav1.Duration{Duration: u.Window.Round(time.Millisecond)}
		out.Containers = append(out.Containers, metricsv1beta1.ContainerMetrics{Name: u.Name, Usage: corev1.ResourceList{
			corev1.ResourceCPU:    *quantity.NewScaledQuantity(int64(u.CPU*1e9), quantity.Nano),
			corev1.ResourceMemory: *quantity.NewQuantity(u.Memory, quantity.BinarySI),
		}})
	}
	return out, len(out.Containers) > 0
}
