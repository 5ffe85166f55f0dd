package proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/test/ports"
)

// tlsApp starts an application that speaks TLS, with a certificate for the
// names "example.com" and "*.example.com". Both ends of TLS may close at once,
// and one then resets the connection, so how it ended is not looked at.
func (r *rig) tlsApp(h http.HandlerFunc) *httptest.Server {
	r.t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of callers that leave
	s.StartTLS()
	r.t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// TestHTTPSPassesThroughTheProxy: net/http asks for a tunnel and speaks TLS
// inside, to a service and to a host outside of the mesh.
func TestHTTPSPassesThroughTheProxy(t *testing.T) {
	r := newRig(t, Config{})
	app := r.tlsApp(says("secret"))
	address := app.Listener.Addr().String()
	svc := service("example.com", address)
	svc.Ports[0] = mesh.Port{Number: 443, Protocol: mesh.HTTPS}
	svc.Endpoints[0].Port = 443
	r.apply(svc)
	l, _ := r.outbound()
	for _, test := range []struct {
		target  string
		service mesh.ServiceName
	}{
		{"https://example.com/", "example.com"},
		{"https://" + address + "/", ""},
	} {
		transport := app.Client().Transport.(*http.Transport).Clone()
		transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()})
		client := &http.Client{Transport: transport}
		if code, body := r.get(client, test.target); code != 200 || body != "secret" {
			t.Errorf("GET %s = %d %q", test.target, code, body)
		}
		transport.CloseIdleConnections()
		q := r.recorded()
		if q.Protocol != telemetry.TCP || q.Service != test.service || q.Upstream != address || q.Code != 0 || q.Sent == 0 || q.Read == 0 {
			t.Errorf("record of %s = %+v", test.target, q)
		}
	}
}

// tunnels reads the answer to a CONNECT, behind which come bytes.
func (c *conn) tunnels() {
	c.t.Helper()
	res, err := http.ReadResponse(c.in, &http.Request{Method: http.MethodConnect})
	if err != nil || res.StatusCode != 200 || len(res.Header) > 0 {
		c.t.Fatalf("CONNECT = %+v, %v", res, err)
	}
}

func TestConnectReachesPortsOfAllProtocols(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(tcpService("db.default", r.rawApp(greets("db"))), service("music.default", r.app(says("music"))))
	l, _ := r.outbound()
	c := r.dialTo(l)
	// The first bytes may come along with the request.
	c.send("CONNECT db:80 HTTP/1.1\r\nHost: db:80\r\n\r\nearly")
	c.tunnels()
	if got := c.line(); got != "db" {
		t.Errorf("greeting = %q", got)
	}
	c.endWrite()
	if got := c.rest(); got != "heard early" {
		t.Errorf("answer = %q", got)
	}
	if q := r.recorded(); q.Protocol != telemetry.TCP || q.Service != "db.default" || q.Read != 5 || q.Host != "db:80" {
		t.Errorf("record = %+v", q)
	}
	c = r.dialTo(l)
	c.send("CONNECT music:80 HTTP/1.1\r\nHost: music:80\r\n\r\n")
	c.tunnels()
	c.send("GET / HTTP/1.1\r\nHost: music\r\nConnection: close\r\n\r\n")
	if res, body := c.answer("GET"); res.StatusCode != 200 || body != "music" {
		t.Errorf("inside of the tunnel: %d %q", res.StatusCode, body)
	}
}

