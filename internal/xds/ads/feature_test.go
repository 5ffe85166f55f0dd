package ads_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/internal/xds"
	"serin.dev/serin/internal/xds/xdstest"
	"serin.dev/serin/test/ports"
)

// service makes one with a port 80 and an endpoint.
func service(name mesh.ServiceName, dial string) *mesh.Service {
	return &mesh.Service{Name: name, Ports: []mesh.Port{{Number: 80}}, Endpoints: []mesh.Endpoint{
		{Port: 80, Dial: dial, Address: netip.MustParseAddrPort("127.9.9.9:80")},
	}}
}

func to(names ...mesh.ServiceName) []mesh.Destination {
	var out []mesh.Destination
	for _, n := range names {
		out = append(out, mesh.Destination{Service: n, Weight: 1})
	}
	return out
}

// through makes a client that uses an HTTP proxy.
func through(t *testing.T, address string) *http.Client {
	c := &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: address})},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// call sends a request and returns status, body and header of the answer.
func call(t *testing.T, c *http.Client, method, url string, headers ...string) (int, string, http.Header) {
	t.Helper()
	q, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	a, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(body), a.Header
}

// TestEnvoyObeysTheFiner plays what the story of routes does not have: of each
// noun one case in which an encoding that is slightly wrong shows.
func TestEnvoyObeysTheFiner(t *testing.T) {
	j := newJournal()
	server := xdstest.Serve(t, j)
	n := startEnvoy(t, server, xds.Node{
		ID: "front-1", Service: "front.default",
		Caller:   mesh.Caller{Workload: mesh.Workload{Namespace: "default", Name: "front"}, Labels: mesh.Labels{"app": "front"}},
		Outbound: ports.Reserve(t),
		Inbounds: []xds.Inbound{{Address: ports.Reserve(t), Application: echo(t, "application")}},
	}, xds.BootstrapOptions{})
	mirrored := make(chan string, 10)
	shadow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { mirrored <- r.Host + r.URL.Path }))
	t.Cleanup(shadow.Close)
	s := finer(t)
	s.Services["shadow.default"] = service("shadow.default", shadow.Listener.Addr().String())
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	server.Apply(t, s, n.ID)
	c := through(t, n.Outbound)
	for request, want := range map[string]string{
		"GET http://closed/": "200 closed", "PUT http://closed/": "403 RBAC: access denied", "GET http://closed/secret": "403 RBAC: access denied",
		"GET http://other/":    "403 RBAC: access denied",
		"GET http://a/seg/1?q": "200 a GET a /x/1?q", "GET http://a/re/1?q": "200 a GET a /100%25?q", "GET http://a/Case?q=abc": "200 case",
	} {
		method, url, _ := strings.Cut(request, " ")
		if code, body, _ := call(t, c, method, url); !strings.HasPrefix(fmt.Sprint(code, " ", body), want) {
			t.Errorf("%s = %d %q, want %q", request, code, body, want)
		}
	}
	if code, _, h := call(t, c, "GET", "http://a/from/x?q"); code != 302 || h.Get("Location") != "https://to.test/to/x?q" {
		t.Errorf("redirect: %d %q", code, h.Get("Location"))
	}
	testLimit(t, c)
	testCORS(t, c)
	testAffinity(t, c)
	testFinerRecords(t, c, j)
	if _, body, _ := call(t, c, "GET", "http://a/mirror"); !strings.HasPrefix(body, "a GET") {
		t.Errorf("mirrored request: %q", body)
	}
	select {
	case got := <-mirrored:
		if got != "a-shadow/mirror" {
			t.Errorf("the mirror saw %q", got)
		}
	case <-time.After(patience):
		t.Error("nothing was mirrored")
	}
	testInbound(t, j, n)
	testConnect(t, n.Outbound, echo(t, "outside"))
}

// at matches one path.
func at(path string) []mesh.Match {
	return []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Exact, Value: path}}}
}

// delay is what a delayed request waits.
const delay = 500 * time.Millisecond

