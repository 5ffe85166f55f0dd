package istio

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	networking "istio.io/api/networking/v1alpha3"

	"serin.dev/serin/internal/mesh"
)

// trafficPolicy is a TrafficPolicy translated, before it is put together with
// those of other levels.
type trafficPolicy struct {
	policyParts
	ports map[uint16]policyParts
}

// policyParts are what one level says; nil = nothing. A level replaces whole
// parts of the wider one, never fields of a part.
type policyParts struct {
	balancer *balancerPart
	pool     *mesh.Pool
	outlier  *mesh.Outlier
	tls      *tlsPart
	budget   *mesh.RetryBudget
}

type balancerPart struct {
	mesh.Policy // Balancer, Hash, RingSize, TableSize, Warmup
	locality    *networking.LocalityLoadBalancerSetting
}

type tlsPart struct {
	*mesh.ClientTLS // nil = plain
}

// trafficPolicy translates the policy of a rule or of one of its subsets; nil
// for nil.
func (t *translator) trafficPolicy(p *networking.TrafficPolicy, path, namespace string, r *report) *trafficPolicy {
	if p == nil {
		return nil
	}
	out := &trafficPolicy{policyParts: t.policyParts(p, path, namespace, r)}
	out.budget = retryBudget(p.RetryBudget, path+".retryBudget", r)
	for i, s := range p.PortLevelSettings {
		here := at("%s.portLevelSettings[%d]", path, i)
		number := s.GetPort().GetNumber()
		switch _, twice := out.ports[uint16(number)]; {
		case number == 0 || number > math.MaxUint16:
			r.errorf(here+".port.number", "%d is not in 1..65535", number)
			continue
		case twice:
			r.errorf(here+".port.number", "%d is listed twice: make it one", number)
			continue
		case out.ports == nil:
			out.ports = map[uint16]policyParts{}
		}
		out.ports[uint16(number)] = t.policyParts(s, here, namespace, r)
	}
	return out
}

// level is what the policies of a rule, a subset and a port have in common.
type level interface {
	GetLoadBalancer() *networking.LoadBalancerSettings
	GetConnectionPool() *networking.ConnectionPoolSettings
	GetOutlierDetection() *networking.OutlierDetection
	GetTls() *networking.ClientTLSSettings
}

func (t *translator) policyParts(l level, path, namespace string, r *report) policyParts {
	return policyParts{
		balancer: balancer(l.GetLoadBalancer(), path+".loadBalancer", r),
		pool:     pool(l.GetConnectionPool(), path+".connectionPool", r),
		outlier:  outlier(l.GetOutlierDetection(), path+".outlierDetection", r),
		tls:      t.clientTLS(l.GetTls(), path+".tls", namespace, r),
	}
}

// over returns the parts with those of a narrower level in their place.
func (p policyParts) over(narrow policyParts) policyParts {
	return policyParts{
		balancer: cmp.Or(narrow.balancer, p.balancer),
		pool:     cmp.Or(narrow.pool, p.pool),
		outlier:  cmp.Or(narrow.outlier, p.outlier),
		tls:      cmp.Or(narrow.tls, p.tls),
		budget:   cmp.Or(narrow.budget, p.budget),
	}
}

// at returns the parts in force for a port. Those for a port replace all but
// the budget, which has no form for a port.
func (p *trafficPolicy) at(port uint16) policyParts {
	if p == nil {
		return policyParts{}
	}
	if own, ok := p.ports[port]; ok {
		own.budget = p.budget
		return own
	}
	return p.policyParts
}

