package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"serin.dev/serin/internal/proxy/loop"
)

// tlsConn is TLS over a connection of a loop. One task may read while another
// writes.
//
// crypto/tls holds a lock while it writes, and may want it while it reads (see
// package loop). So what it writes is only gathered under the lock, and sent by
// flush when it has returned. And it is given no more than one record at a time
// to read: what it holds then is known from outside.
type tlsConn struct {
	raw  *loop.Conn
	loop *loop.Loop
	tls  *tls.Conn

	// Ciphertext that was received: in[r:w], of which tls gets the rest of its
	// record. in is a loop's buffer, nil while there is nothing.
	in      []byte
	r, w    int
	record  int
	polling bool // tls must not wait for more

	reading bool // a task is in tls.Read
	more    bool // tls may hold plaintext, or an end that it tells again
	ahead   [1]byte
	has     bool // ahead is plaintext that nobody has been given

	out      [][]byte // ciphertext to be sent, in a loop's buffers
	flushing bool     // a task sends
	blocked  *loop.Task
	flushes  func(*loop.Task) // c.flushOut
	wroteEnd bool
	err      error // of sending

	onReadable func()
	looks      func()           // c.look
	lookSoon   func(*loop.Task) // c.look, in a task
}

// serveTLS shakes hands with a caller, of whom early was read already.
func serveTLS(raw *loop.Conn, early []byte, c *tls.Config, until time.Time) (*tlsConn, error) {
	t := newTLSConn(raw)
	if t.w = len(early); t.w > 0 {
		if t.in = raw.Loop().Buffer(); t.w > len(t.in) {
			t.in = make([]byte, t.w)
		}
		copy(t.in, early)
	}
	t.tls = tls.Server(tlsWire{t}, c)
	return t, t.shake(until)
}

// callTLS shakes hands with an endpoint.
func callTLS(raw *loop.Conn, c *tls.Config, until time.Time) (*tlsConn, error) {
	t := newTLSConn(raw)
	t.tls = tls.Client(tlsWire{t}, c)
	return t, t.shake(until)
}

func newTLSConn(raw *loop.Conn) *tlsConn {
	t := &tlsConn{raw: raw, loop: raw.Loop()}
	t.flushes, t.looks = t.flushOut, t.look
	t.lookSoon = func(*loop.Task) { t.look() }
	return t
}

// lingerTime is how long a peer may take to read why shaking hands failed.
const lingerTime = time.Second

// shake shakes hands. If that fails, the connection is closed.
func (c *tlsConn) shake(until time.Time) error {
	err := c.raw.SetDeadline(until)
	if err == nil {
		err = c.tls.Handshake()
		if e := c.flush(); err == nil {
			err = e
		}
	}
	if err == nil {
		err = c.raw.SetDeadline(time.Time{})
	}
	if err != nil {
		c.drop()
		c.raw.CloseGently(lingerTime)
		return plainError(err)
	}
	return nil
}

// Read implements socket.
func (c *tlsConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.has {
		c.has = false
		p[0] = c.ahead[0]
		n, _ := c.poll(p[1:]) // what ends the connection is met again
		return 1 + n, nil
	}
	c.reading = true
	n, err := c.tls.Read(p)
	c.reading = false
	return c.took(n, n == len(p), err)
}

// poll is Read that does not wait.
func (c *tlsConn) poll(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.polling = true
	n, err := c.tls.Read(p)
	c.polling = false
	return c.took(n, n == len(p), err)
}

// took notes what tls said.
func (c *tlsConn) took(n int, full bool, err error) (int, error) {
	err = plainError(err)
	c.more = full || err != nil && err != loop.ErrWouldBlock
	c.flushSoon()
	return n, err
}

// Readable implements socket. It may read, but not more than tls and one byte
// can hold: what only TLS itself has to say (tickets, new keys) does not count.
func (c *tlsConn) Readable() bool {
	switch {
	case c.has:
		return true
	case c.reading || !c.more && c.r == c.w && !c.raw.Readable():
		return false
	}
	n, err := c.poll(c.ahead[:])
	c.has = n == 1
	return c.has || err != loop.ErrWouldBlock
}

