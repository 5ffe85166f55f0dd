package equivalence

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// stream is a request of HTTP/2 that is still being read.
type stream struct {
	visit
	body bytes.Buffer
}

// http2Conn is an endpoint's side of a connection with HTTP/2: just enough of
// it to answer, and to refuse as servers do that net/http is not.
type http2Conn struct {
	*endpoint
	framer *http2.Framer

	mu  sync.Mutex // of what is written
	out bytes.Buffer
	enc *hpack.Encoder
}

func (e *endpoint) serveHTTP2(c *peeked, secure string) {
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	h := &http2Conn{endpoint: e, framer: http2.NewFramer(c, c)}
	h.enc = hpack.NewEncoder(&h.out)
	h.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if h.framer.WriteSettings() != nil {
		return
	}
	streams := map[uint32]*stream{}
	for {
		f, err := h.framer.ReadFrame()
		if err != nil {
			return
		}
		h.take(f, streams, secure)
	}
}

// take handles one frame; what is not there needs no answer.
func (h *http2Conn) take(f http2.Frame, streams map[uint32]*stream, secure string) {
	id, end := f.Header().StreamID, false
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			h.write(h.framer.WriteSettingsAck)
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			h.write(func() error { return h.framer.WritePing(true, f.Data) })
		}
	case *http2.RSTStreamFrame:
		delete(streams, id)
	case *http2.MetaHeadersFrame:
		s := streams[id]
		if s == nil {
			s = &stream{visit: visit{Endpoint: h.name, Address: h.address, Protocol: "HTTP/2", TLS: secure, Header: headers{}}}
			streams[id] = s
			s.Method, s.Host, s.Target = f.PseudoValue("method"), f.PseudoValue("authority"), f.PseudoValue("path")
			for _, field := range f.RegularFields() {
				s.Header[field.Name] = append(s.Header[field.Name], field.Value)
			}
		} else {
			s.Trailer = headers{}
			for _, field := range f.RegularFields() {
				s.Trailer[field.Name] = append(s.Trailer[field.Name], field.Value)
			}
		}
		end = f.StreamEnded()
	case *http2.DataFrame:
		if s := streams[id]; s != nil {
			s.body.Write(f.Data())
			end = f.StreamEnded()
		}
		if n := uint32(f.Length); n > 0 {
			h.write(func() error { return h.framer.WriteWindowUpdate(0, n) })
			h.write(func() error { return h.framer.WriteWindowUpdate(id, n) })
		}
	}
	if s := streams[id]; end && s != nil {
		delete(streams, id)
		h.fleet.wg.Go(func() { h.answer(id, s) })
	}
}

func (h *http2Conn) write(f func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = f() // the reader sees that the connection is gone
}

func (h *http2Conn) answer(id uint32, q *stream) {
	q.Body = shorten(q.body.Bytes())
	first := func(name string) string { return strings.Join(q.Header[name], ",") }

	try := h.fleet.saw(first(headerCall), q.visit)
	s, err := parseStep(first(headerDo), h.name, try)
	if err != nil {
		s = step{status: 500, body: err.Error()}
	}
	h.before(&s, first(headerCall))
	switch {
	case s.flags["hang"]:
		return
	case s.flags["refuse"]:
		h.write(func() error { return h.framer.WriteRSTStream(id, http2.ErrCodeRefusedStream) })
		return
	case s.flags["close"], s.flags["reset"]:
		h.write(func() error { return h.framer.WriteRSTStream(id, http2.ErrCodeInternal) })
		return
	}
	h.write(func() error { return h.send(id, q, &s) })
}

// send writes the answer. One with a grpc-status and no body is a head alone.
func (h *http2Conn) send(id uint32, q *stream, s *step) error {
	if s.flags["hints"] {
		if err := h.head(id, false, ":status", "103", "link", "</style.css>"); err != nil {
			return err
		}
	}
	fields := []string{":status", strconv.Itoa(s.status), "x-endpoint", h.name}
	add := func(to []string, lines []string) []string {
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			to = append(to, strings.ToLower(name), value)
		}
		return to
	}
	fields = add(fields, s.header)
	body := []byte(s.body)
	if grpc := q.Header["content-type"]; len(grpc) > 0 && strings.HasPrefix(grpc[0], "application/grpc") {
		fields = append(fields, "content-type", "application/grpc")
		if strings.Contains(strings.Join(s.header, " "), "grpc-status") {
			body = nil
		}
	}
	if q.Method == http.MethodHead || s.status == 204 || s.status == 304 {
		body = nil
	}
	if err := h.head(id, len(body) == 0 && len(s.trailer) == 0, fields...); err != nil {
		return err
	}
	for len(body) > 0 {
		n := min(len(body), 16<<10)
		last := n == len(body) && len(s.trailer) == 0 && !s.flags["within"]
		if err := h.framer.WriteData(id, last, body[:n]); err != nil {
			return err
		}
		body = body[n:]
	}
	switch {
	case s.flags["within"]:
		return h.framer.WriteRSTStream(id, http2.ErrCodeInternal)
	case len(s.trailer) > 0:
		return h.head(id, true, add(nil, s.trailer)...)
	}
	return nil
}

func (h *http2Conn) head(id uint32, end bool, fields ...string) error {
	h.out.Reset()
	for i := 0; i < len(fields); i += 2 {
		if err := h.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			return fmt.Errorf("encode a head: %w", err)
		}
	}
	return h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.out.Bytes(), EndHeaders: true, EndStream: end})
}
