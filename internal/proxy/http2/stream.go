package http2

import (
	"fmt"
	"io"
	"time"

	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
)

// StreamError is why a stream ended early.
type StreamError struct {
	Code   Code
	Remote bool // the peer reset it; else what it sent was wrong
}

func (e *StreamError) Error() string {
	if e.Remote {
		return fmt.Sprintf("http/2: stream was reset by the peer: %s", e.Code)
	}
	return fmt.Sprintf("http/2: stream was reset: %s", e.Code)
}

// Stream is one request and its answer. One task may receive while another
// sends; both wait in the manner of the loop, and Task.Interrupt ends a wait.
// Whoever has the stream must Close it, and not use it afterwards.
type Stream struct {
	conn *conn
	id   uint32 // 0: of a client, and the head was not sent

	head     wire.Head   // received: the request, or the answer that counts
	trailer  wire.Head   // its Fields are the trailers received
	informs  []wire.Head // 1xx answers that wait to be taken
	inform   wire.Head   // the one that was taken last
	ready    []byte      // received and not yet taken
	lent     []byte      // what Next returned last
	credit   uint32      // bytes that came and were not given back to the peer
	expected int64       // bytes that the message said it has; -1 = not said
	window   int64       // what we may send

	received bool  // the peer ended its side
	sent     bool  // we ended ours
	answered bool  // our answer, or the peer's, has begun
	onlyHead bool  // a client's request is a HEAD
	closed   bool  // by its owner
	err      error // why nothing more comes or goes

	reader, writer *loop.Task
	readUntil      time.Time // when waiting for more fails; zero = never
	gone           func()
}

func (c *conn) newStream(id uint32) *Stream {
	var s *Stream
	if n := len(c.free) - 1; n >= 0 {
		s = c.free[n]
		c.free = c.free[:n]
	} else {
		s = &Stream{conn: c}
	}
	s.id, s.expected, s.window = id, -1, c.peer.window
	if id != 0 {
		c.streams[id] = s
	}
	return s
}

// keptStreams bounds what a connection keeps for the next burst.
const keptStreams = 16

// recycle keeps a stream that nobody knows any more.
func (c *conn) recycle(s *Stream) {
	if len(c.free) >= keptStreams || cap(s.ready)+cap(s.lent) > 64<<10 {
		return
	}
	s.head.Reset()
	s.trailer.Reset()
	*s = Stream{conn: c, head: s.head, trailer: s.trailer, ready: s.ready[:0], lent: s.lent[:0]}
	c.free = append(c.free, s)
}

// Head is the request's head, on a server's stream. It is good until Close and
// may be changed.
func (s *Stream) Head() *wire.Head { return &s.head }

// expectsTrailers reports whether the next block is behind the body.
func (s *Stream) expectsTrailers() bool {
	if _, server := s.conn.side.(*Server); server {
		return s.head.Method != ""
	}
	return s.answered
}

// headFor is where the next block belongs.
func (s *Stream) headFor(trailer bool) *wire.Head {
	if trailer {
		return &s.trailer
	}
	if _, client := s.conn.side.(*Client); client {
		return &s.conn.scratch // begin tells a 1xx from the one that counts
	}
	return &s.head
}

// headed takes a block that was decoded into headFor.
func (s *Stream) headed(b *block, trailer, end, first bool) {
	switch {
	case s.received || trailer && !end || b.err != nil:
		s.offended(ProtocolError)
	case b.large && (trailer || !first):
		s.offended(EnhanceYourCalm)
	case !trailer:
		s.begin(b, end)
	}
	if end && s.err == nil {
		s.endReceived()
	}
	if first {
		s.conn.side.(*Server).start(s, b.large)
	}
	s.wakeReader()
}

// maxInforms is how many 1xx answers may wait for a reader.
const maxInforms = 8

