package proxy

import (
	"errors"
	"net/netip"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/http1"
	"serin.dev/serin/internal/proxy/loop"
)

// keptConnections per endpoint and loop: above the concurrency of one endpoint
// that a single machine reaches, so that a burst does not end in reconnects.
const keptConnections = 512

// noLimits is for endpoints that no snapshot speaks of.
var noLimits mesh.Pool

// lease is the use of a connection to an endpoint for one request.
type lease interface {
	calleeStream
	// kept reports whether the connection had carried a request before: the
	// endpoint may have closed it meanwhile.
	kept() bool
	// put gives the lease back after both messages are complete: the
	// connection may serve the next.
	put()
	// Close gives the request up: the connection is closed, or its stream
	// reset.
	Close()
}

// take leases a kept connection, or a new one; with fresh only a new one. g
// says how the endpoint is spoken to; nil: as one that no snapshot knows. The
// error is an errConnect or what ended the wait. The running task may wait.
func (w *worker) take(u *upstream, g *group, fresh bool) (lease, error) {
	c, err := w.poolOf(u, g).take(fresh)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// pool has the connections of one loop to one endpoint by one transport. The
// one that was used last is used next: the others grow idle and are closed.
type pool struct {
	worker   *worker
	upstream *upstream
	next     *pool // of another transport
	limits   *mesh.Pool

	idle    []*upstreamConn // the one used last is the last
	sweeper loop.Timer
	sweep   func() // p.closeOld
}

// upstreamConn is one HTTP/1.1 connection to an endpoint.
type upstreamConn struct {
	*http1.ClientConn
	pool   *pool
	conn   *loop.Conn
	used   bool          // it has carried a request before
	idleAt time.Duration // since when it is idle
	ended  func()        // c.drop
}

// poolOf finds or makes the pool of an upstream.
func (w *worker) poolOf(u *upstream, g *group) *pool {
	limits := &noLimits
	if g != nil {
		limits = &g.policy.Pool
	}
	for p := u.pools[w.index]; p != nil; p = p.next {
		p.limits = limits
		return p
	}
	p := &pool{worker: w, upstream: u, limits: limits, next: u.pools[w.index]}
	p.sweep = p.closeOld
	u.pools[w.index] = p
	u.pooled.Store(true)
	return p
}

// take returns a kept connection, or a new one. With fresh, it is a new one.
// It waits in the running task.
func (p *pool) take(fresh bool) (*upstreamConn, error) {
	for n := len(p.idle) - 1; n >= 0 && !fresh; n-- {
		c := p.idle[n]
		p.idle[n] = nil
		p.idle = p.idle[:n]
		// Whatever it has to say without being asked, it ends the connection.
		if c.conn.Readable() || c.conn.HungUp() {
			c.Close()
			continue
		}
		c.conn.OnReadable(nil)
		return c, nil
	}
	return p.dial()
}

func (p *pool) dial() (*upstreamConn, error) {
	conn, err := p.worker.connect(p.upstream, p.connectTimeout())
	if err != nil {
		return nil, errConnect{err}
	}
	c := &upstreamConn{pool: p, conn: conn}
	c.ended = c.drop
	c.ClientConn = http1.NewClientConn(conn, p.worker.loop, p.worker.server.Limits)
	return c, nil
}

func (p *pool) connectTimeout() time.Duration {
	if p.limits.ConnectTimeout > 0 {
		return p.limits.ConnectTimeout
	}
	return mesh.DefaultConnectTimeout
}

func (p *pool) idleTimeout() time.Duration {
	if p.limits.IdleTimeout > 0 {
		return p.limits.IdleTimeout
	}
	return mesh.DefaultIdleTimeout
}

func (c *upstreamConn) kept() bool { return c.used }

// put takes a connection back after its request: it is kept, or closed when it
// cannot be used again.
func (c *upstreamConn) put() {
	p := c.pool
	if !c.Finish() || c.conn.HungUp() || p.upstream.retired.Load() || len(p.idle) >= keptConnections {
		c.Close()
		return
	}
	c.used = true
	c.idleAt = p.worker.now()
	p.idle = append(p.idle, c)
	c.conn.OnReadable(c.ended)
	if !p.sweeper.Running() {
		p.worker.loop.Start(&p.sweeper, p.idleTimeout(), p.sweep)
	}
}

// drop closes an idle connection that the endpoint has ended.
func (c *upstreamConn) drop() {
	p := c.pool
	for i := range p.idle {
		if p.idle[i] == c {
			copy(p.idle[i:], p.idle[i+1:])
			p.idle[len(p.idle)-1] = nil
			p.idle = p.idle[:len(p.idle)-1]
			c.Close()
			return
		}
	}
}

// closeOld closes the connections that were idle for too long: the first ones.
func (p *pool) closeOld() {
	now, timeout := p.worker.now(), p.idleTimeout()
	old := 0
	for old < len(p.idle) && now-p.idle[old].idleAt >= timeout {
		p.idle[old].Close()
		old++
	}
	kept := copy(p.idle, p.idle[old:])
	clear(p.idle[kept:])
	p.idle = p.idle[:kept]
	if kept > 0 {
		p.worker.loop.Start(&p.sweeper, p.idle[0].idleAt+timeout-now, p.sweep)
	}
}

// closeIdle closes all kept connections.
func (p *pool) closeIdle() {
	p.sweeper.Stop()
	for i, c := range p.idle {
		c.Close()
		p.idle[i] = nil
	}
	p.idle = p.idle[:0]
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
