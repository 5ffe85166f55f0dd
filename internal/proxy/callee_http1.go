package proxy

import (
	"net/netip"
	"time"

	"serin.dev/serin/internal/proxy/http1"
)

// upstreamConn is one HTTP/1.1 connection to an endpoint.
type upstreamConn struct {
	*http1.ClientConn
	pool     *pool
	conn     socket
	admitted permit        // to be open
	since    time.Duration // when it is open
	requests uint32        // before this one
	idleAt   time.Duration // since when it is idle
	ended    func()        // c.drop
	closed   bool
}

// readyConn takes the idle connection that was used last; nil for none.
func (p *pool) readyConn() *upstreamConn {
	for n := len(p.idle) - 1; n >= 0; n-- {
		c := p.idle[n]
		p.idle[n] = nil
		p.idle = p.idle[:n]
		// Whatever it has to say without being asked, it ends the connection.
		if c.conn.Readable() || c.conn.HungUp() {
			c.Close()
			continue
		}
		c.conn.OnReadable(nil)
		return c
	}
	return nil
}

// awaitConn opens a connection, or waits for one to be put back where the limit
// of open ones is reached. As in Envoy, each pool may have one beyond that: it
// would wait for ever otherwise.
func (p *pool) awaitConn(g *group) (lease, error) {
	for {
		var admitted permit
		ok := true
		if g != nil {
			admitted, ok = g.admitConnection()
		}
		if ok || p.conns == 0 {
			return p.dial(admitted)
		}
		if _, err := p.await(); err != nil {
			return nil, err
		}
		if c := p.readyConn(); c != nil {
			return c, nil
		}
	}
}

func (p *pool) dial(admitted permit) (lease, error) {
	p.conns++
	conn, err := p.worker.open(p.upstream, p.transport, p.connectTimeout())
	if err != nil {
		admitted.release()
		p.closed()
		return nil, errConnect{err}
	}
	c := &upstreamConn{pool: p, conn: conn, admitted: admitted, since: p.worker.now()}
	c.ended = c.drop
	c.ClientConn = http1.NewClientConn(conn, p.worker.loop, p.worker.server.Limits)
	return c, nil
}

// closed notes that a connection is no more, so that there may be another.
func (p *pool) closed() {
	p.conns--
	p.serve(nil, nil)
}

func (c *upstreamConn) kept() bool { return c.requests > 0 }

func (c *upstreamConn) refuses() bool { return false }

func (c *upstreamConn) local() netip.AddrPort { return c.conn.Local() }

// put takes a connection back after its request: it is kept, or closed when it
// cannot be used again.
func (c *upstreamConn) put() {
	p := c.pool
	c.requests++
	if !c.Finish() || c.conn.HungUp() || !p.mayServe(c.requests, c.since) || len(p.idle) >= p.mostIdle() {
		c.Close()
		return
	}
	c.idleAt = p.worker.now()
	p.idle = append(p.idle, c)
	c.conn.OnReadable(c.ended)
	p.sweepLater()
	p.serve(nil, nil)
}

// mostIdle is how many idle connections are kept.
func (p *pool) mostIdle() int {
	if p.upstream.outside {
		return p.worker.proxy.limits.Outside
	}
	return keptConnections
}

// Close closes the connection; again is harmless.
func (c *upstreamConn) Close() {
	if c.closed {
		return
	}
	c.closed = true
	c.ClientConn.Close()
	c.admitted.release()
	c.pool.closed()
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

// closeOldConns closes the connections that were idle for too long: the first
// ones. It returns when it is to be called again; 0 = not.
func (p *pool) closeOldConns() time.Duration {
	now, timeout := p.worker.now(), p.idleTimeout()
	old := 0
	for old < len(p.idle) && now-p.idle[old].idleAt >= timeout {
		p.idle[old].Close()
		old++
	}
	kept := copy(p.idle, p.idle[old:])
	clear(p.idle[kept:])
	if p.idle = p.idle[:kept]; kept == 0 {
		return 0
	}
	return p.idle[0].idleAt + timeout
}
