package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	firstBackOff = time.Second
	maxBackOff   = 5 * time.Minute
	healthyRun   = 10 * time.Minute // a run this long forgets earlier crashes
)

// nextBackOff is how long to wait before the next start, after a wait of
// before and a run of ran.
func nextBackOff(before, ran time.Duration) time.Duration {
	if before == 0 || ran >= healthyRun {
		return firstBackOff
	}
	return min(2*before, maxBackOff)
}

// container runs one container of a pod, again and again if need be.
type container struct {
	pod     *pod
	spec    *corev1.Container
	initial bool   // an init container that is not a sidecar
	named   *int32 // the container port that PORT stands for; nil: it declares none

	ports portMap       // of the current run; changed between runs only
	up    chan struct{} // closed when it has started for the first time
	upped sync.Once

	// Guarded by pod.mu.
	view    view
	process *process      // nil: it does not run
	meter   *meter        // of the process; nil: nobody asked yet
	host    string        // local address on which this run answers on PORT; "" until known
	port    int           // the port there
	private map[int32]int // as ports.private
}

// problem is why a container cannot start, in the words of its status.
type problem struct {
	reason string
	err    error
}

func (p *problem) Error() string { return p.err.Error() }
func (p *problem) Unwrap() error { return p.err }

func newContainer(p *pod, spec *corev1.Container, v view, initial bool) *container {
	return &container{pod: p, spec: spec, initial: initial, named: mainPort(spec), up: make(chan struct{}), view: v}
}

// run returns when the container is finished, whether well or not, or when ctx
// ends and its process is gone.
func (c *container) run(ctx context.Context) {
	defer c.releasePorts()
	var delay time.Duration
	for {
		end, err := c.runOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		var ran time.Duration
		if err == nil {
			ran = end.ended.Sub(end.started)
			if !c.again(end.code) {
				c.set(func(v *view) { v.finished = true })
				return
			}
		}
		delay = nextBackOff(delay, ran)
		if c.waits(err, delay); !pause(ctx, delay) {
			return
		}
		if err == nil {
			c.set(func(v *view) { v.restarts++ })
		}
	}
}

// again reports whether the pod's policy starts a container again that ended
// with the code.
func (c *container) again(code int) bool {
	switch policy := c.pod.object().Spec.RestartPolicy; {
	case isSidecar(c.spec):
		return true
	case policy == corev1.RestartPolicyNever:
		return false
	case policy == corev1.RestartPolicyOnFailure || c.initial:
		return code != 0
	default:
		return true
	}
}

// waits says why the container does not run, and until when.
func (c *container) waits(err error, delay time.Duration) {
	if err == nil {
		message := fmt.Sprintf("back-off %v restarting container %s", delay, c.spec.Name)
		c.set(func(v *view) {
			v.last, v.state = v.state, waiting("CrashLoopBackOff", message)
		})
		if delay > firstBackOff {
			// The same words each time, so that the API counts one event up.
			c.pod.event(corev1.EventTypeWarning, "BackOff", "Back-off restarting container "+c.spec.Name)
		}
		return
	}
	reason := "StartError"
	if p := (*problem)(nil); errors.As(err, &p) {
		reason = p.reason
	}
	message := fmt.Sprintf("container %s: %v", c.spec.Name, err)
	c.set(func(v *view) { v.state = waiting(reason, message) })
	c.pod.event(corev1.EventTypeWarning, reason, message)
}

