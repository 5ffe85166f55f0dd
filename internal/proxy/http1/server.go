package http1

import (
	"bytes"
	"errors"
	"io"
	"os"
	"time"

	"serin.dev/serin/internal/proxy/wire"
)

const (
	// maxDrain is how much of an unwanted body is read to keep the connection:
	// less than what a new connection costs both sides.
	maxDrain = 64 << 10
	// drainTime bounds how long that takes.
	drainTime = time.Second
	// lingerTime is how long a caller who is still sending may take to read the
	// answer before the connection is closed; Envoy's delayed_close_timeout.
	lingerTime = time.Second
)

// ErrIdle is returned when a caller sent no request for the idle time.
var ErrIdle = errors.New("connection was idle for too long")

// ServerOptions bound what callers can do. The zero value has the default
// limits and no time limits.
type ServerOptions struct {
	Limits      wire.Limits
	IdleTimeout time.Duration // from one answer to the first byte of the next request; 0 = no limit
	HeadTimeout time.Duration // from the first byte of a request to the end of its head; 0 = no limit
}

// ServerConn is the server's end of a connection. Its methods are called in
// tasks of the connection's loop.
//
// The reading half is Next and Trailers, the writing half Inform, Answer, Write,
// Flush and End. Two tasks may use one each; ReadRequest, Finish, Hijack and
// Close are for when no other task uses either.
type ServerConn struct {
	in   input
	out  output
	opts ServerOptions

	old      bool // the caller speaks HTTP/1.0
	head     bool // the request is a HEAD
	connect  bool // the request is a CONNECT
	awaits   bool // the caller waits for "100 Continue"
	answered bool // Answer was called
	mute     bool // the answer has no body, whatever is written
	closes   bool // the connection ends after this answer
	tunnel   bool // what follows the answer is not HTTP
	refused  bool // a malformed request was answered: its end is unknown
	timed    bool // a deadline is set
}

// NewServerConn serves c, of which read was read already (it is copied). The
// caller keeps c for what is not HTTP: hangups, addresses.
func NewServerConn(c Conn, l Loop, o ServerOptions, read []byte) *ServerConn {
	s := &ServerConn{
		in:   input{conn: c, loop: l, chunks: wire.Chunks{Limits: o.Limits}},
		out:  output{conn: c, loop: l},
		opts: o,
	}
	s.in.feed(read)
	return s
}

// Idle reports whether nothing of a next request has been read. The connection
// then holds no buffer, and its task may end until the connection is readable.
func (s *ServerConn) Idle() bool { return s.in.r == s.in.w }

// ReadRequest waits for the head of the next request and reads it into h, whose
// strings are valid until Finish. Finish comes between two calls.
//
// The error is io.EOF or ErrIdle when the connection ended without a request,
// a *wire.ParseError when the request was refused (408 when its head took too
// long; the caller has been answered, h holds what was understood), or else that of
// the connection, io.ErrUnexpectedEOF if it ended within the head. After an
// error only Close may follow.
func (s *ServerConn) ReadRequest(h *wire.Head) error {
	s.answered, s.awaits, s.mute, s.tunnel = false, false, false, false
	s.out.done = false
	s.in.begin()
	h.Reset()
	err := s.readHead(h)
	if s.timed {
		s.timed = false
		if e := s.in.conn.SetReadDeadline(time.Time{}); e != nil && err == nil {
			err = e
		}
	}
	if err != nil {
		return s.refuse(err)
	}
	s.old, s.head, s.connect = h.Minor == 0, h.Method == "HEAD", h.Method == "CONNECT"
	s.awaits = h.Expect100
	s.closes = h.Close
	return nil
}

func (s *ServerConn) readHead(h *wire.Head) error {
	begun := false
	for {
		if unread := s.in.unread(); len(unread) > 0 {
			n, err := h.ParseRequest(unread, s.opts.Limits)
			if n > 0 {
				s.in.headEnd(n, h)
			}
			if n > 0 || err != nil {
				return err
			}
			if !begun && !blank(unread) {
				begun = true
				s.limit(s.opts.HeadTimeout)
			}
		}
		if !begun && !s.timed {
			s.limit(s.opts.IdleTimeout)
		}
		if err := s.in.fill(); err != nil {
			return err
		}
	}
}