// OnReadable implements socket.
func (c *tlsConn) OnReadable(f func()) {
	c.onReadable = f
	switch {
	case f == nil:
		c.raw.OnReadable(nil)
	case c.has || c.more || c.r < c.w:
		c.loop.Go(c.lookSoon)
	default:
		c.raw.OnReadable(c.looks)
	}
}

// look tells who waits if there is something to read.
func (c *tlsConn) look() {
	f := c.onReadable
	switch {
	case f == nil:
	case c.Readable():
		c.onReadable = nil
		f()
	default:
		c.raw.OnReadable(c.looks)
	}
}

// maxGathered is how much plaintext is encrypted before it is sent: two records
// that go out in one system call.
const maxGathered = 2 * loop.BufferSize

// Write implements socket.
func (c *tlsConn) Write(p []byte) (written int, err error) {
	for written < len(p) {
		n, err := c.tls.Write(p[written:min(written+maxGathered, len(p))])
		if err == nil {
			err = c.flush()
		}
		if err != nil {
			return written, plainError(err)
		}
		written += n
	}
	return written, nil
}

// WriteTwo implements socket.
func (c *tlsConn) WriteTwo(a, b []byte) error {
	if _, err := c.tls.Write(a); err != nil {
		return plainError(err)
	}
	if len(b) == 0 {
		return c.flush()
	}
	_, err := c.Write(b)
	return err
}

// flush sends what was gathered, and waits for that.
func (c *tlsConn) flush() error {
	for c.flushing {
		c.blocked = c.loop.Current()
		err := c.blocked.Park()
		c.blocked = nil
		if err != nil {
			return err
		}
	}
	c.send()
	return c.err
}

// flushSoon lets be sent what tls gathered though nobody wrote.
func (c *tlsConn) flushSoon() {
	if len(c.out) > 0 && !c.flushing {
		c.loop.Go(c.flushes)
	}
}

func (c *tlsConn) flushOut(*loop.Task) {
	if !c.flushing {
		c.send()
	}
}

// send sends until nothing is left. One task does at a time.
func (c *tlsConn) send() {
	c.flushing = true
	for len(c.out) > 0 && c.err == nil {
		a, b := c.out[0], []byte(nil)
		if len(c.out) > 1 {
			b = c.out[1]
		}
		c.out = c.out[:copy(c.out, c.out[min(2, len(c.out)):])]
		c.err = c.raw.WriteTwo(a, b)
		c.loop.Release(a)
		c.loop.Release(b)
	}
	c.flushing = false
	if c.blocked != nil {
		c.blocked.Wake()
	}
	if c.wroteEnd && c.err == nil {
		c.err = c.raw.CloseWrite()
	}
}

// CloseWrite implements socket. It does not wait.
func (c *tlsConn) CloseWrite() error {
	if c.wroteEnd {
		return nil
	}
	c.sayEnd()
	c.wroteEnd = true
	if c.flushing || len(c.out) > 0 {
		c.flushSoon()
		return nil
	}
	return c.raw.CloseWrite()
}

// sayEnd sends close_notify, as far as that is possible without waiting.
func (c *tlsConn) sayEnd() {
	if c.wroteEnd || c.err != nil {
		return
	}
	if err := c.tls.CloseWrite(); err != nil {
		return // the connection is broken, or no hands were shaken
	}
	for len(c.out) > 0 && !c.flushing {
		n, err := c.raw.TryWrite(c.out[0])
		if n < len(c.out[0]) {
			rest := copy(c.out[0], c.out[0][n:])
			c.out[0] = c.out[0][:rest]
			if err != loop.ErrWouldBlock {
				c.err = err
			}
			return
		}
		c.loop.Release(c.out[0])
		c.out = c.out[:copy(c.out, c.out[1:])]
	}
}

// Close implements socket.
func (c *tlsConn) Close() error {
	c.sayEnd()
	c.drop()
	return c.raw.Close()
}

// CloseGently implements socket.
func (c *tlsConn) CloseGently(limit time.Duration) {
	c.sayEnd()
	c.drop()
	c.raw.CloseGently(limit)
}