// begin takes a head, and sets what it says of the body.
func (s *Stream) begin(b *block, end bool) {
	if _, client := s.conn.side.(*Client); client {
		if h := &s.conn.scratch; h.Status < 200 {
			// HTTP/2 has no 101 (RFC 9113, section 8.6).
			if end || h.Status == 101 || len(s.informs) == maxInforms {
				s.offended(ProtocolError)
				return
			}
			s.informs = append(s.informs, *h)
			*h = wire.Head{} // its memory went with it
			return
		}
		s.head, s.conn.scratch = s.conn.scratch, s.head
		s.answered = true
	}
	h := &s.head
	h.Length = max(b.length, 0)
	switch {
	case end && s.bodyless():
		h.Body, h.Length = wire.NoBody, b.length
	case end && b.length > 0:
		s.offended(ProtocolError)
	case end && h.Status != 0:
		h.Body = wire.Sized // for HTTP/1.1, where the head alone does not say so
	case end:
		h.Body = wire.NoBody
	case b.length == 0:
		h.Body, s.expected = wire.Chunked, 0 // trailers follow, which a Sized body has no place for
	case b.length > 0:
		h.Body, s.expected = wire.Sized, b.length
	default:
		h.Body = wire.Chunked
	}
}

// bodyless reports whether the answer has no body whatever its length says.
func (s *Stream) bodyless() bool {
	return s.onlyHead || s.head.Status == 204 || s.head.Status == 304
}

// receive takes a piece of the body. size counts the padding, too.
func (s *Stream) receive(p []byte, size uint32, end bool) error {
	c := s.conn
	if s.err != nil || s.closed {
		return nil
	}
	if s.received || !s.expectsTrailers() {
		s.offended(StreamClosed)
		return nil
	}
	if s.credit+size > c.limits.Window {
		s.offended(FlowControlError)
		return nil
	}
	s.credit += size
	if s.expected >= 0 {
		if s.expected -= int64(len(p)); s.expected < 0 {
			s.offended(ProtocolError)
			return nil
		}
	}
	s.ready = append(s.ready, p...)
	if end {
		s.endReceived()
	}
	s.wakeReader()
	return nil
}

func (s *Stream) endReceived() {
	if s.expected > 0 {
		s.offended(ProtocolError) // shorter than content-length said
		return
	}
	s.received = true
	s.over()
}

// over lets the connection forget a stream that is ended on both sides.
func (s *Stream) over() {
	if s.received && s.sent {
		s.conn.forget(s)
	}
}

// Next returns the next piece of the body that is received: it waits for one,
// and returns io.EOF at the end. The piece is good until the next call.
func (s *Stream) Next() ([]byte, error) {
	if err := s.Await(); err != nil {
		return nil, err
	}
	switch {
	case len(s.ready) > 0:
		s.lent, s.ready = s.ready, s.lent[:0]
		return s.lent, nil
	case s.received:
		return nil, io.EOF
	}
	return nil, s.err
}

// Await waits until Next would not; the piece that Next returned last is done
// with. Its error is that of the wait alone: an interrupt's, or
// os.ErrDeadlineExceeded.
func (s *Stream) Await() error {
	s.giveBack()
	for s.Waits() {
		if err := s.wait(&s.reader, s.readUntil); err != nil {
			return err
		}
	}
	return nil
}

// SetReadDeadline lets Next and Await wait no longer than that; the zero time
// takes it back.
func (s *Stream) SetReadDeadline(at time.Time) error {
	s.readUntil = at
	return nil
}

// Waits reports whether Next would wait.
func (s *Stream) Waits() bool { return len(s.ready) == 0 && !s.received && s.err == nil }

// giveBack opens the stream's window again by what was taken, once that is
// worth a frame.
func (s *Stream) giveBack() {
	taken := s.credit - uint32(len(s.ready))
	if taken < s.conn.limits.Window/2 || s.received || s.err != nil {
		return
	}
	s.credit -= taken
	s.conn.out = appendWindow(s.conn.out, s.id, taken)
	s.conn.flush()
}

// Trailers are the fields behind the body, once Next has returned io.EOF. They
// are good until Close.
func (s *Stream) Trailers() []wire.Field { return s.trailer.Fields }

