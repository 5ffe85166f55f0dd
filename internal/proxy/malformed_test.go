package proxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/test/ports"
)

// framedCaller speaks HTTP/2 to a listener, frame by frame.
type framedCaller struct {
	*http2.Framer
	t *testing.T
}

func (r *rig) framedCaller(l *Listener) *framedCaller {
	r.t.Helper()
	c := r.dialTo(l)
	c.send(http2.ClientPreface)
	f := &framedCaller{http2.NewFramer(c, c.in), r.t}
	f.AllowIllegalWrites = true
	f.must(f.WriteSettings())
	return f
}

func (f *framedCaller) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// headers sends names and values.
func (f *framedCaller) headers(stream uint32, end bool, pairs ...string) {
	f.t.Helper()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(pairs); i += 2 {
		f.must(enc.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}))
	}
	f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end}))
}

// framedAnswer is what came on one stream.
type framedAnswer struct {
	fields map[string]string
	body   string
	ended  bool
}

// heard reads frames until what came on a stream is enough.
func (f *framedCaller) heard(stream uint32, enough func(*framedAnswer) bool) framedAnswer {
	f.t.Helper()
	f.ReadMetaHeaders = cmp.Or(f.ReadMetaHeaders, hpack.NewDecoder(4096, nil))
	out := framedAnswer{fields: map[string]string{}}
	for !enough(&out) {
		frame, err := f.ReadFrame()
		if err != nil {
			f.t.Fatalf("after %+v: %v", out, err)
		}
		if frame.Header().StreamID != stream {
			continue
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, h := range frame.Fields {
				out.fields[h.Name] = h.Value
			}
			out.ended = frame.StreamEnded()
		case *http2.DataFrame:
			out.body += string(frame.Data())
			out.ended = frame.StreamEnded()
		}
	}
	return out
}

// TestMalformedHTTP2IsRecorded as that of HTTP/1.1 is, whether it ends a stream
// or the connection.
func TestMalformedHTTP2IsRecorded(t *testing.T) {
	get := []string{":method", "GET", ":scheme", "http", ":authority", "music", ":path", "/a"}
	post := append([]string{":method", "POST"}, get[2:]...)
	for _, tt := range []struct {
		name string
		send func(f *framedCaller)
		want telemetry.Request // of these fields
	}{
		{"a name in upper case", func(f *framedCaller) {
			f.headers(1, true, append(get, "X", "1")...)
		}, telemetry.Request{Method: "GET", Host: "music", Path: "/a"}},
		{"no path", func(f *framedCaller) {
			f.headers(1, true, get[:6]...)
		}, telemetry.Request{Method: "GET", Host: "music"}},
		{"a head beyond the limit", func(f *framedCaller) {
			f.headers(1, true, append(get, "x", strings.Repeat("x", 400), "y", strings.Repeat("y", 400), "z", strings.Repeat("z", 400))...)
		}, telemetry.Request{Method: "GET", Host: "music", Path: "/a", Code: 431}},
		{"a body shorter than told", func(f *framedCaller) {
			f.headers(1, false, append(post, "content-length", "4")...)
			f.must(f.WriteData(1, true, []byte("abc")))
		}, telemetry.Request{Method: "POST", Host: "music", Path: "/a"}},
		{"a body longer than told", func(f *framedCaller) {
			f.headers(1, false, append(post, "content-length", "2")...)
			f.must(f.WriteData(1, true, []byte("abc")))
		}, telemetry.Request{Method: "POST", Host: "music", Path: "/a"}},
		{"a frame out of place, with a request under way", func(f *framedCaller) {
			f.headers(1, false, post...)
			f.must(f.WriteData(0, true, []byte("abc")))
		}, telemetry.Request{Method: "POST", Host: "music", Path: "/a"}},
		{"a frame out of place, with no request", func(f *framedCaller) {
			f.must(f.WriteData(0, true, []byte("abc")))
		}, telemetry.Request{}},
		{"a head that cannot be decoded", func(f *framedCaller) {
			f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff}, EndHeaders: true}))
		}, telemetry.Request{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{Limits: Limits{HeadBytes: 1000}})
			app := r.app(func(_ http.ResponseWriter, q *http.Request) {
				io.Copy(io.Discard, q.Body)
			})
			r.apply(service("music.default", app))
			l, _ := r.outbound()
			f := r.framedCaller(l)
			tt.send(f)
			q := r.recorded()
			if q.Protocol != "HTTP/2" || q.Flags != flagMalformed || q.Method != tt.want.Method || q.Host != tt.want.Host || q.Path != tt.want.Path || q.Code != tt.want.Code || q.Source != caller {
				t.Errorf("recorded %+v", q)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			select {
			case q := <-r.records:
				t.Errorf("recorded once more: %+v", q)
			default:
			}
		})
	}
}

// TestCallersWhoseTLSFailsLeaveATrace: a record without a service, and why in
// the access log.
func TestCallersWhoseTLSFailsLeaveATrace(t *testing.T) {
	ca := newAuthority(t)
	for _, tt := range []struct {
		name   string
		call   func(c net.Conn) error
		flags  string
		reason string
	}{
		{"no TLS", func(c net.Conn) error {
			_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
			return err
		}, flagNoRoute, "a_plain_connection_to_a_port_with_TLS"},
		{"too old", func(c net.Conn) error {
			old := tls.Client(c, &tls.Config{ServerName: "shop.example", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
			if old.Handshake() == nil {
				t.Error("TLS 1.1 was spoken")
			}
			return nil
		}, flagMalformed, "tls:_client_offered_only_unsupported_versions:_[302_301]"},
		{"a certificate that the caller does not trust", func(c net.Conn) error {
			wary := tls.Client(c, &tls.Config{ServerName: "shop.example", MaxVersion: tls.VersionTLS12})
			if wary.Handshake() == nil {
				t.Error("the certificate was trusted")
			}
			return nil
		}, flagMalformed, "remote_error:_tls:_bad_certificate"},
		{"gone before the end", func(c net.Conn) error {
			quits := tls.Client(halfDeaf{c}, &tls.Config{ServerName: "shop.example"})
			if quits.Handshake() == nil {
				t.Error("shook hands without an answer")
			}
			return nil
		}, flagCallerGone, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var written lockedBuffer
			r := newRig(t, Config{AccessLog: AccessLog{Format: AccessLogText, To: &written}})
			r.apply(service("music.default", ports.Reserve(t)), edge(mesh.ServerTLS{Hosts: []string{"shop.example"}, Certificate: "shop"}), map[string]*mesh.Certificate{"shop": ca.issue("shop.example")})
			c := r.dialTo(r.gateway())
			if err := tt.call(c.Conn); err != nil {
				t.Fatal(err)
			}
			c.Close()
			if q := r.recorded(); q.Protocol != telemetry.TCP || q.Reporter != telemetry.GatewaySide || q.Flags != tt.flags || q.Failed() {
				t.Errorf("recorded %+v", q)
			}
			if err := r.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			if line := written.String(); !strings.Contains(line, " "+tt.flags+" - "+tt.reason+" ") {
				t.Errorf("access log %q, want %s", line, tt.reason)
			}
		})
	}
}

// halfDeaf ends the connection instead of reading from it.
type halfDeaf struct{ net.Conn }

func (c halfDeaf) Read([]byte) (int, error) {
	return 0, c.Conn.(*net.TCPConn).CloseWrite()
}
