package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
)

// rig is a proxy under test with real applications and callers on loopback.
type rig struct {
	*Proxy
	t       *testing.T
	records records
	version mesh.SnapshotVersion
}

// records takes what the proxy records. Tests take one for each request.
type records chan telemetry.Request

func (r records) Record(q *telemetry.Request) {
	if q.Kind == telemetry.UsersRequest {
		r <- *q.Clone()
	}
}

func newRig(t *testing.T, c Config) *rig {
	t.Helper()
	r := &rig{t: t, records: make(records, 1<<16)}
	if c.Recorder == nil {
		c.Recorder = r.records
	}
	r.Proxy = New(c)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // tests that need a drain do it themselves
		if err := r.Shutdown(ctx); err != nil {
			t.Logf("cut off at the end: %v", err)
		}
	})
	return r
}

// recorded returns the next record, waiting for it.
func (r *rig) recorded() telemetry.Request {
	r.t.Helper()
	select {
	case q := <-r.records:
		return q
	case <-r.t.Context().Done():
		r.t.Fatal("no record")
		panic("unreachable")
	}
}

// app starts an application and returns host:port.
func (r *rig) app(h http.HandlerFunc) string {
	r.t.Helper()
	s := httptest.NewServer(h)
	r.t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String()
}

// says is an application that answers with a text.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

// rawApp serves each connection by a function: for what net/http would not do.
func (r *rig) rawApp(serve func(n int, c net.Conn, in *bufio.Reader)) string {
	r.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { ln.Close() })
	go func() {
		for n := 1; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(n, c, bufio.NewReader(c))
			}()
		}
	}()
	return ln.Addr().String()
}

// service makes a service on port 80 with one endpoint for each address. The
// n-th has the labels version: vN, the workload of that version and the pod
// address 10.0.0.N.
func service(name mesh.ServiceName, addresses ...string) *mesh.Service {
	s := &mesh.Service{Name: name, Ports: []mesh.Port{{Number: 80}}, Subsets: map[string]mesh.Labels{}}
	for i, dial := range addresses {
		version := fmt.Sprintf("v%d", i+1)
		s.Subsets[version] = mesh.Labels{"version": version}
		s.Endpoints = append(s.Endpoints, mesh.Endpoint{
			Port: 80, Dial: dial, Address: netip.AddrPortFrom(pod(i+1), 80),
			Labels:   mesh.Labels{"version": version},
			Workload: mesh.Workload{Namespace: "default", Name: "app", Version: version, Pod: "app-" + version},
		})
	}
	return s
}

func pod(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}) }

// weighted routes a host to subsets of music.default.
func weighted(host string, weights ...uint32) mesh.VirtualHost {
	route := mesh.Route{Origin: mesh.Origin{Kind: "VirtualService", Namespace: "default", Name: "music"}}
	for i, w := range weights {
		route.Split = append(route.Split, mesh.Destination{Service: "music.default", Subset: fmt.Sprintf("v%d", i+1), Weight: w})
	}
	return mesh.VirtualHost{Hosts: []string{host}, Routes: []mesh.Route{route}}
}

// apply makes the next snapshot of the parts: *mesh.Service, mesh.VirtualHost
// mesh.Gateway or certificates by name.
func (r *rig) apply(parts ...any) {
	r.t.Helper()
	r.version++
	if err := r.Apply(snapshot(r.version, parts...)); err != nil {
		r.t.Fatal(err)
	}
}

func snapshot(version mesh.SnapshotVersion, parts ...any) *mesh.Snapshot {
	s := &mesh.Snapshot{Version: version, Services: map[mesh.ServiceName]*mesh.Service{}}
	for _, p := range parts {
		switch p := p.(type) {
		case *mesh.Service:
			s.Services[p.Name] = p
		case mesh.VirtualHost:
			s.Hosts = append(s.Hosts, p)
		case mesh.Gateway:
			s.Gateways = append(s.Gateways, p)
		case map[string]*mesh.Certificate:
			s.Certificates = p
		default:
			panic(fmt.Sprintf("a snapshot has no %T", p))
		}
	}
	return s
}

// unhurried is a limit that a test waits for, and within which a busy machine
// gets through what the test does first.
const unhurried = time.Second

// caller is the workload whose calls go through outbound.
var caller = mesh.Workload{Namespace: "default", Name: "user", Version: "v1", Pod: "user-1"}

// outbound opens a listener and returns it with a client that uses it.
func (r *rig) outbound() (*Listener, *http.Client) {
	r.t.Helper()
	l, err := r.ListenOutbound("127.0.0.1:0", mesh.Caller{Workload: caller})
	if err != nil {
		r.t.Fatal(err)
	}
	return l, r.clientOf(l)
}

// clientOf returns a client that calls every host through the listener.
func (r *rig) clientOf(l *Listener) *http.Client {
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()}), DisableCompression: true}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// get calls a URL and returns the status and the body.
func (r *rig) get(c *http.Client, target string) (int, string) {
	r.t.Helper()
	return r.do(c, http.MethodGet, target, nil)
}

func (r *rig) do(c *http.Client, method, target string, body io.Reader) (int, string) {
	r.t.Helper()
	q, err := http.NewRequestWithContext(r.t.Context(), method, target, body)
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := c.Do(q)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, target, err)
	}
	return res.StatusCode, strings.TrimSpace(string(b))
}

// conn is a plain connection to a listener, for bytes that clients do not send.
type conn struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func (r *rig) dialTo(l *Listener) *conn {
	r.t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return &conn{Conn: c, t: r.t, in: bufio.NewReader(c)}
}

func (c *conn) send(lines ...string) {
	c.t.Helper()
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conn) answer(method string) (*http.Response, string) {
	c.t.Helper()
	res, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res, string(b)
}
