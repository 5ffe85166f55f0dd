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
		err := h.look(&Acks{applied: look.runs}, rel, &look.in)
		if got := err != nil; got != look.want {
			t.Fatalf("%s: %v; want an error: %v", look.what, err, look.want)
		}
	}
}
