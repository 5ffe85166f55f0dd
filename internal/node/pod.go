package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"serin.dev/serin/internal/kube"
)

const (
	// outboundPort is where a pod's proxy for outgoing requests listens, on
	// the pod's address. Istio's sidecars use the same number.
	outboundPort = 15001
	// stopGrace bounds the time that processes get when the node itself stops:
	// a person waits for it.
	stopGrace    = 2 * time.Second
	defaultGrace = 30 * time.Second
)

// pod runs one Pod object from its first sight until it is gone.
type pod struct {
	node *Node
	log  *slog.Logger

	latest  atomic.Pointer[corev1.Pod]
	deleted chan struct{} // closed when the object is being deleted or is gone
	once    sync.Once     // closes deleted

	ip       netip.Addr
	outbound string
	initial  []*container // as spec.initContainers
	main     []*container // as spec.containers

	mu        sync.Mutex // guards the views of containers
	startTime metav1.Time
	stopBy    time.Time // when processes must have ended; zero: nobody asked
	dirty     chan struct{}
}

func newPod(n *Node, o *corev1.Pod) *pod {
	p := &pod{
		node:    n,
		log:     n.log.With("namespace", o.Namespace, "pod", o.Name),
		deleted: make(chan struct{}),
		dirty:   make(chan struct{}, 1),
	}
	p.latest.Store(o)
	initial := views(o.Spec.InitContainers, o.Status.InitContainerStatuses)
	for i := range o.Spec.InitContainers {
		spec := &o.Spec.InitContainers[i]
		p.initial = append(p.initial, newContainer(p, spec, initial[i], !isSidecar(spec)))
	}
	main := views(o.Spec.Containers, o.Status.ContainerStatuses)
	for i := range o.Spec.Containers {
		spec := &o.Spec.Containers[i]
		p.main = append(p.main, newContainer(p, spec, main[i], false))
	}
	return p
}

// mainPort is the container port that PORT stands for: the first one that is
// named for HTTP, else the first.
func mainPort(c *corev1.Container) *int32 {
	var first *int32
	for i := range c.Ports {
		p := &c.Ports[i]
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			continue
		}
		if p.Name == "http" || strings.HasPrefix(p.Name, "http-") {
			return &p.ContainerPort
		}
		if first == nil {
			first = &p.ContainerPort
		}
	}
	return first
}

// object is the pod as last seen. It must not be changed.
func (p *pod) object() *corev1.Pod { return p.latest.Load() }

// observe takes in a newer state of the object.
func (p *pod) observe(o *corev1.Pod) {
	p.latest.Store(o)
	if o.DeletionTimestamp != nil {
		p.vanish()
	}
}

// vanish says that the pod must end.
func (p *pod) vanish() { p.once.Do(func() { close(p.deleted) }) }

// poke lets the status be reported again.
func (p *pod) poke() {
	select {
	case p.dirty <- struct{}{}:
	default:
	}
}

// grace is how long a process may take to end.
func (p *pod) grace() time.Duration {
	o := p.object()
	switch {
	case o.DeletionGracePeriodSeconds != nil:
		return time.Duration(*o.DeletionGracePeriodSeconds) * time.Second
	case o.Spec.TerminationGracePeriodSeconds != nil:
		return time.Duration(*o.Spec.TerminationGracePeriodSeconds) * time.Second
	}
	return defaultGrace
}

// remaining is how much is left of the time in which the pod must end: all of
// its grace when only a container ends.
func (p *pod) remaining() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopBy.IsZero() {
		return p.grace()
	}
	return time.Until(p.stopBy)
}

func (p *pod) stopWithin(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopBy = time.Now().Add(d)
}

// run lives the pod's life: start, run, end. It returns when the pod's object
// is gone, or when ctx ends and its processes are gone.
func (p *pod) run(ctx context.Context) {
	o := p.object()
	defer p.node.network.releasePod(o.UID)
	p.node.logs.open(o.Namespace, o.Name, string(o.UID), p.containerNames())
	if over(o) {
		p.await(ctx)
		p.remove(ctx)
		return
	}
	if o.DeletionTimestamp != nil { // it ended while nobody ran it
		p.remove(ctx)
		return
	}
	if !p.settle(ctx) {
		return
	}
	defer p.releaseOutbound()
	reporting, stopReports := context.WithCancel(ctx)
	defer stopReports()
	var reporter sync.WaitGroup
	reporter.Go(func() { p.report(reporting) })

	// Containers outlive ctx by the time they get to end.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.runContainers(running)
	}()
	select {
	case <-ended:
		p.await(ctx)
	case <-p.deleted:
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		p.leave(ctx)
	}
	if ctx.Err() != nil {
		p.stopWithin(min(p.grace(), stopGrace))
		stop()
		<-ended
		stopReports()
		reporter.Wait()
		return
	}
	stop()
	<-ended
	stopReports()
	reporter.Wait()
	p.remove(ctx)
}

