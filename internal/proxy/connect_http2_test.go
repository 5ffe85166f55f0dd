package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/test/ports"
)

// streamTunnel is one stream of HTTP/2 that a caller asked to carry bytes.
type streamTunnel struct {
	io.Reader // what comes
	io.WriteCloser
	answer *http.Response
}

// connectOver asks for a tunnel by CONNECT.
func (r *rig) connectOver(l *Listener, target string) *streamTunnel {
	r.t.Helper()
	body, in := io.Pipe()
	q, err := http.NewRequestWithContext(r.t.Context(), http.MethodConnect, target, body)
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := r.overHTTP2(l).Transport.RoundTrip(q)
	if err != nil {
		r.t.Fatal(err)
	}
	return &streamTunnel{res.Body, in, res}
}

// reads reads what comes until the other side ends.
func (s *streamTunnel) reads(t *testing.T) string {
	t.Helper()
	b, err := io.ReadAll(s.Reader)
	if err != nil {
		t.Errorf("after %q: %v", b, err)
	}
	return string(b)
}

func TestConnectOverHTTP2(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(tcpService("db.default", r.rawApp(greets("db"))), tcpService("down.default", ports.Reserve(t)))
	l, _ := r.outbound()
	large := strings.Repeat("x", 1<<20) // more than any window or buffer
	for _, says := range []string{"", "hello", large} {
		s := r.connectOver(l, "http://db:80")
		if s.answer.StatusCode != 200 || len(s.answer.Header) > 0 {
			t.Fatalf("CONNECT = %d %v", s.answer.StatusCode, s.answer.Header)
		}
		if _, err := io.WriteString(s, says); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if got := s.reads(t); got != "db\nheard "+says {
			t.Errorf("%d bytes were answered with %d", len(says), len(got))
		}
		if q := r.recorded(); q.Protocol != telemetry.TCP || q.Service != "db.default" || q.Host != "db:80" || q.Read != int64(len(says)) || q.Flags != "" {
			t.Errorf("record = %+v", q)
		}
	}
	s := r.connectOver(l, "http://down:80")
	if got := s.reads(t); s.answer.StatusCode != 503 || got != "serin: UF,URX: could not connect to down\n" {
		t.Errorf("nobody listens: %d %q", s.answer.StatusCode, got)
	}
	if q := r.recorded(); q.Protocol != "HTTP/2" || q.Code != 503 || q.Flags != "UF,URX" {
		t.Errorf("record = %+v", q)
	}
	gateway, err := r.ListenGateway("127.0.0.1:0", 80)
	if err != nil {
		t.Fatal(err)
	}
	if s := r.connectOver(gateway, "http://db:80"); s.answer.StatusCode != 405 {
		t.Errorf("at a gateway: %d", s.answer.StatusCode)
	}
}

// TestAConnectOverHTTP2IsRoutedByTheNameInside: the name comes in a stream.
func TestAConnectOverHTTP2IsRoutedByTheNameInside(t *testing.T) {
	r := newRig(t, Config{})
	app := r.tlsApp(says("by name"))
	svc := service("example.com", ports.Reserve(t))
	svc.Ports[0] = mesh.Port{Number: 443, Protocol: mesh.HTTPS}
	svc.Endpoints[0].Port = 443
	other := service("other.default", app.Listener.Addr().String())
	other.Ports[0], other.Endpoints[0].Port = svc.Ports[0], 443
	r.apply(svc, other, mesh.VirtualHost{Hosts: []string{"example.com"}, Streams: []mesh.Stream{{
		Matches: []mesh.StreamMatch{{Port: 443, SNI: []string{"example.com"}}},
		Split:   []mesh.Destination{{Service: "other.default", Weight: 1}},
	}}})
	l, _ := r.outbound()
	s := r.connectOver(l, "http://example.com:443")
	config := app.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName = "example.com"
	c := tls.Client(pipeConn{s}, config)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(res.Body); string(b) != "by name" {
		t.Errorf("answer %q", b)
	}
	s.Close()
	if q := r.recorded(); q.Backend != "other.default" || q.Service != "example.com" {
		t.Errorf("record = %+v", q)
	}
}

// pipeConn lets TLS run over a stream.
type pipeConn struct{ *streamTunnel }

func (p pipeConn) Close() error                     { return p.streamTunnel.WriteCloser.Close() }
func (p pipeConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (p pipeConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (p pipeConn) SetDeadline(time.Time) error      { return nil }
func (p pipeConn) SetReadDeadline(time.Time) error  { return nil }
func (p pipeConn) SetWriteDeadline(time.Time) error { return nil }

// TestASilentTunnelOverHTTP2IsNotLookedIntoForEver: whose callee speaks first
// is served by what is known without a name.
func TestASilentTunnelOverHTTP2IsNotLookedIntoForEver(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{HeaderTime: 1}})
	svc := tcpService("db.default", r.rawApp(greets("db")))
	r.apply(svc, mesh.VirtualHost{Hosts: []string{"db.default"}, Streams: []mesh.Stream{{
		Matches: []mesh.StreamMatch{{SNI: []string{"db.default"}}},
		Split:   []mesh.Destination{{Service: "db.default", Weight: 1}},
	}}})
	l, _ := r.outbound()
	s := r.connectOver(l, "http://db:80")
	if got, err := bufio.NewReader(s.Reader).ReadString('\n'); got != "db\n" {
		t.Errorf("greeting = %q, %v", got, err)
	}
}

