package http2

import (
	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
)

// Server is a caller's connection.
type Server struct {
	conn    conn
	handle  func(*Stream)
	refused func(h *wire.Head, status int)
}

// NewServer makes the server's side of a connection. handle is called, in a
// task of its own, for each request; it has to Close the stream. refused is
// told of requests that handle does not see, with what was read of their heads,
// good for the call: such as were answered with a status, and malformed ones,
// whose streams were reset, with 0. It must not wait.
//
// The connection belongs to the server from now on: it is closed in the end.
func NewServer(tr Transport, l *loop.Loop, limits Limits, handle func(*Stream), refused func(h *wire.Head, status int)) *Server {
	s := &Server{handle: handle, refused: refused}
	s.conn = *newConn(tr, l, limits, s)
	s.conn.write = s.conn.writeOut
	return s
}

// Serve reads requests until the connection ends and returns why; the reason
// is io.EOF when the caller closed it in good order, and nil after Drain. It
// runs in a task. early is what was read of the connection before, at most a
// loop's buffer, preface included.
func (s *Server) Serve(t *loop.Task, early []byte) error {
	c := &s.conn
	c.begin(true)
	if len(early) > 0 {
		c.buf = c.loop.Buffer()
		c.end = copy(c.buf, early)
	}
	if err := c.preface(t); err != nil {
		c.fail(err)
	}
	err := c.run(t)
	if err == errDrained {
		return nil
	}
	return err
}

func (c *conn) preface(t *loop.Task) error {
	if err := c.fill(t, len(Preface)); err != nil {
		return err
	}
	if string(c.buf[c.from:c.from+len(Preface)]) != Preface {
		return protocol("the preface is not that of HTTP/2")
	}
	c.from += len(Preface)
	return nil
}

// Drain lets the requests under way finish and takes no more; then the
// connection is closed.
func (s *Server) Drain() {
	s.conn.leave()
	if len(s.conn.streams) == 0 {
		s.idle()
	}
}

// Close ends the connection at once.
func (s *Server) Close() { s.conn.fail(errDrained) }

// Streams is how many requests are under way.
func (s *Server) Streams() int { return len(s.conn.streams) }

// opened implements side.
func (s *Server) opened(id uint32) (*Stream, error) {
	c := &s.conn
	if id%2 == 0 {
		return nil, protocol("a client's stream has an even number")
	}
	c.lastPeer = id
	switch {
	case c.leaving:
		return nil, nil
	case uint32(len(c.streams)) >= c.limits.Streams:
		c.out = appendReset(c.out, id, RefusedStream)
		return nil, c.control()
	}
	return c.newStream(id), nil
}

// start begins to handle a request, or refuses one that is malformed or whose
// fields are too large.
func (s *Server) start(st *Stream, large bool) {
	if st.err != nil || large {
		status := 0
		if st.err == nil {
			status = 431
			h := wire.Head{Status: status, Body: wire.NoBody}
			h.Add("date", string(wire.AppendDate(nil, s.conn.loop.Now())))
			_ = st.Answer(&h, true) // its error is st.err
		}
		s.refused(&st.head, status)
		st.Close()
		return
	}
	s.conn.loop.Go(func(*loop.Task) { s.handle(st) })
}

// idle implements side.
func (s *Server) idle() {
	if s.conn.leaving {
		s.conn.fail(errDrained)
	}
}

// Inform sends a 1xx answer before the one that counts; after that it does
// nothing.
func (s *Stream) Inform(h *wire.Head) error {
	if s.err != nil || s.answered {
		return s.err
	}
	c := s.conn
	c.out = appendBlock(c.out, c.enc.answer(h, false), s.id, false, c.peer.frameSize)
	c.flush()
	return nil
}

// Answer sends the head of the answer; end says that nothing follows.
func (s *Stream) Answer(h *wire.Head, end bool) error {
	if s.err != nil {
		return s.err
	}
	c := s.conn
	s.answered = true
	c.out = appendBlock(c.out, c.enc.answer(h, end), s.id, end, c.peer.frameSize)
	if end {
		s.endSent()
		return nil
	}
	c.flush()
	return nil
}
