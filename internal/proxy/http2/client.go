package http2

import (
	"errors"

	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
)

// errDrained is the error of a connection that we ended in good order.
var errDrained = errors.New("http/2: connection was ended by this side")

// ErrBusy is returned by Open when the connection takes no more streams now.
var ErrBusy = errors.New("http/2: no more streams on this connection")

// maxStreamID is the last number that a client can give.
const maxStreamID = 1<<31 - 1

// Client is a connection to an endpoint.
type Client struct {
	conn    conn
	next    uint32 // stream
	changed func()
}

// NewClient makes the client's side of a connection and begins to read it, in
// a task of its own. changed is called on the loop, and must not wait, whenever the
// connection has become idle, takes no more streams, or is lost; Usable and
// Streams tell what it is.
func NewClient(tr Transport, l *loop.Loop, limits Limits, changed func()) *Client {
	cl := &Client{next: 1, changed: changed}
	cl.conn = *newConn(tr, l, limits, cl)
	c := &cl.conn
	c.write = c.writeOut
	c.out = append(c.out, Preface...)
	c.begin(false)
	l.Go(func(t *loop.Task) {
		c.run(t) // why it ended is in c.err
		changed()
	})
	return cl
}

// Usable reports whether Open would give a stream.
func (cl *Client) Usable() bool {
	c := &cl.conn
	return c.err == nil && !c.leaving && uint32(len(c.streams)) < c.peer.streams && cl.next < maxStreamID
}

// Lost reports whether the connection takes no more streams for good.
func (cl *Client) Lost() bool {
	return cl.conn.err != nil || cl.conn.leaving || cl.next >= maxStreamID
}

// MaxStreams is how many requests may be under way at once; an endpoint may
// change it at any time.
func (cl *Client) MaxStreams() int { return int(cl.conn.peer.streams) }

// Streams is how many requests are under way.
func (cl *Client) Streams() int { return len(cl.conn.streams) }

// Open begins a request by sending its head; end says that nothing follows.
// ErrBusy means that another connection is needed, and nothing was sent.
func (cl *Client) Open(h *wire.Head, end bool) (*Stream, error) {
	if !cl.Usable() {
		return nil, ErrBusy
	}
	c := &cl.conn
	s := c.newStream(cl.next)
	cl.next += 2
	s.onlyHead = h.Method == "HEAD"
	c.out = appendBlock(c.out, c.enc.request(h), s.id, end, c.peer.frameSize)
	if end {
		s.endSent()
	} else {
		c.flush()
	}
	return s, nil
}

// Close ends the connection, and with it what is under way on it.
func (cl *Client) Close() { cl.conn.fail(errDrained) }

// opened implements side.
func (cl *Client) opened(uint32) (*Stream, error) {
	return nil, protocol("a server opened a stream")
}

// idle implements side.
func (cl *Client) idle() { cl.changed() }

// AnswerHead waits for the head of the answer: 1xx answers one by one, then the
// one that counts. It may be changed, and is good until the next call or Close.
func (s *Stream) AnswerHead() (*wire.Head, error) {
	for {
		switch {
		case len(s.informs) > 0:
			s.inform = s.informs[0]
			s.informs = append(s.informs[:0], s.informs[1:]...)
			return &s.inform, nil
		case s.answered:
			return &s.head, nil
		case s.err != nil:
			return nil, s.err
		}
		if err := s.wait(&s.reader, s.readUntil); err != nil {
			return nil, err
		}
	}
}
