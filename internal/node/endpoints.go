package node

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/kubectl/pkg/util/podutils"
)

// endpoints keeps the EndpointSlices of Services, and gives Services their
// cluster IP.
type endpoints struct {
	node  *Node
	queue workqueue.TypedRateLimitingInterface[types.NamespacedName]

	mu      sync.Mutex
	routed  map[types.NamespacedName]map[types.UID]bool // by service: pods that its slices call ready
	changed chan struct{}                               // closed and replaced when routed changes
}

func newEndpoints(n *Node) *endpoints {
	return &endpoints{node: n, queue: newQueue(), routed: map[types.NamespacedName]map[types.UID]bool{}, changed: make(chan struct{})}
}

// run works until ctx ends.
func (es *endpoints) run(ctx context.Context) error {
	core := es.node.informers.Core().V1()
	_, err := core.Services().Informer().AddEventHandler(handler(func(s *corev1.Service, gone bool) {
		if gone {
			es.node.network.releaseService(s.Spec.ClusterIP)
		}
		es.queue.Add(types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
	}))
	if err == nil {
		_, err = core.Pods().Informer().AddEventHandler(handler(es.podChanged))
	}
	if err == nil {
		_, err = es.node.informers.Discovery().V1().EndpointSlices().Informer().AddEventHandler(handler(func(s *discoveryv1.EndpointSlice, _ bool) {
			if s.Labels[discoveryv1.LabelManagedBy] == component {
				es.queue.Add(types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]})
			}
		}))
	}
	if err != nil {
		return fmt.Errorf("watch services: %w", err)
	}
	work(ctx, es.queue, es.sync, func(name types.NamespacedName, err error) {
		es.node.log.Warn("endpoints", "namespace", name.Namespace, "service", name.Name, "err", err)
	})
	return nil
}

// podChanged looks at the services that select the pod, and those that route
// to it though they don't select it any more.
func (es *endpoints) podChanged(o *corev1.Pod, gone bool) {
	for _, s := range es.node.servicesIn(o.Namespace) {
		if len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(o.Labels)) {
			es.queue.Add(types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
		}
	}
	es.mu.Lock()
	defer es.mu.Unlock()
	for name, uids := range es.routed {
		if uids[o.UID] {
			es.queue.Add(name)
		}
	}
}

