package istio

import (
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	istiov1 "istio.io/client-go/pkg/apis/networking/v1"

	"serin.dev/serin/internal/mesh"
)

// destinationRule is a DestinationRule translated.
type destinationRule struct {
	origin   mesh.Origin
	service  mesh.ServiceName
	balancer *mesh.Balancer // nil = not said
	subsets  map[string]mesh.Labels
}

func (t *translator) destinationRule(o *istiov1.DestinationRule, r *report) destinationRule {
	dr := destinationRule{origin: r.origin, subsets: map[string]mesh.Labels{}}
	r.untranslated("spec", o.Spec.ProtoReflect(), destinationRuleFields(), noConsequence)
	host := mesh.CanonicalHost(o.Spec.Host, o.Namespace)
	switch err := mesh.CheckHost(host); {
	case o.Spec.Host == "":
		r.errorf("spec.host", "is empty: name a Service or the host of a ServiceEntry")
	case err != nil:
		r.errorf("spec.host", "%q %v", o.Spec.Host, err)
	case strings.HasPrefix(host, "*"):
		r.warnf("spec.host", "wildcards are not supported yet: the rule has no effect; write one for each service")
	default:
		dr.service = mesh.ServiceName(host)
	}
	if t.out.Snapshot != nil && dr.service != "" && t.out.Snapshot.Services[dr.service] == nil {
		r.warnf("spec.host", "unknown service %q%s: the rule has no effect", o.Spec.Host, didYouMean(o.Spec.Host, host, t.serviceNames()))
	}
	if lb := o.Spec.GetTrafficPolicy().GetLoadBalancer(); lb != nil {
		if simple, ok := lb.LbPolicy.(*networking.LoadBalancerSettings_Simple); ok {
			dr.balancer = balancerOf(simple.Simple, r)
		}
	}
	for i, s := range o.Spec.Subsets {
		path := at("spec.subsets[%d]", i)
		if s.GetName() == "" {
			r.errorf(path+".name", "is empty: routes refer to a subset by its name")
			continue
		}
		if _, twice := dr.subsets[s.Name]; twice {
			r.errorf(path+".name", "%q is listed twice: rename or remove one", s.Name)
			continue
		}
		if len(s.Labels) == 0 {
			r.warnf(path+".labels", "is empty: the subset has all endpoints of the service")
		}
		dr.subsets[s.Name] = maps.Clone(mesh.Labels(s.Labels))
	}
	return dr
}

func balancerOf(simple networking.LoadBalancerSettings_SimpleLB, r *report) *mesh.Balancer {
	path := "spec.trafficPolicy.loadBalancer.simple"
	b := mesh.LeastRequest
	switch simple {
	case networking.LoadBalancerSettings_UNSPECIFIED, networking.LoadBalancerSettings_LEAST_REQUEST,
		networking.LoadBalancerSettings_LEAST_CONN: // its old name
	case networking.LoadBalancerSettings_ROUND_ROBIN:
		b = mesh.RoundRobin
	case networking.LoadBalancerSettings_RANDOM:
		b = mesh.Random
	case networking.LoadBalancerSettings_PASSTHROUGH:
		r.warnf(path, "PASSTHROUGH is not supported yet: LEAST_REQUEST is used")
	default:
		r.errorf(path, "unknown balancer %d: use ROUND_ROBIN, LEAST_REQUEST or RANDOM", simple)
		return nil
	}
	return &b
}

// addDestinationRules applies the rules to their services: those of the
// service's own namespace first, then the oldest. Subsets add up; of two with
// the same name, and of two balancers, the first is used.
func (t *translator) addDestinationRules(rules []destinationRule) {
	slices.SortStableFunc(rules, func(a, b destinationRule) int {
		return boolRank(b.isOwn()) - boolRank(a.isOwn())
	})
	balanced := map[mesh.ServiceName]mesh.Origin{}
	defined := map[mesh.Destination]mesh.Origin{}
	for i := range rules {
		dr := &rules[i]
		svc := t.out.Snapshot.Services[dr.service]
		if svc == nil {
			continue
		}
		r := &report{origin: dr.origin}
		if dr.balancer != nil {
			if first, taken := balanced[dr.service]; taken {
				r.warnf("spec.trafficPolicy.loadBalancer", "%s decides for host %s: put it there", first, dr.service)
			} else {
				balanced[dr.service] = dr.origin
				svc.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {Balancer: *dr.balancer}}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(dr.subsets)) {
			id := mesh.Destination{Service: dr.service, Subset: name}
			if first, taken := defined[id]; taken {
				r.warnf("spec.subsets", "subset %q of %s is defined by %s already: rename or remove one", name, dr.service, first)
				continue
			}
			defined[id] = dr.origin
			if svc.Subsets == nil {
				svc.Subsets = map[string]mesh.Labels{}
			}
			svc.Subsets[name] = dr.subsets[name]
		}
		t.out.Findings = append(t.out.Findings, r.findings...)
	}
}

// isOwn reports whether the rule lives in its service's namespace.
func (dr *destinationRule) isOwn() bool {
	namespace, _ := dr.service.Split()
	return namespace == dr.origin.Namespace
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}
