package xds

import (
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
)

var recordNode = Node{ID: "front-1", Caller: mesh.Caller{Workload: mesh.Workload{Namespace: "default", Name: "front", Pod: "front-1"}}}

func notRouted(string) mesh.SnapshotVersion { return 0 }

func TestEntriesOfAnEnvoyAreRead(t *testing.T) {
	common := func() *datav3.AccessLogCommon {
		return &datav3.AccessLogCommon{
			StartTime: timestamppb.New(time.Unix(1_700_000_000, 5)), Duration: durationpb.New(3 * time.Millisecond),
			UpstreamRequestAttemptCount: 2, ResponseFlags: &datav3.ResponseFlags{UpstreamConnectionFailure: true, UpstreamRetryLimitExceeded: true},
			UpstreamRemoteAddress: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 9080},
			}}},
			CustomTags: map[string]string{
				tagReporter: "source", tagBackend: "music-canary.default", tagHost: "music:80", tagPath: "/a?b",
				tagRoute:    `{"service":"music.default","origin":{"Kind":"VirtualService","Namespace":"default","Name":"music"},"split":true,"routing":"hash"}`,
				tagWorkload: `{"Namespace":"default","Name":"music-canary","Version":"v2","Revision":"abc","Pod":"p"}`,
			},
		}
	}
	request := &datav3.HTTPAccessLogEntry{
		CommonProperties: common(), ProtocolVersion: datav3.HTTPAccessLogEntry_HTTP2,
		Request: &datav3.HTTPRequestProperties{
			RequestMethod: corev3.RequestMethod_GET, Authority: "rewritten", Path: "/rewritten", RequestId: "id", RequestBodyBytes: 9, UserAgent: "kube-probe/1.3",
		},
		Response: &datav3.HTTPResponseProperties{
			ResponseCode: wrapperspb.UInt32(503), ResponseBodyBytes: 7, ResponseTrailers: map[string]string{grpcStatus: "14"},
		},
	}
	connection := &datav3.TCPAccessLogEntry{
		CommonProperties: common(), ConnectionProperties: &datav3.ConnectionProperties{ReceivedBytes: 9, SentBytes: 7},
	}
	stream := telemetry.Request{
		Start: time.Unix(1_700_000_000, 5).UTC(), Duration: 3 * time.Millisecond, Protocol: telemetry.TCP,
		Reporter: telemetry.SourceSide, Source: recordNode.Caller.Workload, Service: "music.default",
		Destination: mesh.Workload{Namespace: "default", Name: "music-canary", Version: "v2", Revision: "abc", Pod: "p"},
		Backend:     "music-canary.default", Split: true, Upstream: "127.0.0.1:9080", Attempts: 2, Snapshot: 7,
		Route: mesh.Origin{Kind: "VirtualService", Namespace: "default", Name: "music"}, Flags: "UF,URX", Sent: 7, Read: 9,
	}
	want := stream
	want.ID, want.Protocol, want.Method, want.Host, want.Path, want.Code, want.GRPC, want.Probe = "id", "HTTP/2", "GET", "music:80", "/a", 503, "14", true
	routed := func(hash string) mesh.SnapshotVersion {
		if hash != "hash" {
			t.Errorf("asked for the snapshot of %q", hash)
		}
		return 7
	}
	if diff := cmp.Diff(want, DecodeRequest(&recordNode, request, routed)); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(stream, DecodeConnection(&recordNode, connection, routed)); diff != "" {
		t.Errorf("connection (-want +got):\n%s", diff)
	}
	empty := telemetry.Request{Start: time.Unix(0, 0).UTC(), Source: recordNode.Caller.Workload}
	if diff := cmp.Diff(empty, DecodeRequest(&recordNode, &datav3.HTTPAccessLogEntry{}, routed)); diff != "" {
		t.Errorf("entry that says nothing (-want +got):\n%s", diff)
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
