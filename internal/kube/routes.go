package kube

import (
	"context"
	"errors"
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
	"serin.dev/serin/internal/translate/istio"
)

// Names of the routes in a VirtualService, in their order: the first one that
// matches a request takes it.
const (
	routePreview = "preview" // testers, to the canary
	routeStick   = "stick"   // users who have the run's cookie, to the canary
	routeMatch   = "match"   // the matched users of an A/B test, to the canary
	routeSplit   = "split"   // everybody else
)

// RoutesOf returns the VirtualServices and DestinationRules that a Release may
// ask for, with every kind of route that its spec has. An error names the field
// of the spec.
func RoutesOf(r *v1alpha1.Release) ([]metav1.Object, error) {
	if r.Spec.Worker() {
		return nil, nil
	}
	d := &Delivery{Release: r, Names: NamesOf(r)}
	routes, err := routesFor(d, rollout.Traffic{Share: rollout.Percent, Match: len(r.Spec.Match) > 0}, true)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkSome("spec.preview", r.Spec.Preview), checkSome("spec.match", r.Spec.Match)); err != nil {
		return nil, err
	}
	rules, err := rulesFor(d)
	if err != nil {
		return nil, err
	}
	var out []metav1.Object
	for _, vs := range routes {
		out = append(out, vs)
	}
	for _, rule := range rules {
		out = append(out, rule)
	}
	return out, nil
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
		vs.Annotations = map[string]string{istio.AnnotationCompare: "true"}
		vs.Spec.Hosts, vs.Spec.Gateways = hosts, gateways
		var err error
		vs.Spec.Http, err = httpRoutes(d, t, preview, own)
		return vs, err
	}
	if d.Release.Spec.Service.Delegation {
		only, err := virtual(names.Service, nil, nil, d.Release.Spec.Service.Match)
		return []*istiov1.VirtualService{only}, err
	}
	all := routeNames(d.Release)
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
	common, err := commonRoute(&spec.Service)
	if err != nil {
		return nil, err
	}
	var out []*networking.HTTPRoute
	add := func(name string, match []*networking.HTTPMatchRequest, to []*networking.HTTPRouteDestination) *networking.HTTPRoute {
		route := proto.CloneOf(common)
		route.Name, route.Match, route.Route = name, match, to
		out = append(out, route)
		return route
	}
	canary := []*networking.HTTPRouteDestination{{Destination: d.destination(d.Names.CanaryService)}}
	special := func(name, field string, raw []runtime.RawExtension) error {
		match, err := matchesOf(field, raw)
		if err != nil {
			return err
		}
		if match, err = both(field, match, service); err != nil {
			return err
		}
		add(name, match, canary)
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
		add(routeStick, match, canary)
	}
	if t.Match {
		if err := special(routeMatch, "spec.match", spec.Match); err != nil {
			return nil, err
		}
	}
	split := add(routeSplit, service, splitOf(d, t))
	if cookie && !t.Match {
		split.Route[1].Headers = &networking.Headers{Response: &networking.Headers_HeaderOperations{
			Add: map[string]string{"set-cookie": sessionCookie(d)},
		}}
	}
	if t.Mirror > 0 {
		split.Mirrors = []*networking.HTTPMirrorPolicy{{
			Destination: d.destination(d.Names.CanaryService),
			Percentage:  &networking.Percent{Value: 100 * t.Mirror.Fraction()},
		}}
	}
	return out, nil
}

// commonRoute is what all routes do with their requests.
func commonRoute(s *v1alpha1.Service) (*networking.HTTPRoute, error) {
	out := &networking.HTTPRoute{}
	if err := fromJSON("spec.service.http", s.HTTP, out); err != nil {
		return nil, err
	}
	var wrong error
	out.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		switch f.JSONName() {
		case "timeout", "retries", "headers", "rewrite", "corsPolicy":
			return true
		}
		wrong = fmt.Errorf("spec.service.http.%s: only timeout, retries, headers, rewrite and corsPolicy are for all requests: remove it", f.JSONName())
		return false
	})
	return out, wrong
}

