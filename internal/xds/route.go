package xds

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"serin.dev/serin/internal/mesh"
)

// fieldUnserved marks a route that has neither split nor answer.
const fieldUnserved = "unserved"

// clusterNamer names the cluster of a destination.
type clusterNamer func(mesh.Destination) string

// encodeRoute makes Envoy's form of a route but for its match and metadata. The
// match is one of the route's: it decides what a rewrite replaces.
func encodeRoute(r *mesh.Route, m *mesh.Match, name clusterNamer) (*routev3.Route, error) {
	out := &routev3.Route{Name: r.Name}
	if r.Headers != nil {
		out.RequestHeadersToAdd, out.RequestHeadersToRemove = encodeEdit(&r.Headers.Request)
		out.ResponseHeadersToAdd, out.ResponseHeadersToRemove = encodeEdit(&r.Headers.Answer)
	}
	var err error
	if out.TypedPerFilterConfig, err = encodeFilters(r); err != nil {
		return nil, err
	}
	switch {
	case r.Redirect != nil:
		redirect, err := encodeRedirect(r.Redirect)
		if err != nil {
			return nil, err
		}
		out.Action = &routev3.Route_Redirect{Redirect: redirect}
	case r.Direct != nil:
		direct := &routev3.DirectResponseAction{Status: uint32(r.Direct.Status)}
		if r.Direct.Body != "" {
			direct.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: []byte(r.Direct.Body)}}
		}
		out.Action = &routev3.Route_DirectResponse{DirectResponse: direct}
	case len(r.Split) == 0:
		out.Action = notFound()
	default:
		action, err := encodeAction(r, m, name)
		if err != nil {
			return nil, err
		}
		out.Action = &routev3.Route_Route{Route: action}
	}
	return out, nil
}

// compareKey marks a mirror whose answers our own proxies compare. The message
// has no metadata; an Envoy looks the key up in its runtime, where it is not,
// and takes the share beside it.
const compareKey = metadataKey + ".compare"

func notFound() *routev3.Route_DirectResponse {
	return &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 404}}
}

// decodeRoute is the inverse of encodeRoute: it fills in all but the matches.
func decodeRoute(in *routev3.Route, unserved bool, r *mesh.Route) error {
	r.Name = in.GetName()
	var err error
	if r.Headers, err = decodeEdits(in); err != nil {
		return err
	}
	if err = decodeFilters(in.GetTypedPerFilterConfig(), r); err != nil {
		return err
	}
	switch a := in.GetAction().(type) {
	case *routev3.Route_Redirect:
		r.Redirect, err = decodeRedirect(a.Redirect)
	case *routev3.Route_DirectResponse:
		if !unserved {
			r.Direct = &mesh.DirectAnswer{
				Status: int(a.DirectResponse.GetStatus()),
				Body:   string(a.DirectResponse.GetBody().GetInlineBytes()),
			}
		}
	case *routev3.Route_Route:
		err = decodeAction(a.Route, r)
	default:
		err = fmt.Errorf("action %T is none of ours", a)
	}
	return err
}

var redirectCodes = map[int]routev3.RedirectAction_RedirectResponseCode{
	301: routev3.RedirectAction_MOVED_PERMANENTLY,
	302: routev3.RedirectAction_FOUND,
	303: routev3.RedirectAction_SEE_OTHER,
	307: routev3.RedirectAction_TEMPORARY_REDIRECT,
	308: routev3.RedirectAction_PERMANENT_REDIRECT,
}

func encodeRedirect(r *mesh.Redirect) (*routev3.RedirectAction, error) {
	code, ok := redirectCodes[r.Code]
	if !ok {
		return nil, fmt.Errorf("unknown redirect code %d", r.Code)
	}
	out := &routev3.RedirectAction{HostRedirect: r.Authority, PortRedirect: uint32(r.Port), ResponseCode: code}
	if r.Scheme != "" {
		out.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: r.Scheme}
	}
	switch {
	case r.Path != "":
		out.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: r.Path}
	case r.Prefix != nil:
		out.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: *r.Prefix}
	}
	return out, nil
}

