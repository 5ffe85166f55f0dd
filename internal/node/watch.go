package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// listening asks whether a container without a readiness probe accepts
// connections. Every five seconds without an answer make an event.
var listening = prober{period: 5 * time.Second, timeout: time.Second, successes: 1, failures: 1, eager: true}

// watch follows the health of a running container until ctx ends, and sends to
// unhealthy, at most once, the kind of probe for which it must be restarted.
func (c *container) watch(ctx context.Context, cmd *command, unhealthy chan<- string) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if h := c.spec.Lifecycle; h != nil && h.PostStart != nil {
		if err := c.hook(ctx, h.PostStart, cmd); err != nil && ctx.Err() == nil {
			c.pod.event(corev1.EventTypeWarning, "FailedPostStartHook", fmt.Sprintf("container %s: %v", c.spec.Name, err))
			unhealthy <- "postStart hook, which counts as a"
			return
		}
	}
	if probe := c.spec.StartupProbe; probe != nil {
		p := newProber(probe)
		p.eager = true
		p.run(ctx, c.check(probe, cmd), func(sure, ok bool, err error) bool {
			switch {
			case !ok:
				c.probeFailed("Startup", err)
				if sure {
					unhealthy <- "startup"
				}
			case sure:
				c.markStarted()
			}
			return !sure
		})
		if !c.isStarted() {
			return
		}
	} else {
		c.markStarted()
	}
	if probe := c.spec.LivenessProbe; probe != nil {
		wg.Go(func() {
			newProber(probe).run(ctx, c.check(probe, cmd), func(sure, ok bool, err error) bool {
				if !ok {
					c.probeFailed("Liveness", err)
					if sure {
						unhealthy <- "liveness"
						return false
					}
				}
				return true
			})
		})
	}
	wg.Go(func() { c.watchReadiness(ctx, cmd) })
}

// watchReadiness keeps the container's readiness, and finds its address.
func (c *container) watchReadiness(ctx context.Context, cmd *command) {
	probe := c.spec.ReadinessProbe
	mainPort := c.ports.main
	connect := func(ctx context.Context) error {
		conn, err := c.dial(ctx, mainPort)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	switch {
	case probe != nil:
		p := newProber(probe)
		p.eager = p.initialDelay == 0
		wg.Go(func() {
			p.run(ctx, c.check(probe, cmd), func(sure, ok bool, err error) bool {
				if !ok {
					c.probeFailed("Readiness", err)
				}
				if ok && sure && c.knownHost() == "" && mainPort != 0 {
					// Publish the address together with readiness, if it
					// answers now; else the search below goes on.
					if err := connect(ctx); err != nil {
						c.pod.log.Debug("ready before it listens", "container", c.spec.Name, "err", err)
					}
				}
				if sure {
					c.set(func(v *view) { v.ready = ok })
				}
				return true
			})
		})
	case c.named == nil:
		c.set(func(v *view) { v.ready = true })
	}
	if mainPort == 0 {
		return
	}
	// Without a declared port nobody promised that it will ever listen.
	expected := probe == nil && c.named != nil
	listening.run(ctx, connect, func(_, ok bool, err error) bool {
		switch {
		case ok && expected:
			c.set(func(v *view) { v.ready = true })
		case !ok && expected:
			c.probeFailed("Readiness", err)
		}
		return !ok
	})
}

func (c *container) isStarted() bool {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	return c.view.started
}

func (c *container) probeFailed(kind string, err error) {
	c.pod.event(corev1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe failed: container %s: %v", kind, c.spec.Name, err))
}

// check makes a probe's question.
func (c *container) check(probe *corev1.Probe, cmd *command) func(context.Context) error {
	return func(ctx context.Context) error {
		switch {
		case probe.HTTPGet != nil:
			return checkHTTP(ctx, probe.HTTPGet, c.ports, c.spec, c.dial)
		case probe.TCPSocket != nil:
			return checkTCP(ctx, probe.TCPSocket, c.ports, c.spec, c.dial)
		default:
			return c.exec(ctx, probe.Exec.Command, cmd)
		}
	}
}

// hook runs a lifecycle hook.
func (c *container) hook(ctx context.Context, h *corev1.LifecycleHandler, cmd *command) error {
	switch {
	case h.HTTPGet != nil:
		return checkHTTP(ctx, h.HTTPGet, c.ports, c.spec, c.dial)
	case h.Exec != nil:
		return c.exec(ctx, h.Exec.Command, cmd)
	case h.Sleep != nil:
		pause(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
		return nil
	}
	return errors.New("the hook has no handler: set exec, httpGet or sleep")
}

// exec runs a command in the environment of the container. Its error holds
// what the command said.
func (c *container) exec(ctx context.Context, args []string, of *command) error {
	if len(args) == 0 {
		return errors.New("exec has no command")
	}
	// Each stream has a writer of its own, because they are written at once.
	var stdout, stderr bytes.Buffer
	proc, err := c.pod.node.spawner.start(command{
		args: args, env: of.env, dir: of.dir,
		stdout: &limitedWriter{w: &stdout, left: 1024}, stderr: &limitedWriter{w: &stderr, left: 1024},
	})
	if err != nil {
		return err
	}
	select {
	case <-proc.done:
	case <-ctx.Done():
		proc.stop(0)
		return fmt.Errorf("%s did not end in time", args[0])
	}
	if proc.exit.code != 0 {
		return fmt.Errorf("%s exited with code %d: %s%s", args[0], proc.exit.code, stdout.Bytes(), stderr.Bytes())
	}
	return nil
}

// limitedWriter keeps the beginning and drops the rest.
type limitedWriter struct {
	w    io.Writer
	left int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	keep := p[:min(len(p), l.left)]
	l.left -= len(keep)
	if _, err := l.w.Write(keep); err != nil {
		return 0, err
	}
	return len(p), nil
}