// drop gives all memory back. Nobody may use the connection any more.
func (c *tlsConn) drop() {
	c.onReadable, c.has, c.more = nil, false, false
	for _, b := range c.out {
		c.loop.Release(b)
	}
	c.out = nil
	if !c.reading {
		c.r, c.w = 0, 0
		c.releaseIn()
	}
}

func (c *tlsConn) releaseIn() {
	if c.in != nil && c.r == c.w {
		c.loop.Release(c.in)
		c.in, c.r, c.w = nil, 0, 0
	}
}

// The rest of socket is the connection's below.

func (c *tlsConn) SetReadDeadline(t time.Time) error  { return c.raw.SetReadDeadline(t) }
func (c *tlsConn) SetWriteDeadline(t time.Time) error { return c.raw.SetWriteDeadline(t) }
func (c *tlsConn) Interrupt(err error)                { c.raw.Interrupt(err) }
func (c *tlsConn) OnHangup(f func())                  { c.raw.OnHangup(f) }
func (c *tlsConn) HungUp() bool                       { return c.raw.HungUp() }
func (c *tlsConn) Local() netip.AddrPort              { return c.raw.Local() }
func (c *tlsConn) Remote() netip.AddrPort             { return c.raw.Remote() }

// tlsWire is what tls reads from and writes to.
type tlsWire struct{ c *tlsConn }

// Read hands over ciphertext of one record.
func (w tlsWire) Read(p []byte) (int, error) {
	c := w.c
	c.flushSoon() // the peer may wait for it
	need := 1
	if c.record == 0 {
		need = recordHead
	}
	if err := c.fill(need); err != nil {
		return 0, err
	}
	if c.record == 0 {
		c.record = recordHead + int(c.in[c.r+3])<<8 + int(c.in[c.r+4])
	}
	n := copy(p, c.in[c.r:min(c.w, c.r+c.record)])
	c.r += n
	c.record -= n
	c.releaseIn()
	return n, nil
}

// fill waits until so many bytes of ciphertext are there.
func (c *tlsConn) fill(need int) error {
	for c.w-c.r < need {
		if c.in == nil {
			c.in = c.loop.Buffer()
		} else if len(c.in)-c.r < need {
			c.r, c.w = 0, copy(c.in, c.in[c.r:c.w])
		}
		read := c.raw.Read
		if c.polling {
			read = c.raw.TryRead
		}
		n, err := read(c.in[c.w:])
		c.w += n
		if err == io.EOF && c.w > c.r {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			c.releaseIn()
			if err == io.EOF {
				return err
			}
			return passing{err}
		}
	}
	return nil
}

// Write gathers.
func (w tlsWire) Write(p []byte) (int, error) {
	c := w.c
	if c.err != nil {
		return 0, c.err
	}
	for rest := p; len(rest) > 0; {
		last := len(c.out) - 1
		if last < 0 || len(c.out[last]) == cap(c.out[last]) {
			c.out = append(c.out, c.loop.Buffer()[:0])
			last++
		}
		b := c.out[last]
		n := copy(b[len(b):cap(b)], rest)
		c.out[last], rest = b[:len(b)+n], rest[n:]
	}
	return len(p), nil
}

// Close does nothing: the connection is closed by tlsConn.
func (tlsWire) Close() error { return nil }

// Deadlines are set on the connection below; those of tls are for its last
// words, which are only gathered.

func (tlsWire) SetDeadline(time.Time) error      { return nil }
func (tlsWire) SetReadDeadline(time.Time) error  { return nil }
func (tlsWire) SetWriteDeadline(time.Time) error { return nil }
func (w tlsWire) LocalAddr() net.Addr            { return w.c.raw.LocalAddr() }
func (w tlsWire) RemoteAddr() net.Addr           { return w.c.raw.RemoteAddr() }

// passing is an error after which tls can go on reading: it takes all others
// as its end. If the connection below has ended indeed, it will say so again.
type passing struct{ error }

func (passing) Temporary() bool { return true }
func (passing) Timeout() bool   { return true }
func (e passing) Unwrap() error { return e.error }

// plainError is the error of the connection below, where there is one.
func plainError(err error) error {
	var p passing
	if errors.As(err, &p) {
		return p.error
	}
	return err
}
