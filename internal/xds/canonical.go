package xds

import (
	"cmp"
	"reflect"
	"regexp"
	"slices"
	"time"

	"serin.dev/serin/internal/mesh"
)

// This file brings each noun into the one form that View promises.

// route returns the route as it is for the caller; false when it cannot match.
func (v *viewer) route(r *mesh.Route) (mesh.Route, bool) {
	out := *r
	out.Matches = v.matches(r.Matches)
	if len(r.Matches) > 0 && out.Matches == nil {
		return mesh.Route{}, false
	}
	if len(out.Matches) == 1 && reflect.ValueOf(out.Matches[0]).IsZero() {
		out.Matches = nil
	}
	out.Split = canonicalSplit(r.Split)
	out.Headers = canonicalEdits(r.Headers)
	out.CORS = canonicalCORS(r.CORS)
	if r.Fault != nil && *r.Fault == (mesh.Fault{}) {
		out.Fault = nil
	}
	out.Affinity = nil
	if len(out.Split) > 1 {
		out.Affinity = full(r.Affinity)
	}
	if len(out.Split) > 0 {
		canonicalRewrite(&out)
	} else if out.Headers != nil {
		out.Headers = canonicalEdits(&mesh.HeaderEdits{Answer: out.Headers.Answer})
	}
	out.Mirrors = full(r.Mirrors)
	out.Retry = canonicalRetry(r.Retry)
	switch {
	case r.IdleTimeout < 0:
		out.IdleTimeout = -1
	case r.IdleTimeout == mesh.DefaultStreamIdle:
		out.IdleTimeout = 0
	}
	return out, true
}

func canonicalSplit(split []mesh.Destination) []mesh.Destination {
	var out []mesh.Destination
	for _, d := range split {
		if len(split) == 1 {
			d.Weight = 1
		}
		d.Headers = canonicalEdits(d.Headers)
		if d.Headers != nil {
			// The authority first, since Envoy has a place of its own for it.
			headers := *d.Headers
			authority, set := takeAuthority(headers.Request.Set)
			if authority != "" {
				set = append([]mesh.Header{{Name: "host", Value: authority}}, set...)
			}
			headers.Request.Set = set
			d.Headers = &headers
		}
		out = append(out, d)
	}
	return out
}

func canonicalEdits(h *mesh.HeaderEdits) *mesh.HeaderEdits {
	if h == nil {
		return nil
	}
	edit := func(e mesh.HeaderEdit) mesh.HeaderEdit {
		return mesh.HeaderEdit{Remove: full(e.Remove), Set: full(e.Set), Add: full(e.Add)}
	}
	out := &mesh.HeaderEdits{Request: edit(h.Request), Answer: edit(h.Answer)}
	if reflect.ValueOf(*out).IsZero() {
		return nil
	}
	return out
}

// canonicalRewrite gives the authority that a header edit sets its own place,
// where no rewrite is there already: that counts more.
func canonicalRewrite(r *mesh.Route) {
	var out mesh.Rewrite
	if r.Rewrite != nil {
		out = *r.Rewrite
	}
	if r.Headers != nil {
		headers := *r.Headers
		authority, set := takeAuthority(headers.Request.Set)
		if out.Authority == "" {
			out.Authority = authority
		}
		headers.Request.Set = set
		r.Headers = canonicalEdits(&headers)
	}
	r.Rewrite = nil
	if out != (mesh.Rewrite{}) {
		r.Rewrite = &out
	}
}

// takeAuthority parts the last value set for the authority from the rest.
func takeAuthority(set []mesh.Header) (authority string, rest []mesh.Header) {
	for _, h := range set {
		if h.Name == "host" {
			authority = h.Value
		} else {
			rest = append(rest, h)
		}
	}
	return authority, rest
}

func canonicalCORS(c *mesh.CORS) *mesh.CORS {
	if c == nil {
		return nil
	}
	out := &mesh.CORS{
		Origins: full(slices.Clone(c.Origins)), Methods: full(c.Methods), Headers: full(c.Headers), Expose: full(c.Expose),
		MaxAge: c.MaxAge.Truncate(time.Second), Credentials: c.Credentials,
	}
	for i, o := range out.Origins {
		if o.Kind == mesh.Present {
			out.Origins[i] = mesh.StringMatch{Kind: mesh.Regex, Value: ".*"}
		}
	}
	return out
}

// canonicalRetry: Envoy wants a base of the back-off where there is a bound.
func canonicalRetry(r *mesh.Retry) *mesh.Retry {
	if r == nil {
		return nil
	}
	out := *r
	out.Codes = full(r.Codes)
	if out.Max > 0 {
		out.Base = cmp.Or(out.Base, mesh.DefaultRetryBase)
	}
	return &out
}

// setPolicy gives a destination its policy: in one form, and only where it
// says something. The subset "" comes first.
func setPolicy(svc *mesh.Service, port mesh.Port, subset string, policy *mesh.Policy) {
	p := canonicalPolicy(svc, port, policy)
	// Without its own, a subset would get that of the port.
	_, wider := svc.Policies[mesh.PolicyScope{Port: port.Number}]
	if reflect.ValueOf(*p).IsZero() && !wider {
		return
	}
	if svc.Policies == nil {
		svc.Policies = map[mesh.PolicyScope]*mesh.Policy{}
	}
	svc.Policies[mesh.PolicyScope{Port: port.Number, Subset: subset}] = p
}

