package proxy

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/loop"
)

// keptConnections per endpoint and loop: above the concurrency of one endpoint
// that a single machine reaches, so that a burst does not end in reconnects.
const keptConnections = 512

// lease is the use of a connection to an endpoint for one request.
type lease interface {
	calleeStream
	// kept reports whether the connection had carried a request before: the
	// endpoint may have closed it meanwhile.
	kept() bool
	// refuses reports whether the endpoint can tell that it has not begun to
	// look at a request.
	refuses() bool
	// local is our end of the connection.
	local() netip.AddrPort
	// put gives the lease back after both messages are complete: the
	// connection may serve the next.
	put()
	// Close gives the request up: the connection is closed, or its stream
	// reset.
	Close()
}

// take leases a kept connection, or a new one; with fresh none that has carried
// a request or refused one. g says how the endpoint is spoken to, and what limits there are;
// nil: as one that no snapshot knows. The error is an errConnect, errOverflow,
// or what ended the wait. The running task may wait.
func (w *worker) take(u *upstream, g *group, fresh bool) (lease, error) {
	p := w.poolOf(u, g)
	if l := p.ready(fresh); l != nil {
		return l, nil
	}
	var waits permit
	if g != nil {
		var ok bool
		if waits, ok = g.admitPending(); !ok {
			return nil, errOverflow
		}
	}
	defer waits.release()
	if p.transport.http2 {
		return p.awaitStream()
	}
	return p.awaitConn(g)
}

// pool has the connections of one loop to one endpoint by one transport.
type pool struct {
	worker    *worker
	upstream  *upstream
	transport transport
	next      *pool // of another transport
	limits    *mesh.Pool

	conns   int             // open ones, idle or not
	idle    []*upstreamConn // HTTP/1.1; the one used last is the last, and used next, so that others grow old
	shared  []*sharedConn   // HTTP/2; those that take more requests, or will again
	dials   int             // HTTP/2; under way
	waiters []*waiter       // for a connection, the first is served first
	sweeper loop.Timer
	sweep   func() // p.closeOld
}

// waiter is a task that waits for a connection.
type waiter struct {
	task  *loop.Task
	done  bool
	lease lease // what it was given; nil: it has to look again
	err   error
}

// noLimits is for endpoints that no snapshot speaks of.
var noLimits mesh.Pool

// poolOf finds or makes the pool of an upstream.
func (w *worker) poolOf(u *upstream, g *group) *pool {
	limits, how := &noLimits, transport{}
	if g != nil {
		limits, how = &g.policy.Pool, g.transport
	}
	for p := u.pools[w.index]; p != nil; p = p.next {
		if p.transport == how {
			p.limits = limits
			return p
		}
	}
	u.dropEmptyPools(w)
	p := &pool{worker: w, upstream: u, transport: how, limits: limits, next: u.pools[w.index]}
	p.sweep = p.closeOld
	u.pools[w.index] = p
	u.pooled.Store(true)
	return p
}

// dropEmptyPools forgets the pools of transports that policies no longer want.
func (u *upstream) dropEmptyPools(w *worker) {
	for at := &u.pools[w.index]; *at != nil; {
		if p := *at; p.conns == 0 && p.dials == 0 && len(p.waiters) == 0 {
			*at = p.next
		} else {
			at = &p.next
		}
	}
}

// ready leases a connection that is there; nil for none.
func (p *pool) ready(fresh bool) lease {
	if p.transport.http2 {
		if l := p.readyStream(fresh); l != nil {
			return l
		}
		return nil
	}
	if fresh {
		return nil
	}
	if c := p.readyConn(); c != nil {
		return c
	}
	return nil
}

// await lets the running task wait until serve is called for it. Without a
// lease and an error, it has to look again.
func (p *pool) await() (lease, error) {
	w := &waiter{task: p.worker.loop.Current()}
	p.waiters = append(p.waiters, w)
	for !w.done {
		if err := w.task.Park(); err != nil {
			p.forget(w)
			return nil, err
		}
	}
	return w.lease, w.err
}

// forget drops a waiter that was interrupted. What it may have been given at
// the same time is for others.
func (p *pool) forget(w *waiter) {
	switch {
	case !w.done:
		p.waiters = slices.DeleteFunc(p.waiters, func(other *waiter) bool { return other == w })
	case w.lease != nil:
		w.lease.Close()
	default:
		p.serve(nil, nil)
	}
}

// serve ends the wait of the first waiter, if there is one.
func (p *pool) serve(l lease, err error) {
	if len(p.waiters) == 0 {
		return
	}
	w := p.waiters[0]
	p.waiters = slices.Delete(p.waiters, 0, 1)
	w.done, w.lease, w.err = true, l, err
	w.task.Wake()
}

func (p *pool) connectTimeout() time.Duration {
	return cmp.Or(p.limits.ConnectTimeout, mesh.DefaultConnectTimeout)
}

func (p *pool) idleTimeout() time.Duration {
	return cmp.Or(p.limits.IdleTimeout, mesh.DefaultIdleTimeout)
}

// mayServe reports whether a connection may serve another request after so
// many, for so long.
func (p *pool) mayServe(requests uint32, since time.Duration) bool {
	l := p.limits
	return !p.upstream.retired.Load() && (l.RequestsPerConn == 0 || requests < l.RequestsPerConn) &&
		(l.MaxConnectionAge == 0 || p.worker.now()-since < l.MaxConnectionAge)
}

// closeOld closes the connections that were idle for too long.
func (p *pool) closeOld() {
	if next := max(p.closeOldConns(), p.closeOldStreams()); next > 0 {
		p.worker.loop.Start(&p.sweeper, next-p.worker.now(), p.sweep)
	}
}

// sweepLater makes sure that connections that are idle from now on are closed
// some time.
func (p *pool) sweepLater() {
	if !p.sweeper.Running() {
		p.worker.loop.Start(&p.sweeper, p.idleTimeout(), p.sweep)
	}
}

// closeIdle closes all connections that are not used.
func (p *pool) closeIdle() {
	p.sweeper.Stop()
	for i, c := range p.idle {
		c.Close()
		p.idle[i] = nil
	}
	p.idle = p.idle[:0]
	for _, c := range slices.Clone(p.shared) {
		c.retire()
	}
}

// connect opens a connection to an endpoint, within the time. A name is looked
// up each time: connections are kept, so that is rare.
func (w *worker) connect(u *upstream, timeout time.Duration) (*loop.Conn, error) {
	if u.addr.IsValid() {
		return w.dial(u, u.addr, timeout)
	}
	begun := w.loop.Now()
	addrs, err := w.lookUp(u.dial, timeout)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, addr := range addrs {
		left := timeout - w.loop.Now().Sub(begun)
		if left <= 0 {
			break
		}
		c, err := w.dial(u, addr, left)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// dial refuses to call this proxy itself: a host outside of the mesh that leads
// to one of our own outbound listeners would come back here without end.
func (w *worker) dial(u *upstream, addr netip.AddrPort, timeout time.Duration) (*loop.Conn, error) {
	if u.outside && w.proxy.isOwn(addr) {
		return nil, errOwn
	}
	return w.loop.Dial(addr, timeout)
}
