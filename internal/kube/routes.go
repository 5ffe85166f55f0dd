package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"
	istiov1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/rollout"
)

// Names of the routes in a VirtualService, in their order: the first one that
// matches a request takes it.
const (
	routePreview = "preview" // testers, to the canary
	routeStick   = "stick"   // users who have the run's cookie, to the canary
	routeMatch   = "match"   // the matched users of an A/B test, to the canary
	routeSplit   = "split"   // everybody else
)

// RoutesOf returns the VirtualServices that a Release may ask for, with every
// kind of route that its spec has. An error names the field of the spec.
func RoutesOf(r *v1alpha1.Release) ([]*istiov1.VirtualService, error) {
	t := rollout.Traffic{Share: rollout.Percent, Match: len(r.Spec.Match) > 0}
	return routesFor(&Delivery{Release: r, Names: NamesOf(r)}, t, true)
}

// routesFor builds the VirtualServices that carry the traffic. Calls between
// services are split whatever they ask for, because their host alone says what
// they are for; at gateways spec.service.match picks the requests.
func routesFor(d *Delivery, t rollout.Traffic, preview bool) ([]*istiov1.VirtualService, error) {
	names, gateways := d.Names, gatewaysOf(d.Release)
	virtual := func(name string, hosts, gateways []string, own []runtime.RawExtension) (*istiov1.VirtualService, error) {
		vs := &istiov1.VirtualService{
			TypeMeta:   metav1.TypeMeta{APIVersion: "networking.istio.io/v1", Kind: "VirtualService"},
			ObjectMeta: ownMeta(d, name),
		}
		vs.Spec.Hosts, vs.Spec.Gateways = hosts, gateways
		var err error
		vs.Spec.Http, err = httpRoutes(d, t, preview, own)
		return vs, err
	}
	all := routeNames(names, len(gateways) > 0)
	inside, err := virtual(all[0], []string{names.Service}, []string{"mesh"}, nil)
	if err != nil || len(gateways) == 0 {
		return []*istiov1.VirtualService{inside}, err
	}
	hosts := d.Release.Spec.Service.Hosts
	if len(hosts) == 0 {
		hosts = []string{names.Service}
	}
	outside, err := virtual(all[1], hosts, gateways, d.Release.Spec.Service.Match)
	return []*istiov1.VirtualService{inside, outside}, err
}

// httpRoutes are the routes of requests that own matches; of all when it is
// empty.
func httpRoutes(d *Delivery, t rollout.Traffic, preview bool, own []runtime.RawExtension) ([]*networking.HTTPRoute, error) {
	spec := &d.Release.Spec
	service, err := matchesOf("spec.service.match", own)
	if err != nil {
		return nil, err
	}
	var out []*networking.HTTPRoute
	canary := []*networking.HTTPRouteDestination{{Destination: &networking.Destination{Host: d.Names.CanaryService}}}
	special := func(name, field string, raw []runtime.RawExtension) error {
		match, err := matchesOf(field, raw)
		if err != nil {
			return err
		}
		if match, err = both(field, match, service); err != nil {
			return err
		}
		out = append(out, &networking.HTTPRoute{Name: name, Match: match, Route: canary})
		return nil
	}
	if preview && len(spec.Preview) > 0 {
		if err := special(routePreview, "spec.preview", spec.Preview); err != nil {
			return nil, err
		}
	}
	cookie := spec.SessionAffinity != nil && t.Share > 0
	if cookie {
		match, err := both("spec.sessionAffinity", []*networking.HTTPMatchRequest{stuck(d)}, service)
		if err != nil {
			return nil, err
		}
		out = append(out, &networking.HTTPRoute{Name: routeStick, Match: match, Route: canary})
	}
	if t.Match {
		if err := special(routeMatch, "spec.match", spec.Match); err != nil {
			return nil, err
		}
	}
	split := &networking.HTTPRoute{Name: routeSplit, Match: service, Route: splitOf(d, t)}
	if cookie && !t.Match {
		split.Route[1].Headers = &networking.Headers{Response: &networking.Headers_HeaderOperations{
			Add: map[string]string{"set-cookie": sessionCookie(d)},
		}}
	}
	if t.Mirror > 0 {
		split.Mirrors = []*networking.HTTPMirrorPolicy{{
			Destination: &networking.Destination{Host: d.Names.CanaryService},
			Percentage:  &networking.Percent{Value: 100 * t.Mirror.Fraction()},
		}}
	}
	return append(out, split), nil
}