// containerNames lists all containers, the main ones first.
func (p *pod) containerNames() []string {
	var names []string
	for _, c := range slices.Concat(p.main, p.initial) {
		names = append(names, c.spec.Name)
	}
	return names
}

// over reports whether all containers have ended for good.
func over(o *corev1.Pod) bool {
	return o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed
}

// await waits for the pod to be deleted.
func (p *pod) await(ctx context.Context) {
	select {
	case <-p.deleted:
	case <-ctx.Done():
	}
}

// settle takes an address for the pod, and a place on this node. It reports
// false when the pod or the node is gone first.
func (p *pod) settle(ctx context.Context) bool {
	o := p.object()
	ip, err := p.node.network.takePod(o.UID, o.Status.PodIP)
	for wait := firstBackOff; err != nil; wait = nextBackOff(wait, 0) {
		p.event(corev1.EventTypeWarning, "FailedScheduling", err.Error())
		select {
		case <-p.deleted:
			p.remove(ctx)
			return false
		default:
		}
		if !pause(ctx, wait) {
			return false
		}
		ip, err = p.node.network.takePod(o.UID, o.Status.PodIP)
	}
	p.ip = ip
	port := outboundPort
	if p.node.network.shared() {
		if port, err = p.node.ports.take(string(o.UID), p.node.portIsSpoken); err != nil {
			p.event(corev1.EventTypeWarning, "FailedScheduling", err.Error())
		}
	}
	p.outbound = net.JoinHostPort(ip.String(), strconv.Itoa(port))
	p.startTime = metav1.Now()
	if o.Status.StartTime != nil {
		p.startTime = *o.Status.StartTime
	}
	if what := notApplied(&o.Spec); what != "" {
		p.event(corev1.EventTypeWarning, "NotApplied", what+" have no effect: containers run as plain processes of this machine")
	}
	return true
}

// releaseOutbound gives back the port of the pod's proxy, where pods share one
// address.
func (p *pod) releaseOutbound() {
	if !p.node.network.shared() {
		return
	}
	if _, port, err := net.SplitHostPort(p.outbound); err == nil {
		if n, err := strconv.Atoi(port); err == nil {
			p.node.ports.release(n)
		}
	}
}

// notApplied names what a pod asks for and a process does not get.
func notApplied(spec *corev1.PodSpec) string {
	var out []string
	mounts := false
	for _, c := range spec.Containers {
		mounts = mounts || len(c.VolumeMounts) > 0
	}
	if mounts {
		out = append(out, "volumeMounts")
	}
	if spec.HostNetwork {
		out = append(out, "hostNetwork")
	}
	return strings.Join(out, ", ")
}

// runContainers runs the init containers in order and then all others, until
// all have finished or ctx has ended.
func (p *pod) runContainers(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	sidecars, stopSidecars := context.WithCancel(ctx)
	defer stopSidecars() // they end with the last other container
	for _, c := range p.initial {
		if !c.initial {
			wg.Go(func() { c.run(sidecars) })
			select {
			case <-c.up:
			case <-ctx.Done():
				return
			}
			continue
		}
		c.run(ctx)
		p.mu.Lock()
		ok := succeeded(c.view)
		p.mu.Unlock()
		if !ok {
			return
		}
	}
	var main sync.WaitGroup
	for _, c := range p.main {
		main.Go(func() { c.run(ctx) })
	}
	main.Wait()
}