// destination is one of the Release's Services. Of several ports one has to be
// named at a gateway; between services the call's own is meant.
func (d *Delivery) destination(host string) *networking.Destination {
	to := &networking.Destination{Host: host}
	s := &d.Release.Spec.Service
	if s.PortDiscovery && (s.Delegation || len(gatewaysOf(d.Release)) > 0) {
		to.Port = &networking.PortSelector{Number: uint32(s.Port)}
	}
	return to
}

// subset is a Service with its share of the requests, beside stable.
type subset struct {
	service string
	share   rollout.Share
}

// splitOf divides the requests between stable and the subsets: an experiment's
// candidates, else the canary. In percent where that is fine enough, as people
// read it.
func splitOf(d *Delivery, t rollout.Traffic) []*networking.HTTPRouteDestination {
	stable, share := d.Names.StableService, t.Share
	if t.Warm {
		stable = d.Names.WarmService
	}
	if t.Match {
		share = 0
	}
	subsets := d.subsets
	if subsets == nil {
		subsets = []subset{{d.Names.CanaryService, share}}
	}
	unit, rest := rollout.Percent, rollout.All
	for _, s := range subsets {
		rest -= s.share
		if s.share%rollout.Percent != 0 {
			unit = 1
		}
	}
	out := []*networking.HTTPRouteDestination{{Destination: d.destination(stable), Weight: int32(rest / unit)}}
	for _, s := range subsets {
		out = append(out, &networking.HTTPRouteDestination{Destination: d.destination(s.service), Weight: int32(s.share / unit)})
	}
	return out
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

// rulesFor are the DestinationRules of the two sides: how their pods are
// called, and by what users stick to their side of the split and to a pod of it.
func rulesFor(d *Delivery) ([]*istiov1.DestinationRule, error) {
	s := &d.Release.Spec
	if s.Cohort == nil && s.Service.TrafficPolicy == nil {
		return nil, nil
	}
	policy := &networking.TrafficPolicy{}
	if err := fromJSON("spec.service.trafficPolicy", s.Service.TrafficPolicy, policy); err != nil {
		return nil, err
	}
	if s.Cohort != nil {
		if policy.LoadBalancer.GetLbPolicy() != nil {
			return nil, errors.New("spec.service.trafficPolicy.loadBalancer: spec.cohort says already which pod a request goes to: remove one of the two")
		}
		if policy.LoadBalancer == nil {
			policy.LoadBalancer = &networking.LoadBalancerSettings{}
		}
		policy.LoadBalancer.LbPolicy = &networking.LoadBalancerSettings_ConsistentHash{ConsistentHash: hashOf(s.Cohort)}
	}
	var out []*istiov1.DestinationRule
	for _, host := range []string{d.Names.StableService, d.Names.CanaryService} {
		rule := &istiov1.DestinationRule{
			TypeMeta:   metav1.TypeMeta{APIVersion: "networking.istio.io/v1", Kind: "DestinationRule"},
			ObjectMeta: ownMeta(d, host),
		}
		rule.Spec.Host, rule.Spec.TrafficPolicy = host, policy
		out = append(out, rule)
	}
	return out, nil
}

func hashOf(cohort *v1alpha1.Cohort) *networking.LoadBalancerSettings_ConsistentHashLB {
	if cohort.Header != "" {
		return &networking.LoadBalancerSettings_ConsistentHashLB{
			HashKey: &networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName{HttpHeaderName: cohort.Header},
		}
	}
	return &networking.LoadBalancerSettings_ConsistentHashLB{
		HashKey: &networking.LoadBalancerSettings_ConsistentHashLB_HttpCookie{
			HttpCookie: &networking.LoadBalancerSettings_ConsistentHashLB_HTTPCookie{Name: cohort.Cookie, Ttl: durationpb.New(0)},
		},
	}
}

// MakeRules makes the DestinationRules of the two sides, and deletes those that
// the spec does not ask for any more.
func (c *Client) MakeRules(ctx context.Context, d *Delivery) error {
	rules, err := rulesFor(d)
	if err != nil {
		return err
	}
	if len(rules) == 0 {
		return c.dropRules(ctx, d)
	}
	for _, want := range rules {
		have, err := c.istioInformers.Networking().V1().DestinationRules().Lister().DestinationRules(want.Namespace).Get(want.Name)
		if err == nil && have.Labels[LabelRelease] != d.Release.Name {
			return fmt.Errorf("%s: DestinationRule %s/%s exists and is not this Release's: delete it, or remove spec.cohort and spec.service.trafficPolicy",
				releaseName(d), want.Namespace, want.Name)
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

func (c *Client) dropRules(ctx context.Context, d *Delivery) error {
	for _, name := range []string{d.Names.StableService, d.Names.CanaryService} {
		have, err := c.istioInformers.Networking().V1().DestinationRules().Lister().DestinationRules(d.Names.Namespace).Get(name)
		if err != nil || have.Labels[LabelRelease] != d.Release.Name { // the error: there is none
			continue
		}
		err = c.dynamic.Resource(rulesResource).Namespace(d.Names.Namespace).Delete(ctx, name, metav1.DeleteOptions{})
		if err = kindOf(err); err != nil && !isNotFound(err) {
			return fmt.Errorf("%s: delete DestinationRule %s: %w", releaseName(d), name, err)
		}
	}
	return nil
}

func ownMeta(d *Delivery, name string) metav1.ObjectMeta {
	if d.experiment != nil {
		return experimentMeta(d.experiment, name)
	}
	return metav1.ObjectMeta{
		Name: name, Namespace: d.Names.Namespace,
		Labels:          map[string]string{LabelRelease: d.Release.Name},
		OwnerReferences: ownedBy(d.Release),
	}
}

// routeNames are the names of the VirtualServices that a Release needs.
func routeNames(r *v1alpha1.Release) []string {
	if r.Spec.Worker() {
		return nil
	}
	n := NamesOf(r)
	if r.Spec.Service.Delegation || len(gatewaysOf(r)) == 0 {
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
		if err := fromJSON(fmt.Sprintf("%s[%d]", field, i), &raw[i], m); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// checkSome refuses matches of some requests that hold for every one.
func checkSome(field string, raw []runtime.RawExtension) error {
	matches, err := matchesOf(field, raw)
	if err != nil {
		return err
	}
	for i, m := range matches {
		m.Name, m.StatPrefix, m.IgnoreUriCase = "", "", false // no conditions
		if everyPath(m.Uri) {
			m.Uri = nil
		}
		if proto.Size(m) == 0 {
			return fmt.Errorf("%s[%d]: holds for every request, so everybody would get the canary and no comparison were left: "+
				"say whose it is, such as headers: {x-canary: {exact: insider}}", field, i)
		}
	}
	return nil
}

// everyPath reports whether a condition holds for all paths.
func everyPath(m *networking.StringMatch) bool {
	switch c := m.GetMatchType().(type) {
	case *networking.StringMatch_Prefix:
		return c.Prefix == "" || c.Prefix == "/"
	case *networking.StringMatch_Regex:
		return slices.Contains([]string{".*", "/.*", "^.*", "^.*$", "^/.*", "^/.*$"}, c.Regex)
	case *networking.StringMatch_Exact:
		return false
	}
	return true // it says nothing
}

// fromJSON reads a message of Istio's that a spec holds; nothing of nil.
func fromJSON(field string, raw *runtime.RawExtension, m proto.Message) error {
	if raw == nil {
		return nil
	}
	if err := protojson.Unmarshal(raw.Raw, m); err != nil {
		// Without its own prefix, which holds a position in one line.
		_, what, _ := strings.Cut(err.Error(), "): ")
		return fmt.Errorf("%s: %s", field, what)
	}
	return nil
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