// TestTunnelsOverHTTP2AreBrokenOff: whichever side breaks, the other learns it,
// and other streams of the connection go on.
func TestTunnelsOverHTTP2AreBrokenOff(t *testing.T) {
	r := newRig(t, Config{})
	ended := make(chan error, 1)
	keeps := r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
		io.WriteString(c, "db\n")
		_, err := io.ReadAll(in)
		ended <- err
	})
	resets := r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
		in.ReadByte()
		c.(*net.TCPConn).SetLinger(0)
	})
	r.apply(tcpService("keeps.default", keeps), tcpService("resets.default", resets))
	l, _ := r.outbound()

	s := r.connectOver(l, "http://keeps:80")
	if _, err := io.ReadFull(s.Reader, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	s.answer.Body.Close() // which resets the stream
	<-ended
	if q := r.recorded(); q.Flags != flagCallerGone || q.Sent != 3 {
		t.Errorf("a caller that left: %+v", q)
	}

	s = r.connectOver(l, "http://resets:80")
	io.WriteString(s, "x")
	var reset http2.StreamError
	if b, err := io.ReadAll(s.Reader); !errors.As(err, &reset) || reset.Code != http2.ErrCodeConnect {
		t.Errorf("after %q: %v, want a reset with CONNECT_ERROR", b, err)
	}
	if q := r.recorded(); q.Flags != flagReset || !q.Failed() {
		t.Errorf("an endpoint that reset: %+v", q)
	}

	r.connectOver(l, "http://keeps:80")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Shutdown(over); !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	<-ended
	if q := r.recorded(); q.Flags != flagCallerGone {
		t.Errorf("a listener that closed: %+v", q)
	}
}

// echoes upgrades to websocket, or declines with a status, and says back what
// it hears.
func echoes(t *testing.T) func(int, net.Conn, *bufio.Reader) {
	return func(_ int, c net.Conn, in *bufio.Reader) {
		q, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if status := q.URL.Query().Get("status"); status != "" {
			fmt.Fprintf(c, "HTTP/1.1 %s No\r\nContent-Length: 2\r\n\r\nno", status)
			return
		}
		key := q.Header.Get("Sec-WebSocket-Key")
		if q.Method != "GET" || q.Host != "music" || q.Header.Get("Upgrade") != "websocket" || q.Header.Get("Sec-WebSocket-Version") != "13" || len(key) != 24 {
			t.Errorf("the endpoint sees %s %s %v", q.Method, q.Host, q.Header)
		}
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n")
		io.Copy(c, in)
	}
}

// TestWebSocketsOverHTTP2 reach endpoints that speak HTTP/1.1 (RFC 8441), as
// routes say, from workloads and at gateways.
func TestWebSocketsOverHTTP2(t *testing.T) {
	r := newRig(t, Config{})
	host := weighted("music.default", 1)
	host.Routes[0].Matches = []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Prefix, Value: "/chat"}}}
	edge := weighted("music", 1)
	edge.Routes[0].Matches = host.Routes[0].Matches
	r.apply(service("music.default", r.rawApp(echoes(t))), host, mesh.Gateway{Name: "default/edge", Port: 80, VirtualHosts: []mesh.VirtualHost{edge}})
	l, _ := r.outbound()
	gateway, err := r.ListenGateway("127.0.0.1:0", 80)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Listener{l, gateway} {
		f := r.framedCaller(l)
		ask := func(stream uint32, path string) {
			f.headers(stream, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "music", ":path", path, "sec-websocket-version", "13")
		}
		ask(1, "/chat?room=1")
		f.must(f.WriteData(1, false, []byte("ping")))
		got := f.heard(1, func(a *framedAnswer) bool { return a.body == "ping" })
		for _, gone := range []string{"sec-websocket-accept", "upgrade", "connection"} {
			if value, has := got.fields[gone]; has {
				t.Errorf("%s: %s came to the caller", gone, value)
			}
		}
		if got.fields[":status"] != "200" || got.fields["sec-websocket-protocol"] != "chat" {
			t.Errorf("answer = %+v", got)
		}
		f.must(f.WriteData(1, true, nil))
		f.heard(1, func(a *framedAnswer) bool { return a.ended })
		if q := r.recorded(); q.Method != "GET" || q.Code != 101 || q.Flags != "" || q.Path != "/chat" || q.Read != 4 || q.Sent != 4 || q.Protocol != "HTTP/2" {
			t.Errorf("record = %+v", q)
		}
		for i, test := range []struct {
			path, code, body string // "" = any
		}{
			{"/chat?status=403", "403", "no"},
			// The caller would take it for a tunnel.
			{"/chat?status=200", "502", "serin: UPE: what came from music.default is not an answer\n"},
			{"/other", "404", ""},
		} {
			stream := uint32(3 + 2*i)
			ask(stream, test.path)
			got := f.heard(stream, func(a *framedAnswer) bool { return a.ended })
			if got.fields[":status"] != test.code || test.body != "" && got.body != test.body {
				t.Errorf("%s = %+v, want %s %q", test.path, got, test.code, test.body)
			}
			if q := r.recorded(); fmt.Sprint(q.Code) != test.code {
				t.Errorf("%s: recorded %+v", test.path, q)
			}
		}
	}
}