// finer is the snapshot of these cases.
func finer(t *testing.T) *mesh.Snapshot {
	closed := service("closed.default", echo(t, "closed"))
	closed.Access = []mesh.Access{
		{Sources: []mesh.Source{{Service: "front"}}, Matches: []mesh.Match{{Method: mesh.StringMatch{Kind: mesh.Exact, Value: "GET"}}}},
		{Deny: true, Matches: at("/secret")},
	}
	other := service("other.default", echo(t, "other"))
	other.Access = []mesh.Access{{Sources: []mesh.Source{{Service: "front", Not: true}}}}
	ring := service("ring.default", "")
	ring.Endpoints = nil
	for i := range 5 {
		ring.Endpoints = append(ring.Endpoints, mesh.Endpoint{Port: 80, Address: netip.MustParseAddrPort(echo(t, fmt.Sprint("replica", i)))})
	}
	ring.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {Balancer: mesh.RingHash, Hash: []mesh.HashKey{{Source: mesh.HashHeader, Name: "x-user"}}}}
	return &mesh.Snapshot{
		Version: 2,
		Services: map[mesh.ServiceName]*mesh.Service{
			"a.default": service("a.default", echo(t, "a")), "b.default": service("b.default", echo(t, "b")),
			"closed.default": closed, "other.default": other, "ring.default": ring,
		},
		Hosts: []mesh.VirtualHost{{Hosts: []string{"a.default"}, Routes: []mesh.Route{
			{
				Matches: append(at("/limited"), at("/also")...), Split: to("a.default"),
				RateLimit: &mesh.RateLimit{Burst: 2, Fill: 1, Per: time.Hour},
			},
			{
				Matches: at("/cors"), Split: to("a.default"),
				CORS: &mesh.CORS{Origins: []mesh.StringMatch{{Kind: mesh.Exact, Value: "https://x.test"}}, Methods: []string{"GET", "PUT"}, MaxAge: time.Minute},
			},
			{Matches: at("/sticky"), Split: to("a.default", "b.default"), Affinity: []mesh.HashKey{{Source: mesh.HashHeader, Name: "x-user"}}},
			{Matches: at("/mirror"), Split: to("a.default"), Mirrors: []mesh.Mirror{{Destination: mesh.Destination{Service: "shadow.default"}, Share: mesh.Everything}}},
			{Matches: at("/guarded"), Split: to("closed.default", "other.default")},
			{Matches: at("/delayed"), Split: to("a.default"), Fault: &mesh.Fault{Delay: &mesh.Delay{Share: mesh.Everything, Time: delay}}},
			{Matches: []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Segments, Value: "/seg"}}}, Split: to("a.default"), Rewrite: &mesh.Rewrite{Path: ptr("/x")}},
			{Matches: []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Regex, Value: "/re/.*"}}}, Split: to("a.default"), Rewrite: &mesh.Rewrite{Path: ptr("/100%25")}},
			{
				Matches:  []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Prefix, Value: "/from/"}}},
				Redirect: &mesh.Redirect{Code: 302, Scheme: "https", Authority: "to.test", Prefix: ptr("/to/")},
			},
			{
				Matches: []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Prefix, Value: "/Case"}, Query: map[string]mesh.StringMatch{"q": {Kind: mesh.Prefix, Value: "a"}}}},
				Direct:  &mesh.DirectAnswer{Status: 200, Body: "case"},
			},
		}}},
	}
}

// testLimit: the matches of a route share its bucket of two.
func testLimit(t *testing.T, c *http.Client) {
	t.Helper()
	codes := ""
	for _, path := range []string{"/limited", "/also", "/limited", "/also"} {
		code, _, _ := call(t, c, "GET", "http://a"+path)
		codes += fmt.Sprint(code, " ")
	}
	if codes != "200 200 429 429 " {
		t.Errorf("two matches of a route with a bucket of 2: %s", codes)
	}
}

func testCORS(t *testing.T, c *http.Client) {
	t.Helper()
	if code, body, h := call(t, c, "OPTIONS", "http://a/cors", "Origin", "https://x.test", "Access-Control-Request-Method", "PUT"); code != 200 || body != "" ||
		h.Get("Access-Control-Allow-Methods") != "GET,PUT" || h.Get("Access-Control-Max-Age") != "60" {
		t.Errorf("preflight: %d %q %v", code, body, h)
	}
	if _, body, h := call(t, c, "GET", "http://a/cors", "Origin", "https://y.test"); h.Get("Access-Control-Allow-Origin") != "" || !strings.HasPrefix(body, "a GET") {
		t.Errorf("another origin: %q %v", body, h)
	}
}

