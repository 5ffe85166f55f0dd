package xds

import (
	"fmt"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"serin.dev/serin/internal/mesh"
)

// BootstrapOptions are what an Envoy's bootstrap says beside the node and the
// server.
type BootstrapOptions struct {
	Admin string // ip:port of Envoy's administration interface; "" = none
	// StateOfTheWorld asks for all resources of a type at every change. Envoy
	// asks for what changed alone otherwise.
	StateOfTheWorld bool
}

// How an Envoy keeps its stream: a server that is gone without a word is
// noticed after half a minute. With a second between attempts a thousand
// proxies do not overrun a server that starts.
const (
	envoyPing     = 30 * time.Second
	envoyPingWait = 10 * time.Second
)

// joinHeaders has Envoy compare several values of a header as one, joined by
// ",", as mesh.Match says. Since 1.39 it compares each, and a condition that is
// inverted does not hold for a header that is absent, whatever the condition says
// of that.
var joinHeaders = [...]string{
	"envoy.reloadable_features.match_headers_individually",
	"envoy.reloadable_features.rbac_match_headers_individually",
}

// Bootstrap makes what an Envoy is started with, as JSON, which is YAML, too:
// Envoy takes it by --config-path whatever the file's name, and by
// --config-yaml. The node is valid; server is the host:port of the xDS server.
func Bootstrap(n *Node, server string, o BootstrapOptions) ([]byte, error) {
	at, err := socket(server)
	if err != nil {
		return nil, fmt.Errorf("xds server: %w", err)
	}
	options, err := pack(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &corev3.Http2ProtocolOptions{ConnectionKeepalive: &corev3.KeepaliveSettings{
						Interval: durationpb.New(envoyPing), Timeout: durationpb.New(envoyPingWait),
					}},
				},
			},
		},
	})
	if err != nil {
		return nil, err
	}
	ads := &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
	}
	api := corev3.ApiConfigSource_DELTA_GRPC
	if o.StateOfTheWorld {
		api = corev3.ApiConfigSource_GRPC
	}
	out := &bootstrapv3.Bootstrap{
		Node: n.Message(),
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			AdsConfig: &corev3.ApiConfigSource{
				ApiType: api, TransportApiVersion: corev3.ApiVersion_V3, SetNodeOnFirstMessageOnly: true,
				GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
					EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: ServerCluster},
				}}},
			},
			CdsConfig: ads, LdsConfig: ads,
		},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{{
			Name:                          ServerCluster,
			ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS},
			DnsLookupFamily:               clusterv3.Cluster_V4_PREFERRED,
			ConnectTimeout:                durationpb.New(time.Second),
			TypedExtensionProtocolOptions: map[string]*anypb.Any{httpOptions: options},
			LoadAssignment: oneEndpoint(ServerCluster, &endpointv3.LbEndpoint{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: at}},
			}),
			UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{
				TcpKeepalive: &corev3.TcpKeepalive{KeepaliveTime: wrapperspb.UInt32(30)},
			},
		}}},
	}
	// Envoy's own limit is 100, which any list of a few names exceeds.
	runtime := fields{"re2.max_program_size.error_level": structpb.NewNumberValue(mesh.MaxRegexSize)}
	for _, feature := range joinHeaders {
		runtime[feature] = structpb.NewBoolValue(false)
	}
	out.LayeredRuntime = &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name:           statPrefix,
		LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: runtime}},
	}}}
	if o.Admin != "" {
		admin, err := socket(o.Admin)
		if err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
		out.Admin = &bootstrapv3.Admin{Address: admin}
	}
	return protojson.MarshalOptions{Multiline: true, UseProtoNames: true}.Marshal(out)
}