// awaitLeft waits until no slice that was written calls the pod ready. It
// reports false when ctx ended first.
func (es *endpoints) awaitLeft(ctx context.Context, uid types.UID) bool {
	for {
		es.mu.Lock()
		changed, routed := es.changed, false
		for _, uids := range es.routed {
			routed = routed || uids[uid]
		}
		es.mu.Unlock()
		if !routed {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// setRouted remembers what the slices of a service say now.
func (es *endpoints) setRouted(name types.NamespacedName, uids map[types.UID]bool) {
	es.mu.Lock()
	defer es.mu.Unlock()
	if maps.Equal(es.routed[name], uids) {
		return
	}
	es.routed[name] = uids
	if len(uids) == 0 {
		delete(es.routed, name)
	}
	close(es.changed)
	es.changed = make(chan struct{})
}

func (es *endpoints) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	s, err := es.node.services.Services(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		es.setRouted(name, nil) // its slices go by their owner reference
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if s.DeletionTimestamp != nil || s.Spec.Type == corev1.ServiceTypeExternalName {
		return 0, nil
	}
	if err := es.giveAddress(ctx, s); err != nil {
		return 0, err
	}
	if len(s.Spec.Selector) == 0 {
		return 0, nil // its endpoints are somebody else's
	}
	pods, err := es.node.podLister.Pods(s.Namespace).List(labels.SelectorFromSet(s.Spec.Selector))
	if err != nil {
		return 0, err
	}
	want := slicesFor(s, pods)
	// Before a slice is written it may route to what it says; afterwards it
	// routes to no more than that.
	ready := readyIn(want)
	both := maps.Clone(ready)
	es.mu.Lock()
	maps.Copy(both, es.routed[name])
	es.mu.Unlock()
	es.setRouted(name, both)
	if err := es.write(ctx, s, want); err != nil {
		return 0, err
	}
	es.setRouted(name, ready)
	return 0, nil
}

// write brings the slices of a service in the API to what is wanted.
func (es *endpoints) write(ctx context.Context, s *corev1.Service, want []*discoveryv1.EndpointSlice) error {
	client := es.node.client.DiscoveryV1().EndpointSlices(s.Namespace)
	list, err := client.List(ctx, metav1.ListOptions{LabelSelector: labels.Set{
		discoveryv1.LabelServiceName: s.Name, discoveryv1.LabelManagedBy: component,
	}.String()})
	if err != nil {
		return err
	}
	have := map[string]*discoveryv1.EndpointSlice{}
	for i := range list.Items {
		have[list.Items[i].Name] = &list.Items[i]
	}
	for _, w := range want {
		h := have[w.Name]
		delete(have, w.Name)
		switch {
		case h == nil:
			_, err = client.Create(ctx, w, metav1.CreateOptions{})
		case !reflect.DeepEqual(h.Endpoints, w.Endpoints) || !reflect.DeepEqual(h.Ports, w.Ports):
			h.Endpoints, h.Ports = w.Endpoints, w.Ports
			_, err = client.Update(ctx, h, metav1.UpdateOptions{})
		}
		if err != nil {
			return err
		}
	}
	for name := range have {
		if err := client.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// giveAddress writes a cluster IP to a service that has none. It stays for the
// service's life, even if the node's own network changes.
func (es *endpoints) giveAddress(ctx context.Context, s *corev1.Service) error {
	nw := es.node.network
	if s.Spec.ClusterIP != "" {
		nw.keepService(s.Spec.ClusterIP)
		return nil
	}
	if nw.shared() {
		return nil
	}
	a, err := nw.takeService(s.Namespace + "/" + s.Name)
	if err != nil {
		return err
	}
	s = s.DeepCopy()
	s.Spec.ClusterIP, s.Spec.ClusterIPs = a.String(), []string{a.String()}
	if _, err := es.node.client.CoreV1().Services(s.Namespace).Update(ctx, s, metav1.UpdateOptions{}); err != nil {
		nw.releaseService(a.String())
		return err
	}
	return nil
}

// slicesFor makes the slices of a service: one for each list of port numbers
// that its pods have, since a named target port may differ between them.
func slicesFor(s *corev1.Service, pods []*corev1.Pod) []*discoveryv1.EndpointSlice {
	byPorts := map[string]*discoveryv1.EndpointSlice{}
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	for _, o := range pods {
		if o.Status.PodIP == "" || over(o) {
			continue
		}
		ports, key := slicePorts(s, o)
		slice := byPorts[key]
		if slice == nil {
			slice = &discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{
					// The service's UID keeps apart two services of the same
					// name, one after the other.
					Name:      s.Name + "-" + hashText(string(s.UID) + key)[:8],
					Namespace: s.Namespace,
					Labels: map[string]string{
						discoveryv1.LabelServiceName: s.Name,
						discoveryv1.LabelManagedBy:   component,
					},
					OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s, corev1.SchemeGroupVersion.WithKind("Service"))},
				},
				AddressType: discoveryv1.AddressTypeIPv4,
				Ports:       ports,
			}
			byPorts[key] = slice
		}
		slice.Endpoints = append(slice.Endpoints, endpointFor(s, o))
	}
	var out []*discoveryv1.EndpointSlice
	for _, key := range slices.Sorted(maps.Keys(byPorts)) {
		out = append(out, byPorts[key])
	}
	return out
}

func endpointFor(s *corev1.Service, o *corev1.Pod) discoveryv1.Endpoint {
	terminating := o.DeletionTimestamp != nil
	serving := podutils.IsPodReady(o)
	ready := serving && !terminating || s.Spec.PublishNotReadyAddresses
	node := o.Spec.NodeName
	return discoveryv1.Endpoint{
		Addresses:  []string{o.Status.PodIP},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: o.Namespace, Name: o.Name, UID: o.UID},
		NodeName:   &node,
	}
}

// slicePorts resolves a service's target ports for one pod. Ports that the pod
// does not have are left out.
func slicePorts(s *corev1.Service, o *corev1.Pod) (ports []discoveryv1.EndpointPort, key string) {
	for _, p := range s.Spec.Ports {
		number, ok := targetPort(p, o)
		if !ok {
			continue
		}
		protocol := p.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		name := p.Name
		ports = append(ports, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &protocol, AppProtocol: p.AppProtocol})
		key += fmt.Sprintf("%s:%s:%d;", name, protocol, number)
	}
	return ports, key
}

func targetPort(p corev1.ServicePort, o *corev1.Pod) (int32, bool) {
	if p.TargetPort.Type == intstr.Int {
		if p.TargetPort.IntVal == 0 {
			return p.Port, true
		}
		return p.TargetPort.IntVal, true
	}
	for _, c := range o.Spec.Containers {
		for _, cp := range c.Ports {
			if cp.Name == p.TargetPort.StrVal {
				return cp.ContainerPort, true
			}
		}
	}
	return 0, false
}

// readyIn lists the pods that slices call ready. A pod that ends is not among
// them, though a service that publishes unready addresses calls it so.
func readyIn(all []*discoveryv1.EndpointSlice) map[types.UID]bool {
	ready := map[types.UID]bool{}
	for _, s := range all {
		for _, e := range s.Endpoints {
			if *e.Conditions.Ready && !*e.Conditions.Terminating && e.TargetRef != nil {
				ready[e.TargetRef.UID] = true
			}
		}
	}
	return ready
}