// splitOf divides the requests between stable and canary, in percent where that
// is fine enough, as people read it.
func splitOf(d *Delivery, t rollout.Traffic) []*networking.HTTPRouteDestination {
	stable, share := d.Names.StableService, t.Share
	if t.Warm {
		stable = d.Names.WarmService
	}
	if t.Match {
		share = 0
	}
	unit := rollout.Share(1)
	if share%rollout.Percent == 0 {
		unit = rollout.Percent
	}
	return []*networking.HTTPRouteDestination{
		{Destination: &networking.Destination{Host: stable}, Weight: int32((rollout.All - share) / unit)},
		{Destination: &networking.Destination{Host: d.Names.CanaryService}, Weight: int32(share / unit)},
	}
}

// trafficOf reads back what a VirtualService gives to the canary, so that what
// a foreign hand has changed is seen.
func trafficOf(vs *networking.VirtualService, n Names) rollout.Traffic {
	var t rollout.Traffic
	for _, r := range vs.Http {
		switch r.Name {
		case routePreview, routeStick:
		case routeMatch:
			t.Match, t.Share = true, rollout.All
		default:
			var canary, all int64
			for _, d := range r.Route {
				all += int64(d.Weight)
				switch d.Destination.GetHost() {
				case n.CanaryService:
					canary += int64(d.Weight)
				case n.WarmService:
					t.Warm = true
				}
			}
			if canary > 0 {
				t.Share = max(t.Share, rollout.Share((canary*int64(rollout.All)+all-1)/all))
			}
			for _, m := range r.Mirrors {
				t.Mirror = rollout.Share(m.GetPercentage().GetValue()*float64(rollout.Percent) + 0.5)
			}
		}
	}
	return t
}

// cookieValue tells the cookies of one run from those of another: who met an
// earlier canary does not stick to this one.
func cookieValue(d *Delivery) string { return d.Target.Revision }

func sessionCookie(d *Delivery) string {
	a := d.Release.Spec.SessionAffinity
	return fmt.Sprintf("%s=%s; Max-Age=%d; Path=/", a.CookieName, cookieValue(d), a.MaxAge)
}

// stuck matches requests with the cookie among others.
func stuck(d *Delivery) *networking.HTTPMatchRequest {
	pair := quoteRegex(d.Release.Spec.SessionAffinity.CookieName + "=" + cookieValue(d))
	return &networking.HTTPMatchRequest{Headers: map[string]*networking.StringMatch{
		"cookie": {MatchType: &networking.StringMatch_Regex{Regex: "(.*;\\s*)?" + pair + "(\\s*;.*)?"}},
	}}
}

// quoteRegex takes their meaning from the characters of a cookie that have one
// in a regular expression.
func quoteRegex(s string) string {
	return strings.NewReplacer(".", `\.`, "+", `\+`, "*", `\*`, "^", `\^`, "$", `\$`, "|", `\|`).Replace(s)
}

