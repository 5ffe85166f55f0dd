package ads_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/internal/xds"
	"serin.dev/serin/internal/xds/ads"
	"serin.dev/serin/internal/xds/xdstest"
	"serin.dev/serin/test/ports"
)

// patience is how long a test waits for what must come; it takes milliseconds.
const patience = time.Minute

// planes are all that a server feeds. Each starts a proxy for the node, which
// may listen elsewhere in the end, and returns the node as it is.
var planes = map[string]func(*testing.T, *xdstest.Server, xds.Node) xds.Node{
	"envoy": func(t *testing.T, s *xdstest.Server, n xds.Node) xds.Node {
		return startEnvoy(t, s, n, xds.BootstrapOptions{})
	},
	"envoy by the state of the world": func(t *testing.T, s *xdstest.Server, n xds.Node) xds.Node {
		return startEnvoy(t, s, n, xds.BootstrapOptions{StateOfTheWorld: true})
	},
	"serin": startSerin,
}

func startEnvoy(t *testing.T, s *xdstest.Server, n xds.Node, o xds.BootstrapOptions) xds.Node {
	e := xdstest.Start(t, n, s.Address, o)
	s.Apply(t, &mesh.Snapshot{Version: 1}, n.ID)
	e.AwaitListeners(t, n)
	return n
}

func startSerin(t *testing.T, s *xdstest.Server, n xds.Node) xds.Node {
	n.Kind = xds.Serin
	records := ads.NewLog()
	p := proxy.New(proxy.Config{Recorder: records, Place: n.Place})
	listen := func(l *proxy.Listener, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return l.Addr().String()
	}
	if n.Outbound != "" {
		n.Outbound = listen(p.ListenOutbound("127.0.0.1:0", n.Caller))
	}
	for i, g := range n.Gateways {
		n.Gateways[i].Address = listen(p.ListenGateway("127.0.0.1:0", g.Port))
	}
	for i, u := range n.Upstreams {
		n.Upstreams[i].Address = listen(p.ListenUpstream("127.0.0.1:0", n.Caller, mesh.ServiceName(u.Service), u.Port))
	}
	conn, err := ads.Dial(s.Address)
	if err != nil {
		t.Fatal(err)
	}
	client := &ads.Client{Server: s.Address, Node: n, Apply: p.Apply}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() { records.Run(ctx, conn) })
	wait.Go(func() {
		if err := client.Run(ctx, conn); err != nil {
			t.Errorf("client: %v", err)
		}
	})
	t.Cleanup(func() {
		if err := p.Shutdown(context.Background()); err != nil {
			t.Errorf("proxy: %v", err)
		}
		cancel()
		wait.Wait()
		if err := conn.Close(); err != nil {
			t.Errorf("connection: %v", err)
		}
	})
	s.Apply(t, &mesh.Snapshot{Version: 1}, n.ID)
	return n
}

// journal keeps records by the ids of their requests.
type journal struct {
	mu      sync.Mutex
	byID    map[string]telemetry.Request
	streams []telemetry.Request
	changed chan struct{}
}

func newJournal() *journal {
	return &journal{byID: map[string]telemetry.Request{}, changed: make(chan struct{}, 1)}
}

func (j *journal) Record(r *telemetry.Request) {
	j.mu.Lock()
	if r.Protocol == telemetry.TCP {
		j.streams = append(j.streams, *r.Clone())
	} else {
		j.byID[r.ID] = *r.Clone()
	}
	j.mu.Unlock()
	select {
	case j.changed <- struct{}{}:
	default:
	}
}

// await waits until the journal has what is looked for.
func (j *journal) await(t *testing.T, what string, find func() (telemetry.Request, bool)) telemetry.Request {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		j.mu.Lock()
		r, ok := find()
		j.mu.Unlock()
		if ok {
			return r
		}
		select {
		case <-j.changed:
		case <-late.C:
			t.Fatalf("no record of %s arrived", what)
		}
	}
}

