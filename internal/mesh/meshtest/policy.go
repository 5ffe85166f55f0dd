package meshtest

import (
	"time"

	"serin.dev/serin/internal/mesh"
)

// addPolicies adds policies for all, and for ports and subsets that exist.
func (m *maker) addPolicies(svc *mesh.Service) {
	scopes := some(m, 0, 3,
		mesh.PolicyScope{},
		mesh.PolicyScope{Subset: "v1"},
		mesh.PolicyScope{Port: 80},
		mesh.PolicyScope{Port: 80, Subset: "v2"})
	for _, scope := range scopes {
		if svc.Policies == nil {
			svc.Policies = map[mesh.PolicyScope]*mesh.Policy{}
		}
		svc.Policies[scope] = m.policy()
	}
}

func (m *maker) policy() *mesh.Policy {
	p := &mesh.Policy{Balancer: pick(m, mesh.LeastRequest, mesh.RoundRobin, mesh.Random, mesh.RingHash, mesh.Maglev)}
	switch p.Balancer {
	case mesh.RingHash:
		p.Hash, p.RingSize = m.hash(), pick[uint32](m, 0, 1, 1024, 100_000)
	case mesh.Maglev:
		p.Hash, p.TableSize = m.hash(), pick[uint32](m, 0, 251, 65537)
	case mesh.LeastRequest, mesh.RoundRobin:
		if m.percent(20) {
			p.Warmup = &mesh.Warmup{Duration: m.duration(), MinPercent: pick[uint32](m, 0, 1, 100), Aggression: pick(m, 0, 0.5, 2)}
		}
	case mesh.Random:
	}
	if m.percent(50) {
		p.Pool = m.pool()
	}
	if m.percent(40) {
		p.Outlier = m.outlier()
	}
	if m.percent(20) {
		p.Budget = &mesh.RetryBudget{Percent: m.share(), MinConcurrency: m.Uint32N(10)}
	}
	if m.percent(20) {
		p.Health = &mesh.HealthCheck{
			Interval: m.duration(), Timeout: m.duration(), UnhealthyAfter: 1 + m.Uint32N(5), HealthyAfter: 1 + m.Uint32N(5),
		}
		if m.percent(50) {
			p.Health.Path, p.Health.Host = "/health", pick(m, "", "health.test")
		}
	}
	if m.Places && m.percent(30) {
		p.Locality = m.locality()
	}
	if m.TLS && m.percent(20) {
		p.TLS = &mesh.ClientTLS{
			SNI: pick(m, "", "inner.test"), CA: pick(m, "", "default/ca"), Certificate: pick(m, "", "default/client"),
			SubjectAlts: some(m, 0, 2, "inner.test", "spiffe://cluster.local/ns/default/sa/web"), Insecure: m.percent(20),
		}
	}
	return p
}

func (m *maker) hash() []mesh.HashKey {
	return some(m, 1, 2,
		mesh.HashKey{Source: mesh.HashHeader, Name: "end-user"},
		mesh.HashKey{Source: mesh.HashCookie, Name: "user"},
		mesh.HashKey{Source: mesh.HashCookie, Name: "session", Make: true, Path: pick(m, "", "/"), TTL: pick(m, 0, time.Hour)},
		mesh.HashKey{Source: mesh.HashQuery, Name: "q"},
		mesh.HashKey{Source: mesh.HashSourceIP})
}

func (m *maker) locality() *mesh.Locality {
	if m.percent(50) {
		l := &mesh.Locality{Failover: true}
		if m.percent(50) {
			l.FailoverTo = map[string]string{"eu": "us"}
		}
		return l
	}
	return &mesh.Locality{Distribute: []mesh.Distribution{
		{From: "eu/west/*", To: map[string]uint32{"eu/west/*": 80, "us/east/*": 20}},
		{From: "*", To: map[string]uint32{"*": 100}},
	}}
}

func (m *maker) pool() mesh.Pool {
	limit := func() uint32 { return pick[uint32](m, 0, 1, 100) }
	p := mesh.Pool{
		MaxConnections: limit(), MaxPending: limit(), MaxRequests: limit(), MaxRetries: limit(),
		RequestsPerConn: limit(), ConcurrentStreams: limit(), HTTP2: m.percent(20),
	}
	if m.percent(50) {
		p.ConnectTimeout = m.duration()
	}
	if m.percent(50) {
		p.IdleTimeout = m.duration()
	}
	if m.percent(20) {
		p.MaxConnectionAge = m.duration()
	}
	if m.percent(20) {
		p.TCPKeepalive = true
		p.TCPKeepaliveTime = pick(m, 0, time.Minute)
		p.TCPKeepaliveInterval = pick(m, 0, 10*time.Second)
		p.TCPKeepaliveProbes = pick[uint32](m, 0, 3)
	}
	return p
}

func (m *maker) outlier() *mesh.Outlier {
	count := func() uint32 { return pick[uint32](m, 0, 1, 5) }
	o := &mesh.Outlier{
		Consecutive5xx: count(), ConsecutiveGateway: count(), SplitLocal: m.percent(30),
		MaxPercent: pick[uint32](m, 0, 10, 100), MinHealthPercent: pick[uint32](m, 0, 50),
	}
	if o.SplitLocal {
		o.ConsecutiveLocal = count()
	}
	if m.percent(50) {
		o.Interval, o.BaseEjection = m.duration(), m.duration()
		o.MaxEjection = o.BaseEjection * time.Duration(m.IntN(3))
	}
	return o
}
