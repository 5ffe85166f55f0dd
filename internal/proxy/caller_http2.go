package proxy

import (
	"serin.dev/serin/internal/proxy/http2"
	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
)

// serveHTTP2 serves the requests of a caller that speaks HTTP/2, until the
// connection has ended and they all have.
func (c *callerConn) serveHTTP2(t *loop.Task, early []byte) {
	c.http2 = http2.NewServer(c.socket, c.worker.loop, c.worker.http2, c.serveStream, c.refuseStream)
	c.ended = t.Wake
	if c.listener.leaving.Load() {
		c.http2.Drain()
	}
	c.worker.loop.Start(&c.idle, c.worker.proxy.limits.IdleTime, c.expire)
	if err := c.http2.Serve(t, early); err != nil {
		c.worker.proxy.log.Debug("connection ended", "caller", c.remoteIP, "err", err)
		if isFault(err) && !c.faulty { // else it is recorded already
			c.refuseStream(&wire.Head{Major: 2}, 0)
		}
	}
	for c.streams > 0 {
		_ = t.Park() // who cuts the connection has ended the streams, too
	}
}

// refuseStream records a request that the codec refused.
func (c *callerConn) refuseStream(q *wire.Head, code int) {
	ex := c.worker.exchange(c)
	ex.unreadable(q, code)
	c.worker.release(ex)
}

// serveStream serves one request, in a task of its own.
func (c *callerConn) serveStream(s *http2.Stream) {
	w := c.worker
	c.idle.Stop()
	c.streams++
	c.requests++
	if limit := w.proxy.limits.RequestsPerConnection; limit > 0 && c.requests == limit {
		c.http2.Drain()
	}
	ex := w.exchange(c)
	ex.task, ex.stream.Stream = w.loop.Current(), s
	s.OnGone(ex.onGone)
	if s.Head().Upgrade != "" {
		ex.asUpgrade(s.Head())
	}
	ex.serve(ex.task, &ex.stream, s.Head())
	s.OnGone(nil)
	if !ex.stream.ended {
		// Else the caller would take what it has for the whole answer.
		s.Reset(http2.InternalError)
	}
	s.Close()
	w.release(ex)
	if c.streams--; c.streams == 0 {
		w.loop.Start(&c.idle, w.proxy.limits.IdleTime, c.expire)
		c.ended()
	}
}

// http2Stream is a caller's stream as exchanges use it.
type http2Stream struct {
	*http2.Stream
	extended bool // its request was an extended CONNECT
	ended    bool // the answer is complete
}

// asUpgrade makes of an extended CONNECT (RFC 8441) what HTTP/1.1 asks for in
// its place, so that routes and endpoints see one kind of upgrade.
func (ex *exchange) asUpgrade(h *wire.Head) {
	ex.stream.extended = true
	h.Method, h.Body, h.Length, h.Expect100 = "GET", wire.NoBody, 0, false
	if h.Upgrade == "websocket" {
		h.Set("sec-websocket-key", ex.names.webSocketKey())
	}
}

// Next tells a caller that waits for "100 Continue" to go on, before it waits
// for it.
func (s *http2Stream) Next() ([]byte, error) {
	if h := s.Head(); h.Expect100 && s.Waits() {
		h.Expect100 = false
		if err := s.Inform(&wire.Head{Status: 100}); err != nil {
			return nil, err
		}
	}
	return s.Stream.Next()
}

// Inform passes a 1xx answer on; a "100 Continue" only if it is waited for.
func (s *http2Stream) Inform(h *wire.Head) error {
	if h.Status == 100 {
		if !s.Head().Expect100 {
			return nil
		}
		s.Head().Expect100 = false
	}
	return s.Stream.Inform(h)
}

// Answer ends the stream with the head where no body follows, whatever the
// head says of one: clients of gRPC tell an answer without messages by that. An
// upgrade that is done is success, and proves nothing by a key.
func (s *http2Stream) Answer(h *wire.Head, end bool) error {
	if h.Status == 101 {
		h.Status = 200
		h.Del("sec-websocket-accept")
		return s.Stream.Answer(h, false)
	}
	s.ended = end || h.Body == wire.Sized && h.Length == 0 || s.Head().Method == "HEAD" || h.Status == 204 || h.Status == 304
	return s.Stream.Answer(h, s.ended)
}

func (s *http2Stream) Write(p []byte) error {
	if s.ended {
		return nil // of an answer that has no body
	}
	return s.Stream.Write(p)
}

// Flush has nothing to do: streams are written when everybody had a turn.
func (s *http2Stream) Flush() error { return nil }

func (s *http2Stream) End(trailers []wire.Field) error {
	if s.ended {
		return nil
	}
	s.ended = true
	return s.Stream.End(trailers)
}