func decodeRedirect(m *routev3.RedirectAction) (*mesh.Redirect, error) {
	r := &mesh.Redirect{
		Scheme: m.GetSchemeRedirect(), Authority: m.GetHostRedirect(), Port: uint16(m.GetPortRedirect()), Path: m.GetPathRedirect(),
	}
	if m.GetPortRedirect() > 65535 {
		return nil, fmt.Errorf("redirect port %d is not in 1..65535", m.GetPortRedirect())
	}
	for number, code := range redirectCodes {
		if code == m.GetResponseCode() {
			r.Code = number
		}
	}
	if r.Code == 0 {
		return nil, fmt.Errorf("redirect code %v is none of ours", m.GetResponseCode())
	}
	if prefix := m.GetPrefixRewrite(); prefix != "" {
		r.Prefix = &prefix
	}
	return r, nil
}

func encodeAction(r *mesh.Route, m *mesh.Match, name clusterNamer) (*routev3.RouteAction, error) {
	a := &routev3.RouteAction{
		Timeout:    durationpb.New(r.Timeout), // 0 is none, and must be said
		HashPolicy: encodeHash(r.Affinity),
	}
	if r.IdleTimeout != 0 {
		a.IdleTimeout = durationpb.New(max(0, r.IdleTimeout)) // 0 is never
	}
	if len(r.Split) == 1 && r.Split[0].Headers == nil {
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: name(r.Split[0])}
	} else {
		w := &routev3.WeightedCluster{}
		for _, d := range r.Split {
			w.Clusters = append(w.Clusters, encodeWeight(d, name))
		}
		if len(r.Affinity) > 0 {
			w.RandomValueSpecifier = &routev3.WeightedCluster_UseHashPolicy{UseHashPolicy: wrapperspb.Bool(true)}
		}
		a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: w}
	}
	encodeRewrite(r.Rewrite, m, a)
	for _, mirror := range r.Mirrors {
		part := &corev3.RuntimeFractionalPercent{DefaultValue: encodeShare(mirror.Share)}
		if mirror.Compare {
			part.RuntimeKey = compareKey
		}
		a.RequestMirrorPolicies = append(a.RequestMirrorPolicies, &routev3.RouteAction_RequestMirrorPolicy{
			Cluster: name(mirror.Destination), RuntimeFraction: part,
		})
	}
	if r.Retry != nil {
		var err error
		if a.RetryPolicy, err = encodeRetry(r.Retry); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func decodeAction(a *routev3.RouteAction, r *mesh.Route) error {
	r.Timeout = a.GetTimeout().AsDuration()
	if a.GetIdleTimeout() != nil {
		if r.IdleTimeout = a.GetIdleTimeout().AsDuration(); r.IdleTimeout == 0 {
			r.IdleTimeout = -1
		}
	}
	var err error
	if r.Affinity, err = decodeHash(a.GetHashPolicy()); err != nil {
		return err
	}
	switch c := a.GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		d, err := parseDestination(c.Cluster)
		if err != nil {
			return err
		}
		d.Weight = 1
		r.Split = []mesh.Destination{d}
	case *routev3.RouteAction_WeightedClusters:
		for _, w := range c.WeightedClusters.GetClusters() {
			d, err := decodeWeight(w)
			if err != nil {
				return err
			}
			r.Split = append(r.Split, d)
		}
	default:
		return fmt.Errorf("cluster specifier %T is none of ours", c)
	}
	r.Rewrite = decodeRewrite(a)
	for _, p := range a.GetRequestMirrorPolicies() {
		d, err := parseDestination(p.GetCluster())
		if err != nil {
			return fmt.Errorf("mirror: %w", err)
		}
		share, err := decodeShare(p.GetRuntimeFraction().GetDefaultValue())
		if err != nil {
			return fmt.Errorf("mirror: %w", err)
		}
		compare := p.GetRuntimeFraction().GetRuntimeKey() == compareKey
		r.Mirrors = append(r.Mirrors, mesh.Mirror{Destination: d, Share: share, Compare: compare})
	}
	if a.GetRetryPolicy() != nil {
		r.Retry, err = decodeRetry(a.GetRetryPolicy())
	}
	return err
}

