package xds

import (
	"encoding/json"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
)

// The tags of an entry of Envoy's access log that say what Envoy itself does
// not know.
const (
	tagReporter = "reporter"
	tagRoute    = "route"    // JSON of metadataRecord
	tagBackend  = "backend"  // the service of the endpoint
	tagPicked   = "picked"   // the service of the share, also without an endpoint
	tagWorkload = "workload" // JSON of the endpoint's workload
	tagHost     = "host"     // as the caller sent it
	tagPath     = "path"
)

// Where rememberRequest keeps the request.
const (
	metadataHost   = "host"
	metadataPath   = "path"
	metadataPicked = "picked"
)

// logInterval is how long an Envoy collects entries before it sends them: the
// judge of a release learns of a failure that much later at most.
const logInterval = 100 * time.Millisecond

// requestLog sends a record of each request to the server.
func requestLog(by telemetry.Reporter) ([]*accesslogv3.AccessLog, error) {
	kind := func(of *metadatav3.MetadataKind, tag string, path string) *tracingv3.CustomTag {
		return &tracingv3.CustomTag{Tag: tag, Type: &tracingv3.CustomTag_Metadata_{Metadata: &tracingv3.CustomTag_Metadata{
			Kind: of,
			MetadataKey: &metadatav3.MetadataKey{Key: metadataKey, Path: []*metadatav3.MetadataKey_PathSegment{{
				Segment: &metadatav3.MetadataKey_PathSegment_Key{Key: path},
			}}},
		}}}
	}
	route := &metadatav3.MetadataKind{Kind: &metadatav3.MetadataKind_Route_{Route: &metadatav3.MetadataKind_Route{}}}
	cluster := &metadatav3.MetadataKind{Kind: &metadatav3.MetadataKind_Cluster_{Cluster: &metadatav3.MetadataKind_Cluster{}}}
	host := &metadatav3.MetadataKind{Kind: &metadatav3.MetadataKind_Host_{Host: &metadatav3.MetadataKind_Host{}}}
	request := &metadatav3.MetadataKind{Kind: &metadatav3.MetadataKind_Request_{Request: &metadatav3.MetadataKind_Request{}}}
	config := &alsv3.HttpGrpcAccessLogConfig{
		CommonConfig: logConfig("http", by,
			kind(route, tagRoute, metadataRecord), kind(cluster, tagBackend, "service"), kind(host, tagWorkload, "workload"),
			kind(request, tagHost, metadataHost), kind(request, tagPath, metadataPath),
			kind(request, tagPicked, metadataPicked)),
		AdditionalResponseHeadersToLog:  []string{"grpc-status"},
		AdditionalResponseTrailersToLog: []string{"grpc-status"},
	}
	return packLog("envoy.access_loggers.http_grpc", config)
}

// streamLog sends a record of each connection to the server.
func streamLog(by telemetry.Reporter, to *mesh.Stream) ([]*accesslogv3.AccessLog, error) {
	record, err := json.Marshal((&structpb.Struct{Fields: streamRecord(to)}).AsMap()) // keys in order
	if err != nil {
		return nil, err
	}
	config := &alsv3.TcpGrpcAccessLogConfig{CommonConfig: logConfig("tcp", by, literal(tagRoute, string(record)))}
	return packLog("envoy.access_loggers.tcp_grpc", config)
}

func literal(tag, value string) *tracingv3.CustomTag {
	return &tracingv3.CustomTag{Tag: tag, Type: &tracingv3.CustomTag_Literal_{Literal: &tracingv3.CustomTag_Literal{Value: value}}}
}

func logConfig(name string, by telemetry.Reporter, tags ...*tracingv3.CustomTag) *alsv3.CommonGrpcAccessLogConfig {
	return &alsv3.CommonGrpcAccessLogConfig{
		LogName:             name,
		TransportApiVersion: corev3.ApiVersion_V3,
		GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: ServerCluster},
		}},
		BufferFlushInterval: durationpb.New(logInterval),
		CustomTags:          append(tags, literal(tagReporter, reporterNames[by])),
	}
}

// reporterNames by telemetry.Reporter.
var reporterNames = [...]string{
	telemetry.SourceSide: "source", telemetry.DestinationSide: "destination", telemetry.GatewaySide: "gateway",
}

func packLog(name string, m proto.Message) ([]*accesslogv3.AccessLog, error) {
	packed, err := pack(m)
	if err != nil {
		return nil, err
	}
	return []*accesslogv3.AccessLog{{Name: name, ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: packed}}}, nil
}
