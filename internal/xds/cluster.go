package xds

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"serin.dev/serin/internal/mesh"
)

// httpOptions is where a cluster keeps how it speaks HTTP.
const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// unlimited is what Envoy takes for no limit: its own defaults are limits.
const unlimited = math.MaxUint32

// destination is one port and subset of a service: a cluster.
type destination struct {
	service *mesh.Service
	port    mesh.Port
	subset  string
	policy  *mesh.Policy
}

func (d *destination) name() string {
	return mesh.Destination{Service: d.service.Name, Port: d.port.Number, Subset: d.subset}.String()
}

func (d *destination) http2() bool {
	return d.policy.Pool.HTTP2 || d.port.Protocol == mesh.HTTP2 || d.port.Protocol == mesh.GRPC
}

// destinations lists all of a service, in order.
func destinations(svc *mesh.Service) []destination {
	var out []destination
	for _, port := range svc.Ports {
		for _, subset := range subsetsOf(svc) {
			out = append(out, destination{svc, port, subset, svc.Policy(port.Number, subset)})
		}
	}
	return out
}

// encodeCluster makes a cluster in the layout for our own proxy.
func encodeCluster(d *destination, systemCA string) (*clusterv3.Cluster, error) {
	p := d.policy
	out := &clusterv3.Cluster{
		Name:                 d.name(),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: overADS()},
		ConnectTimeout:       durationpb.New(orDefault(p.Pool.ConnectTimeout, mesh.DefaultConnectTimeout)),
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{
			HealthyPanicThreshold: &typev3.Percent{}, // never, unless the policy says so
			UpdateMergeWindow:     durationpb.New(0), // a change is in effect when it is acked
		},
		CircuitBreakers: encodeBreakers(p),
		// An endpoint that is gone from the mesh is gone, healthy or not.
		IgnoreHealthOnHostRemoval: true,
	}
	var err error
	if out.LoadBalancingPolicy, err = encodeBalancer(p); err != nil {
		return nil, err
	}
	options, err := encodeHTTPOptions(d)
	if err != nil {
		return nil, err
	}
	out.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptions: options}
	if p.Pool.TCPKeepalive {
		out.UpstreamConnectionOptions = &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
			KeepaliveTime:     seconds(p.Pool.TCPKeepaliveTime),
			KeepaliveInterval: seconds(p.Pool.TCPKeepaliveInterval),
			KeepaliveProbes:   number(p.Pool.TCPKeepaliveProbes),
		}}
	}
	if p.Outlier != nil {
		out.OutlierDetection = encodeOutlier(p.Outlier)
		out.CommonLbConfig.HealthyPanicThreshold.Value = float64(p.Outlier.MinHealthPercent)
	}
	if p.TLS != nil {
		if out.TransportSocket, err = encodeClientTLS(p.TLS, d.http2(), systemCA); err != nil {
			return nil, err
		}
	}
	if p.Health != nil {
		out.HealthChecks = []*corev3.HealthCheck{encodeHealth(p.Health, d)}
	}
	out.Metadata, err = clusterMetadata(d)
	return out, err
}