// testAffinity: a user always gets the same share, or endpoint, and not all
// users the same.
func testAffinity(t *testing.T, c *http.Client) {
	t.Helper()
	for _, host := range []string{"a/sticky", "ring"} {
		all := map[string]bool{}
		for user := range 20 {
			first := ""
			for range 3 {
				_, body, _ := call(t, c, "GET", "http://"+host, "X-User", fmt.Sprint("user-", user))
				who, _, _ := strings.Cut(body, " ")
				if all[who] = true; first != "" && first != who {
					t.Errorf("%s: user %d was sent to %s and to %s", host, user, first, who)
				}
				first = who
			}
		}
		if len(all) < 2 {
			t.Errorf("%s: all users were sent to %v", host, all)
		}
	}
}

// testFinerRecords: what Envoy's own entries do not say of requests that
// reached no endpoint, or late.
func testFinerRecords(t *testing.T, c *http.Client, j *journal) {
	t.Helper()
	guarded := map[string]int{}
	for range 40 {
		code, body, _ := call(t, c, "GET", "http://a/guarded")
		who, _, _ := strings.Cut(body, " ")
		guarded[fmt.Sprint(code, " ", who)]++
	}
	if len(guarded) != 2 || guarded["200 closed"] < 8 || guarded["403 RBAC:"] < 8 {
		t.Errorf("a split of which one side is closed: %v", guarded)
	}
	call(t, c, "GET", "http://other/", "X-Request-Id", "denied")
	if r := j.of(t, "denied"); r.Flags != "UAEX" || r.Backend != "other.default" {
		t.Errorf("record of a denied request: %+v", r)
	}
	call(t, c, "GET", "http://a/delayed", "X-Request-Id", "delayed")
	// Envoy counts a delay from the beginning of its event loop's turn, not from
	// the request: on a busy machine it ends some milliseconds early.
	if r := j.of(t, "delayed"); r.Flags != "DI" || r.Duration < delay-delay/10 || r.Backend != "a.default" {
		t.Errorf("record of a delayed request: %+v", r)
	}
}

func ptr(s string) *string { return &s }

func testInbound(t *testing.T, j *journal, n xds.Node) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	_, body, _ := call(t, c, "GET", "http://"+n.Inbounds[0].Address+"/in", "X-Request-Id", "inbound", "X-Forwarded-For", "1.2.3.4", "X-Forwarded-Proto", "https")
	if want := "application GET " + n.Inbounds[0].Address + " /in X-Forwarded-Proto=https X-Forwarded-For=1.2.3.4,"; !strings.HasPrefix(body, want) {
		t.Errorf("inbound = %q, want %q", body, want)
	}
	r := j.of(t, "inbound")
	if r.Reporter != telemetry.DestinationSide || r.Service != "front.default" || r.Destination.Name != "front" || r.Source != (mesh.Workload{}) {
		t.Errorf("record of an inbound request: %+v", r)
	}
}

