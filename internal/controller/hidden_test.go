package controller

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/rollout"
)

func TestRoutesOfAnOlderVirtualServiceHideARelease(t *testing.T) {
	of := func(name string) mesh.Origin {
		return mesh.Origin{Kind: "VirtualService", Namespace: "shop", Name: name}
	}
	path := func(kind mesh.MatchKind, value string) mesh.Match {
		return mesh.Match{URI: mesh.StringMatch{Kind: kind, Value: value}}
	}
	api := path(mesh.Prefix, "/api")
	tester := api
	tester.Headers = map[string]mesh.StringMatch{"x-tester": {Kind: mesh.Present}}
	route := func(name string, matches ...mesh.Match) mesh.Route {
		return mesh.Route{Origin: of(name), Matches: matches}
	}
	type hosts [][]mesh.Route // of a gateway each
	for _, tt := range []struct {
		name  string
		hosts hosts
		want  bool
	}{
		{"alone", hosts{{route("music-gateway", api)}}, false},
		{"a younger one", hosts{{route("music-gateway", api), route("mine", api)}}, false},
		{"the same", hosts{{route("mine", api), route("music-gateway", api)}}, true},
		{"everything", hosts{{route("mine"), route("music-gateway")}}, true},
		{"a wider path", hosts{{route("mine", path(mesh.Prefix, "/")), route("music-gateway", api)}}, true},
		{"a wider path, of several", hosts{{route("mine", path(mesh.Exact, "/login"), api), route("music-gateway", path(mesh.Exact, "/api/v1"), path(mesh.Segments, "/api/v2"))}}, true},
		{"a narrower path", hosts{{route("mine", path(mesh.Prefix, "/api/v1")), route("music-gateway", api)}}, false},
		{"one path of two", hosts{{route("mine", api), route("music-gateway", api, path(mesh.Prefix, "/web"))}}, false},
		{"an expression", hosts{{route("mine", path(mesh.Regex, "/.*")), route("music-gateway", api)}}, false},
		{"testers alone", hosts{{route("mine", tester), route("music-gateway", api)}}, false},
		{"all but testers", hosts{{route("music-gateway", tester), route("mine", api), route("music-gateway", api)}}, false},
		{"and testers", hosts{{route("mine", api), route("music-gateway", tester), route("music-gateway", api)}}, true},
		{"every request, after a route without conditions of ours", hosts{{route("mine", api), route("music-gateway")}}, false},
		{"at one host of two", hosts{{route("mine", api), route("music-gateway", api)}, {route("music-gateway", api)}}, false},
		{"at the other host", hosts{{route("music-gateway", api)}, {route("mine", api), route("music-gateway", api)}}, false},
		{"at both hosts", hosts{{route("mine", api), route("music-gateway", api)}, {route("mine", api), route("music-gateway", api)}}, true},
		{"beside a host of others", hosts{{route("mine", api), route("music-gateway", api)}, {route("mine", api)}}, true},
	} {
		s := &mesh.Snapshot{Hosts: []mesh.VirtualHost{{Hosts: []string{"music.shop"}, Routes: []mesh.Route{route("music")}}}}
		for i, routes := range tt.hosts {
			name := []string{"public", "inner"}[i]
			s.Gateways = append(s.Gateways, mesh.Gateway{Name: "shop/" + name, VirtualHosts: []mesh.VirtualHost{{Hosts: []string{name + ".example.org"}, Routes: routes}}})
		}
		err := hiddenBy(s, []mesh.Origin{of("music"), of("music-gateway")})
		if got := err != nil; got != tt.want {
			t.Errorf("%s: %v; want an error: %v", tt.name, err, tt.want)
		}
		if err != nil && !strings.Contains(err.Error(), "at gateway shop/public gets to VirtualService music-gateway: VirtualService shop/mine, which is older") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// A Release is held up when nobody gets to it by another way either: in the mesh
// it has routes that nothing hides, and that nobody may use.
func TestAReleaseThatRequestsGetToIsNotHeldUpByHiddenRoutes(t *testing.T) {
	route := func(name string) mesh.Route {
		return mesh.Route{Origin: mesh.Origin{Kind: "VirtualService", Namespace: "shop", Name: name}}
	}
	snapshot := func(version mesh.SnapshotVersion, routes ...mesh.Route) *mesh.Snapshot {
		return &mesh.Snapshot{Version: version, Gateways: []mesh.Gateway{{Name: "shop/public", VirtualHosts: []mesh.VirtualHost{{Hosts: []string{"*"}, Routes: routes}}}}}
	}
	rel := &kube.Delivery{
		Release: &v1alpha1.Release{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop"},
			Spec:       v1alpha1.ReleaseSpec{Service: v1alpha1.Service{Name: "music", Port: 80, Gateways: []string{"public"}}},
		},
		Names: kube.Names{Namespace: "shop", Service: "music"},
	}
	free, hiding := snapshot(1, route("music-gateway")), snapshot(2, route("mine"), route("music-gateway"))
	var own analysis.Samples
	own.Own.Counts.StableRequests = 1
	var h hidden
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, look := range []struct {
		what  string
		runs  *mesh.Snapshot
		after time.Duration
		in    rollout.Input
		want  bool
	}{
		{"no proxy has routes", nil, time.Hour, rollout.Input{}, false},
		{"nothing hides them, and it is quiet", free, time.Hour, rollout.Input{}, false},
		{"they are hidden from now on", hiding, time.Hour, rollout.Input{}, false},
		{"a request may still come", hiding, rateKnown - 1, rollout.Input{}, false},
		{"one comes in the mesh", hiding, time.Second, rollout.Input{Arrived: 1}, false},
		{"the next may still come", hiding, rateKnown - 1, rollout.Input{}, false},
		{"none comes", hiding, 1, rollout.Input{}, true},
		{"nor now", hiding, time.Second, rollout.Input{}, true},
		{"one comes at last", hiding, time.Second, rollout.Input{Arrived: 1}, false},
		{"none again", hiding, rateKnown, rollout.Input{}, true},
		{"a tester's", hiding, 1, rollout.Input{Samples: analysis.Samples{DirectRequests: 1}}, false},
		{"own load", hiding, rateKnown, rollout.Input{Samples: own}, false},
		{"nothing more", hiding, rateKnown, rollout.Input{}, true},
		{"they are free", free, time.Second, rollout.Input{}, false},
		{"they are hidden again", hiding, time.Hour, rollout.Input{}, false},
	} {
		now = now.Add(look.after)
		look.in.Now = now
		err := h.look(&Acks{applied: look.runs}, rel, &look.in, true)
		if got := err != nil; got != look.want {
			t.Fatalf("%s: %v; want an error: %v", look.what, err, look.want)
		}
	}
}

// What the older routes take cannot always be read off their conditions; where
// the requests go can be counted.
func TestRequestsTellThatOlderRoutesTakeThemAll(t *testing.T) {
	of := func(name string) mesh.Origin {
		return mesh.Origin{Kind: "VirtualService", Namespace: "shop", Name: name}
	}
	api := mesh.StringMatch{Kind: mesh.Prefix, Value: "/api"}
	ours := mesh.Route{Origin: of("music-gateway"), Matches: []mesh.Match{{URI: api}}}
	mine := func(m mesh.Match) mesh.Route { return mesh.Route{Origin: of("mine"), Matches: []mesh.Match{m}} }
	expression := mine(mesh.Match{URI: mesh.StringMatch{Kind: mesh.Regex, Value: "/api.*"}})
	method := mine(mesh.Match{URI: api, Method: mesh.StringMatch{Kind: mesh.Regex, Value: "GET|POST"}})
	rel := &kube.Delivery{
		Release: &v1alpha1.Release{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop"},
			Spec:       v1alpha1.ReleaseSpec{Service: v1alpha1.Service{Name: "music", Port: 80, Gateways: []string{"public"}}},
		},
		Names: kube.Names{Namespace: "shop", Service: "music"},
	}
	type look struct {
		past    int64 // requests by the routes of mine
		comes   int64
		idle    bool
		changed bool // the generation of mine
		want    bool
	}
	const second = time.Second
	quiet := look{}
	for _, tt := range []struct {
		name   string
		routes []mesh.Route
		every  time.Duration
		looks  []look
	}{
		{"an expression", []mesh.Route{expression, ours}, rateKnown, []look{quiet, {past: 30, want: true}, {past: 30, want: true}, {want: true}}},
		{"a method", []mesh.Route{method, ours}, rateKnown, []look{quiet, {past: 30, want: true}}},
		{"a slow stream", []mesh.Route{method, ours}, rateKnown, []look{quiet, {past: enoughPast - 1}, {past: 1, want: true}}},
		{"too soon", []mesh.Route{method, ours}, second, []look{quiet, {past: 30}, {past: 30}}},
		{"by both", []mesh.Route{method, ours}, rateKnown, []look{quiet, {past: 30, comes: 1}, {past: 30}, {past: 30}}},
		{"by ours before", []mesh.Route{method, ours}, rateKnown, []look{{comes: 1}, {past: 30}}},
		{"by ours at last", []mesh.Route{method, ours}, rateKnown, []look{quiet, {past: 30, want: true}, {comes: 1}, {past: 30}}},
		{"no run", []mesh.Route{method, ours}, rateKnown, []look{{idle: true}, {past: 30, idle: true}, {past: 30, idle: true}}},
		{"before the run", []mesh.Route{method, ours}, rateKnown, []look{{idle: true}, {past: 30, idle: true}, quiet}},
		{"the next run", []mesh.Route{method, ours}, rateKnown, []look{{comes: 1}, {idle: true}, {past: 30, want: true}}},
		{"other conditions since", []mesh.Route{method, ours}, rateKnown, []look{{comes: 1}, {past: 30}, {past: 30, changed: true}, {past: 30, want: true}}},
		{"by a route that comes later", []mesh.Route{ours, method}, rateKnown, []look{quiet, {past: 30}}},
		{"nobody", []mesh.Route{method, ours}, rateKnown, []look{quiet, quiet, quiet}},
	} {
		var h hidden
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		generation := int64(1)
		var told error
		for i, l := range tt.looks {
			if l.changed {
				generation++
			}
			s := &mesh.Snapshot{
				Version:  mesh.SnapshotVersion(i + 1),
				Origins:  map[mesh.Origin]int64{of("mine"): generation, of("music-gateway"): int64(i)},
				Gateways: []mesh.Gateway{{Name: "shop/public", VirtualHosts: []mesh.VirtualHost{{Hosts: []string{"*"}, Routes: tt.routes}}}},
			}
			now = now.Add(tt.every)
			h.count(map[mesh.Origin]int64{of("mine"): l.past, of("elsewhere"): 1000})
			err := h.look(&Acks{applied: s}, rel, &rollout.Input{Now: now, Arrived: l.comes}, !l.idle)
			if got := err != nil; got != l.want {
				t.Errorf("%s: look %d: %v; want an error: %v", tt.name, i, err, l.want)
			}
			if err != nil && !strings.Contains(err.Error(), " requests reached service music by VirtualService shop/mine, which comes first, and none by") {
				t.Errorf("%s: %v", tt.name, err)
			}
			if err != nil && told != nil && err.Error() != told.Error() {
				t.Errorf("%s: look %d: %v; was %v: who is told once is told of another trouble", tt.name, i, err, told)
			}
			told = err
		}
	}
}