func encodeWeight(d mesh.Destination, name clusterNamer) *routev3.WeightedCluster_ClusterWeight {
	w := &routev3.WeightedCluster_ClusterWeight{Name: name(d), Weight: wrapperspb.UInt32(d.Weight)}
	if d.Headers == nil {
		return w
	}
	request := d.Headers.Request
	authority, set := takeAuthority(request.Set)
	request.Set = set
	if authority != "" {
		w.HostRewriteSpecifier = &routev3.WeightedCluster_ClusterWeight_HostRewriteLiteral{HostRewriteLiteral: authority}
	}
	w.RequestHeadersToAdd, w.RequestHeadersToRemove = encodeEdit(&request)
	w.ResponseHeadersToAdd, w.ResponseHeadersToRemove = encodeEdit(&d.Headers.Answer)
	return w
}

func decodeWeight(w *routev3.WeightedCluster_ClusterWeight) (mesh.Destination, error) {
	d, err := parseDestination(w.GetName())
	if err != nil {
		return d, err
	}
	d.Weight = w.GetWeight().GetValue()
	if d.Headers, err = decodeEdits(w); err != nil {
		return d, fmt.Errorf("destination %s: %w", d, err)
	}
	if authority := w.GetHostRewriteLiteral(); authority != "" {
		if d.Headers == nil {
			d.Headers = &mesh.HeaderEdits{}
		}
		d.Headers.Request.Set = append([]mesh.Header{{Name: "host", Value: authority}}, d.Headers.Request.Set...)
	}
	return d, nil
}

// parseDestination reads what mesh.Destination.String writes.
func parseDestination(name string) (mesh.Destination, error) {
	var d mesh.Destination
	service, subset, _ := strings.Cut(name, "/")
	if at := strings.LastIndexByte(service, ':'); at >= 0 {
		port, err := strconv.ParseUint(service[at+1:], 10, 16)
		if err != nil {
			return d, fmt.Errorf("cluster %q is not service:port/subset", name)
		}
		service, d.Port = service[:at], uint16(port)
	}
	d.Service, d.Subset = mesh.ServiceName(service), subset
	return d, nil
}

// replacesPrefix reports whether a rewrite of the path replaces what the match
// found, and not the whole path.
func replacesPrefix(m *mesh.Match) bool {
	return m.URI.Kind == mesh.Prefix || m.URI.Kind == mesh.Segments
}

func encodeRewrite(w *mesh.Rewrite, m *mesh.Match, a *routev3.RouteAction) {
	switch {
	case w == nil:
		return
	case w.Path != nil && replacesPrefix(m):
		a.PrefixRewrite = *w.Path
	case w.Path != nil:
		a.PathRewrite = escape(*w.Path)
	case w.Regex != nil:
		a.RegexRewrite = encodeSubstitution(w.Regex.Match, w.Regex.Substitution)
	}
	if w.Authority != "" {
		a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: w.Authority}
	}
}

func encodeSubstitution(match, substitution string) *matcherv3.RegexMatchAndSubstitute {
	return &matcherv3.RegexMatchAndSubstitute{Pattern: encodeRegex(match), Substitution: substitution}
}

func decodeRewrite(a *routev3.RouteAction) *mesh.Rewrite {
	w := mesh.Rewrite{Authority: a.GetHostRewriteLiteral()}
	if path := a.GetPrefixRewrite() + unescape(a.GetPathRewrite()); path != "" {
		w.Path = &path
	}
	if s := a.GetRegexRewrite(); s != nil {
		w.Regex = &mesh.RegexRewrite{Match: s.GetPattern().GetRegex(), Substitution: s.GetSubstitution()}
	}
	if w == (mesh.Rewrite{}) {
		return nil
	}
	return &w
}

