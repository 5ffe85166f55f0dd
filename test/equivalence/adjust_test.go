package equivalence

import (
	"time"

	"serin.dev/serin/internal/mesh"
)

// adjustments are what stories say in the section "mesh", since Istio's objects
// cannot: one a line, for all services and routes, or for the services that
// stand behind it.
var adjustments = map[string]func(*mesh.Snapshot){
	"affinity-by-user": func(s *mesh.Snapshot) {
		eachRoute(s, func(r *mesh.Route) { r.Affinity = []mesh.HashKey{{Source: mesh.HashHeader, Name: "user"}} })
	},
	"affinity-by-cookie": func(s *mesh.Snapshot) {
		eachRoute(s, func(r *mesh.Route) {
			r.Affinity = []mesh.HashKey{{Source: mesh.HashCookie, Name: "user", Make: true, TTL: time.Hour, Path: "/"}}
		})
	},
	"rate-limit-2": func(s *mesh.Snapshot) {
		eachRoute(s, func(r *mesh.Route) { r.RateLimit = &mesh.RateLimit{Burst: 2, Fill: 1, Per: time.Hour} })
	},
	"deny-delete": access(mesh.Access{Deny: true, Matches: []mesh.Match{{Method: mesh.StringMatch{Kind: mesh.Exact, Value: "DELETE"}}}}),
	"allow-shop":  access(mesh.Access{Sources: []mesh.Source{{Namespace: "shop"}}}),
	"allow-web-to-read": access(mesh.Access{
		Sources: []mesh.Source{{Namespace: "default", Service: "web"}},
		Matches: []mesh.Match{{
			Method: mesh.StringMatch{Kind: mesh.Exact, Value: "GET"}, URI: mesh.StringMatch{Kind: mesh.Prefix, Value: "/public"},
		}, {
			Headers: map[string]mesh.StringMatch{"token": {Kind: mesh.Present}},
		}},
	}),
	"retry-connect": retryOn(mesh.RetryConnectFailure),
	"retry-reset":   retryOn(mesh.RetryReset),
	"retry-unsent":  retryOn(mesh.RetryResetBeforeRequest),
	"retry-refused": retryOn(mesh.RetryRefusedStream),
	"retry-4xx":     retryOn(mesh.RetryRetriable4xx),
	"retry-gateway": retryOn(mesh.RetryGatewayError),
	"retry-5xx":     retryOn(mesh.Retry5xx),
	"retry-grpc": retryOn(mesh.RetryGRPCCancelled | mesh.RetryGRPCDeadline | mesh.RetryGRPCInternal |
		mesh.RetryGRPCExhausted | mesh.RetryGRPCUnavailable),
	"idle-1s": func(s *mesh.Snapshot) {
		eachRoute(s, func(r *mesh.Route) { r.IdleTimeout = time.Second })
	},
	"maglev": policies(func(p *mesh.Policy) {
		p.Balancer, p.Hash, p.TableSize = mesh.Maglev, []mesh.HashKey{{Source: mesh.HashHeader, Name: "user"}}, 251
	}),
	"ring-by-query": policies(func(p *mesh.Policy) {
		p.Balancer, p.Hash = mesh.RingHash, []mesh.HashKey{{Source: mesh.HashQuery, Name: "user"}}
	}),
	"ring-by-source": policies(func(p *mesh.Policy) {
		p.Balancer, p.Hash = mesh.RingHash, []mesh.HashKey{{Source: mesh.HashSourceIP}}
	}),
	"health-http": policies(func(p *mesh.Policy) {
		p.Health = &mesh.HealthCheck{Path: "/health", Interval: 20 * time.Millisecond, Timeout: patience, UnhealthyAfter: 1, HealthyAfter: 1}
	}),
	"health-tcp": policies(func(p *mesh.Policy) {
		p.Health = &mesh.HealthCheck{Interval: 20 * time.Millisecond, Timeout: patience, UnhealthyAfter: 2, HealthyAfter: 1}
	}),
	"no-retries":                 policies(func(p *mesh.Policy) { p.Budget = &mesh.RetryBudget{} }),
	"half-retries":               policies(func(p *mesh.Policy) { p.Budget = &mesh.RetryBudget{Percent: mesh.Everything / 2} }),
	"one-request-per-connection": policies(func(p *mesh.Policy) { p.Pool.RequestsPerConn = 1 }),
}

func eachRoute(s *mesh.Snapshot, do func(*mesh.Route)) {
	for i := range s.Hosts {
		for j := range s.Hosts[i].Routes {
			do(&s.Hosts[i].Routes[j])
		}
	}
}

func policies(do func(*mesh.Policy)) func(*mesh.Snapshot) {
	return func(s *mesh.Snapshot) {
		for _, svc := range s.Services {
			if svc.Policies == nil {
				svc.Policies = map[mesh.PolicyScope]*mesh.Policy{}
			}
			if svc.Policies[mesh.PolicyScope{}] == nil {
				svc.Policies[mesh.PolicyScope{}] = &mesh.Policy{}
			}
			for _, p := range svc.Policies {
				do(p)
			}
		}
	}
}

func access(rule mesh.Access) func(*mesh.Snapshot) {
	return func(s *mesh.Snapshot) {
		for _, svc := range s.Services {
			svc.Access = append(svc.Access, rule)
		}
	}
}

func retryOn(on mesh.RetryOn) func(*mesh.Snapshot) {
	return func(s *mesh.Snapshot) {
		eachRoute(s, func(r *mesh.Route) {
			r.Retry = &mesh.Retry{Attempts: 2, On: on, Base: time.Millisecond}
		})
	}
}
