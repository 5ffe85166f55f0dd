package istio

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	istiov1 "istio.io/client-go/pkg/apis/networking/v1"

	"serin.dev/serin/internal/mesh"
)

// destinationRule is a DestinationRule translated.
type destinationRule struct {
	origin  mesh.Origin
	host    string         // canonical; may be a pattern; "" = unusable
	policy  *trafficPolicy // nil = not said
	subsets map[string]subset
}

type subset struct {
	labels mesh.Labels
	policy *trafficPolicy // nil = that of the rule
}

func (t *translator) destinationRule(o *istiov1.DestinationRule, r *report) destinationRule {
	dr := destinationRule{origin: r.origin, subsets: map[string]subset{}}
	r.untranslated("spec", o.Spec.ProtoReflect(), destinationRuleFields(), func(field string) string {
		switch field {
		case "workloadSelector":
			return "the rule holds for every caller"
		case "exportTo":
			return "the rule holds for callers of every namespace"
		}
		return ""
	})
	host := mesh.CanonicalHost(o.Spec.Host, o.Namespace)
	switch err := mesh.CheckHost(host); {
	case o.Spec.Host == "":
		r.errorf("spec.host", "is empty: name a Service or the host of a ServiceEntry")
	case err != nil:
		r.errorf("spec.host", "%q %v", o.Spec.Host, err)
	default:
		dr.host = host
	}
	if t.out.Snapshot != nil && dr.host != "" && !t.knowsHost(dr.host) {
		r.warnf("spec.host", "unknown service %q%s: the rule has no effect", o.Spec.Host, didYouMean(o.Spec.Host, host, t.serviceNames()))
	}
	dr.policy = t.trafficPolicy(o.Spec.TrafficPolicy, "spec.trafficPolicy", o.Namespace, r)
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
		dr.subsets[s.Name] = subset{
			labels: maps.Clone(mesh.Labels(s.Labels)),
			policy: t.trafficPolicy(s.TrafficPolicy, path+".trafficPolicy", o.Namespace, r),
		}
	}
	return dr
}

// knowsHost reports whether a rule for the host or pattern has a service.
func (t *translator) knowsHost(host string) bool {
	if !strings.HasPrefix(host, "*") {
		return t.out.Snapshot.Services[mesh.ServiceName(host)] != nil
	}
	for name := range t.out.Snapshot.Services {
		if t.covers(host, name) {
			return true
		}
	}
	return false
}

// covers reports whether a rule's pattern is for a service. It may be written
// for the full names of cluster services, as in "*.local".
func (t *translator) covers(pattern string, service mesh.ServiceName) bool {
	return mesh.HostMatches(pattern, string(service)) ||
		t.cluster[service] && mesh.HostMatches(pattern, string(service)+clusterDomain)
}

// clusterDomain ends the full names of the cluster's services.
const clusterDomain = ".svc.cluster.local"

// addDestinationRules applies to each service the rules with the most specific
// host: those of the service's own namespace first, then the oldest. Subsets
// add up; of two with the same name, and of two policies, the first is used.
func (t *translator) addDestinationRules(rules []destinationRule) {
	byHost := map[string][]*destinationRule{}
	var patterns []string // the longest first
	for i := range rules {
		dr := &rules[i]
		if strings.HasPrefix(dr.host, "*") && byHost[dr.host] == nil {
			patterns = append(patterns, dr.host)
		}
		byHost[dr.host] = append(byHost[dr.host], dr)
	}
	slices.SortFunc(patterns, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	for _, name := range slices.Sorted(maps.Keys(t.out.Snapshot.Services)) {
		fitting := slices.Clone(byHost[string(name)])
		if i := slices.IndexFunc(patterns, func(p string) bool { return t.covers(p, name) }); i >= 0 && len(fitting) == 0 {
			fitting = slices.Clone(byHost[patterns[i]])
		}
		namespace, _ := name.Split()
		slices.SortStableFunc(fitting, func(a, b *destinationRule) int {
			return cmp.Compare(foreign(a, namespace), foreign(b, namespace))
		})
		t.addRulesTo(t.out.Snapshot.Services[name], fitting)
	}
}

// foreign ranks rules of a service's own namespace first.
func foreign(dr *destinationRule, namespace string) int {
	if dr.origin.Namespace == namespace {
		return 0
	}
	return 1
}

func (t *translator) addRulesTo(svc *mesh.Service, rules []*destinationRule) {
	var decides *destinationRule
	defined := map[string]mesh.Origin{}
	narrow := map[string]*trafficPolicy{}
	for _, dr := range rules {
		r := &report{origin: dr.origin}
		switch {
		case dr.policy == nil:
		case decides != nil:
			r.warnf("spec.trafficPolicy", "%s decides for host %s: put it there", decides.origin, svc.Name)
		default:
			decides = dr
		}
		t.checkPorts(svc, dr, r)
		for _, name := range slices.Sorted(maps.Keys(dr.subsets)) {
			if first, taken := defined[name]; taken {
				r.warnf("spec.subsets", "subset %q of %s is defined by %s already: rename or remove one", name, svc.Name, first)
				continue
			}
			defined[name] = dr.origin
			if svc.Subsets == nil {
				svc.Subsets = map[string]mesh.Labels{}
			}
			svc.Subsets[name] = dr.subsets[name].labels
			if p := dr.subsets[name].policy; p != nil {
				narrow[name] = p
			}
		}
		t.out.Findings = append(t.out.Findings, r.findings...)
	}
	var wide *trafficPolicy
	if decides != nil {
		wide = decides.policy
	}
	svc.Policies = policies(wide, narrow, t.alternatives[svc.Name])
	maps.DeleteFunc(svc.Policies, func(scope mesh.PolicyScope, _ *mesh.Policy) bool {
		_, ok := svc.Port(scope.Port)
		return scope.Port != 0 && !ok
	})
}

// checkPorts reports settings for a port that a service does not have. With a
// pattern they are for those services that have it.
func (t *translator) checkPorts(svc *mesh.Service, dr *destinationRule, r *report) {
	if dr.host != string(svc.Name) || dr.policy == nil {
		return
	}
	for _, port := range slices.Sorted(maps.Keys(dr.policy.ports)) {
		if _, ok := svc.Port(port); !ok {
			r.warnf("spec.trafficPolicy.portLevelSettings", "service %s has no port %d: its settings have no effect", svc.Name, port)
		}
	}
}