func TestAConnectThatFailsIsAnswered(t *testing.T) {
	r := newRig(t, Config{})
	denied := tcpService("denied.default", ports.Reserve(t))
	denied.Access = []mesh.Access{{Deny: true}}
	full := tcpService("full.default", ports.Reserve(t))
	full.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {Pool: mesh.Pool{MaxConnections: 1}}}
	routesOnly := weighted("*.example.org", 1)
	r.apply(denied, full, routesOnly, tcpService("down.default", ports.Reserve(t)), tcpService("empty.default"), service("music.default"))
	taken, ok := r.table.Load().groups[groupKey{"full.default", 80, ""}].admitConnection()
	if !ok {
		t.Fatal("no permit")
	}
	defer taken.release()
	l, _ := r.outbound()
	for _, test := range []struct {
		target string
		code   int
		flags  string
		body   string
	}{
		{"down:80", 503, "UF,URX", "serin: UF,URX: could not connect to down"},
		{"down:81", 404, "NR", "serin: NR: no route for connections to down on port 81"},
		{"empty:80", 503, "UH", "serin: UH: no ready endpoint: empty.default"},
		{"denied:80", 403, "UAEX", "serin: UAEX: access denied"},
		{"full:80", 503, "UO", "serin: UO: too many connections to full.default"},
		{ports.Reserve(t), 503, "UF", "serin: UF: could not connect to 127.0.0.1"},
		{l.Addr().String(), 503, "UF", "serin: UF: could not connect to 127.0.0.1"}, // itself
	} {
		c := r.dialTo(l)
		c.send("CONNECT " + test.target + " HTTP/1.1\r\nHost: " + test.target + "\r\n\r\n")
		res, body := c.answer("GET")
		q := r.recorded()
		if res.StatusCode != test.code || strings.TrimSpace(body) != test.body || q.Flags != test.flags || q.Code != test.code || q.Protocol != "HTTP/1.1" {
			t.Errorf("%s = %d %q, recorded %d %s; want %d %q, %s", test.target, res.StatusCode, body, q.Code, q.Flags, test.code, test.body, test.flags)
		}
		// The connection is good for another request.
		c.send("GET http://music:81/ HTTP/1.1\r\nHost: music:81\r\n\r\n")
		if res, _ := c.answer("GET"); res.StatusCode != 404 {
			t.Errorf("after %s: %d", test.target, res.StatusCode)
		}
		r.recorded()
	}
	gateway, err := r.ListenGateway("127.0.0.1:0", 80)
	if err != nil {
		t.Fatal(err)
	}
	c := r.dialTo(gateway)
	c.send("CONNECT down:80 HTTP/1.1\r\nHost: down:80\r\n\r\n")
	if res, _ := c.answer("GET"); res.StatusCode != 405 {
		t.Errorf("at a gateway: %d", res.StatusCode)
	}
}

// byName is a gateway whose port passes TLS on by the name that is asked for.
func byName(to map[string]mesh.Destination) mesh.Gateway {
	g := mesh.Gateway{Name: "default/edge", Port: 443}
	for host, d := range to {
		d.Weight = 1
		g.Streams = append(g.Streams, mesh.Stream{Matches: []mesh.StreamMatch{{SNI: []string{host}}}, Split: []mesh.Destination{d}})
	}
	return g
}