// retryConditions are Envoy's names, in the order of their bits.
var retryConditions = []struct {
	on   mesh.RetryOn
	name string
}{
	{mesh.RetryConnectFailure, "connect-failure"},
	{mesh.RetryRefusedStream, "refused-stream"},
	{mesh.RetryReset, "reset"},
	{mesh.RetryResetBeforeRequest, "reset-before-request"},
	{mesh.Retry5xx, "5xx"},
	{mesh.RetryGatewayError, "gateway-error"},
	{mesh.RetryRetriable4xx, "retriable-4xx"},
	{mesh.RetryGRPCCancelled, "cancelled"},
	{mesh.RetryGRPCDeadline, "deadline-exceeded"},
	{mesh.RetryGRPCInternal, "internal"},
	{mesh.RetryGRPCExhausted, "resource-exhausted"},
	{mesh.RetryGRPCUnavailable, "unavailable"},
}

const retryCodes = "retriable-status-codes"

// hostAttempts is how often Envoy draws again when it drew an endpoint that
// was tried before. Each draw is independent: with half of the endpoints
// tried, all of 10 fail in one of a thousand cases.
const hostAttempts = 10

const predicatePreviousHosts = "envoy.retry_host_predicates.previous_hosts"

func encodeRetry(r *mesh.Retry) (*routev3.RetryPolicy, error) {
	out := &routev3.RetryPolicy{NumRetries: wrapperspb.UInt32(r.Attempts)}
	var on []string
	for _, c := range retryConditions {
		if r.On&c.on != 0 {
			on = append(on, c.name)
		}
	}
	for _, code := range r.Codes {
		out.RetriableStatusCodes = append(out.RetriableStatusCodes, uint32(code))
	}
	if len(r.Codes) > 0 {
		on = append(on, retryCodes)
	}
	out.RetryOn = strings.Join(on, ",")
	if r.PerTryTimeout > 0 {
		out.PerTryTimeout = durationpb.New(r.PerTryTimeout)
	}
	if r.Base > 0 {
		out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: durationpb.New(r.Base)}
		if r.Max > 0 {
			out.RetryBackOff.MaxInterval = durationpb.New(r.Max)
		}
	}
	if r.AvoidPrevious {
		packed, err := pack(&previoushostsv3.PreviousHostsPredicate{})
		if err != nil {
			return nil, err
		}
		out.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{{
			Name:       predicatePreviousHosts,
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: packed},
		}}
		out.HostSelectionRetryMaxAttempts = hostAttempts
	}
	return out, nil
}

func decodeRetry(m *routev3.RetryPolicy) (*mesh.Retry, error) {
	r := &mesh.Retry{
		Attempts:      m.GetNumRetries().GetValue(),
		PerTryTimeout: m.GetPerTryTimeout().AsDuration(),
		Base:          m.GetRetryBackOff().GetBaseInterval().AsDuration(),
		Max:           m.GetRetryBackOff().GetMaxInterval().AsDuration(),
		AvoidPrevious: len(m.GetRetryHostPredicate()) > 0,
	}
	for _, code := range m.GetRetriableStatusCodes() {
		if code > 999 {
			return nil, fmt.Errorf("retry: %d is no status", code)
		}
		r.Codes = append(r.Codes, int(code))
	}
	for _, name := range strings.Split(m.GetRetryOn(), ",") {
		i := slices.IndexFunc(retryConditions, func(c struct {
			on   mesh.RetryOn
			name string
		}) bool {
			return c.name == name
		})
		switch {
		case i >= 0:
			r.On |= retryConditions[i].on
		case name != retryCodes && name != "":
			return nil, fmt.Errorf("retry: condition %q is none of ours", name)
		}
	}
	return r, nil
}

// typedConfig adds one more message to those that a route has for filters.
func typedConfig(configs map[string]*anypb.Any, name string, packed *anypb.Any) map[string]*anypb.Any {
	if configs == nil {
		configs = map[string]*anypb.Any{}
	}
	configs[name] = packed
	return configs
}
