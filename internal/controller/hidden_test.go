package controller

import (
	"strings"
	"testing"

	"serin.dev/serin/internal/mesh"
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
	for _, tt := range []struct {
		name   string
		routes []mesh.Route
		want   bool
	}{
		{"alone", []mesh.Route{route("music-gateway", api)}, false},
		{"a younger one", []mesh.Route{route("music-gateway", api), route("mine", api)}, false},
		{"the same", []mesh.Route{route("mine", api), route("music-gateway", api)}, true},
		{"everything", []mesh.Route{route("mine"), route("music-gateway")}, true},
		{"a wider path", []mesh.Route{route("mine", path(mesh.Prefix, "/")), route("music-gateway", api)}, true},
		{"a wider path, of several", []mesh.Route{route("mine", path(mesh.Exact, "/login"), api), route("music-gateway", path(mesh.Exact, "/api/v1"), path(mesh.Segments, "/api/v2"))}, true},
		{"a narrower path", []mesh.Route{route("mine", path(mesh.Prefix, "/api/v1")), route("music-gateway", api)}, false},
		{"one path of two", []mesh.Route{route("mine", api), route("music-gateway", api, path(mesh.Prefix, "/web"))}, false},
		{"an expression", []mesh.Route{route("mine", path(mesh.Regex, "/.*")), route("music-gateway", api)}, false},
		{"testers alone", []mesh.Route{route("mine", tester), route("music-gateway", api)}, false},
		{"all but testers", []mesh.Route{route("music-gateway", tester), route("mine", api), route("music-gateway", api)}, false},
		{"and testers", []mesh.Route{route("mine", api), route("music-gateway", tester), route("music-gateway", api)}, true},
		{"every request, after a route without conditions of ours", []mesh.Route{route("mine", api), route("music-gateway")}, false},
	} {
		s := &mesh.Snapshot{Gateways: []mesh.Gateway{{Name: "shop/public", VirtualHosts: []mesh.VirtualHost{{Hosts: []string{"*"}, Routes: tt.routes}}}}}
		err := hiddenBy(s, []mesh.Origin{of("music"), of("music-gateway")})
		if got := err != nil; got != tt.want {
			t.Errorf("%s: %v; want an error: %v", tt.name, err, tt.want)
		}
		if err != nil && !strings.Contains(err.Error(), "at gateway shop/public gets to VirtualService music-gateway: VirtualService shop/mine, which is older") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