// limit lets reading fail in d from now.
func (s *ServerConn) limit(d time.Duration) {
	if d <= 0 && !s.timed {
		return
	}
	var at time.Time
	if d > 0 {
		at = s.in.loop.Now().Add(d)
	}
	s.timed = d > 0
	// Of a closed connection reading tells as well.
	_ = s.in.conn.SetReadDeadline(at)
}

// blank reports whether p holds nothing but the line ends that some clients
// send behind a body.
func blank(p []byte) bool { return len(bytes.Trim(p, "\r\n")) == 0 }

// refuse answers a request whose head could not be read, if there is one.
func (s *ServerConn) refuse(err error) error {
	s.closes = true
	silent := blank(s.in.unread())
	var malformed *wire.ParseError
	switch {
	case errors.As(err, &malformed):
	case errors.Is(err, os.ErrDeadlineExceeded) && silent:
		return ErrIdle
	case errors.Is(err, os.ErrDeadlineExceeded):
		malformed = &wire.ParseError{Status: 408, Reason: "head of the request took too long"}
	case err == io.EOF && !silent:
		return io.ErrUnexpectedEOF
	default:
		return err
	}
	s.refused = true
	text := malformed.Reason + "\n"
	h := wire.Head{Status: malformed.Status, Body: wire.Sized, Length: int64(len(text)), Close: true}
	h.Add("content-type", "text/plain")
	h.Add("date", string(wire.AppendDate(nil, s.in.loop.Now())))
	s.out.out = append(h.AppendAnswer(s.out.gather()), text...)
	if e := s.out.flush(); e != nil {
		return errors.Join(malformed, e)
	}
	return malformed
}

// Next waits for the next piece of the request's body: a view, valid until Next
// or Finish is called. io.EOF ends the body. io.ErrUnexpectedEOF says that the
// caller is gone, a *wire.ParseError that its chunks are malformed.
//
// A caller that waits for "100 Continue" is told so before Next waits for it,
// unless the answer has begun.
func (s *ServerConn) Next() ([]byte, error) {
	if s.awaits && s.in.waits() {
		s.awaits = false
		if !s.answered && !s.out.busy {
			s.out.out = append(s.out.gather(), "HTTP/1.1 100 Continue\r\n\r\n"...)
			if err := s.out.flush(); err != nil {
				return nil, err
			}
		}
	}
	return s.in.next()
}

// Waits reports whether Next would wait for the caller, as far as is known
// without asking the kernel: then is the time to Flush what the body goes to.
func (s *ServerConn) Waits() bool { return s.in.waits() }

// Trailers are the fields after the body, once Next has returned io.EOF; views
// until Finish.
func (s *ServerConn) Trailers() []wire.Field { return s.in.trailers() }

// Inform sends an answer with a status of 100 to 199 that precedes the final
// one. Callers of HTTP/1.0, who do not know such, are not sent it.
func (s *ServerConn) Inform(h *wire.Head) error {
	if s.old || s.answered {
		return nil
	}
	if h.Status == 100 {
		if !s.awaits {
			return nil // it was told already, or never asked
		}
		s.awaits = false
	}
	a := *h
	a.Body, a.Length, a.Close, a.Upgrade = wire.NoBody, 0, false, ""
	s.out.out = a.AppendAnswer(s.out.gather())
	return s.out.flush()
}

// Answer begins the final answer. h.Body and h.Length say what will be written;
// unless end is true, a body that is not Sized is framed as the caller
// understands it. With end there is no body, the answer is complete and written
// out. h.Close is not looked at: it spoke of another connection; CloseAfter is for
// this one. A 101 takes its h.Upgrade along, and Hijack follows.
//
// The answer to a HEAD may be given as that to a GET: its body goes nowhere.
func (s *ServerConn) Answer(h *wire.Head, end bool) error {
	s.answered = true
	if !s.in.done && (s.awaits || s.in.body != wire.Sized || s.in.left > maxDrain) {
		s.closes = true
	}
	a := *h
	s.frame(&a, end)
	a.Close = s.closes && !s.tunnel
	s.out.out = a.AppendAnswer(s.out.gather())
	if s.old && !a.Close {
		s.out.out = append(s.out.out[:len(s.out.out)-2], "connection: keep-alive\r\n\r\n"...)
	}
	s.out.headEnd(a.Body, a.Length)
	if !end {
		return s.out.err
	}
	return s.out.end(nil)
}

