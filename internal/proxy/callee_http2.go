package proxy

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"serin.dev/serin/internal/proxy/http2"
	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
)

// sharedConn is one HTTP/2 connection to an endpoint, on which many requests
// are under way at once.
type sharedConn struct {
	pool     *pool
	conn     socket
	client   *http2.Client
	since    time.Duration // when it is open
	requests uint32        // so far
	answered bool          // one of them
	refused  bool          // one of them
	leases   int
	idleAt   time.Duration // since when there are none
}

// readyStream leases a connection that takes another request; nil for none.
func (p *pool) readyStream(fresh bool) *streamLease {
	for _, c := range p.shared {
		if c.takesMore() && !(fresh && (c.answered || c.refused)) {
			return c.lease()
		}
	}
	return nil
}

func (c *sharedConn) lease() *streamLease {
	c.leases++
	c.requests++
	return &streamLease{conn: c, old: c.answered}
}

func (c *sharedConn) takesMore() bool {
	most := min(c.client.MaxStreams(), c.pool.mostStreams())
	return c.client.Usable() && c.leases < most && c.pool.mayServe(c.requests, c.since)
}

// mostStreams is how many requests a connection may carry at once, as far as
// the endpoint allows it.
func (p *pool) mostStreams() int {
	if n := p.limits.ConcurrentStreams; n > 0 {
		return int(n)
	}
	return math.MaxInt
}

// assumedStreams is how many requests wait for one connection that is being
// opened: what endpoints commonly allow at once.
const assumedStreams = 100

// awaitStream waits for a connection that is being opened.
func (p *pool) awaitStream() (lease, error) {
	p.dialEnough(len(p.waiters) + 1)
	return p.await()
}

// dialEnough lets so many connections be opened that so many waiters find room.
func (p *pool) dialEnough(waiters int) {
	for ; waiters > p.dials*min(p.mostStreams(), assumedStreams); p.dials++ {
		p.worker.loop.Go(p.dialShared)
	}
}

// dialShared opens a connection, in a task that belongs to none of those who
// wait for it.
func (p *pool) dialShared(*loop.Task) {
	conn, err := p.worker.open(p.upstream, p.transport, p.connectTimeout())
	p.dials--
	if err != nil {
		for len(p.waiters) > 0 {
			p.serve(nil, errConnect{err})
		}
		return
	}
	c := &sharedConn{pool: p, conn: conn, since: p.worker.now()}
	c.idleAt = c.since
	c.client = http2.NewClient(conn, p.worker.loop, p.worker.http2, c.changed)
	p.conns++
	p.shared = append(p.shared, c)
	p.sweepLater()
	for len(p.waiters) > 0 && c.leases < min(p.mostStreams(), assumedStreams) {
		p.serve(c.lease(), nil)
	}
	p.dialEnough(len(p.waiters))
}

// changed is called by the client: when the connection is lost, it is
// forgotten.
func (c *sharedConn) changed() {
	if c.client.Lost() {
		c.retire()
	}
}

// retire lets the connection take no more requests, and closes it after the
// last.
func (c *sharedConn) retire() {
	p := c.pool
	at := slices.Index(p.shared, c)
	if at >= 0 {
		p.shared = slices.Delete(p.shared, at, at+1)
		p.conns--
	}
	if c.leases == 0 {
		c.client.Close()
	}
}

// release ends one use of the connection.
func (c *sharedConn) release() {
	p := c.pool
	c.leases--
	if c.leases == 0 {
		c.idleAt = p.worker.now()
		p.sweepLater()
	}
	if c.client.Lost() || !p.mayServe(c.requests, c.since) || !slices.Contains(p.shared, c) {
		c.retire()
	}
}

// closeOldStreams closes connections that were not used for too long. It
// returns when it is to be called again; 0 = not.
func (p *pool) closeOldStreams() time.Duration {
	now, timeout := p.worker.now(), p.idleTimeout()
	var next time.Duration
	for _, c := range slices.Clone(p.shared) {
		switch {
		case c.leases > 0:
		case now-c.idleAt >= timeout:
			c.retire()
		case next == 0 || c.idleAt+timeout < next:
			next = c.idleAt + timeout
		}
	}
	return next
}

// streamLease is one request on a shared connection.
type streamLease struct {
	conn   *sharedConn // nil after it was given back
	old    bool        // the connection had answered a request before
	stream *http2.Stream
	err    error // why there is no stream
}

func (l *streamLease) kept() bool { return l.old }

func (l *streamLease) refuses() bool { return true }

func (l *streamLease) local() netip.AddrPort { return l.conn.conn.Local() }

// Send opens the stream.
func (l *streamLease) Send(h *wire.Head, end bool) error {
	l.stream, l.err = l.conn.client.Open(h, end)
	return l.err
}

func (l *streamLease) Answer(h *wire.Head) error {
	if l.err != nil {
		return l.err
	}
	got, err := l.stream.AnswerHead()
	if err != nil {
		if kind, _ := classify(err); kind == refused {
			l.conn.refused = true
		}
		return err
	}
	l.conn.answered = true
	fields := append(h.Fields[:0], got.Fields...) // got's are the stream's
	*h = *got
	h.Fields = fields
	return nil
}

func (l *streamLease) Next() ([]byte, error) { return l.stream.Next() }
func (l *streamLease) Waits() bool           { return l.stream.Waits() }
func (l *streamLease) Trailers() []wire.Field {
	return l.stream.Trailers()
}

func (l *streamLease) Write(p []byte) error {
	if l.err != nil {
		return l.err
	}
	return l.stream.Write(p)
}

// Flush has nothing to do: streams are written when everybody had a turn.
func (l *streamLease) Flush() error { return l.err }

func (l *streamLease) End(trailers []wire.Field) error {
	if l.err != nil {
		return l.err
	}
	return l.stream.End(trailers)
}

// put gives the lease back. What is not complete is reset all the same.
func (l *streamLease) put() { l.Close() }

// Close resets what is under way; again is harmless.
func (l *streamLease) Close() {
	if l.conn == nil {
		return
	}
	if l.stream != nil {
		l.stream.Close()
	}
	c := l.conn
	l.conn = nil
	c.release()
}
