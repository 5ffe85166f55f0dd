package xds

import (
	"testing"
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
)

var recordNode = Node{ID: "front-1", Caller: mesh.Caller{Workload: mesh.Workload{Namespace: "default", Name: "front", Pod: "front-1"}}}

func notRouted(string) mesh.SnapshotVersion { return 0 }

func TestRecordsArriveAsTheyWere(t *testing.T) {
	request := telemetry.Request{
		ID: "id", Start: time.Unix(1_700_000_000, 5).UTC(), Duration: 3 * time.Millisecond, Protocol: "HTTP/2",
		Reporter: telemetry.SourceSide, Source: recordNode.Caller.Workload, Service: "music.default",
		Destination: mesh.Workload{Namespace: "default", Name: "music-canary", Version: "v2", Revision: "abc", Pod: "p"},
		Backend:     "music-canary.default", Split: true, Upstream: "127.0.0.1:9080", Attempts: 2, Snapshot: 1<<63 + 1,
		Route:  mesh.Origin{Kind: "VirtualService", Namespace: "default", Name: "music"},
		Method: "GET", Host: "music:80", Path: "/a", Code: 503, GRPC: "14", Flags: "UF,URX", Sent: 7, Read: 9, Probe: true,
	}
	odd := request
	odd.Method, odd.Protocol, odd.Code, odd.Flags, odd.GRPC, odd.Probe = "PURGE", "HTTP/1.0", 0, "DC", "", false
	outside := telemetry.Request{
		ID: "o", Start: request.Start, Protocol: "HTTP/1.1", Reporter: telemetry.GatewaySide, Method: "POST", Host: "h", Path: "/", Code: 404, Flags: "NR", Snapshot: 3,
	}
	for _, want := range []telemetry.Request{request, odd, outside} {
		entry := through(t, EncodeRequest(&want), &datav3.HTTPAccessLogEntry{})
		if diff := cmp.Diff(want, DecodeRequest(&recordNode, entry, notRouted)); diff != "" {
			t.Errorf("request (-sent +arrived):\n%s", diff)
		}
	}
	stream := request
	stream.ID, stream.Protocol, stream.Method, stream.Path, stream.Code, stream.GRPC, stream.Probe = "", telemetry.TCP, "", "", 0, "", false
	entry := through(t, EncodeConnection(&stream), &datav3.TCPAccessLogEntry{})
	if diff := cmp.Diff(stream, DecodeConnection(&recordNode, entry, notRouted)); diff != "" {
		t.Errorf("connection (-sent +arrived):\n%s", diff)
	}
}

// through sends a message over the wire.
func through[M proto.Message](t *testing.T, in, out M) M {
	t.Helper()
	b, err := proto.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRecordsOfAnyBytesCanBeSent(t *testing.T) {
	r := telemetry.Request{Method: "\xff", Host: "\xfe", Path: "/\xc3\x28", ID: "\x80", GRPC: "\x80"}
	got := DecodeRequest(&recordNode, through(t, EncodeRequest(&r), &datav3.HTTPAccessLogEntry{}), notRouted)
	if got.Path != "/\ufffd(" || got.Host != "\ufffd" {
		t.Errorf("got %+v", got)
	}
}

func TestNodesArriveAsTheyAre(t *testing.T) {
	for _, n := range append(nodes(Envoy), Node{
		ID: "x", Kind: Serin, Service: "front.default", Outbound: "127.0.0.1:0", SystemCA: "/ca.pem",
		Caller:    mesh.Caller{Workload: mesh.Workload{Namespace: "a", Name: "b", Version: "c", Revision: "d", Pod: "e"}, Labels: mesh.Labels{"k": "v"}},
		Inbounds:  []Inbound{{"127.0.0.1:1", "127.0.0.1:2"}},
		Upstreams: []Upstream{{"127.0.0.1:3", "db", 5432}},
	}) {
		got, err := NodeOf(n.Message())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(n, got); diff != "" {
			t.Errorf("node %s (-sent +arrived):\n%s", n.ID, diff)
		}
	}
}

func TestNodesThatCannotBeServedAreRefused(t *testing.T) {
	for want, n := range map[string]Node{
		"node: has no id": {Outbound: "127.0.0.1:1"},
		"node x: has no listener; give it a gateway, outbound, inbound or upstream address": {ID: "x"},
		"node x: is both gateway and sidecar; run one proxy for each":                       {ID: "x", Outbound: "127.0.0.1:1", Gateways: []GatewayListener{{80, "127.0.0.1:2"}}},
		`node x: outbound address "localhost:1" is not ip:port`:                             {ID: "x", Outbound: "localhost:1"},
		`node x: outbound address "127.0.0.1:0" is not ip:port`:                             {ID: "x", Outbound: "127.0.0.1:0"},
		"node x: gateway port 80 is 0 or given twice":                                       {ID: "x", Gateways: []GatewayListener{{80, "127.0.0.1:1"}, {80, "127.0.0.1:2"}}},
		"node x: address 127.0.0.1:1 is given twice":                                        {ID: "x", Outbound: "127.0.0.1:1", Upstreams: []Upstream{{"127.0.0.1:1", "a", 1}}},
		"node x: upstream 127.0.0.1:1: service and port are required":                       {ID: "x", Upstreams: []Upstream{{Address: "127.0.0.1:1"}}},
		`node x: application "app" is not ip:port`:                                          {ID: "x", Inbounds: []Inbound{{"127.0.0.1:1", "app"}}},
	} {
		if _, err := NodeOf(n.Message()); err == nil || err.Error() != want {
			t.Errorf("NodeOf = %v, want %s", err, want)
		}
	}
}