func (j *journal) of(t *testing.T, id string) telemetry.Request {
	t.Helper()
	return j.await(t, id, func() (telemetry.Request, bool) { r, ok := j.byID[id]; return r, ok })
}

// echo is an endpoint that says who it is and what it was asked.
func echo(t *testing.T, name string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Old", "1")
		fmt.Fprintf(w, "%s %s %s %s", name, r.Method, r.Host, r.RequestURI)
		for _, h := range []string{"X-Set", "X-Add", "X-Forwarded-Proto", "X-Forwarded-For"} {
			if v := r.Header.Values(h); v != nil {
				fmt.Fprintf(w, " %s=%s", h, strings.Join(v, "|"))
			}
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

var origin = mesh.Origin{Kind: "VirtualService", Namespace: "default", Name: "music"}

// shop is a snapshot of a service with two versions and its routes.
func shop(t *testing.T) *mesh.Snapshot {
	endpoint := func(version string) mesh.Endpoint {
		return mesh.Endpoint{
			Port: 80, Dial: echo(t, version), Address: netip.MustParseAddrPort("127.9.9.9:80"), Labels: mesh.Labels{"version": version},
			Workload: mesh.Workload{Namespace: "default", Name: "music", Version: version, Pod: "music-" + version},
		}
	}
	path := "/inner/"
	return &mesh.Snapshot{
		Version: 2,
		Services: map[mesh.ServiceName]*mesh.Service{
			"music.default": {
				Name: "music.default", Ports: []mesh.Port{{Number: 80}},
				Subsets:   map[string]mesh.Labels{"v1": {"version": "v1"}, "v2": {"version": "v2"}},
				Endpoints: []mesh.Endpoint{endpoint("v1"), endpoint("v2")},
			},
			"empty.default": {Name: "empty.default", Ports: []mesh.Port{{Number: 80}}},
			"plain.default": {
				Name: "plain.default", Ports: []mesh.Port{{Number: 8080}},
				Endpoints: []mesh.Endpoint{{Port: 8080, Dial: echo(t, "plain"), Address: netip.MustParseAddrPort("127.9.9.8:80")}},
			},
			"bytes.default": {
				Name: "bytes.default", Ports: []mesh.Port{{Number: 5432, Protocol: mesh.TCP}},
				Endpoints: []mesh.Endpoint{{
					Port: 5432, Dial: echo(t, "bytes"), Address: netip.MustParseAddrPort("127.9.9.7:80"),
					Workload: mesh.Workload{Namespace: "default", Name: "bytes"},
				}},
			},
		},
		Hosts: []mesh.VirtualHost{
			{Hosts: []string{"music.default"}, Routes: []mesh.Route{
				{
					Name: "jason", Origin: origin,
					Matches: []mesh.Match{{Headers: map[string]mesh.StringMatch{"end-user": {Kind: mesh.Exact, Value: "jason"}}}},
					Split:   []mesh.Destination{{Service: "music.default", Subset: "v2", Weight: 1}},
				},
				{
					Origin: origin, Matches: []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Prefix, Value: "/old/"}}},
					Rewrite: &mesh.Rewrite{Path: &path, Authority: "inner.test"},
					Headers: &mesh.HeaderEdits{
						Request: mesh.HeaderEdit{Set: []mesh.Header{{Name: "x-set", Value: "100%"}}, Add: []mesh.Header{{Name: "x-add", Value: "b"}}},
						Answer:  mesh.HeaderEdit{Remove: []string{"x-old"}, Set: []mesh.Header{{Name: "x-new", Value: "1"}}},
					},
					Split: []mesh.Destination{
						{Service: "music.default", Subset: "v1", Weight: 1, Headers: &mesh.HeaderEdits{
							Request: mesh.HeaderEdit{Set: []mesh.Header{{Name: "x-set", Value: "share"}}},
						}},
						{Service: "empty.default", Weight: 0},
					},
				},
				{
					Origin: origin, Matches: []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Exact, Value: "/moved"}}},
					Redirect: &mesh.Redirect{Code: 308, Path: "/new"},
				},
				{
					Origin: origin, Matches: []mesh.Match{{Headers: map[string]mesh.StringMatch{"x-tea": {Kind: mesh.Exact, Value: "no", Invert: true}}, URI: mesh.StringMatch{Kind: mesh.Segments, Value: "/tea"}}},
					Direct: &mesh.DirectAnswer{Status: 418, Body: "teapot"},
				},
				{
					Origin: origin, Matches: []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Suffix, Value: ".js"}}},
					Split: []mesh.Destination{{Service: "empty.default", Weight: 1}},
				},
				{
					Origin: origin, Matches: []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Exact, Value: "/ghost"}}},
					Split: []mesh.Destination{{Service: "ghost.default", Weight: 1}},
				},
				{
					Origin: origin, Matches: []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Exact, Value: "/fault"}}},
					Fault: &mesh.Fault{Abort: &mesh.Abort{Share: mesh.Everything, Status: 503}},
					Split: []mesh.Destination{{Service: "music.default", Subset: "v1", Weight: 1}},
				},
				{
					Origin: origin, Matches: []mesh.Match{{Method: mesh.StringMatch{Kind: mesh.Exact, Value: "GET"}}},
					Split: []mesh.Destination{{Service: "music.default", Subset: "v1", Weight: 1}},
				},
			}},
			{Hosts: []string{"*.wild.test"}, Routes: []mesh.Route{{
				Origin: origin, Service: "plain.default", Matches: []mesh.Match{{Port: 81}},
				Split: []mesh.Destination{{Service: "plain.default", Weight: 1}},
			}}},
		},
	}
}

