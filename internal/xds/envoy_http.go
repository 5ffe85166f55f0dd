package xds

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	dfpfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	remember "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	uuidv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
)

// What our own proxy allows its callers.
const (
	headTime   = 10 * time.Second
	callerIdle = 5 * time.Minute
	headBytes  = 60  // KiB
	headFields = 100 // of one head
	streams    = 100 // of one HTTP/2 connection
)

// manager is the part of a listener that carries requests.
type manager struct {
	reporter telemetry.Reporter
	routes   string                      // name of the route configuration, or
	inline   *routev3.RouteConfiguration // itself
	https    bool                        // callers speak TLS
	outside  bool                        // some requests leave the mesh
}

// encode makes Envoy's connection manager. Everything that Envoy does to a
// request or an answer by itself is off, except what our own proxy does, too.
func (m *manager) encode() (*managerv3.HttpConnectionManager, error) {
	out := &managerv3.HttpConnectionManager{
		StatPrefix:                statPrefix,
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(callerIdle), MaxHeadersCount: wrapperspb.UInt32(headFields)},
		HttpProtocolOptions:       &corev3.Http1ProtocolOptions{AcceptHttp_10: true, EnableTrailers: true},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			AllowConnect: true, MaxConcurrentStreams: wrapperspb.UInt32(streams),
		},
		ServerHeaderTransformation: managerv3.HttpConnectionManager_PASS_THROUGH,
		MaxRequestHeadersKb:        wrapperspb.UInt32(headBytes),
		RequestHeadersTimeout:      durationpb.New(headTime),
		StreamIdleTimeout:          durationpb.New(mesh.DefaultStreamIdle),
		NormalizePath:              wrapperspb.Bool(false),
		GenerateRequestId:          wrapperspb.Bool(true),
		PreserveExternalRequestId:  true,
		StripTrailingHostDot:       true,
		UpgradeConfigs:             []*managerv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}, {UpgradeType: "CONNECT"}},
		// The address of the connection is the caller's. Between services it is
		// not told on, and the protocol that a request names is believed.
		UseRemoteAddress: wrapperspb.Bool(true),
		SkipXffAppend:    m.reporter == telemetry.SourceSide,
	}
	if m.reporter != telemetry.GatewaySide {
		out.XffNumTrustedHops = 1
	} else {
		// What a caller from outside says of the protocol is not believed. (This
		// sets x-forwarded-proto, too.)
		out.SchemeHeaderTransformation = &corev3.SchemeHeaderTransformation{
			Transformation: &corev3.SchemeHeaderTransformation_SchemeToOverwrite{SchemeToOverwrite: m.scheme()},
		}
	}
	if m.inline != nil {
		out.RouteSpecifier = &managerv3.HttpConnectionManager_RouteConfig{RouteConfig: m.inline}
	} else {
		out.RouteSpecifier = &managerv3.HttpConnectionManager_Rds{
			Rds: &managerv3.Rds{RouteConfigName: m.routes, ConfigSource: overADS()},
		}
	}
	ids, err := pack(&uuidv3.UuidRequestIdConfig{PackTraceReason: wrapperspb.Bool(false)})
	if err != nil {
		return nil, err
	}
	out.RequestIdExtension = &managerv3.RequestIDExtension{TypedConfig: ids}
	if out.AccessLog, err = requestLog(m.reporter); err != nil {
		return nil, err
	}
	out.HttpFilters, err = m.filters()
	return out, err
}

func (m *manager) scheme() string {
	if m.https {
		return "https"
	}
	return "http"
}

// filters are always the same, in the order in which our own proxy decides;
// what they do, each route says. So a route can change without its listener.
func (m *manager) filters() ([]*managerv3.HttpFilter, error) {
	list := []struct {
		name   string
		config proto.Message
	}{
		{filterRemember, rememberRequest("")},
		{filterDeny, &rbacfilterv3.RBAC{}},
		{filterAllow, &rbacfilterv3.RBAC{}},
		{filterCORS, &corsv3.Cors{}},
		{filterRateLimit, &ratelimitv3.LocalRateLimit{StatPrefix: statPrefix}},
		{filterFault, &faultv3.HTTPFault{}},
		{filterOutside, &dfpfilterv3.FilterConfig{
			ImplementationSpecifier: &dfpfilterv3.FilterConfig_DnsCacheConfig{DnsCacheConfig: dnsCache()},
		}},
		{filterRouter, &routerv3.Router{SuppressEnvoyHeaders: true}},
	}
	var out []*managerv3.HttpFilter
	for _, f := range list {
		if f.name == filterOutside && !m.outside {
			continue
		}
		packed, err := pack(f.config)
		if err != nil {
			return nil, err
		}
		out = append(out, &managerv3.HttpFilter{Name: f.name, ConfigType: &managerv3.HttpFilter_TypedConfig{TypedConfig: packed}})
	}
	return out, nil
}

// rememberRequest keeps what was asked for the access log, which otherwise
// would see what a rewrite made of it, and the service that was picked, if that
// is known.
func rememberRequest(picked mesh.ServiceName) *remember.Config {
	out := &remember.Config{}
	rule := func(header, key, value string) {
		out.RequestRules = append(out.RequestRules, &remember.Config_Rule{
			Header: header,
			OnHeaderPresent: &remember.Config_KeyValuePair{
				MetadataNamespace: metadataKey, Key: key, Value: value, Type: remember.Config_STRING,
			},
		})
	}
	rule(authorityHeader, metadataHost, "")
	rule(pathHeader, metadataPath, "")
	if picked != "" {
		rule(methodHeader, metadataPicked, string(picked)) // a method is always there
	}
	return out
}