// testConnect opens connections of bytes through an HTTP proxy.
func testConnect(t *testing.T, proxy, outside string) {
	t.Helper()
	for target, want := range map[string]string{"a:80": "a GET", outside: "outside GET", "a:81": "", "other:80": ""} {
		conn, err := net.Dial("tcp", proxy)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
		r := bufio.NewReader(conn)
		a, err := http.ReadResponse(r, &http.Request{Method: "CONNECT"})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if a.StatusCode == 200 {
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			body, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			got = string(body)
		}
		if (want == "") != (a.StatusCode != 200) || !strings.Contains(got, want) {
			t.Errorf("CONNECT %s = %d %q, want %q", target, a.StatusCode, got, want)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEnvoyIsAGateway(t *testing.T) {
	certificates := meshtest.Snapshot(rand.New(rand.NewPCG(1, 1)), meshtest.Features{TLS: true}).Certificates
	j := newJournal()
	server := xdstest.Serve(t, j)
	n := startEnvoy(t, server, xds.Node{ID: "gateway", Gateways: []xds.GatewayListener{
		{Port: 80, Address: ports.Reserve(t)}, {Port: 443, Address: ports.Reserve(t)}, {Port: 5432, Address: ports.Reserve(t)},
	}}, xds.BootstrapOptions{})
	passed := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "passed ", r.TLS.ServerName) }))
	t.Cleanup(passed.Close)
	s := &mesh.Snapshot{
		Version: 2, Certificates: certificates,
		Services: map[mesh.ServiceName]*mesh.Service{
			"a.default": service("a.default", echo(t, "a")), "passed.default": service("passed.default", passed.Listener.Addr().String()),
			"unseen.default": service("unseen.default", "127.0.0.1:9"),
		},
		Gateways: []mesh.Gateway{
			{Name: "default/plain", Port: 80, VirtualHosts: []mesh.VirtualHost{
				{Hosts: []string{"www.example.org"}, Routes: []mesh.Route{{Split: to("a.default"), Service: "a.default"}}},
				{Hosts: []string{"*.example.org"}, RequireTLS: true, Routes: []mesh.Route{{Split: to("a.default")}}},
			}},
			{
				Name: "default/secure", Port: 443,
				TLS: []mesh.ServerTLS{
					{Hosts: []string{"www.example.org"}, Certificate: "default/www"},
					{Hosts: []string{"*.test"}, Certificate: "default/test", ClientCA: "default/ca"},
				},
				VirtualHosts: []mesh.VirtualHost{{Hosts: []string{"*"}, Routes: []mesh.Route{
					{Matches: []mesh.Match{{Scheme: mesh.StringMatch{Kind: mesh.Exact, Value: "https"}}}, Split: to("a.default")},
				}}},
				Streams: []mesh.Stream{{Matches: []mesh.StreamMatch{{SNI: []string{"raw.test"}}}, Split: to("passed.default")}},
			},
			{Name: "default/bytes", Port: 5432, Streams: []mesh.Stream{{Split: to("a.default")}}},
		},
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	server.Apply(t, s, n.ID)
	plain, secure, raw := n.Gateways[0].Address, n.Gateways[1].Address, n.Gateways[2].Address
	via := func(address string, certificate *tls.Certificate) *http.Client {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(certificates["default/ca"].CA)
		config := &tls.Config{RootCAs: roots}
		if certificate != nil {
			config.Certificates = []tls.Certificate{*certificate}
		}
		transport := &http.Transport{
			TLSClientConfig: config, ForceAttemptHTTP2: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", address)
			},
		}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	for host, want := range map[string]string{
		"www.example.org:8080": "200 a GET www.example.org:8080 / X-Forwarded-Proto=http X-Forwarded-For=",
		"other.net":            "404 ",
		"b.example.org":        "301 https://b.example.org/",
	} {
		code, body, h := call(t, via(plain, nil), "GET", "http://"+host+"/", "X-Forwarded-Proto", "https")
		if got := fmt.Sprint(code, " ", body, h.Get("Location")); !strings.HasPrefix(got, want) {
			t.Errorf("%s = %q, want %q", host, got, want)
		}
	}
	if code, body, _ := call(t, via(secure, nil), "GET", "https://www.example.org/x"); code != 200 || !strings.HasPrefix(body, "a GET www.example.org /x X-Forwarded-Proto=https") {
		t.Errorf("TLS = %d %q", code, body)
	}
	pair, err := tls.X509KeyPair(certificates["default/client"].Chain, certificates["default/client"].Key)
	if err != nil {
		t.Fatal(err)
	}
	if code, body, _ := call(t, via(secure, &pair), "GET", "https://a.test/x"); code != 200 || !strings.HasPrefix(body, "a GET a.test") {
		t.Errorf("with a client certificate = %d %q", code, body)
	}
	for what, c := range map[string]*http.Client{"https://a.test/": via(secure, nil), "https://b.example.org/": via(secure, nil), "http://www.example.org/": via(secure, nil)} {
		if a, err := c.Get(what); err == nil {
			t.Errorf("%s = %d, want to be cut off", what, a.StatusCode)
			a.Body.Close()
		}
	}
	insecure := via(secure, nil)
	insecure.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
	if _, body, _ := call(t, insecure, "GET", "https://raw.test/"); body != "passed raw.test" {
		t.Errorf("passed on = %q", body)
	}
	if _, body, _ := call(t, via(raw, nil), "GET", "http://any/"); !strings.HasPrefix(body, "a GET any / ") && body != "a GET any /" {
		t.Errorf("bytes = %q", body)
	}
}
