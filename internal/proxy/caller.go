package proxy

import (
	"bytes"
	"errors"
	"strings"
	"time"

	"serin.dev/serin/internal/proxy/http1"
	"serin.dev/serin/internal/proxy/http2"
	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
)

// callerConn is a caller's connection. Between requests it has neither a task
// nor a buffer: the loop calls wake when something arrives.
type callerConn struct {
	listener   *Listener
	worker     *worker
	conn       *loop.Conn
	socket     socket      // conn, or TLS over it
	prev, next *callerConn // in the listener's list

	// What it speaks; both nil until the first bytes told.
	http1    *http1.ServerConn
	http2    *http2.Server
	streams  int              // of HTTP/2, whose handlers have not returned
	ended    func()           // wakes who waits for them
	serves   func(*loop.Task) // c.serve
	wake     func()           // c.resume
	idle     loop.Timer
	expire   func() // c.retire
	ex       *exchange
	relay    *relay // of bytes
	cutOff   bool
	requests int
	unknown  bool // what is spoken is not known before the first snapshot
	arrived  bool // arrive was called
	faulty   bool // a request was ended because the rules of HTTP/2 were broken

	scheme     string // "http" or "https"
	serverName string // that was asked for by TLS
	alpn       string // that was chosen
	remoteIP   string // as x-forwarded-for tells it
}

func newCallerConn(l *Listener, w *worker, conn *loop.Conn) {
	c := &callerConn{listener: l, worker: w, conn: conn, socket: conn, scheme: "http"}
	c.serves, c.wake, c.expire = c.serve, c.resume, c.retire
	c.remoteIP = conn.Remote().Addr().String()
	if c.next = l.conns[w.index]; c.next != nil {
		c.next.prev = c
	}
	l.conns[w.index] = c
	c.start()
}

// rest lets the connection wait for the next request, without a task.
func (c *callerConn) rest() {
	if c.listener.leaving.Load() {
		c.close()
		return
	}
	c.worker.loop.Start(&c.idle, c.worker.proxy.limits.IdleTime, c.expire)
	c.socket.OnReadable(c.wake)
}

// resume is called by the loop when there is something to read.
func (c *callerConn) resume() {
	c.idle.Stop()
	c.worker.loop.Go(c.serves)
}

// resting reports whether the connection waits without a task.
func (c *callerConn) resting() bool { return c.idle.Running() }

// serve carries the requests that have arrived.
func (c *callerConn) serve(t *loop.Task) {
	if c.http1 == nil {
		switch c.begin(t) {
		case over:
			c.close()
			return
		case later:
			c.rest()
			return
		case requests:
		}
	}
	for c.request(t) {
		if c.http1.Idle() && !c.socket.Readable() {
			c.rest()
			return
		}
	}
	c.close()
}

// beginning is what came of the first bytes of a connection.
type beginning uint8

const (
	over     beginning = iota // it was served to its end, or nothing can be made of it
	later                     // nothing has come yet
	requests                  // HTTP/1.1
)

// begin finds out what a connection carries, and serves it unless it is
// HTTP/1.1.
func (c *callerConn) begin(t *loop.Task) beginning {
	var early []byte
	if !c.arrived {
		c.arrived = true
		arrived := c.arrive(t)
		if !arrived.requests {
			return over
		}
		early = arrived.early
		if y := arrived.relay; y != nil {
			if !c.endTLS(t, y, early) {
				return over
			}
			if y.tls != nil {
				return c.beginInTLS(t, y)
			}
		}
	}
	buf := c.worker.loop.Buffer()
	defer c.worker.loop.Release(buf)
	early = c.firstBytes(buf, copy(buf, early))
	switch {
	case len(early) == 0:
		return over
	case bytes.HasPrefix(early, []byte(http2.Preface)):
		c.serveHTTP2(t, early)
		return over
	}
	c.http1 = http1.NewServerConn(c.socket, c.worker.loop, c.worker.server, early)
	return requests
}

