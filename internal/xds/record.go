package xds

import (
	"cmp"
	"encoding/json"
	"net"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
)

// routeRecord is metadataRecord as the access log carries it.
type routeRecord struct {
	Service string      `json:"service,omitempty"`
	Origin  mesh.Origin `json:"origin,omitzero"`
	Split   bool        `json:"split,omitempty"`
	Routing string      `json:"routing,omitempty"`
	Flag    string      `json:"flag,omitempty"` // for what Envoy thinks is a plain answer
}

const grpcStatus = "grpc-status"

var protocolVersions = map[string]datav3.HTTPAccessLogEntry_HTTPVersion{
	"HTTP/1.0": datav3.HTTPAccessLogEntry_HTTP10,
	"HTTP/1.1": datav3.HTTPAccessLogEntry_HTTP11,
	"HTTP/2":   datav3.HTTPAccessLogEntry_HTTP2,
	"HTTP/3":   datav3.HTTPAccessLogEntry_HTTP3,
}

// What the record says of a call that access rules deny, and how Envoy's entry
// begins to say it.
const (
	flagDenied    = "UAEX"
	deniedDetails = "rbac_access_denied"
)

// Routed finds the snapshot under which an Envoy routed a request, by one of
// Resources.Routings; 0 when it is not known.
type Routed func(routing string) mesh.SnapshotVersion

// DecodeRequest reads an entry that an Envoy sent about a request.
func DecodeRequest(n *Node, e *datav3.HTTPAccessLogEntry, routed Routed) telemetry.Request {
	r := decodeCommon(n, e.GetCommonProperties(), routed)
	tags := e.GetCommonProperties().GetCustomTags()
	for name, version := range protocolVersions {
		if version == e.GetProtocolVersion() {
			r.Protocol = name
		}
	}
	q, a := e.GetRequest(), e.GetResponse()
	r.ID = q.GetRequestId()
	if q.GetRequestMethod() != corev3.RequestMethod_METHOD_UNSPECIFIED {
		r.Method = q.GetRequestMethod().String()
	}
	r.Host = cmp.Or(tags[tagHost], q.GetAuthority())
	r.Path, _, _ = strings.Cut(cmp.Or(tags[tagPath], q.GetPath()), "?")
	r.Read, r.Sent = int64(q.GetRequestBodyBytes()), int64(a.GetResponseBodyBytes())
	r.Code = int(a.GetResponseCode().GetValue())
	r.GRPC = cmp.Or(a.GetResponseTrailers()[grpcStatus], a.GetResponseHeaders()[grpcStatus])
	r.Probe = telemetry.IsProbe(q.GetUserAgent())
	if strings.HasPrefix(a.GetResponseCodeDetails(), deniedDetails) {
		// Envoy has no flag for what its own rules deny.
		r.Flags = flagDenied
		r.Backend = mesh.ServiceName(tags[tagPicked])
	}
	return r
}

// DecodeConnection reads an entry that an Envoy sent about a connection.
func DecodeConnection(n *Node, e *datav3.TCPAccessLogEntry, routed Routed) telemetry.Request {
	r := decodeCommon(n, e.GetCommonProperties(), routed)
	r.Protocol = telemetry.TCP
	r.Read, r.Sent = int64(e.GetConnectionProperties().GetReceivedBytes()), int64(e.GetConnectionProperties().GetSentBytes())
	return r
}

func decodeCommon(n *Node, c *datav3.AccessLogCommon, routed Routed) telemetry.Request {
	tags := c.GetCustomTags()
	r := telemetry.Request{
		Start: c.GetStartTime().AsTime(), Duration: c.GetDuration().AsDuration(), Attempts: c.GetUpstreamRequestAttemptCount(),
		Backend: mesh.ServiceName(tags[tagBackend]), Flags: decodeFlags(c.GetResponseFlags()),
	}
	if at := c.GetUpstreamRemoteAddress().GetSocketAddress(); at != nil {
		r.Upstream = net.JoinHostPort(at.GetAddress(), strconv.Itoa(int(at.GetPortValue())))
	}
	for by, name := range reporterNames {
		if name == tags[tagReporter] {
			r.Reporter = telemetry.Reporter(by)
		}
	}
	if r.Reporter == telemetry.SourceSide {
		r.Source = n.Caller.Workload
	}
	// Text of another program: what cannot be read is as good as not said.
	var route routeRecord
	if json.Unmarshal([]byte(tags[tagRoute]), &route) == nil {
		r.Service, r.Route, r.Split = mesh.ServiceName(route.Service), route.Origin, route.Split
	}
	var workload mesh.Workload
	if json.Unmarshal([]byte(tags[tagWorkload]), &workload) == nil {
		r.Destination = workload
	}
	if route.Routing != "" {
		r.Snapshot = routed(route.Routing)
	}
	r.Flags = cmp.Or(r.Flags, route.Flag)
	if r.Backend == "" {
		r.Backend = backendOf(c, r.Flags)
	}
	r.Service = cmp.Or(r.Service, r.Backend)
	return r
}

// backendOf is the service for which a request was that reached no endpoint
// because there was none to reach; "" for any other reason.
func backendOf(c *datav3.AccessLogCommon, flags string) mesh.ServiceName {
	if name := c.GetUpstreamCluster(); name != "" && name != outsideCluster && !strings.HasPrefix(name, inboundPrefix) {
		if d, err := parseDestination(name); err == nil {
			return d.Service
		}
	}
	switch flags {
	case "UH", "UO", "NC":
		return mesh.ServiceName(c.GetCustomTags()[tagPicked])
	}
	return ""
}

// decodeFlags writes Envoy's response flags as its own text log does.
func decodeFlags(f *datav3.ResponseFlags) string {
	var out []string
	for _, flag := range []struct {
		set  bool
		name string
	}{
		{f.GetFailedLocalHealthcheck(), "LH"},
		{f.GetNoHealthyUpstream(), "UH"},
		{f.GetUpstreamRequestTimeout(), "UT"},
		{f.GetLocalReset(), "LR"},
		{f.GetUpstreamRemoteReset(), "UR"},
		{f.GetUpstreamConnectionFailure(), "UF"},
		{f.GetUpstreamConnectionTermination(), "UC"},
		{f.GetUpstreamOverflow(), "UO"},
		{f.GetNoRouteFound(), "NR"},
		{f.GetDelayInjected(), "DI"},
		{f.GetFaultInjected(), "FI"},
		{f.GetRateLimited(), "RL"},
		{f.GetUnauthorizedDetails() != nil, "UAEX"},
		{f.GetRateLimitServiceError(), "RLSE"},
		{f.GetDownstreamConnectionTermination(), "DC"},
		{f.GetUpstreamRetryLimitExceeded(), "URX"},
		{f.GetStreamIdleTimeout(), "SI"},
		{f.GetInvalidEnvoyRequestHeaders(), "IH"},
		{f.GetDownstreamProtocolError(), "DPE"},
		{f.GetUpstreamMaxStreamDurationReached(), "UMSDR"},
		{f.GetDurationTimeout(), "DT"},
		{f.GetUpstreamProtocolError(), "UPE"},
		{f.GetNoClusterFound(), "NC"},
		{f.GetOverloadManager(), "OM"},
		{f.GetDnsResolutionFailure(), "DF"},
		{f.GetDownstreamRemoteReset(), "DR"},
	} {
		if flag.set {
			out = append(out, flag.name)
		}
	}
	return strings.Join(out, ",")
}