// runOnce starts the container's process and follows it to its end. An error
// means that it did not start.
func (c *container) runOnce(ctx context.Context) (exit, error) {
	cmd, err := c.prepare(ctx)
	if err != nil {
		return exit{}, err
	}
	o := c.pod.object()
	log, err := c.pod.node.logs.create(o.Namespace, o.Name, string(o.UID), c.spec.Name)
	if err != nil {
		return exit{}, err
	}
	stdout, stderr := log.stream("stdout"), log.stream("stderr")
	cmd.stdout, cmd.stderr = stdout, stderr
	proc, err := c.pod.node.spawner.start(*cmd)
	if err != nil {
		_, closeErr := log.close()
		if errors.Is(err, errNoCommand) {
			err = &problem{reason: "CommandNotFound", err: err}
		}
		return exit{}, errors.Join(err, closeErr)
	}
	c.runs(proc)
	defer c.runs(nil)
	id := "process://" + strconv.Itoa(proc.os.Pid)
	c.set(func(v *view) {
		v.state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(proc.started)}}
	})
	c.pod.event(corev1.EventTypeNormal, "Started", fmt.Sprintf("Started container %s: %s", c.spec.Name, id))

	watchCtx, stopWatching := context.WithCancel(ctx)
	unhealthy := make(chan string, 1)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.watch(watchCtx, cmd, unhealthy)
	}()
	select {
	case <-proc.done:
	case <-ctx.Done():
		c.stop(ctx, proc, cmd, c.pod.remaining())
	case why := <-unhealthy:
		c.pod.event(corev1.EventTypeNormal, "Killing", fmt.Sprintf("Container %s failed its %s probe, will be restarted", c.spec.Name, why))
		c.stop(ctx, proc, cmd, c.pod.grace())
	}
	stopWatching()
	<-watched
	stdout.flush()
	stderr.flush()
	tail, err := log.close()
	if err != nil {
		c.pod.log.Warn("keep logs", "container", c.spec.Name, "err", err)
	}
	c.ended(proc.exit, id, tail, ctx.Err() != nil)
	return proc.exit, nil
}

// runs says which process is the container's.
func (c *container) runs(p *process) {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	c.process, c.meter = p, nil
}

// ended writes down how a run ended.
func (c *container) ended(e exit, id, tail string, wanted bool) {
	t := &corev1.ContainerStateTerminated{
		ExitCode:    int32(e.code),
		Signal:      int32(e.signal),
		Reason:      "Completed",
		StartedAt:   metav1.NewTime(e.started),
		FinishedAt:  metav1.NewTime(e.ended),
		ContainerID: id,
	}
	how := fmt.Sprintf("exited with code %d", e.code)
	if e.signal != 0 {
		how = fmt.Sprintf("was killed by signal %d (%v)", e.signal, e.signal)
	}
	if e.code != 0 {
		t.Reason, t.Message = "Error", tail
	}
	c.set(func(v *view) {
		v.state = corev1.ContainerState{Terminated: t}
		v.ready, v.started = false, false
	})
	c.setHost("", 0)
	if e.code != 0 && !wanted {
		message := fmt.Sprintf("container %s %s", c.spec.Name, how)
		if tail != "" {
			message += "; its last output:\n" + tail
		}
		// An event's message may have 1024 bytes.
		c.pod.event(corev1.EventTypeWarning, "Crashed", strings.ToValidUTF8(message[:min(len(message), 1024)], ""))
	}
}