// makeCohort makes the DestinationRules by which users stick to their side of
// the split, and to a pod of it; nothing without a cohort.
func (c *Client) makeCohort(ctx context.Context, d *Delivery) error {
	cohort := d.Release.Spec.Cohort
	if cohort == nil {
		return nil
	}
	hash := &networking.LoadBalancerSettings_ConsistentHashLB{}
	if cohort.Header != "" {
		hash.HashKey = &networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName{HttpHeaderName: cohort.Header}
	} else {
		hash.HashKey = &networking.LoadBalancerSettings_ConsistentHashLB_HttpCookie{
			HttpCookie: &networking.LoadBalancerSettings_ConsistentHashLB_HTTPCookie{Name: cohort.Cookie, Ttl: durationpb.New(0)},
		}
	}
	for _, host := range []string{d.Names.StableService, d.Names.CanaryService} {
		want := &istiov1.DestinationRule{
			TypeMeta:   metav1.TypeMeta{APIVersion: "networking.istio.io/v1", Kind: "DestinationRule"},
			ObjectMeta: ownMeta(d, host),
		}
		want.Spec.Host = host
		want.Spec.TrafficPolicy = &networking.TrafficPolicy{LoadBalancer: &networking.LoadBalancerSettings{
			LbPolicy: &networking.LoadBalancerSettings_ConsistentHash{ConsistentHash: hash},
		}}
		have, err := c.istioInformers.Networking().V1().DestinationRules().Lister().DestinationRules(want.Namespace).Get(want.Name)
		if err == nil && have.Labels[LabelRelease] != d.Release.Name {
			return fmt.Errorf("%s: DestinationRule %s/%s exists and is not this Release's: delete it, or remove spec.cohort", releaseName(d), want.Namespace, want.Name)
		}
		if err == nil && proto.Equal(&have.Spec, &want.Spec) {
			continue
		}
		if _, err := c.apply(ctx, rulesResource, want); err != nil {
			return err
		}
	}
	return nil
}

func ownMeta(d *Delivery, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Namespace: d.Names.Namespace,
		Labels:          map[string]string{LabelRelease: d.Release.Name},
		OwnerReferences: ownedBy(d.Release),
	}
}

func routeNames(n Names, gateways bool) []string {
	if !gateways {
		return []string{n.Service}
	}
	return []string{n.Service, n.Service + "-gateway"}
}

func gatewaysOf(r *v1alpha1.Release) []string {
	return slices.DeleteFunc(slices.Clone(r.Spec.Service.Gateways), func(g string) bool { return g == "mesh" })
}

func matchesOf(field string, raw []runtime.RawExtension) ([]*networking.HTTPMatchRequest, error) {
	var out []*networking.HTTPMatchRequest
	for i := range raw {
		m := &networking.HTTPMatchRequest{}
		if err := protojson.Unmarshal(raw[i].Raw, m); err != nil {
			// Without its own prefix, which holds a position in one line.
			_, what, _ := strings.Cut(err.Error(), "): ")
			return nil, fmt.Errorf("%s[%d]: %s", field, i, what)
		}
		out = append(out, m)
	}
	return out, nil
}

// both returns the matches of requests that one of a and one of b match; b may
// be empty, which matches all.
func both(field string, a, b []*networking.HTTPMatchRequest) ([]*networking.HTTPMatchRequest, error) {
	if len(b) == 0 {
		return a, nil
	}
	var out []*networking.HTTPMatchRequest
	for i, x := range a {
		for j, y := range b {
			if twice := overlap(x.ProtoReflect(), y.ProtoReflect()); twice != "" {
				return nil, fmt.Errorf("%s[%d]: %s is matched by spec.service.match[%d], too: one request cannot be held to both, so say it in one of them", field, i, twice, j)
			}
			m := proto.CloneOf(x)
			proto.Merge(m, y)
			out = append(out, m)
		}
	}
	return out, nil
}

// overlap is a field that both set; "" = none. Of maps: a key.
func overlap(x, y protoreflect.Message) string {
	twice := ""
	y.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case !x.Has(f):
		case f.IsMap():
			v.Map().Range(func(key protoreflect.MapKey, _ protoreflect.Value) bool {
				if x.Get(f).Map().Has(key) {
					twice = f.JSONName() + "." + key.String()
				}
				return twice == ""
			})
		default:
			twice = f.JSONName()
		}
		return twice == ""
	})
	return twice
}
