package kube

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Pod is one pod of a workload, as far as it is measured.
type Pod struct {
	Name string
	UID  string
	// Restarts of its containers since it exists.
	Restarts int32
	object   *corev1.Pod
}

// NewPod makes a pod that answers at its name, for tests.
func NewPod(name, uid string) Pod {
	return Pod{Name: name, UID: uid, object: &corev1.Pod{Status: corev1.PodStatus{PodIP: name}}}
}

// Address is where the pod's application answers on a port of its container, as
// host:port.
func (p *Pod) Address(port uint16) string {
	if at := appAddress(p.object, port); at != "" {
		return at
	}
	return net.JoinHostPort(p.object.Status.PodIP, strconv.Itoa(int(port)))
}

// Pods lists the pods of one of a release's Deployments that run and are not
// being deleted, ready or not.
func (c *Client) Pods(d *Delivery, deployment string) ([]Pod, error) {
	dep, err := c.deployment(d, deployment)
	if err != nil {
		return nil, err
	}
	objects, err := c.podsOf(dep)
	if err != nil {
		return nil, err
	}
	var out []Pod
	for _, o := range objects {
		if o.Status.PodIP == "" {
			continue
		}
		p := Pod{Name: o.Name, UID: string(o.UID), object: o}
		for _, s := range o.Status.ContainerStatuses {
			p.Restarts += s.RestartCount
		}
		out = append(out, p)
	}
	return out, nil
}

// Usage is what a pod uses.
type Usage struct {
	Millicores float64 // thousandths of a processor
	MiB        float64 // memory
}

var podMetricsResource = metricsv1beta1.SchemeGroupVersion.WithResource("pods")

// Usage asks metrics.k8s.io what each pod of one of a release's Deployments uses,
// by the pods' names. Pods of which nothing is known yet are left out. In a
// cluster the answer is that of its metrics-server, some 15 s old.
func (c *Client) Usage(ctx context.Context, d *Delivery, deployment string) (map[string]Usage, error) {
	dep, err := c.deployment(d, deployment)
	if err != nil {
		return nil, err
	}
	pods, err := c.podsOf(dep)
	if err != nil {
		return nil, err
	}
	list, err := c.dynamic.Resource(podMetricsResource).Namespace(d.Names.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.SelectorFromSet(dep.Spec.Selector.MatchLabels).String(),
	})
	if err != nil {
		if isNotFound(kindOf(err)) {
			return nil, fmt.Errorf("metrics.k8s.io is not served here: install a metrics-server: %w", kindOf(err))
		}
		return nil, fmt.Errorf("usage of %s/%s: %w", d.Names.Namespace, deployment, kindOf(err))
	}
	out := map[string]Usage{}
	for i := range list.Items {
		var m metricsv1beta1.PodMetrics
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &m); err != nil {
			return nil, fmt.Errorf("usage of pod %s: %w", list.Items[i].GetName(), err)
		}
		if !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return p.Name == m.Name }) {
			continue
		}
		var u Usage
		for _, container := range m.Containers {
			u.Millicores += container.Usage.Cpu().AsApproximateFloat64() * 1000
			u.MiB += container.Usage.Memory().AsApproximateFloat64() / (1 << 20)
		}
		out[m.Name] = u
	}
	return out, nil
}
