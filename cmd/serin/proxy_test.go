package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/internal/xds"
	"serin.dev/serin/internal/xds/xdstest"
)

func TestProxyFlagsMakeANode(t *testing.T) {
	for _, tt := range []struct {
		flags string
		node  xds.Node
		err   string
	}{
		{
			flags: "--gateway 80=127.0.0.1:8080 --gateway 443=0.0.0.0:8443 --place eu/west --id edge",
			node: xds.Node{ID: "edge", Place: mesh.Place{Region: "eu", Zone: "west"}, Gateways: []xds.GatewayListener{
				{Port: 80, Address: "127.0.0.1:8080"}, {Port: 443, Address: "0.0.0.0:8443"},
			}},
		},
		{
			flags: "--outbound 127.0.0.1:15001 --workload front --namespace shop --label app=front --label version=v1 --inbound 9080=9081 --upstream 9091=currency:9091 --id f",
			node: xds.Node{
				ID: "f", Service: "front.shop", Outbound: "127.0.0.1:15001",
				Inbounds:  []xds.Inbound{{Address: "127.0.0.1:9080", Application: "127.0.0.1:9081"}},
				Upstreams: []xds.Upstream{{Address: "127.0.0.1:9091", Service: "currency", Port: 9091}},
				Caller: mesh.Caller{
					Workload: mesh.Workload{Namespace: "shop", Name: "front", Version: "v1", Pod: "f"},
					Labels:   mesh.Labels{"app": "front", "version": "v1"},
				},
			},
		},
		{flags: "", err: "nothing to do: give --gateway, --outbound, --upstream or --inbound"},
		{flags: "--outbound 127.0.0.1:1", err: "--workload is required: whose calls are these?"},
		{flags: "--gateway 80", err: `--gateway "80": want PORT=IP:PORT`},
		{flags: "--upstream 80=a --workload w", err: `--upstream "80=a": want [IP:]PORT=SERVICE:PORT`},
		{flags: "--inbound 80 --workload w", err: `--inbound "80": want [IP:]PORT=[IP:]PORT`},
		{flags: "--gateway 80=127.0.0.1:1 --outbound 127.0.0.1:2 --workload w --id x", err: "node x: is both gateway and sidecar; run one proxy for each"},
		{flags: "--gateway 80=127.0.0.1:1 --xds here", err: `--xds "here": want HOST:PORT`},
		{flags: "--gateway 80=127.0.0.1:1 --place a/b/c/d", err: `--place "a/b/c/d": want region/zone/subzone`},
	} {
		var f nodeFlags
		flags := pflag.NewFlagSet("proxy", pflag.ContinueOnError)
		f.add(flags)
		if err := flags.Parse(strings.Fields(tt.flags)); err != nil {
			t.Fatalf("%s: %v", tt.flags, err)
		}
		got, err := f.node(xds.Envoy)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%q: %v, want %s", tt.flags, err, tt.err)
			}
			continue
		}
		if diff := cmp.Diff(tt.node, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", tt.flags, err, diff)
		}
	}
}

// lines is a writer of which a test waits for a line.
type lines struct {
	mu      sync.Mutex
	b       bytes.Buffer
	written chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() {
		select {
		case l.written <- struct{}{}:
		default:
		}
	}()
	return l.b.Write(p)
}

func (l *lines) await(pattern string) []string {
	re := regexp.MustCompile(pattern)
	for {
		l.mu.Lock()
		m := re.FindStringSubmatch(l.b.String())
		l.mu.Unlock()
		if m != nil {
			return m
		}
		<-l.written
	}
}

type records chan telemetry.Request

func (r records) Record(q *telemetry.Request) { r <- *q.Clone() }

func TestProxyIsFedByAServer(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello ", r.Host) }))
	defer backend.Close()
	got := make(records, 10)
	server := xdstest.Serve(t, got)
	server.Set(&mesh.Snapshot{Version: 4, Services: map[mesh.ServiceName]*mesh.Service{"music.default": {
		Name: "music.default", Ports: []mesh.Port{{Number: 80}},
		Endpoints: []mesh.Endpoint{{Port: 80, Address: netip.MustParseAddrPort(backend.Listener.Addr().String())}},
	}}})
	out := &lines{written: make(chan struct{}, 1)}
	cmd := newProxyCmd(&options{IOStreams: genericiooptions.IOStreams{Out: out, ErrOut: out}})
	cmd.SetArgs(strings.Fields("--outbound 127.0.0.1:0 --workload front --id front-1 --xds " + server.Address))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	ready := out.await(`Proxy front-1 is ready \(outbound (.*)\), routed by (.*)\.\n`)
	if ready[2] != server.Address {
		t.Errorf("routed by %s, want %s", ready[2], server.Address)
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: ready[1]})}}
	answer, err := client.Get("http://music/x")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil || string(body) != "hello music" {
		t.Errorf("answer %q, %v", body, err)
	}
	answer.Body.Close()
	client.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("proxy ended with %v", err)
	}
	out.await("Stopping: requests under way are answered.\n")
	r := <-got
	if r.Service != "music.default" || r.Source.Name != "front" || r.Code != 200 || r.Snapshot != 4 {
		t.Errorf("record %+v", r)
	}
}
