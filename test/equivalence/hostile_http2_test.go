package equivalence

import (
	"bytes"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// attacks are bytes that no corpus of HTTP/1.1 has: floods, and HTTP/2.
func attacks() map[string]string {
	plain := "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	out := map[string]string{
		"two requests at once":                     plain + plain,
		"many requests at once":                    strings.Repeat(plain, 20),
		"a head that is too long":                  "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 61<<10) + "\r\n\r\n",
		"a head that never ends":                   "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 100<<10),
		"a target that is too long":                "GET /" + strings.Repeat("a", 61<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"too many fields":                          "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 101) + "\r\n",
		"half a head":                              "GET / HTTP/1.1\r\nHost: x\r\n",
		"half a body":                              "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
		"half a chunk":                             "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf",
		"a TLS hello without TLS":                  "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
		"an answer":                                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"an answer that comes before the body":     "POST / HTTP/1.1\r\nHost: x\r\nX-Do: early 413\r\nContent-Length: 100000\r\n\r\nsome",
		"a request behind a body that was refused": "POST / HTTP/1.1\r\nHost: x\r\nX-Do: early 413\r\nContent-Length: 60\r\n\r\n" + plain + plain,
	}
	get := []string{":method", "GET", ":scheme", "http", ":authority", "x", ":path", "/"}
	with := func(more ...string) []string { return append(get[:len(get):len(get)], more...) }
	for name, fields := range map[string][]string{
		"a plain request":                  get,
		"no path":                          {":method", "GET", ":scheme", "http", ":authority", "x"},
		"an empty path":                    {":method", "GET", ":scheme", "http", ":authority", "x", ":path", ""},
		"a path without a slash":           {":method", "GET", ":scheme", "http", ":authority", "x", ":path", "a"},
		"a path with a space":              {":method", "GET", ":scheme", "http", ":authority", "x", ":path", "/a b"},
		"no method":                        {":scheme", "http", ":authority", "x", ":path", "/"},
		"a method with a space":            {":method", "GET /x", ":scheme", "http", ":authority", "x", ":path", "/"},
		"two methods":                      {":method", "GET", ":method", "PUT", ":scheme", "http", ":authority", "x", ":path", "/"},
		"two paths":                        {":method", "GET", ":scheme", "http", ":authority", "x", ":path", "/", ":path", "/b"},
		"no scheme":                        {":method", "GET", ":authority", "x", ":path", "/"},
		"no authority":                     {":method", "GET", ":scheme", "http", ":path", "/"},
		"no authority and a host":          {":method", "GET", ":scheme", "http", ":path", "/", "host", "x"},
		"another host":                     with("host", "y"),
		"an unknown pseudo header":         with(":other", "a"),
		"a pseudo header behind others":    {":method", "GET", ":scheme", "http", "a", "b", ":authority", "x", ":path", "/"},
		"a name in capitals":               with("X-Upper", "a"),
		"an empty name":                    with("", "a"),
		"a name with a space":              with("a b", "c"),
		"a name with a line end":           with("a\r\nb", "c"),
		"a value with a line end":          with("a", "b\r\nc: d"),
		"a value with a zero":              with("a", "b\x00c"),
		"a connection header":              with("connection", "close"),
		"a transfer coding":                with("transfer-encoding", "chunked"),
		"an upgrade":                       with("upgrade", "websocket"),
		"te that is not trailers":          with("te", "gzip"),
		"a length of nothing that is sent": with("content-length", "5"),
		"a length that is no number":       with("content-length", "x"),
		"two lengths":                      with("content-length", "0", "content-length", "1"),
		"too many fields":                  with(strings.Fields(strings.Repeat("a b ", 120))...),
		"an authority with a user":         {":method", "GET", ":scheme", "http", ":authority", "u@x", ":path", "/"},
	} {
		out["http2/"+name] = overHTTP2(func(f *http2.Framer) { head(f, 1, true, fields...) })
	}
	for name, send := range map[string]func(*http2.Framer){
		"a body shorter than its length": func(f *http2.Framer) {
			head(f, 1, false, with("content-length", "5")...)
			_ = f.WriteData(1, true, []byte("abc"))
		},
		"a body longer than its length": func(f *http2.Framer) {
			head(f, 1, false, with("content-length", "2")...)
			_ = f.WriteData(1, true, []byte("abc"))
		},
		"data of no request":   func(f *http2.Framer) { _ = f.WriteData(1, true, []byte("abc")) },
		"a head of stream 2":   func(f *http2.Framer) { head(f, 2, true, get...) },
		"data behind the end":  func(f *http2.Framer) { head(f, 1, true, get...); _ = f.WriteData(1, true, []byte("abc")) },
		"a window of nothing":  func(f *http2.Framer) { head(f, 1, true, get...); _ = f.WriteWindowUpdate(0, 0) },
		"an unknown frame":     func(f *http2.Framer) { _ = f.WriteRawFrame(0x77, 0, 0, []byte("abc")); head(f, 1, true, get...) },
		"a push":               func(f *http2.Framer) { _ = f.WriteRawFrame(http2.FramePushPromise, 4, 1, []byte("\x00\x00\x00\x02")) },
		"a ping of 7 bytes":    func(f *http2.Framer) { _ = f.WriteRawFrame(http2.FramePing, 0, 0, []byte("1234567")) },
		"settings of a stream": func(f *http2.Framer) { _ = f.WriteRawFrame(http2.FrameSettings, 0, 1, nil) },
		"a head of garbage":    func(f *http2.Framer) { _ = f.WriteRawFrame(http2.FrameHeaders, 5, 1, []byte("\xff\xff\xff\xff")) },
		"a continuation alone": func(f *http2.Framer) { _ = f.WriteContinuation(1, true, nil) },
	} {
		out["http2/"+name] = overHTTP2(send)
	}
	return out
}

// overHTTP2 is what a caller sends: the preface, its settings, and more. Writes
// to memory do not fail.
func overHTTP2(send func(*http2.Framer)) string {
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	f.AllowIllegalWrites = true
	_ = f.WriteSettings()
	send(f)
	return b.String()
}

func head(f *http2.Framer, stream uint32, end bool, fields ...string) {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for i := 0; i+1 < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: end})
}

// readHTTP2 takes the statuses of answers. A stream or connection that ends
// with an error is a refusal.
func (r *reaction) readHTTP2(c net.Conn, wait time.Duration) {
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for c.SetReadDeadline(time.Now().Add(wait)) == nil {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if status, err := strconv.Atoi(frame.PseudoValue("status")); err == nil && status >= 200 {
				r.statuses = append(r.statuses, status)
			}
		case *http2.RSTStreamFrame:
			r.statuses = append(r.statuses, http.StatusBadRequest)
		case *http2.GoAwayFrame:
			if frame.ErrCode != http2.ErrCodeNo {
				r.statuses = append(r.statuses, http.StatusBadRequest)
			}
			return
		}
	}
}