func TestAGatewayPassesTLSOnByName(t *testing.T) {
	r := newRig(t, Config{})
	one, two := r.tlsApp(says("one")), r.tlsApp(says("two"))
	serves := func(name mesh.ServiceName, app *httptest.Server) *mesh.Service {
		s := service(name, app.Listener.Addr().String())
		s.Ports[0] = mesh.Port{Number: 443, Protocol: mesh.HTTPS}
		s.Endpoints[0].Port = 443
		return s
	}
	r.apply(serves("one.default", one), serves("two.default", two), byName(map[string]mesh.Destination{
		"example.com":     {Service: "one.default"},
		"*.example.com":   {Service: "two.default"},
		"bad.example.com": {Service: "gone.default"},
	}))
	l, err := r.ListenGateway("127.0.0.1:0", 443)
	if err != nil {
		t.Fatal(err)
	}
	trusts := one.Client().Transport.(*http.Transport).TLSClientConfig
	ask := func(name string) (string, error) {
		config := trusts.Clone()
		config.ServerName = name
		c, err := tls.Dial("tcp", l.Addr().String(), config)
		if err != nil {
			return "", err
		}
		defer c.Close()
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name)
		b, err := io.ReadAll(c)
		_, body, _ := strings.Cut(string(b), "\r\n\r\n")
		return body, err
	}
	for name, want := range map[string]struct {
		body    string
		service mesh.ServiceName
		flags   string
	}{
		"example.com":     {"one", "one.default", ""},
		"www.example.com": {"two", "two.default", ""},
		"bad.example.com": {"", "gone.default", "NC"},
		"example.org":     {"", "", "NR"},
	} {
		body, err := ask(name)
		if body != want.body || (err == nil) != (want.body != "") {
			t.Errorf("%s: %q, %v", name, body, err)
		}
		if q := r.recorded(); q.Protocol != telemetry.TCP || q.Reporter != telemetry.GatewaySide || q.Service != want.service || want.body == "" && q.Flags != want.flags {
			t.Errorf("record of %s = %+v", name, q)
		}
	}
	// What is no TLS is taken for requests, of which the port has none.
	c := r.dialTo(l)
	c.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if res, _ := c.answer("GET"); res.StatusCode != 404 {
		t.Errorf("a plain request = %d", res.StatusCode)
	}
}

func TestAGatewayCarriesPlainBytes(t *testing.T) {
	r := newRig(t, Config{})
	db := mesh.Gateway{Name: "default/db", Port: 5432, Streams: []mesh.Stream{{Split: []mesh.Destination{{Service: "db.default", Weight: 1}}}}}
	r.apply(tcpService("db.default", r.rawApp(greets("db"))), db)
	l, err := r.ListenGateway("127.0.0.1:0", 5432)
	if err != nil {
		t.Fatal(err)
	}
	c := r.dialTo(l)
	if got := c.line(); got != "db" {
		t.Errorf("greeting = %q", got)
	}
	c.send("GET / HTTP/1.1")
	c.endWrite()
	if got := c.rest(); got != "heard GET / HTTP/1.1" {
		t.Errorf("answer = %q", got)
	}
	if q := r.recorded(); q.Reporter != telemetry.GatewaySide || q.Service != "db.default" || q.Source != (mesh.Workload{}) {
		t.Errorf("record = %+v", q)
	}
}

// TestWhoListensFirstIsServedBesideTLS: a port has both, and its caller waits
// for the server.
func TestWhoListensFirstIsServedBesideTLS(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{HeaderTime: 1}})
	g := byName(map[string]mesh.Destination{"example.com": {Service: "one.default"}})
	g.Streams = append(g.Streams, mesh.Stream{Split: []mesh.Destination{{Service: "db.default", Weight: 1}}})
	r.apply(tcpService("db.default", r.rawApp(greets("db"))), g)
	l, err := r.ListenGateway("127.0.0.1:0", 443)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.dialTo(l).line(); got != "db" {
		t.Errorf("greeting = %q", got)
	}
}

// TestAConnectIsRoutedByTheNameInside: streams of the called host look at the
// name that the caller asks for once it was told 200.
func TestAConnectIsRoutedByTheNameInside(t *testing.T) {
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
	transport := app.Client().Transport.(*http.Transport).Clone()
	transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()})
	if code, body := r.get(&http.Client{Transport: transport}, "https://example.com/"); code != 200 || body != "by name" {
		t.Errorf("GET = %d %q", code, body)
	}
	transport.CloseIdleConnections()
	if q := r.recorded(); q.Backend != "other.default" || q.Service != "example.com" {
		t.Errorf("record = %+v", q)
	}
	// By the port for one service, the same.
	toOne, err := r.ListenUpstream("127.0.0.1:0", mesh.Caller{Workload: caller}, "example.com", 443)
	if err != nil {
		t.Fatal(err)
	}
	config := app.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName = "example.com"
	c, err := tls.Dial("tcp", toOne.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