func TestProxiesRouteByTheirSnapshot(t *testing.T) {
	for name, start := range planes {
		t.Run(name, func(t *testing.T) {
			j := newJournal()
			server := xdstest.Serve(t, j)
			caller := mesh.Caller{Workload: mesh.Workload{Namespace: "default", Name: "front", Pod: "front-1"}}
			n := start(t, server, xds.Node{
				ID: "front-1", Caller: caller, Outbound: ports.Reserve(t),
				Upstreams: []xds.Upstream{{Address: ports.Reserve(t), Service: "bytes.default", Port: 5432}},
			})
			s := shop(t)
			server.Apply(t, s, n.ID)
			outside := echo(t, "outside")
			proxyURL := &url.URL{Scheme: "http", Host: n.Outbound}
			client := &http.Client{
				Transport:     &http.Transport{Proxy: http.ProxyURL(proxyURL)},
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			}
			t.Cleanup(client.CloseIdleConnections)
			for i, tt := range []struct {
				method, url string
				header      http.Header
				code        int
				body        string // prefix
				record      telemetry.Request
			}{
				{url: "http://music/x?a=1", code: 200, body: "v1 GET music /x?a=1 X-Forwarded-Proto=http",
					record: telemetry.Request{Service: "music.default", Backend: "music.default", Destination: mesh.Workload{Namespace: "default", Name: "music", Version: "v1", Pod: "music-v1"}, Route: origin, Path: "/x"}},
				{url: "http://music.default.svc.cluster.local:80/x", header: http.Header{"End-User": {"jason"}}, code: 200, body: "v2 GET music.default.svc.cluster.local:80 /x",
					record: telemetry.Request{Service: "music.default", Backend: "music.default", Destination: mesh.Workload{Namespace: "default", Name: "music", Version: "v2", Pod: "music-v2"}, Route: origin, Path: "/x"}},
				{url: "http://music.default/old/a?b", code: 200, body: "v1 GET inner.test /inner/a?b X-Set=share X-Add=b",
					record: telemetry.Request{Service: "music.default", Backend: "music.default", Destination: mesh.Workload{Namespace: "default", Name: "music", Version: "v1", Pod: "music-v1"}, Route: origin, Path: "/old/a", Split: true}},
				{url: "http://music/moved?q", code: 308, record: telemetry.Request{Service: "music.default", Route: origin, Path: "/moved"}},
				{url: "http://music/tea/cup", code: 418, body: "teapot", record: telemetry.Request{Service: "music.default", Route: origin, Path: "/tea/cup"}},
				{url: "http://music/a.js?x", code: 503, record: telemetry.Request{Service: "music.default", Backend: "empty.default", Route: origin, Path: "/a.js", Flags: "UH"}},
				{url: "http://music/ghost", code: 503, record: telemetry.Request{Service: "music.default", Backend: "ghost.default", Route: origin, Path: "/ghost", Flags: "NC"}},
				{url: "http://music/fault", code: 503, record: telemetry.Request{Service: "music.default", Route: origin, Path: "/fault", Flags: "FI"}},
				{method: "PUT", url: "http://music/x", code: 404, record: telemetry.Request{Service: "music.default", Path: "/x", Flags: "NR"}},
				{url: "http://music:81/x", code: 404, record: telemetry.Request{Service: "music.default", Path: "/x", Flags: "NR"}},
				{url: "http://plain:8080/", code: 200, body: "plain GET plain:8080 /", record: telemetry.Request{Service: "plain.default", Backend: "plain.default", Path: "/"}},
				{url: "http://plain/", code: 404, record: telemetry.Request{Service: "plain.default", Path: "/", Flags: "NR"}},
				{url: "http://a.wild.test:81/", code: 200, body: "plain GET a.wild.test:81 /", record: telemetry.Request{Service: "plain.default", Backend: "plain.default", Route: origin, Path: "/"}},
				{url: "http://a.wild.test/", code: 404, record: telemetry.Request{Path: "/", Flags: "NR"}},
				{url: "http://" + outside + "/o", code: 200, body: "outside GET " + outside + " /o", record: telemetry.Request{Path: "/o"}},
			} {
				id := fmt.Sprintf("%s-%d", n.ID, i)
				q, err := http.NewRequest(tt.method, tt.url, nil)
				if err != nil {
					t.Fatal(err)
				}
				if tt.header != nil {
					q.Header = tt.header
				}
				q.Header.Set("X-Request-Id", id)
				answer, err := client.Do(q)
				if err != nil {
					t.Fatalf("%s: %v", tt.url, err)
				}
				body, err := io.ReadAll(answer.Body)
				if err != nil {
					t.Fatalf("%s: %v", tt.url, err)
				}
				answer.Body.Close()
				if answer.StatusCode != tt.code || !strings.HasPrefix(string(body), tt.body) {
					t.Errorf("%s %s = %d %q, want %d %q", tt.method, tt.url, answer.StatusCode, body, tt.code, tt.body)
				}
				got := j.of(t, id)
				want := tt.record
				want.ID, want.Code, want.Source, want.Snapshot = id, tt.code, caller.Workload, s.Version
				want.Host, want.Method, want.Protocol = q.URL.Host, "GET", "HTTP/1.1"
				if tt.method != "" {
					want.Method = tt.method
				}
				ignore := cmpopts.IgnoreFields(telemetry.Request{}, "Start", "Duration", "Upstream", "Attempts", "Sent", "Read")
				if diff := cmp.Diff(want, got, ignore); diff != "" {
					t.Errorf("%s: the record differs (-want +got):\n%s", tt.url, diff)
				}
			}
			testStream(t, j, n.Upstreams[0].Address)
		})
	}
}

// testStream sends bytes through the listener of a port that is not HTTP.
func testStream(t *testing.T, j *journal, address string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")
	got, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(got), "bytes GET any /") {
		t.Errorf("bytes = %q, %v", got, err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	r := j.await(t, "the connection", func() (telemetry.Request, bool) {
		if len(j.streams) == 0 {
			return telemetry.Request{}, false
		}
		return j.streams[0], true
	})
	if r.Service != "bytes.default" || r.Read == 0 || r.Sent == 0 || r.Source.Name != "front" {
		t.Errorf("record of the connection: %+v", r)
	}
}