func canonicalPolicy(svc *mesh.Service, port mesh.Port, policy *mesh.Policy) *mesh.Policy {
	p := *policy
	p.Hash = full(p.Hash)
	if p.Balancer != mesh.RingHash && p.Balancer != mesh.Maglev {
		p.Hash = nil
	}
	if p.Balancer != mesh.RingHash || p.RingSize == defaultRingSize {
		p.RingSize = 0
	}
	if p.Balancer != mesh.Maglev || p.TableSize == defaultTableSize {
		p.TableSize = 0
	}
	if w := p.Warmup; w != nil {
		warmup := *w
		if warmup.MinPercent == defaultWarmupPercent {
			warmup.MinPercent = 0
		}
		if warmup.Aggression == 1 {
			warmup.Aggression = 0
		}
		p.Warmup = &warmup
	}
	p.Locality = canonicalLocality(p.Locality)
	canonicalPool(&p.Pool, p.Pool.HTTP2 || port.Protocol == mesh.HTTP2 || port.Protocol == mesh.GRPC)
	if p.Outlier != nil {
		p.Outlier = canonicalOutlier(*p.Outlier)
	}
	if t := p.TLS; t != nil {
		tls := *t
		tls.SubjectAlts = full(tls.SubjectAlts)
		if tls.Insecure || len(tls.SubjectAlts) == 1 && tls.SubjectAlts[0] == tls.SNI {
			tls.SubjectAlts = nil
		}
		if tls.Insecure {
			tls.CA = ""
		}
		p.TLS = &tls
	}
	if h := p.Health; h != nil {
		health := *h
		if health.Host == string(svc.Name) {
			health.Host = ""
		}
		p.Health = &health
	}
	return &p
}

// The values that 0 stands for.
const (
	defaultRingSize      = 1024
	defaultTableSize     = 65537
	defaultWarmupPercent = 10
	defaultInterval      = 10 * time.Second
	defaultMaxEjection   = 300 * time.Second
)

func canonicalLocality(l *mesh.Locality) *mesh.Locality {
	if l == nil {
		return nil
	}
	out := &mesh.Locality{Failover: l.Failover}
	if l.Failover {
		out.FailoverTo = full2(l.FailoverTo)
	} else {
		out.Distribute = full(l.Distribute)
	}
	if reflect.ValueOf(*out).IsZero() {
		return nil
	}
	return out
}

func canonicalPool(p *mesh.Pool, http2 bool) {
	if p.ConnectTimeout == mesh.DefaultConnectTimeout {
		p.ConnectTimeout = 0
	}
	if p.IdleTimeout == mesh.DefaultIdleTimeout {
		p.IdleTimeout = 0
	}
	if !http2 {
		p.ConcurrentStreams = 0
	}
	if !p.TCPKeepalive {
		p.TCPKeepaliveTime, p.TCPKeepaliveInterval, p.TCPKeepaliveProbes = 0, 0, 0
	}
	p.TCPKeepaliveTime = p.TCPKeepaliveTime.Truncate(time.Second)
	p.TCPKeepaliveInterval = p.TCPKeepaliveInterval.Truncate(time.Second)
}

func canonicalOutlier(o mesh.Outlier) *mesh.Outlier {
	if !o.SplitLocal {
		o.ConsecutiveLocal = 0
	}
	if o.Interval == defaultInterval {
		o.Interval = 0
	}
	if o.BaseEjection == mesh.DefaultBaseEjection {
		o.BaseEjection = 0
	}
	if o.MaxEjection == max(defaultMaxEjection, o.BaseEjection) {
		o.MaxEjection = 0
	}
	return &o
}

// canonicalMatch returns the match without its conditions on the caller.
func canonicalMatch(m *mesh.Match) mesh.Match {
	out := *m
	out.SourceLabels, out.SourceNamespace = nil, ""
	if out.URI.Kind == mesh.Suffix {
		// Envoy has no field for the end of a path.
		out.URI = asRegex(out.URI, ".*"+regexp.QuoteMeta(out.URI.Value))
	}
	out.Headers, out.Query = conditions(m.Headers), conditions(m.Query)
	return out
}

// conditions leaves out those that always hold.
func conditions(all map[string]mesh.StringMatch) map[string]mesh.StringMatch {
	var left map[string]mesh.StringMatch
	for name, m := range all {
		if m.Kind == mesh.Any {
			continue
		}
		if left == nil {
			left = map[string]mesh.StringMatch{}
		}
		left[name] = m
	}
	return left
}

func asRegex(m mesh.StringMatch, value string) mesh.StringMatch {
	if m.IgnoreCase {
		value = "(?i)" + value
	}
	return mesh.StringMatch{Kind: mesh.Regex, Value: value, Invert: m.Invert}
}

// sortedKeys of a map, in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