// clusterMetadata says what of the service, port, subset and policy Envoy does
// not know. The name of the service goes into its access log.
func clusterMetadata(d *destination) (*corev3.Metadata, error) {
	f := fields{}
	f.setText("service", string(d.service.Name))
	f.setNumber("port", uint32(d.port.Number))
	f.setText("portName", d.port.Name)
	f.setNumber("protocol", uint32(d.port.Protocol))
	f.setTrue("http2", d.policy.Pool.HTTP2)
	f.setText("subset", d.subset)
	f.setTexts("labels", d.service.Subsets[d.subset])
	f.setFields("locality", encodeLocality(d.policy.Locality))
	m := f.metadata()
	if w := d.policy.Warmup; w != nil && !warmsUp(d.policy.Balancer) {
		var err error
		if m, err = attach(m, "warmup", encodeWarmup(w)); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// clusterParts is what a cluster says: one destination, without endpoints.
type clusterParts struct {
	service mesh.ServiceName
	port    mesh.Port
	subset  string
	labels  mesh.Labels
	policy  mesh.Policy
}

// decodeCluster is the inverse of encodeCluster.
func decodeCluster(c *clusterv3.Cluster) (*clusterParts, error) {
	f := fieldsOf(c.GetMetadata())
	out := &clusterParts{
		service: mesh.ServiceName(f.text("service")), subset: f.text("subset"), labels: f.texts("labels"),
	}
	number, err := f.number("port", 65535)
	if err != nil {
		return nil, err
	}
	protocol, err := f.number("protocol", uint32(mesh.HTTPS))
	if err != nil {
		return nil, err
	}
	out.port = mesh.Port{Number: uint16(number), Name: f.text("portName"), Protocol: mesh.Protocol(protocol)}
	p := &out.policy
	p.Pool.HTTP2 = f.isTrue("http2")
	if p.Locality, err = decodeLocality(f.fields("locality")); err != nil {
		return nil, err
	}
	if err := decodeBalancer(c.GetLoadBalancingPolicy(), p); err != nil {
		return nil, err
	}
	if err := decodeAttachedWarmup(c.GetMetadata(), p); err != nil {
		return nil, err
	}
	if err := decodePool(c, p); err != nil {
		return nil, err
	}
	if c.GetOutlierDetection() != nil {
		p.Outlier = decodeOutlier(c.GetOutlierDetection())
		p.Outlier.MinHealthPercent = uint32(min(100, max(0, c.GetCommonLbConfig().GetHealthyPanicThreshold().GetValue())))
	}
	if c.GetTransportSocket() != nil {
		if p.TLS, err = decodeClientTLS(c.GetTransportSocket()); err != nil {
			return nil, err
		}
	}
	for _, h := range c.GetHealthChecks() {
		p.Health = decodeHealth(h)
	}
	return out, nil
}

func encodeBreakers(p *mesh.Policy) *clusterv3.CircuitBreakers {
	limit := func(n uint32) *wrapperspb.UInt32Value {
		if n == 0 {
			n = unlimited
		}
		return wrapperspb.UInt32(n)
	}
	t := &clusterv3.CircuitBreakers_Thresholds{
		MaxConnections:     limit(p.Pool.MaxConnections),
		MaxPendingRequests: limit(p.Pool.MaxPending),
		MaxRequests:        limit(p.Pool.MaxRequests),
		MaxRetries:         limit(p.Pool.MaxRetries),
	}
	if b := p.Budget; b != nil {
		t.RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
			BudgetPercent:       &typev3.Percent{Value: float64(b.Percent) / 10_000},
			MinRetryConcurrency: wrapperspb.UInt32(b.MinConcurrency),
		}
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{t}}
}

func encodeHTTPOptions(d *destination) (*anypb.Any, error) {
	pool := &d.policy.Pool
	out := &httpv3.HttpProtocolOptions{CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
		IdleTimeout:              durationpb.New(orDefault(pool.IdleTimeout, mesh.DefaultIdleTimeout)),
		MaxRequestsPerConnection: number(pool.RequestsPerConn),
	}}
	if pool.MaxConnectionAge > 0 {
		out.CommonHttpProtocolOptions.MaxConnectionDuration = durationpb.New(pool.MaxConnectionAge)
	}
	explicit := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{}
	if d.http2() {
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{MaxConcurrentStreams: number(pool.ConcurrentStreams)},
		}
	} else {
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{EnableTrailers: true},
		}
	}
	out.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit}
	if t := d.policy.TLS; t != nil && t.SNI == "" {
		out.UpstreamHttpProtocolOptions = &corev3.UpstreamHttpProtocolOptions{
			AutoSni: true, AutoSanValidation: !t.Insecure && len(t.SubjectAlts) == 0,
		}
	}
	return pack(out)
}