// frame decides how the body of an answer is delimited on this connection.
func (s *ServerConn) frame(a *wire.Head, end bool) {
	if a.Status != 101 && a.Status != 426 {
		a.Upgrade = ""
	}
	a.TrailersOK, a.Expect100 = false, false
	switch {
	case a.Status == 101 || s.connect && a.Status >= 200 && a.Status < 300:
		a.Body, a.Length = wire.NoBody, -1
		s.tunnel, s.mute = true, true
	case s.head || a.Status == 204 || a.Status == 304:
		s.mute = true
		if a.Body == wire.Chunked || a.Body == wire.UntilClose {
			a.Length = -1
		}
		a.Body = wire.NoBody
	case a.Body == wire.Sized || a.Body == wire.NoBody:
	case end:
		a.Body, a.Length = wire.NoBody, 0
	case s.old:
		a.Body = wire.UntilClose
		s.closes = true
	default:
		a.Body = wire.Chunked
	}
}

// Write takes a piece of the answer's body. A small one is copied and waits for
// Flush or End, a large one is written before Write returns.
func (s *ServerConn) Write(p []byte) error {
	if s.mute {
		return s.out.err
	}
	return s.out.write(p)
}

// Flush writes what was gathered. It is called before something else is waited
// for.
func (s *ServerConn) Flush() error { return s.out.flush() }

// End completes the answer and writes it out. Trailers are sent where the
// framing has a place for them.
func (s *ServerConn) End(trailers []wire.Field) error { return s.out.end(trailers) }

// CloseAfter lets the connection end after the answer to this request; if called
// before Answer, the caller is told so.
func (s *ServerConn) CloseAfter() { s.closes = true }

// Finish ends the exchange: all views are void and buffers given back. It
// reports whether the next request can be read; if not, Close is to follow. A
// small rest of a body that nobody wanted is read for that.
func (s *ServerConn) Finish() bool {
	if !s.answered || !s.out.done || s.out.err != nil || s.tunnel {
		s.closes = true
	}
	if !s.closes && !s.in.done {
		s.drain()
		s.closes = !s.in.done
	}
	if !s.closes && bytes.HasPrefix(s.in.unread(), []byte("\r\n")) {
		s.in.r += 2 // RFC 9112, section 2.2: some clients end bodies so
	}
	s.in.finish()
	return !s.closes
}

// drain reads the rest of a body.
func (s *ServerConn) drain() {
	s.limit(drainTime)
	for {
		if _, err := s.in.next(); err != nil {
			break
		}
	}
	if s.in.done {
		s.limit(0)
	}
}

// Hijack takes the connection out of HTTP, after Answer to a CONNECT or an
// upgrade. It returns what the caller has sent since, valid until Finish, which
// is called to give the buffers back; the connection is not closed by then.
func (s *ServerConn) Hijack() (read []byte, err error) {
	read = s.in.unread()
	s.in.r = s.in.w
	s.in.done, s.tunnel = true, true
	return read, s.out.flush()
}

// Close closes the connection and gives the buffers back. A whole answer is
// written out before. A caller that may still be sending gets a second to
// read it: a connection that is closed over unread bytes is reset, and with it
// goes the answer. A caller whose answer is not whole learns it from the end.
func (s *ServerConn) Close() {
	gently := s.refused || s.answered && s.out.done && (!s.in.done || !s.Idle())
	s.in.r = s.in.w
	s.in.finish()
	s.out.drop()
	if gently {
		s.in.conn.CloseGently(lingerTime)
		return
	}
	// A close that fails has closed nevertheless.
	_ = s.in.conn.Close()
}
