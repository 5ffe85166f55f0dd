package proxy

import (
	"errors"

	"serin.dev/serin/internal/proxy/http2"
	"serin.dev/serin/internal/proxy/loop"
)

// errNoUpgrade and errNoTunnel are answers to other requests than were sent.
var (
	errNoUpgrade = errors.New("101 to a request that asked for no upgrade")
	// With 2xx, a caller of HTTP/2 would take its stream for a tunnel.
	errNoTunnel = errors.New("success without the upgrade that was asked for by CONNECT")
)

// upgrade hands both sides over to bytes after a 101, which only endpoints that
// speak HTTP/1.1 give.
func (ex *exchange) upgrade(l lease) {
	c := l.(*upstreamConn)
	r := &ex.record
	r.Code = ex.answer.Status
	ex.answered = true
	defer c.Close()
	if err := ex.caller.Answer(&ex.answer, false); err != nil {
		ex.broken(errCallerGone)
		return
	}
	caller, err := ex.hijack()
	if err != nil {
		return
	}
	early, err := c.Hijack()
	if err != nil {
		return
	}
	t := tunnel{worker: ex.worker, idle: ex.idle}
	t.run(ex.task, caller, end{c.conn, early})
	r.Read, r.Sent = t.sent[0], t.sent[1]
	if t.flag != "" {
		addFlag(r, t.flag)
	}
}

// hijack takes the caller's side out of HTTP, after the answer that makes it a
// tunnel's.
func (ex *exchange) hijack() (end, error) {
	ex.timer.Stop() // the tunnel has its own
	if s := &ex.stream; s.Stream != nil {
		s.OnGone(nil)
		return end{conn: &streamConn{http2Stream: s}}, nil
	}
	early, err := ex.conn.http1.Hijack()
	ex.conn.conn.OnHangup(nil)
	return end{ex.conn.socket, early}, err
}

// end is one side of a tunnel.
type end struct {
	conn  byteConn
	early []byte // was read already
}

// byteConn is a connection as a tunnel uses it: a socket, or a stream of a
// caller's connection.
type byteConn interface {
	helloConn
	Write([]byte) (int, error)
	CloseWrite() error
	Interrupt(error)
}

var (
	_ byteConn = (*loop.Conn)(nil)
	_ byteConn = (*streamConn)(nil)
)

// streamConn is a caller's stream that carries bytes (RFC 9113, section 8.5).
type streamConn struct {
	*http2Stream
	rest []byte // of a piece that was read in part
}

// Await waits until Read would not.
func (s *streamConn) Await() error {
	if len(s.rest) > 0 {
		return nil
	}
	return s.http2Stream.Await()
}

func (s *streamConn) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		piece, err := s.Next()
		if err != nil {
			return 0, err
		}
		s.rest = piece
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *streamConn) Write(p []byte) (int, error) {
	if err := s.http2Stream.Write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *streamConn) CloseWrite() error { return s.End(nil) }

// Interrupt ends the stream: the tunnel is broken off.
func (s *streamConn) Interrupt(error) { s.Reset(http2.ConnectError) }