func decodePool(c *clusterv3.Cluster, p *mesh.Policy) error {
	pool := &p.Pool
	pool.ConnectTimeout = c.GetConnectTimeout().AsDuration()
	limit := func(v *wrapperspb.UInt32Value) uint32 {
		if v.GetValue() == unlimited {
			return 0
		}
		return v.GetValue()
	}
	for _, t := range c.GetCircuitBreakers().GetThresholds() {
		pool.MaxConnections = limit(t.GetMaxConnections())
		pool.MaxPending = limit(t.GetMaxPendingRequests())
		pool.MaxRequests = limit(t.GetMaxRequests())
		pool.MaxRetries = limit(t.GetMaxRetries())
		if b := t.GetRetryBudget(); b != nil {
			percent := b.GetBudgetPercent().GetValue()
			if !(percent >= 0 && percent <= 100) {
				return fmt.Errorf("retry budget of %v %%", percent)
			}
			p.Budget = &mesh.RetryBudget{
				Percent: mesh.Share(math.Round(percent * 10_000)), MinConcurrency: b.GetMinRetryConcurrency().GetValue(),
			}
		}
	}
	if packed := c.GetTypedExtensionProtocolOptions()[httpOptions]; packed != nil {
		var m httpv3.HttpProtocolOptions
		if err := unpack(packed, &m); err != nil {
			return err
		}
		pool.IdleTimeout = m.GetCommonHttpProtocolOptions().GetIdleTimeout().AsDuration()
		pool.RequestsPerConn = m.GetCommonHttpProtocolOptions().GetMaxRequestsPerConnection().GetValue()
		pool.MaxConnectionAge = m.GetCommonHttpProtocolOptions().GetMaxConnectionDuration().AsDuration()
		pool.ConcurrentStreams = m.GetExplicitHttpConfig().GetHttp2ProtocolOptions().GetMaxConcurrentStreams().GetValue()
	}
	if k := c.GetUpstreamConnectionOptions().GetTcpKeepalive(); k != nil {
		pool.TCPKeepalive = true
		pool.TCPKeepaliveTime = time.Duration(k.GetKeepaliveTime().GetValue()) * time.Second
		pool.TCPKeepaliveInterval = time.Duration(k.GetKeepaliveInterval().GetValue()) * time.Second
		pool.TCPKeepaliveProbes = k.GetKeepaliveProbes().GetValue()
	}
	return nil
}

// encodeOutlier: Envoy has more ways to eject than ours, some of them on by
// default; each is switched on or off by the percentage that it enforces.
func encodeOutlier(o *mesh.Outlier) *clusterv3.OutlierDetection {
	out := &clusterv3.OutlierDetection{
		Consecutive_5Xx:                        number(o.Consecutive5xx),
		EnforcingConsecutive_5Xx:               enforced(o.Consecutive5xx),
		ConsecutiveGatewayFailure:              number(o.ConsecutiveGateway),
		EnforcingConsecutiveGatewayFailure:     enforced(o.ConsecutiveGateway),
		SplitExternalLocalOriginErrors:         o.SplitLocal,
		ConsecutiveLocalOriginFailure:          number(o.ConsecutiveLocal),
		EnforcingConsecutiveLocalOriginFailure: enforced(o.ConsecutiveLocal),
		EnforcingSuccessRate:                   wrapperspb.UInt32(0),
		EnforcingLocalOriginSuccessRate:        wrapperspb.UInt32(0),
		MaxEjectionPercent:                     wrapperspb.UInt32(o.MaxPercent),
		AlwaysEjectOneHost:                     wrapperspb.Bool(o.MaxPercent > 0),
	}
	for at, d := range map[**durationpb.Duration]time.Duration{
		&out.Interval: o.Interval, &out.BaseEjectionTime: o.BaseEjection, &out.MaxEjectionTime: o.MaxEjection,
	} {
		if d > 0 {
			*at = durationpb.New(d)
		}
	}
	if o.BaseEjection > defaultMaxEjection && o.MaxEjection == 0 {
		out.MaxEjectionTime = out.BaseEjectionTime
	}
	return out
}

func enforced(count uint32) *wrapperspb.UInt32Value {
	if count == 0 {
		return wrapperspb.UInt32(0)
	}
	return wrapperspb.UInt32(100)
}