// policies puts together what a rule and its subsets say for a service.
// Alternative names are those that a ServiceEntry wants to see in certificates.
func policies(rule *trafficPolicy, subsets map[string]*trafficPolicy, alternatives []string) map[mesh.PolicyScope]*mesh.Policy {
	out := map[mesh.PolicyScope]*mesh.Policy{}
	put := func(scope mesh.PolicyScope, p policyParts) { out[scope] = p.policy(alternatives) }
	portsOf := func(all ...*trafficPolicy) []uint16 {
		ports := map[uint16]bool{0: true}
		for _, p := range all {
			if p != nil {
				for port := range p.ports {
					ports[port] = true
				}
			}
		}
		return slices.Sorted(maps.Keys(ports))
	}
	if rule != nil {
		for _, port := range portsOf(rule) {
			put(mesh.PolicyScope{Port: port}, rule.at(port))
		}
	}
	for name, subset := range subsets {
		for _, port := range portsOf(rule, subset) {
			wide := rule.at(port).over(subset.policyParts)
			if own, ok := subset.ports[port]; ok {
				own.budget = wide.budget
				wide = own
			}
			put(mesh.PolicyScope{Port: port, Subset: name}, wide)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func (p policyParts) policy(alternatives []string) *mesh.Policy {
	out := &mesh.Policy{Outlier: p.outlier, Budget: p.budget}
	var locality *networking.LocalityLoadBalancerSetting
	if b := p.balancer; b != nil {
		out.Balancer, out.Hash, out.RingSize, out.TableSize, out.Warmup = b.Balancer, b.Hash, b.RingSize, b.TableSize, b.Warmup
		locality = b.locality
	}
	if p.pool != nil {
		out.Pool = *p.pool
	}
	if p.tls != nil && p.tls.ClientTLS != nil {
		tls := *p.tls.ClientTLS
		if len(tls.SubjectAlts) == 0 {
			tls.SubjectAlts = alternatives
		}
		out.TLS = &tls
	}
	out.Locality = localityOf(locality, p.outlier != nil)
	return out
}

// localityOf follows Istio: calls stay near wherever outliers are ejected,
// unless it is switched off; without that, failing over would never end.
func localityOf(l *networking.LocalityLoadBalancerSetting, ejects bool) *mesh.Locality {
	if l.GetEnabled() != nil && !l.Enabled.Value {
		return nil
	}
	out := &mesh.Locality{}
	for _, d := range l.GetDistribute() {
		out.Distribute = append(out.Distribute, mesh.Distribution{From: d.From, To: maps.Clone(d.To)})
	}
	switch {
	case len(out.Distribute) > 0:
		return out
	case !ejects:
		return nil
	}
	out.Failover = true
	for _, f := range l.GetFailover() {
		if out.FailoverTo == nil {
			out.FailoverTo = map[string]string{}
		}
		out.FailoverTo[f.From] = f.To
	}
	return out
}

func balancer(lb *networking.LoadBalancerSettings, path string, r *report) *balancerPart {
	if lb == nil {
		return nil
	}
	out := &balancerPart{locality: lb.LocalityLbSetting}
	switch l := lb.LbPolicy.(type) {
	case *networking.LoadBalancerSettings_Simple:
		out.Balancer = simpleBalancer(l.Simple, path+".simple", r)
	case *networking.LoadBalancerSettings_ConsistentHash:
		consistentHash(&out.Policy, l.ConsistentHash, path+".consistentHash", r)
	}
	out.Warmup = warmup(lb, path, r)
	if out.Warmup != nil && out.Balancer != mesh.LeastRequest && out.Balancer != mesh.RoundRobin {
		r.warnf(path+".warmup", "has an effect with LEAST_REQUEST and ROUND_ROBIN only")
		out.Warmup = nil
	}
	if !checkLocality(lb.LocalityLbSetting, path+".localityLbSetting", r) {
		out.locality = nil
	}
	if err := out.Validate(nil); err != nil {
		if !r.failedBelow(path) {
			r.errorf(path, "%v", err)
		}
		return nil
	}
	return out
}

// checkLocality reports what localityOf could not translate.
func checkLocality(l *networking.LocalityLoadBalancerSetting, path string, r *report) bool {
	if len(l.GetDistribute()) > 0 && len(l.GetFailover()) > 0 {
		r.errorf(path, "has both distribute and failover: keep one")
	}
	for i, d := range l.GetDistribute() {
		var sum uint64
		for _, weight := range d.GetTo() {
			sum += uint64(weight)
		}
		if sum != 100 {
			r.errorf(at("%s.distribute[%d].to", path, i), "the weights sum up to %d: make it 100", sum)
		}
	}
	err := (&mesh.Policy{Locality: localityOf(l, true)}).Validate(nil)
	if err != nil {
		r.errorf(path, "%v", err)
	}
	return err == nil
}

func simpleBalancer(simple networking.LoadBalancerSettings_SimpleLB, path string, r *report) mesh.Balancer {
	switch simple {
	case networking.LoadBalancerSettings_UNSPECIFIED, networking.LoadBalancerSettings_LEAST_REQUEST,
		networking.LoadBalancerSettings_LEAST_CONN: // its old name
	case networking.LoadBalancerSettings_ROUND_ROBIN:
		return mesh.RoundRobin
	case networking.LoadBalancerSettings_RANDOM:
		return mesh.Random
	case networking.LoadBalancerSettings_PASSTHROUGH:
		r.warnf(path, "PASSTHROUGH is not supported yet: LEAST_REQUEST is used")
	default:
		r.errorf(path, "unknown balancer %d: use ROUND_ROBIN, LEAST_REQUEST or RANDOM", simple)
	}
	return mesh.LeastRequest
}

func consistentHash(out *mesh.Policy, c *networking.LoadBalancerSettings_ConsistentHashLB, path string, r *report) {
	size := func(n, most uint64, field string) uint32 {
		if n > most {
			r.errorf(path+field, "%d is larger than %d", n, most)
			return 0
		}
		return uint32(n)
	}
	out.Balancer = mesh.RingHash
	out.RingSize = size(c.GetMinimumRingSize(), mesh.MaxRingSize, ".minimumRingSize")
	switch a := c.GetHashAlgorithm().(type) {
	case *networking.LoadBalancerSettings_ConsistentHashLB_RingHash_:
		out.RingSize = size(a.RingHash.GetMinimumRingSize(), mesh.MaxRingSize, ".ringHash.minimumRingSize")
	case *networking.LoadBalancerSettings_ConsistentHashLB_Maglev:
		out.Balancer, out.RingSize = mesh.Maglev, 0
		out.TableSize = size(a.Maglev.GetTableSize(), mesh.MaxTableSize, ".maglev.tableSize")
	}
	var key mesh.HashKey
	switch k := c.GetHashKey().(type) {
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName:
		key = mesh.HashKey{Source: mesh.HashHeader, Name: strings.ToLower(k.HttpHeaderName)}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpCookie:
		key = mesh.HashKey{Source: mesh.HashCookie, Name: k.HttpCookie.GetName()}
		if ttl := k.HttpCookie.GetTtl(); ttl != nil {
			key.Make, key.TTL, key.Path = true, duration(ttl, 0, path+".httpCookie.ttl", r), k.HttpCookie.Path
		}
		if len(k.HttpCookie.GetAttributes()) > 0 {
			r.warnf(path+".httpCookie.attributes", "not supported yet: it has no effect")
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_UseSourceIp:
		key = mesh.HashKey{Source: mesh.HashSourceIP}
		if !k.UseSourceIp {
			r.errorf(path+".useSourceIp", "is false, and there is no other key: make it true or name another key")
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpQueryParameterName:
		key = mesh.HashKey{Source: mesh.HashQuery, Name: k.HttpQueryParameterName}
	default:
		r.errorf(path, "has no key: add httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName")
		return
	}
	out.Hash = []mesh.HashKey{key}
}

func warmup(lb *networking.LoadBalancerSettings, path string, r *report) *mesh.Warmup {
	w := lb.Warmup
	switch {
	case w != nil && lb.WarmupDurationSecs != nil:
		r.errorf(path+".warmupDurationSecs", "cannot be together with warmup: keep one")
	case w == nil && lb.WarmupDurationSecs == nil:
		return nil
	case w == nil:
		return &mesh.Warmup{Duration: duration(lb.WarmupDurationSecs, time.Millisecond, path+".warmupDurationSecs", r)}
	case w.Duration == nil:
		r.errorf(path+".warmup.duration", "is not set: say how long endpoints warm up, such as 30s")
		return nil
	}
	out := &mesh.Warmup{Duration: duration(w.Duration, time.Millisecond, path+".warmup.duration", r), Aggression: w.Aggression.GetValue()}
	if w.MinimumPercent != nil {
		out.MinPercent = max(1, uint32(share(w.MinimumPercent.Value, path+".warmup.minimumPercent", r)/(mesh.Everything/100)))
	}
	return out
}

func pool(p *networking.ConnectionPoolSettings, path string, r *report) *mesh.Pool {
	if p == nil {
		return nil
	}
	out := &mesh.Pool{}
	if h := p.Http; h != nil {
		here := path + ".http"
		out.MaxPending = count(h.Http1MaxPendingRequests, here+".http1MaxPendingRequests", r)
		out.MaxRequests = count(h.Http2MaxRequests, here+".http2MaxRequests", r)
		out.RequestsPerConn = count(h.MaxRequestsPerConnection, here+".maxRequestsPerConnection", r)
		out.MaxRetries = count(h.MaxRetries, here+".maxRetries", r)
		out.ConcurrentStreams = count(h.MaxConcurrentStreams, here+".maxConcurrentStreams", r)
		out.IdleTimeout = duration(h.IdleTimeout, time.Millisecond, here+".idleTimeout", r)
		out.HTTP2 = h.H2UpgradePolicy == networking.ConnectionPoolSettings_HTTPSettings_UPGRADE
	}
	if c := p.Tcp; c != nil {
		here := path + ".tcp"
		out.MaxConnections = count(c.MaxConnections, here+".maxConnections", r)
		out.ConnectTimeout = duration(c.ConnectTimeout, time.Millisecond, here+".connectTimeout", r)
		out.MaxConnectionAge = duration(c.MaxConnectionDuration, time.Millisecond, here+".maxConnectionDuration", r)
		idle := duration(c.IdleTimeout, 0, here+".idleTimeout", r)
		if c.IdleTimeout != nil && idle == 0 {
			r.warnf(here+".idleTimeout", "0s, for ever, is not supported yet: the default is used")
		}
		out.IdleTimeout = cmp.Or(out.IdleTimeout, idle)
		if k := c.TcpKeepalive; k != nil {
			out.TCPKeepalive, out.TCPKeepaliveProbes = true, k.Probes
			out.TCPKeepaliveTime = duration(k.Time, 0, here+".tcpKeepalive.time", r)
			out.TCPKeepaliveInterval = duration(k.Interval, 0, here+".tcpKeepalive.interval", r)
		}
	}
	return out
}

// outlier translates outlier detection with Istio's defaults.
func outlier(o *networking.OutlierDetection, path string, r *report) *mesh.Outlier {
	if o == nil {
		return nil
	}
	out := &mesh.Outlier{
		Consecutive5xx: 5, MaxPercent: 10,
		Interval:         duration(o.Interval, time.Millisecond, path+".interval", r),
		BaseEjection:     duration(o.BaseEjectionTime, time.Millisecond, path+".baseEjectionTime", r),
		MinHealthPercent: count(o.MinHealthPercent, path+".minHealthPercent", r),
		SplitLocal:       o.SplitExternalLocalOriginErrors,
	}
	if o.MaxEjectionPercent != 0 {
		out.MaxPercent = count(o.MaxEjectionPercent, path+".maxEjectionPercent", r)
	}
	if n := o.ConsecutiveErrors; n != 0 && o.Consecutive_5XxErrors == nil && o.ConsecutiveGatewayErrors == nil {
		// The old field counts 502, 503 and 504.
		out.Consecutive5xx, out.ConsecutiveGateway = 0, count(n, path+".consecutiveErrors", r)
	}
	if n := o.Consecutive_5XxErrors; n != nil {
		out.Consecutive5xx = n.Value
	}
	out.ConsecutiveGateway = cmp.Or(o.ConsecutiveGatewayErrors.GetValue(), out.ConsecutiveGateway)
	if out.SplitLocal {
		out.ConsecutiveLocal = cmp.Or(o.ConsecutiveLocalOriginFailures.GetValue(), 5)
	}
	if err := (&mesh.Policy{Outlier: out}).Validate(nil); err != nil {
		r.errorf(path, "%v", err)
		return nil
	}
	return out
}

// retryBudget translates a budget with Istio's defaults.
func retryBudget(b *networking.TrafficPolicy_RetryBudget, path string, r *report) *mesh.RetryBudget {
	if b == nil {
		return nil
	}
	out := &mesh.RetryBudget{Percent: mesh.Everything / 5, MinConcurrency: cmp.Or(b.MinRetryConcurrency, 3)}
	if b.Percent != nil {
		out.Percent = share(b.Percent.Value, path+".percent", r)
	}
	if d := b.BudgetInterval; d != nil && d.AsDuration() != 0 {
		r.warnf(path+".budgetInterval", "not supported yet: requests count while they are under way")
	}
	return out
}