// leave takes the pod out of traffic: out of the EndpointSlices first, then
// out of the proxies. All of this and the end of the processes happen within
// the grace period, but processes get two seconds at least.
func (p *pod) leave(ctx context.Context) {
	grace := p.grace()
	p.stopWithin(grace)
	if grace == 0 {
		return
	}
	defer func() {
		if p.remaining() < stopGrace {
			p.stopWithin(min(grace, stopGrace))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	o := p.object()
	if !p.node.endpoints.awaitLeft(ctx, o.UID) {
		return
	}
	if p.node.drain != nil {
		p.node.drain(ctx, o.Namespace, o.Name, p.ip.String())
	}
}

// report writes the pod's annotations and status whenever they change, until
// ctx ends.
func (p *pod) report(ctx context.Context) {
	var known reported
	wait := 50 * time.Millisecond
	for {
		err := p.write(ctx, &known)
		switch {
		case apierrors.IsNotFound(err) || apierrors.IsConflict(err): // gone, or a new pod has its name
			p.vanish()
			return
		case err != nil && ctx.Err() == nil:
			p.log.Warn("write the status of a pod", "err", err)
			if !pause(ctx, wait) {
				return
			}
			wait = min(2*wait, 5*time.Second)
			continue
		}
		wait = 50 * time.Millisecond
		select {
		case <-p.dirty:
		case <-ctx.Done():
			return
		}
	}
}

// reported is what the API knows of a pod.
type reported struct {
	annotations map[string]any
	status      *corev1.PodStatus // nil: nothing of this run
}

// write brings the object up to date. A pod that has an address gets it before
// it may be called ready, one that has lost it is not ready before it goes.
func (p *pod) write(ctx context.Context, known *reported) error {
	v, address := p.view()
	want := map[string]any{kube.AnnotationOutbound: p.outbound, kube.AnnotationAppAddress: address}
	steps := []func(context.Context) error{
		func(ctx context.Context) error { return p.writeAnnotations(ctx, known, want) },
		func(ctx context.Context) error { return p.writeStatus(ctx, known, v) },
	}
	if address == "" {
		want[kube.AnnotationAppAddress] = nil
		if known.status != nil { // the first time outbound comes first
			slices.Reverse(steps)
		}
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *pod) writeAnnotations(ctx context.Context, known *reported, want map[string]any) error {
	if maps.Equal(want, known.annotations) {
		return nil
	}
	if err := p.patch(ctx, map[string]any{"metadata": map[string]any{"annotations": want}}); err != nil {
		return err
	}
	known.annotations = want
	return nil
}

func (p *pod) writeStatus(ctx context.Context, known *reported, v podView) error {
	o := p.object()
	before := known.status
	if before == nil {
		before = &o.Status
	}
	status := podStatus(&o.Spec, before, v, metav1.Now())
	if known.status != nil && reflect.DeepEqual(status, *known.status) {
		return nil
	}
	if err := p.patch(ctx, map[string]any{"status": status}, "status"); err != nil {
		return err
	}
	known.status = &status
	return nil
}

// view is the pod as it looks now, and the address of its application.
func (p *pod) view() (v podView, address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v = podView{ip: p.ip.String(), startTime: p.startTime}
	for _, c := range p.initial {
		v.init = append(v.init, c.view)
	}
	for _, c := range p.main {
		v.main = append(v.main, c.view)
	}
	return v, p.address()
}

// address is where the pod's containers answer, as far as known: host:port for
// the first container port, and containerPort=host:port for each further one,
// separated by commas. A container without ports has the address of its PORT.
// The caller holds p.mu.
func (p *pod) address() string {
	var out []string
	first := true
	for _, c := range p.main {
		for _, port := range c.spec.Ports {
			prefix := strconv.Itoa(int(port.ContainerPort)) + "="
			if first {
				prefix, first = "", false
			}
			if c.host != "" {
				out = append(out, prefix+net.JoinHostPort(c.host, strconv.Itoa(c.private[port.ContainerPort])))
			}
		}
	}
	if first && len(p.main) > 0 && p.main[0].host != "" {
		return net.JoinHostPort(p.main[0].host, strconv.Itoa(p.main[0].port))
	}
	return strings.Join(out, ",")
}

// patch changes the object if it is still the same one.
func (p *pod) patch(ctx context.Context, change map[string]any, subresources ...string) error {
	o := p.object()
	meta, _ := change["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	meta["uid"] = o.UID
	change["metadata"] = meta
	data, err := json.Marshal(change)
	if err != nil {
		return fmt.Errorf("marshal a change of pod %s: %w", o.Name, err)
	}
	_, err = p.node.client.CoreV1().Pods(o.Namespace).Patch(ctx, o.Name, types.MergePatchType, data, metav1.PatchOptions{}, subresources...)
	return err
}

// remove takes the object out of the API, now that its processes are gone. It
// tries until it succeeds or ctx ends.
func (p *pod) remove(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	o := p.object()
	now := int64(0)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := p.node.client.CoreV1().Pods(o.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{
			GracePeriodSeconds: &now,
			Preconditions:      &metav1.Preconditions{UID: &o.UID},
		})
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			break
		}
		p.log.Warn("remove an ended pod", "err", err)
		if !pause(ctx, wait) {
			return
		}
	}
	if err := p.node.logs.end(o.Namespace, o.Name, string(o.UID)); err != nil {
		p.log.Warn("remove old logs", "err", err)
	}
}

// event tells the user, on the pod.
func (p *pod) event(kind, reason, message string) {
	p.node.events.Event(p.object(), kind, reason, message)
}