func decodeOutlier(m *clusterv3.OutlierDetection) *mesh.Outlier {
	return &mesh.Outlier{
		Consecutive5xx:     m.GetConsecutive_5Xx().GetValue(),
		ConsecutiveGateway: m.GetConsecutiveGatewayFailure().GetValue(),
		ConsecutiveLocal:   m.GetConsecutiveLocalOriginFailure().GetValue(),
		SplitLocal:         m.GetSplitExternalLocalOriginErrors(),
		Interval:           m.GetInterval().AsDuration(),
		BaseEjection:       m.GetBaseEjectionTime().AsDuration(),
		MaxEjection:        m.GetMaxEjectionTime().AsDuration(),
		MaxPercent:         min(100, m.GetMaxEjectionPercent().GetValue()),
	}
}

// encodeHealth: Envoy asks an idle cluster more seldom unless it is told.
func encodeHealth(h *mesh.HealthCheck, d *destination) *corev3.HealthCheck {
	out := &corev3.HealthCheck{
		Timeout:            durationpb.New(h.Timeout),
		Interval:           durationpb.New(h.Interval),
		NoTrafficInterval:  durationpb.New(h.Interval),
		UnhealthyThreshold: wrapperspb.UInt32(max(1, h.UnhealthyAfter)),
		HealthyThreshold:   wrapperspb.UInt32(max(1, h.HealthyAfter)),
	}
	if h.Path == "" {
		out.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}}
		return out
	}
	check := &corev3.HealthCheck_HttpHealthCheck{
		Path: h.Path, Host: h.Host,
		// Not 200 alone is good, and no other status is so bad that the
		// threshold does not count.
		ExpectedStatuses:  []*typev3.Int64Range{{Start: 200, End: 300}},
		RetriableStatuses: []*typev3.Int64Range{{Start: 100, End: 600}},
	}
	if check.Host == "" {
		check.Host = string(d.service.Name)
	}
	if d.http2() {
		check.CodecClientType = typev3.CodecClientType_HTTP2
	}
	out.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: check}
	return out
}

func decodeHealth(m *corev3.HealthCheck) *mesh.HealthCheck {
	return &mesh.HealthCheck{
		Path:           m.GetHttpHealthCheck().GetPath(),
		Host:           m.GetHttpHealthCheck().GetHost(),
		Interval:       m.GetInterval().AsDuration(),
		Timeout:        m.GetTimeout().AsDuration(),
		UnhealthyAfter: m.GetUnhealthyThreshold().GetValue(),
		HealthyAfter:   m.GetHealthyThreshold().GetValue(),
	}
}

// encodeEndpoints makes the assignment of a destination: one group for each
// priority and place.
func encodeEndpoints(d *destination) (*endpointv3.ClusterLoadAssignment, error) {
	endpoints, _ := d.service.Select(d.port.Number, d.subset)
	out := &endpointv3.ClusterLoadAssignment{ClusterName: d.name()}
	var group *endpointv3.LocalityLbEndpoints
	var last *mesh.Endpoint
	for i := range endpoints {
		e := &endpoints[i]
		if last == nil || last.Priority != e.Priority || last.Place != e.Place {
			group = &endpointv3.LocalityLbEndpoints{Locality: encodePlace(e.Place), Priority: e.Priority}
			out.Endpoints = append(out.Endpoints, group)
		}
		last = e
		lb, err := encodeEndpoint(e)
		if err != nil {
			return nil, err
		}
		group.LbEndpoints = append(group.LbEndpoints, lb)
	}
	return out, nil
}

func encodeEndpoint(e *mesh.Endpoint) (*endpointv3.LbEndpoint, error) {
	address, err := socket(e.DialAddress())
	if err != nil {
		return nil, err
	}
	f := fields{}
	f.setTexts("labels", e.Labels)
	if e.Dial != "" && e.Address.IsValid() {
		f.setText("address", e.Address.String())
	}
	f.setFields("workload", encodeWorkload(e.Workload))
	return &endpointv3.LbEndpoint{
		HostIdentifier:      &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}},
		LoadBalancingWeight: number(e.Weight),
		Metadata:            f.metadata(),
	}, nil
}