// wait parks the running task until something happens to the stream, or the
// time comes; zero = never.
func (s *Stream) wait(who **loop.Task, until time.Time) (err error) {
	t := s.conn.loop.Current()
	*who = t
	if until.IsZero() {
		err = t.Park()
	} else {
		err = t.ParkFor(until.Sub(s.conn.loop.Now()))
	}
	*who = nil
	return err
}

func (s *Stream) wakeReader() {
	if s.reader != nil {
		s.reader.Wake()
	}
}

func (s *Stream) wakeWriter() {
	if s.writer != nil {
		s.writer.Wake()
	}
}

// Write sends a piece of the body and returns when it is on its way: it waits
// for the peer's windows and for the connection. The piece is not kept.
func (s *Stream) Write(p []byte) error {
	c := s.conn
	for len(p) > 0 {
		if s.err != nil {
			return s.err
		}
		n := min(int64(len(p)), int64(c.peer.frameSize), s.window, c.window, int64(backlog-len(c.out)))
		if n <= 0 {
			if err := s.waitForRoom(); err != nil {
				return err
			}
			continue
		}
		s.window -= n
		c.window -= n
		c.out = append(appendHeader(c.out, int(n), frameData, 0, s.id), p[:n]...)
		p = p[n:]
		c.flush()
	}
	return s.err
}

func (s *Stream) waitForRoom() error {
	c := s.conn
	if s.window > 0 { // else only the stream's own window matters
		t := c.loop.Current()
		c.room.add(t)
		defer c.room.remove(t)
	}
	return s.wait(&s.writer, time.Time{})
}

// End ends our side, with trailers if there are any.
func (s *Stream) End(trailers []wire.Field) error {
	if s.err != nil {
		return s.err
	}
	c := s.conn
	if len(trailers) > 0 {
		c.out = appendBlock(c.out, c.enc.trailers(trailers), s.id, true, c.peer.frameSize)
	} else {
		c.out = appendHeader(c.out, 0, frameData, flagEndStream, s.id)
	}
	s.endSent()
	return nil
}

func (s *Stream) endSent() {
	s.sent = true
	s.conn.flush()
	s.over()
}

// OnGone lets f be called once, on the loop, when the stream is reset or its
// connection lost: for a task that waits for something else. It must not wait.
// nil takes that back.
func (s *Stream) OnGone(f func()) {
	s.gone = f
	if f != nil && s.err != nil {
		s.gone = nil
		f()
	}
}

// Err is why nothing more comes or goes; nil while the stream is well.
func (s *Stream) Err() error { return s.err }

// Reset ends the stream at once on both sides.
func (s *Stream) Reset(code Code) { s.reset(code) }

// offended ends the stream for a fault of the peer. Each is cheap; a peer that
// makes too many loses the connection.
func (s *Stream) offended(code Code) {
	s.conn.guard.resets++
	s.reset(code)
}

func (s *Stream) reset(code Code) {
	if s.err != nil || s.received && s.sent {
		return
	}
	if s.id != 0 && s.conn.err == nil {
		s.conn.out = appendReset(s.conn.out, s.id, code)
		s.conn.flush()
	}
	s.fail(&StreamError{Code: code})
}

// fail ends both sides without a word to the peer.
func (s *Stream) fail(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	s.conn.forget(s)
	s.wakeReader()
	s.wakeWriter()
	if f := s.gone; f != nil {
		s.gone = nil
		f()
	}
}

// Close lets go of the stream. What is not ended is reset: a server that has
// answered says that it needs no more of the request, all else is a
// cancellation.
func (s *Stream) Close() {
	if s.closed {
		return
	}
	s.gone = nil
	_, server := s.conn.side.(*Server)
	if server && s.sent {
		s.reset(NoError)
	} else {
		s.reset(Cancel)
	}
	s.closed = true
	if s.reader == nil && s.writer == nil {
		s.conn.recycle(s)
	}
}
