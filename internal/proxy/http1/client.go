package http1

import (
	"errors"
	"io"

	"serin.dev/serin/internal/proxy/wire"
)

// AnswerErrorKind says how far an answer had come when it failed.
type AnswerErrorKind uint8

const (
	// Unanswered: the connection ended, or waiting did, before any byte of
	// the answer. Only then may the request be one that nobody has seen.
	Unanswered AnswerErrorKind = iota + 1
	// Cut: the connection ended, or waiting did, within the answer.
	Cut
	// Malformed: what came is not HTTP, or not plainly so.
	Malformed
	// Oversize: the head or the trailers are beyond the limits.
	Oversize
)

func (k AnswerErrorKind) String() string {
	switch k {
	case Unanswered:
		return "no answer"
	case Cut:
		return "answer was cut off"
	case Malformed:
		return "answer is malformed"
	case Oversize:
		return "answer is too large"
	}
	return "no error"
}

// AnswerError is why there is no answer, or no more of it. Err is the
// connection's error (io.EOF, os.ErrDeadlineExceeded, what interrupted the
// wait) or a *wire.ParseError; errors.Is and As see it.
type AnswerError struct {
	Kind AnswerErrorKind
	Err  error
}

func (e *AnswerError) Error() string { return e.Kind.String() + ": " + e.Err.Error() }
func (e *AnswerError) Unwrap() error { return e.Err }

// ClientConn is the client's end of a connection. Its methods are called in
// tasks of the connection's loop.
//
// The writing half is Send, Write, Flush and End, the reading half Answer, Next
// and Trailers. Two tasks may use one each; Finish, Hijack and Close are for
// when no other task uses either.
type ClientConn struct {
	in     input
	out    output
	limits wire.Limits

	method   string
	upgrades bool // the request asks for another protocol
	begun    bool // a byte of the answer has come
	final    bool // the head of the final answer has come
	closes   bool // the connection is of no use after this exchange
}

// NewClientConn calls over c.
func NewClientConn(c Conn, l Loop, limits wire.Limits) *ClientConn {
	return &ClientConn{
		in:     input{conn: c, loop: l, chunks: wire.Chunks{Limits: limits}},
		out:    output{conn: c, loop: l},
		limits: limits,
	}
}

// Send begins a request, in the form of HTTP/1.1. h.Body and h.Length say what
// will be written; a body that is not Sized is sent in chunks. With end
// there is none: the request is complete and written out. h.Close is not looked
// at: it spoke of another connection.
//
// The error is the connection's. After it Answer may still find one: a callee
// that answers early may close at once.
func (c *ClientConn) Send(h *wire.Head, end bool) error {
	c.method = h.Method
	c.upgrades = h.Upgrade != ""
	c.begun, c.final, c.closes = false, false, false
	c.in.begin()
	a := *h
	a.Close, a.Status = false, 0
	if a.Body == wire.UntilClose {
		a.Body = wire.Chunked
	}
	if end && a.Body != wire.Sized {
		a.Body = wire.NoBody
	}
	c.out.out = a.AppendRequest(c.out.gather())
	c.out.headEnd(a.Body, a.Length)
	if !end {
		return c.out.err
	}
	return c.out.end(nil)
}

// Write takes a piece of the request's body. A small one is copied and waits
// for Flush, End or Answer, a large one is written before Write returns.
func (c *ClientConn) Write(p []byte) error { return c.out.write(p) }

// Flush writes what was gathered. It is called before something else is waited
// for.
func (c *ClientConn) Flush() error { return c.out.flush() }

// End completes the request and writes it out.
func (c *ClientConn) End(trailers []wire.Field) error { return c.out.end(trailers) }

// Sent reports whether the request is complete.
func (c *ClientConn) Sent() bool { return c.out.done && c.out.err == nil }

// Answer waits for the head of an answer and reads it into h, whose strings are
// valid until the next call of Answer or Finish. Answers with a status of 100 to
// 199, except for 101, precede the final one: Answer is called again. What
// was gathered of the request is written before.
//
// The error is an *AnswerError.
func (c *ClientConn) Answer(h *wire.Head) error {
	if !c.out.busy && c.out.err == nil {
		// If this fails, reading tells the reason, or finds an answer.
		_ = c.out.flush()
	}
	c.in.begin()
	h.Reset()
	for {
		if unread := c.in.unread(); len(unread) > 0 {
			c.begun = true
			n, err := h.ParseAnswer(unread, c.method, c.limits)
			if err != nil {
				return c.fail(err)
			}
			if n > 0 {
				c.in.headEnd(n, h)
				break
			}
		}
		if err := c.in.fill(); err != nil {
			return c.fail(err)
		}
	}
	if h.Status == 101 && (!c.upgrades || h.Upgrade == "") {
		return c.fail(&wire.ParseError{Status: 502, Reason: "callee switches to a protocol that was not asked for"})
	}
	tunnel := h.Status == 101 || c.method == "CONNECT" && h.Status >= 200 && h.Status < 300
	c.final = tunnel || h.Status >= 200
	c.closes = tunnel || h.Close
	return nil
}

// fail classifies the error that ends an answer.
func (c *ClientConn) fail(err error) error {
	c.closes = true
	kind := Cut
	var malformed *wire.ParseError
	switch {
	case errors.As(err, &malformed) && malformed.Status == 431, errors.As(err, &malformed) && malformed.Status == 414:
		kind = Oversize
	case malformed != nil:
		kind = Malformed
	case !c.begun:
		kind = Unanswered
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return &AnswerError{kind, err}
}

// Next waits for the next piece of the answer's body: a view, valid until Next
// or Finish is called. io.EOF ends the body. Else the error is an *AnswerError.
func (c *ClientConn) Next() ([]byte, error) {
	piece, err := c.in.next()
	if err != nil && err != io.EOF {
		return nil, c.fail(err)
	}
	return piece, err
}

// Waits reports whether Next would wait for the callee, as far as is known
// without asking the kernel: then is the time to Flush what the body goes to.
func (c *ClientConn) Waits() bool { return c.in.waits() }

// Trailers are the fields after the body, once Next has returned io.EOF; views
// until Finish.
func (c *ClientConn) Trailers() []wire.Field { return c.in.trailers() }

// Reusable reports whether another request can be sent: both messages are
// complete, neither end wants to close, and nothing came behind the answer.
// Whether the callee has closed since, the connection itself tells.
func (c *ClientConn) Reusable() bool {
	return c.Sent() && c.final && c.in.done && !c.closes && c.in.r == c.in.w
}

// Finish ends the exchange: all views are void and buffers given back. It
// reports what Reusable does; if not, Close is to follow.
func (c *ClientConn) Finish() bool {
	reusable := c.Reusable()
	c.in.r = c.in.w
	c.in.finish()
	c.out.drop()
	return reusable
}

// Hijack takes the connection out of HTTP, after a 101 or the answer to a
// CONNECT. It returns what the callee has sent since, valid until Finish.
func (c *ClientConn) Hijack() (read []byte, err error) {
	read = c.in.unread()
	c.in.r = c.in.w
	return read, c.out.flush()
}

// Close gives the buffers back and closes the connection, whatever is under
// way.
func (c *ClientConn) Close() {
	c.Finish()
	// A close that fails has closed nevertheless.
	_ = c.in.conn.Close()
}