// decodeEndpoints is the inverse of encodeEndpoints.
func decodeEndpoints(m *endpointv3.ClusterLoadAssignment, port uint16) ([]mesh.Endpoint, error) {
	var out []mesh.Endpoint
	for _, group := range m.GetEndpoints() {
		for _, lb := range group.GetLbEndpoints() {
			f := fieldsOf(lb.GetMetadata())
			e := mesh.Endpoint{
				Port: port, Labels: f.texts("labels"), Workload: decodeWorkload(f.fields("workload")),
				Place: decodePlace(group.GetLocality()), Priority: group.GetPriority(),
				Weight: lb.GetLoadBalancingWeight().GetValue(),
			}
			at := lb.GetEndpoint().GetAddress().GetSocketAddress()
			dial := joinHostPort(at.GetAddress(), at.GetPortValue())
			var err error
			if text := f.text("address"); text != "" {
				if e.Address, err = netip.ParseAddrPort(text); err != nil {
					return nil, fmt.Errorf("endpoint %s: address %q is not ip:port", dial, text)
				}
				e.Dial = dial
			} else if e.Address, err = netip.ParseAddrPort(dial); err != nil {
				e.Dial = dial
			}
			out = append(out, e)
		}
	}
	return out, nil
}

func encodeWorkload(w mesh.Workload) fields {
	f := fields{}
	f.setText("namespace", w.Namespace)
	f.setText("name", w.Name)
	f.setText("version", w.Version)
	f.setText("revision", w.Revision)
	f.setText("pod", w.Pod)
	return f
}

func decodeWorkload(f fields) mesh.Workload {
	return mesh.Workload{
		Namespace: f.text("namespace"), Name: f.text("name"), Version: f.text("version"),
		Revision: f.text("revision"), Pod: f.text("pod"),
	}
}

func encodeLocality(l *mesh.Locality) fields {
	if l == nil {
		return nil
	}
	f := fields{}
	f.setTrue("failover", l.Failover)
	f.setTexts("failoverTo", l.FailoverTo)
	var list []*structpb.Value
	for _, d := range l.Distribute {
		item, to := fields{}, fields{}
		for place, weight := range d.To {
			to[place] = structpb.NewNumberValue(float64(weight))
		}
		item.setText("from", d.From)
		item.setFields("to", to)
		list = append(list, structpb.NewStructValue(&structpb.Struct{Fields: item}))
	}
	if list != nil {
		f["distribute"] = structpb.NewListValue(&structpb.ListValue{Values: list})
	}
	return f
}

func decodeLocality(f fields) (*mesh.Locality, error) {
	if len(f) == 0 {
		return nil, nil
	}
	l := &mesh.Locality{Failover: f.isTrue("failover"), FailoverTo: f.texts("failoverTo")}
	for _, v := range f["distribute"].GetListValue().GetValues() {
		item := fields(v.GetStructValue().GetFields())
		d := mesh.Distribution{From: item.text("from")}
		to := item.fields("to")
		for place := range to {
			weight, err := to.number(place, math.MaxUint32)
			if err != nil {
				return nil, fmt.Errorf("distribution from %s: %w", d.From, err)
			}
			if d.To == nil {
				d.To = map[string]uint32{}
			}
			d.To[place] = weight
		}
		l.Distribute = append(l.Distribute, d)
	}
	return l, nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// number is nil for 0, which stands for Envoy's default.
func number(n uint32) *wrapperspb.UInt32Value {
	if n == 0 {
		return nil
	}
	return wrapperspb.UInt32(n)
}

func seconds(d time.Duration) *wrapperspb.UInt32Value { return number(uint32(d / time.Second)) }

// overADS says that a resource comes over the same stream as all others. What
// never comes holds up the rest for a moment, not for Envoy's 15 s.
func overADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(initialFetchTimeout),
	}
}

// initialFetchTimeout: the server answers at once what it has.
const initialFetchTimeout = 3 * time.Second

// byName reports whether some endpoints are known by a name alone, which Envoy
// has to resolve.
func byName(endpoints []mesh.Endpoint) bool {
	return slices.ContainsFunc(endpoints, func(e mesh.Endpoint) bool {
		_, err := netip.ParseAddrPort(e.DialAddress())
		return err != nil
	})
}