// beginInTLS is begin for what comes out of TLS.
func (c *callerConn) beginInTLS(t *loop.Task, y *relay) beginning {
	switch {
	case y.carries():
		c.serveBytes(t, y, end{conn: c.socket})
		return over
	case c.alpn == alpnHTTP2:
		c.serveHTTP2(t, nil)
		return over
	case c.socket.Readable():
		return c.begin(t)
	}
	return later
}

// firstBytes reads until the bytes in buf, of which n are there already, tell
// HTTP/1.1 from HTTP/2, or nothing more comes in time.
func (c *callerConn) firstBytes(buf []byte, n int) []byte {
	timed := false
	for n == 0 || n < len(http2.Preface) && strings.HasPrefix(http2.Preface, string(buf[:n])) {
		if n > 0 && !timed {
			timed = true
			c.limitReading(c.worker.proxy.limits.HeaderTime)
		}
		more, err := c.socket.Read(buf[n:])
		n += more
		if err != nil {
			break // the codec meets it again
		}
	}
	if timed {
		c.limitReading(0)
	}
	return buf[:n]
}

// limitReading lets reading fail in d from now; 0 = not.
func (c *callerConn) limitReading(d time.Duration) {
	var at time.Time
	if d > 0 {
		at = c.worker.loop.Now().Add(d)
	}
	_ = c.conn.SetReadDeadline(at) // of a closed connection, reading tells as well
}

// request carries one request and reports whether there may be another.
func (c *callerConn) request(t *loop.Task) bool {
	ex := c.worker.exchange(c)
	defer c.worker.release(ex)
	err := c.http1.ReadRequest(&ex.head)
	if err != nil {
		var malformed *wire.ParseError
		if errors.As(err, &malformed) { // else the caller ended, or broke off within the head
			ex.unreadable(&ex.head, malformed.Status)
		}
		return false
	}
	c.requests++
	if limit := c.worker.proxy.limits.RequestsPerConnection; c.listener.leaving.Load() || limit > 0 && c.requests >= limit {
		c.http1.CloseAfter()
	}
	c.ex = ex
	c.conn.OnHangup(ex.onGone)
	ex.serve(t, c.http1, &ex.head)
	c.conn.OnHangup(nil)
	c.ex = nil
	return c.http1.Finish() && !c.listener.leaving.Load()
}

// retire ends the connection because nobody has used it for long.
func (c *callerConn) retire() {
	if c.http2 != nil {
		c.http2.Drain()
		return
	}
	c.close()
}

// leave lets the request under way finish, and closes the connection then.
func (c *callerConn) leave() {
	switch {
	case c.http2 != nil:
		c.http2.Drain()
	case c.resting():
		c.close()
	case c.ex != nil:
		c.http1.CloseAfter()
	}
}

// cut ends the connection and what is under way on it.
func (c *callerConn) cut() {
	if c.http2 == nil && c.resting() {
		c.close()
		return
	}
	if c.ex != nil {
		c.ex.cancel(errCut)
	}
	if c.http2 != nil {
		c.http2.Close()
	}
	if c.relay != nil {
		c.relay.task.Interrupt(errCut)
	}
	c.cutOff = true
	c.conn.Interrupt(errCut)
}

// errCut ends what is under way when a listener is closed.
var errCut = errors.New("the listener was closed")

// close ends the connection and takes it off the list.
func (c *callerConn) close() {
	c.idle.Stop()
	if c.http1 != nil {
		c.http1.Close()
	} else { // HTTP/2 has closed it already
		_ = c.socket.Close() // a close that fails has closed nevertheless
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		c.listener.conns[c.worker.index] = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
	c.listener.gone()
}

// protocolOf names the version that a head came in; "" when it was not read that
// far.
func protocolOf(h *wire.Head) string {
	switch {
	case h.Major == 0:
		return ""
	case h.Major == 2:
		return "HTTP/2"
	case h.Major == 1 && h.Minor == 0:
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}