// stop runs the preStop hook and ends the process, both within grace. As on a
// cluster, a hook that took it all leaves the process two seconds more.
func (c *container) stop(ctx context.Context, p *process, cmd *command, grace time.Duration) {
	until := time.Now().Add(grace)
	if h := c.spec.Lifecycle; h != nil && h.PreStop != nil {
		ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
		go func() { // a process that ends by itself needs no more hook
			select {
			case <-p.done:
				cancel()
			case <-ctx.Done():
			}
		}()
		if err := c.hook(ctx, h.PreStop, cmd); err != nil && ctx.Err() == nil {
			c.pod.event(corev1.EventTypeWarning, "FailedPreStopHook", fmt.Sprintf("container %s: %v", c.spec.Name, err))
		}
		cancel()
		until = later(until, time.Now().Add(2*time.Second))
	}
	p.stop(time.Until(until))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// prepare makes the command to start, with ports that are free now.
func (c *container) prepare(ctx context.Context) (*command, error) {
	n, o := c.pod.node, c.pod.object()
	args, imageEnv := resolve(n.images, c.spec)
	if len(args) == 0 {
		return nil, &problem{reason: "NoCommand", err: fmt.Errorf(
			"image %q is not pulled, and no program is built in for it: set command in the container", c.spec.Image)}
	}
	for kind, probe := range map[string]*corev1.Probe{
		"readinessProbe": c.spec.ReadinessProbe, "livenessProbe": c.spec.LivenessProbe, "startupProbe": c.spec.StartupProbe,
	} {
		if probe == nil {
			continue
		}
		if err := checkHandler(&probe.ProbeHandler); err != nil {
			return nil, &problem{reason: "UnsupportedProbe", err: fmt.Errorf("%s: %w", kind, err)}
		}
	}
	if err := c.takePorts(); err != nil {
		return nil, err
	}
	e := environment{
		base:      n.base,
		image:     imageEnv,
		pod:       o,
		container: c.spec,
		podIP:     c.pod.ip.String(),
		hostIP:    hostIP,
		ports:     c.ports,
		outbound:  c.pod.outbound,
		services:  n.servicesIn(o.Namespace),
		marker:    marker(n.id, n.run, string(o.UID), c.spec.Name),
		configs:   n,
	}
	vars, err := e.build(ctx)
	if err != nil {
		return nil, &problem{reason: "CreateContainerConfigError", err: err}
	}
	cmd := &command{env: environ(vars), dir: expand(c.spec.WorkingDir, vars), scope: e.marker}
	for _, a := range args {
		cmd.args = append(cmd.args, expand(a, vars))
	}
	return cmd, nil
}

// takePorts gives each container port a private port, and keeps those of the
// run before where they are still free.
func (c *container) takePorts() error {
	n := c.pod.node
	seed := string(c.pod.object().UID) + c.spec.Name
	take := func(have int, what string) (int, error) {
		if have != 0 && portIsFree(have) {
			return have, nil
		}
		got, err := n.ports.take(seed+what, n.portIsSpoken)
		if err == nil && have != 0 {
			n.ports.release(have)
		}
		return got, err
	}
	private := map[int32]int{}
	for _, p := range c.spec.Ports {
		got, err := take(c.ports.private[p.ContainerPort], strconv.Itoa(int(p.ContainerPort)))
		if err != nil {
			return err
		}
		private[p.ContainerPort] = got
	}
	pm := portMap{private: private}
	switch {
	case c.named != nil:
		pm.main = private[*c.named]
	case !c.initial:
		got, err := take(c.ports.main, "")
		if err != nil {
			return err
		}
		pm.main = got
	}
	c.ports = pm
	return nil
}

func (c *container) releasePorts() {
	for _, p := range c.ports.private {
		c.pod.node.ports.release(p)
	}
	c.pod.node.ports.release(c.ports.main)
	c.ports = portMap{}
}

// dial connects to a port of the running container: on the pod's own address,
// else on the machine's loopback addresses. What answers on the main port
// becomes the container's address.
func (c *container) dial(ctx context.Context, port int) (net.Conn, error) {
	hosts := []string{c.pod.ip.String()}
	for _, h := range []string{"127.0.0.1", "::1"} {
		if h != hosts[0] {
			hosts = append(hosts, h)
		}
	}
	if h := c.knownHost(); h != "" {
		hosts = []string{h}
	}
	var first error
	for _, h := range hosts {
		conn, err := dialHost(h)(ctx, port)
		if err == nil {
			if port == c.ports.main {
				c.setHost(h, port)
			}
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	for public, private := range c.ports.private {
		if private == port {
			return nil, fmt.Errorf("%w: the process must listen on $PORT (%d now), which stands for containerPort %d", first, port, public)
		}
	}
	return nil, first
}

// set changes the container's view and lets the pod report it.
func (c *container) set(change func(*view)) {
	c.pod.mu.Lock()
	change(&c.view)
	c.pod.mu.Unlock()
	c.pod.poke()
}

// markStarted says that the container has started.
func (c *container) markStarted() {
	c.set(func(v *view) { v.started = true })
	c.upped.Do(func() { close(c.up) })
}

func (c *container) knownHost() string {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	return c.host
}

func (c *container) setHost(host string, port int) {
	c.pod.mu.Lock()
	changed := c.host != host
	c.host, c.port, c.private = host, port, c.ports.private
	c.pod.mu.Unlock()
	if changed {
		c.pod.poke()
	}
}
