package proxy

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
)

// routed makes the target of a host with one route.
func routed(t testing.TB, r mesh.Route) *target {
	t.Helper()
	if r.Redirect == nil && r.Direct == nil && r.Split == nil {
		r.Split = []mesh.Destination{{Service: "music.default"}}
	}
	vh := mesh.VirtualHost{Hosts: []string{"music.default"}, Routes: []mesh.Route{r}}
	return compiled(t, snapshot(1, service("music.default", "127.0.0.1:1", "127.0.0.1:2"), vh)).inMesh("default", "music")
}

func ptr[T any](v T) *T { return &v }

func uri(kind mesh.MatchKind, value string) []mesh.Match {
	return []mesh.Match{{URI: mesh.StringMatch{Kind: kind, Value: value}}}
}

// TestRedirectsGoWhereEnvoySendsThem.
func TestRedirectsGoWhereEnvoySendsThem(t *testing.T) {
	for _, tt := range []struct {
		redirect         mesh.Redirect
		matches          []mesh.Match
		authority, path  string
		scheme, location string
	}{
		{mesh.Redirect{Scheme: "https"}, nil, "shop.test", "/a?b=c", "http", "https://shop.test/a?b=c"},
		{mesh.Redirect{Scheme: "https"}, nil, "shop.test:80", "/", "http", "https://shop.test/"},
		{mesh.Redirect{Scheme: "https"}, nil, "shop.test:8080", "/", "http", "https://shop.test:8080/"},
		{mesh.Redirect{Scheme: "http"}, nil, "shop.test:443", "/", "https", "http://shop.test/"},
		{mesh.Redirect{Scheme: "http"}, nil, "shop.test:80", "/", "https", "http://shop.test:80/"},
		{mesh.Redirect{Path: "/x"}, nil, "shop.test:80", "/", "http", "http://shop.test:80/x"},
		{mesh.Redirect{Scheme: "https", Port: 8443}, nil, "shop.test:8080", "/", "http", "https://shop.test:8443/"},
		{mesh.Redirect{Port: 80}, nil, "shop.test", "/", "http", "http://shop.test:80/"},
		{mesh.Redirect{Port: 8443}, nil, "[::1]:8080", "/", "http", "http://[::1]:8443/"},
		{mesh.Redirect{Scheme: "https"}, nil, "[::1]", "/", "http", "https://[::1]/"},
		{mesh.Redirect{Authority: "new.test"}, nil, "shop.test:8080", "/a", "http", "http://new.test/a"},
		{mesh.Redirect{Authority: "new.test:81"}, nil, "shop.test", "/a", "http", "http://new.test:81/a"},
		{mesh.Redirect{Authority: "new.test", Port: 82}, nil, "shop.test", "/a", "http", "http://new.test:82/a"},
		{mesh.Redirect{Path: "/new"}, nil, "shop.test", "/old?q=1", "http", "http://shop.test/new?q=1"},
		{mesh.Redirect{Path: "/new?r=2"}, nil, "shop.test", "/old?q=1", "http", "http://shop.test/new?r=2"},
		{mesh.Redirect{Prefix: ptr("/new")}, uri(mesh.Prefix, "/old"), "shop.test", "/old/a?q=1", "http", "http://shop.test/new/a?q=1"},
		{mesh.Redirect{Prefix: ptr("/new")}, uri(mesh.Segments, "/old"), "shop.test", "/old", "http", "http://shop.test/new"},
		{mesh.Redirect{Prefix: ptr("/new")}, uri(mesh.Exact, "/old"), "shop.test", "/old?q", "http", "http://shop.test/new?q"},
		{mesh.Redirect{Prefix: ptr("/new")}, uri(mesh.Regex, "/o.*"), "shop.test", "/old", "http", "http://shop.test/old"},
	} {
		tt.redirect.Code = 302
		c := newCall("GET", tt.path)
		c.head.Authority, c.scheme = tt.authority, tt.scheme
		dec := routed(t, mesh.Route{Redirect: &tt.redirect, Matches: tt.matches}).decide(c, new(draws))
		want := &reply{status: 302, grpc: noGRPC, fields: []wire.Field{{Name: "location", Value: tt.location}}}
		if diff := cmp.Diff(want, dec.reply, cmp.AllowUnexported(reply{})); diff != "" || dec.flag != "" || dec.group != nil {
			t.Errorf("%+v of %s://%s%s: flag %q, -want +got:\n%s", tt.redirect, tt.scheme, tt.authority, tt.path, dec.flag, diff)
		}
	}
}

func TestHostsThatRequireTLSSendCallersThere(t *testing.T) {
	vh := weighted("music.default", 1)
	vh.RequireTLS = true
	found := compiled(t, snapshot(1, service("music.default", "127.0.0.1:1"), vh)).inMesh("default", "music")
	c := newCall("GET", "/a?b")
	dec := found.decide(c, new(draws))
	if dec.reply == nil || dec.reply.status != 301 || dec.reply.fields[0].Value != "https://music/a?b" {
		t.Errorf("a plain call = %+v", dec.reply)
	}
	c.scheme = "https"
	if dec := found.decide(c, new(draws)); dec.group == nil {
		t.Errorf("a call over TLS = %+v", dec)
	}
}

// TestRewritesReplaceWhatWasMatched.
func TestRewritesReplaceWhatWasMatched(t *testing.T) {
	for _, tt := range []struct {
		rewrite    mesh.Rewrite
		matches    []mesh.Match
		path, want string
	}{
		{mesh.Rewrite{Path: ptr("/v2")}, uri(mesh.Prefix, "/v1"), "/v1/songs?x=1", "/v2/songs?x=1"},
		{mesh.Rewrite{Path: ptr("/")}, uri(mesh.Prefix, "/api/"), "/api/songs?x=1", "/songs?x=1"},
		{mesh.Rewrite{Path: ptr("/")}, uri(mesh.Prefix, "/api"), "/api/songs", "//songs"}, // as with Envoy
		{mesh.Rewrite{Path: ptr("/v2")}, uri(mesh.Segments, "/v1"), "/v1", "/v2"},
		{mesh.Rewrite{Path: ptr("/v2")}, []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Prefix, Value: "/V1", IgnoreCase: true}}}, "/v1/a", "/v2/a"},
		{mesh.Rewrite{Path: ptr("/new")}, uri(mesh.Exact, "/old"), "/old?q", "/new?q"},
		{mesh.Rewrite{Path: ptr("/new")}, uri(mesh.Regex, "/o.*"), "/old/a?q", "/new?q"},
		{mesh.Rewrite{Path: ptr("/new")}, nil, "/old/a", "/new"},
		{mesh.Rewrite{Path: ptr("/new")}, nil, "*", "*"},
		{mesh.Rewrite{Regex: &mesh.RegexRewrite{Match: "^/(a)/(b)", Substitution: `/\2/\1`}}, nil, "/a/b/c?a/b", "/b/a/c?a/b"},
		{mesh.Rewrite{Regex: &mesh.RegexRewrite{Match: "o", Substitution: `0$1`}}, nil, "/foo?o", "/f0$10$1?o"},
		{mesh.Rewrite{Regex: &mesh.RegexRewrite{Match: "^/a", Substitution: ""}}, nil, "/a?x", "/?x"},
		{mesh.Rewrite{Regex: &mesh.RegexRewrite{Match: "^/a/", Substitution: ""}}, nil, "/a/b", "/b"},
	} {
		c := newCall("GET", tt.path)
		dec := routed(t, mesh.Route{Rewrite: &tt.rewrite, Matches: tt.matches}).decide(c, new(draws))
		dec.editRequest(c)
		if c.head.Path != tt.want {
			t.Errorf("%+v of %s = %s, want %s", tt.rewrite, tt.path, c.head.Path, tt.want)
		}
	}
}

// TestEditsRemoveThenSetThenAdd, the route's before the share's.
func TestEditsRemoveThenSetThenAdd(t *testing.T) {
	edit := func(who string) *mesh.HeaderEdits {
		e := mesh.HeaderEdit{
			Remove: []string{"x-gone", "x-both"},
			Set:    []mesh.Header{{Name: "x-set", Value: who}, {Name: "x-both", Value: "set by " + who}},
			Add:    []mesh.Header{{Name: "x-add", Value: who}, {Name: "x-both", Value: "added by " + who}},
		}
		return &mesh.HeaderEdits{Request: e, Answer: e}
	}
	found := routed(t, mesh.Route{
		Headers: edit("route"),
		Split:   []mesh.Destination{{Service: "music.default", Headers: edit("share")}},
	})
	head := []wire.Field{
		{Name: "x-gone", Value: "1"}, {Name: "x-set", Value: "old"}, {Name: "x-set", Value: "older"},
		{Name: "x-add", Value: "old"}, {Name: "x-both", Value: "old"}, {Name: "accept", Value: "*/*"},
	}
	want := []wire.Field{
		{Name: "x-set", Value: "share"}, {Name: "x-add", Value: "old"}, {Name: "accept", Value: "*/*"},
		{Name: "x-add", Value: "route"}, {Name: "x-both", Value: "set by share"},
		{Name: "x-add", Value: "share"}, {Name: "x-both", Value: "added by share"},
	}
	c := newCall("GET", "/")
	c.head.Fields = append([]wire.Field(nil), head...)
	dec := found.decide(c, new(draws))
	dec.editRequest(c)
	if diff := cmp.Diff(want, c.head.Fields); diff != "" {
		t.Errorf("request: -want +got:\n%s", diff)
	}
	answer := &wire.Head{Status: 200, Fields: append([]wire.Field(nil), head...)}
	dec.editAnswer(answer)
	if diff := cmp.Diff(want, answer.Fields); diff != "" {
		t.Errorf("answer: -want +got:\n%s", diff)
	}
}

func TestTheMostSpecificAuthorityWins(t *testing.T) {
	set := func(host string) *mesh.HeaderEdits {
		if host == "" {
			return nil
		}
		return &mesh.HeaderEdits{Request: mesh.HeaderEdit{Set: []mesh.Header{{Name: "host", Value: host}}}}
	}
	for _, tt := range []struct{ route, rewrite, share, want string }{
		{"", "", "", "music"},
		{"route.test", "", "", "route.test"},
		{"route.test", "rewrite.test:81", "", "rewrite.test:81"},
		{"route.test", "rewrite.test", "share.test", "share.test"},
	} {
		r := mesh.Route{Headers: set(tt.route), Split: []mesh.Destination{{Service: "music.default", Headers: set(tt.share)}}}
		if tt.rewrite != "" {
			r.Rewrite = &mesh.Rewrite{Authority: tt.rewrite}
		}
		c := newCall("GET", "/")
		dec := routed(t, r).decide(c, new(draws))
		dec.editRequest(c)
		if _, ok := c.head.Get("host"); c.head.Authority != tt.want || ok {
			t.Errorf("%+v: authority %q, fields %v", tt, c.head.Authority, c.head.Fields)
		}
	}
}

func TestFaultsAreDrawn(t *testing.T) {
	const n = 50_000
	abort := func(s mesh.Share) *mesh.Abort { return &mesh.Abort{Share: s, Status: 418} }
	delay := func(s mesh.Share) *mesh.Delay { return &mesh.Delay{Share: s, Time: time.Second} }
	for _, tt := range []struct {
		fault mesh.Fault
		want  map[string]float64
	}{
		{mesh.Fault{}, map[string]float64{"": 1}},
		{mesh.Fault{Abort: abort(0)}, map[string]float64{"": 1}},
		{mesh.Fault{Abort: abort(mesh.Everything)}, map[string]float64{"FI": 1}},
		{mesh.Fault{Abort: abort(1000)}, map[string]float64{"FI": 0.001, "": 0.999}},
		{mesh.Fault{Delay: delay(250_000)}, map[string]float64{"DI": 1, "": 3}},
		{mesh.Fault{Delay: delay(500_000), Abort: abort(200_000)}, map[string]float64{"DI": 4, "FI": 1, "DI,FI": 1, "": 4}},
	} {
		found := routed(t, mesh.Route{Fault: &tt.fault})
		var d draws
		got := map[string]int{}
		for range n {
			dec := found.decide(newCall("GET", "/"), &d)
			got[dec.flag]++
			delayed, aborted := strings.Contains(dec.flag, "DI"), strings.Contains(dec.flag, "FI")
			if delayed != (dec.delay == time.Second) || aborted != (dec.reply != nil) || aborted == (dec.group != nil) {
				t.Fatalf("%+v: decision %+v", tt.fault, dec)
			}
		}
		wantShares(t, fmt.Sprintf("%+v", tt.fault), got, tt.want)
	}
}

// TestRepliesSpeakTheCallersLanguage: what HTTP and gRPC callers get.
func TestRepliesSpeakTheCallersLanguage(t *testing.T) {
	show := func(r *reply, headers ...string) string {
		var h wire.Head
		body := r.head(newCall("POST", "/", headers...).head, &h)
		out := fmt.Sprintf("%d", h.Status)
		for _, f := range h.Fields {
			out += fmt.Sprintf(" %s=%s", f.Name, f.Value)
		}
		if h.Body == wire.Sized && h.Length != int64(len(body)) {
			t.Errorf("%+v: length %d of %q", r, h.Length, body)
		}
		return out + " " + body
	}
	grpc := "content-type: application/grpc+proto"
	for _, tt := range []struct {
		reply      *reply
		http, grpc string
	}{
		{rateLimited(), "429 content-type=text/plain local_rate_limited", "200 content-type=application/grpc grpc-status=14 grpc-message=local_rate_limited "},
		{accessDenied(), "403 content-type=text/plain RBAC: access denied", "200 content-type=application/grpc grpc-status=7 grpc-message=RBAC: access denied "},
		{abort(&mesh.Abort{Status: 400}), "400 content-type=text/plain fault filter abort", "200 content-type=application/grpc grpc-status=13 grpc-message=fault filter abort "},
		{abort(&mesh.Abort{GRPC: 8}), "200 content-type=text/plain fault filter abort", "200 content-type=application/grpc grpc-status=8 grpc-message=fault filter abort "},
		{abort(&mesh.Abort{GRPC: 0}), "200 content-type=text/plain fault filter abort", "200 content-type=application/grpc grpc-status=0 grpc-message=fault filter abort "},
		{redirection(301, "/x"), "301 location=/x ", "200 content-type=application/grpc grpc-status=2 location=/x "},
		{&reply{status: 204, grpc: noGRPC, body: "not sent"}, "204 ", "200 content-type=application/grpc grpc-status=2 grpc-message=not sent "},
		{&reply{status: 418, grpc: noGRPC, body: "100% é\n"}, "418 content-type=text/plain 100% é\n", "200 content-type=application/grpc grpc-status=2 grpc-message=100%25 %C3%A9%0A "},
	} {
		if got := show(tt.reply); got != tt.http {
			t.Errorf("to a caller of HTTP: %q, want %q", got, tt.http)
		}
		if got := show(tt.reply, grpc); got != tt.grpc {
			t.Errorf("to a caller of gRPC: %q, want %q", got, tt.grpc)
		}
	}
	if got := show(rateLimited(), "content-type: application/grpc-web"); !strings.HasPrefix(got, "429") {
		t.Errorf("to a caller of gRPC-Web: %q, want HTTP", got)
	}
}

func TestCORS(t *testing.T) {
	full := &mesh.CORS{
		Origins: []mesh.StringMatch{{Kind: mesh.Exact, Value: "https://shop.test"}, {Kind: mesh.Regex, Value: `https://.*\.example\.org`}},
		Methods: []string{"GET", "POST"}, Headers: []string{"x-a", "x-b"}, Expose: []string{"x-c"}, MaxAge: time.Hour, Credentials: true,
	}
	all := &mesh.CORS{Origins: []mesh.StringMatch{{Kind: mesh.Exact, Value: "*"}}}
	const preflight = "access-control-request-method: POST"
	marks := func(origin string) string {
		return "access-control-allow-origin=" + origin + " access-control-allow-credentials=true access-control-expose-headers=x-c"
	}
	const permission = "200 access-control-allow-methods=GET,POST access-control-allow-headers=x-a,x-b access-control-max-age=3600 "
	for _, tt := range []struct {
		about, method string
		cors          *mesh.CORS
		headers       []string
		want          string // of the reply or, passed on, of an answer with the route's edit
	}{
		{"a preflight", "OPTIONS", full, []string{"origin: https://shop.test", preflight}, permission + marks("https://shop.test")},
		{"a preflight of another origin of ours", "OPTIONS", full, []string{"origin: https://a.example.org", preflight}, permission + marks("https://a.example.org")},
		{"a preflight of a stranger", "OPTIONS", full, []string{"origin: https://evil.test", preflight}, "passed x-edit=1"},
		{"OPTIONS that are no preflight", "OPTIONS", full, []string{"origin: https://shop.test"}, "passed x-edit=1 " + marks("https://shop.test")},
		{"a request", "GET", full, []string{"origin: https://shop.test"}, "passed x-edit=1 " + marks("https://shop.test")},
		{"a request of a stranger", "GET", full, []string{"origin: https://evil.test"}, "passed x-edit=1"},
		{"a request without origin", "GET", full, nil, "passed x-edit=1"},
		{"anybody", "GET", all, []string{"origin: null"}, "passed x-edit=1 access-control-allow-origin=null"},
		{"anybody's preflight", "OPTIONS", all, []string{"origin: https://any.test", preflight}, "200 access-control-allow-origin=https://any.test"},
	} {
		edits := &mesh.HeaderEdits{Answer: mesh.HeaderEdit{Set: []mesh.Header{{Name: "x-edit", Value: "1"}}}}
		c := newCall(tt.method, "/", tt.headers...)
		dec := routed(t, mesh.Route{CORS: tt.cors, Headers: edits}).decide(c, new(draws))
		var h wire.Head
		got := "passed"
		if dec.reply != nil {
			dec.reply.head(c.head, &h)
			got = fmt.Sprint(h.Status)
		}
		dec.editAnswer(&h)
		for _, f := range h.Fields {
			got += " " + f.Name + "=" + f.Value
		}
		if got != tt.want {
			t.Errorf("%s: %s\nwant %s", tt.about, got, tt.want)
		}
	}
}

func TestAccess(t *testing.T) {
	from := func(namespace, name string) *mesh.Caller {
		return &mesh.Caller{Workload: mesh.Workload{Namespace: namespace, Name: name}}
	}
	web := []mesh.Source{{Namespace: "shop", Service: "web"}}
	get := []mesh.Match{{Method: mesh.StringMatch{Kind: mesh.Exact, Value: "GET"}}}
	for _, tt := range []struct {
		about  string
		rules  []mesh.Access
		caller *mesh.Caller
		method string
		http   bool
		stream bool
	}{
		{"no rules", nil, nil, "GET", true, true},
		{"allowed", []mesh.Access{{Sources: web}}, from("shop", "web"), "GET", true, true},
		{"another name", []mesh.Access{{Sources: web}}, from("shop", "cart"), "GET", false, false},
		{"another namespace", []mesh.Access{{Sources: web}}, from("other", "web"), "GET", false, false},
		{"from outside", []mesh.Access{{Sources: web}}, nil, "GET", false, false},
		{"any rule", []mesh.Access{{Sources: web}, {Sources: []mesh.Source{{Namespace: "other"}}}}, from("other", "x"), "GET", true, true},
		{"any source", []mesh.Access{{Sources: append([]mesh.Source{{Service: "x"}}, web...)}}, from("shop", "web"), "GET", true, true},
		{"all others", []mesh.Access{{Sources: []mesh.Source{{Namespace: "shop", Not: true}}}}, from("other", "x"), "GET", true, true},
		{"not all others", []mesh.Access{{Sources: []mesh.Source{{Namespace: "shop", Not: true}}}}, from("shop", "x"), "GET", false, false},
		{"denied", []mesh.Access{{Deny: true, Sources: web}}, from("shop", "web"), "GET", false, false},
		{"others denied", []mesh.Access{{Deny: true, Sources: web}}, from("shop", "cart"), "GET", true, true},
		{"denied before allowed", []mesh.Access{{}, {Deny: true}}, from("shop", "web"), "GET", false, false},
		{"allowed to read", []mesh.Access{{Matches: get}}, from("shop", "web"), "GET", true, false},
		{"not allowed to write", []mesh.Access{{Matches: get}}, from("shop", "web"), "POST", false, false},
		{"denied to read", []mesh.Access{{Deny: true, Matches: get}}, from("shop", "web"), "POST", true, false},
	} {
		svc := service("music.default", "127.0.0.1:1")
		svc.Access = tt.rules
		table := compiled(t, snapshot(1, svc, mesh.VirtualHost{
			Hosts: []string{"*.default"}, Routes: []mesh.Route{{Split: []mesh.Destination{{Service: "music.default"}}}},
		}))
		for _, host := range []string{"music", "anything"} { // straight, and through a route
			c := newCall(tt.method, "/")
			c.caller = tt.caller
			dec := table.inMesh("default", host).decide(c, new(draws))
			if admitted := dec.group != nil; admitted != tt.http || !admitted && (dec.reply.status != 403 || dec.flag != flagDenied) {
				t.Errorf("%s: %s is decided %+v, want admitted = %t", tt.about, host, dec, tt.http)
			}
		}
		dec := table.inMesh("default", "music").stream(&connection{port: 80, caller: tt.caller}, new(draws))
		if admitted := dec.group != nil; admitted != tt.stream || !admitted && dec.flag != flagDenied {
			t.Errorf("%s: a stream is decided %+v, want admitted = %t", tt.about, dec, tt.stream)
		}
	}
}

func TestMirrorsAreDrawn(t *testing.T) {
	const n = 40_000
	found := routed(t, mesh.Route{Mirrors: []mesh.Mirror{
		{Destination: mesh.Destination{Service: "music.default", Subset: "v1"}, Share: mesh.Everything},
		{Destination: mesh.Destination{Service: "music.default", Subset: "v2"}, Share: 100_000},
		{Destination: mesh.Destination{Service: "ghost.default"}, Share: 0},
	}})
	var d draws
	var got [3]int
	for range n {
		dec := found.decide(newCall("GET", "/"), &d)
		for i := range dec.route.mirrors {
			if dec.route.mirrors[i].drawn(&d) {
				got[i]++
			}
		}
	}
	if got[0] != n || got[2] != 0 || math.Abs(float64(got[1])-n/10) > 5*math.Sqrt(n*0.09) {
		t.Errorf("copies = %v of %d", got, n)
	}
	m := &found.routes[0].mirrors[0]
	if g := m.backend.reach(80); g.pickFor(newCall("GET", "/"), &d).dial != "127.0.0.1:1" {
		t.Error("the first mirror does not lead to v1")
	}
}

// TestCookiesAreSetOnceAndOnAnswersAlone: a key of the split and one of the
// balancer may be the same cookie.
func TestCookiesAreSetOnceAndOnAnswersAlone(t *testing.T) {
	keys := []mesh.HashKey{{Source: mesh.HashCookie, Name: "user", Make: true}}
	other := []mesh.HashKey{{Source: mesh.HashCookie, Name: "other", Make: true}}
	for _, tt := range []struct {
		affinity, hash []mesh.HashKey
		abort          bool
		want           int
	}{
		{keys, keys, false, 1}, {keys, other, false, 2}, {nil, keys, false, 1}, {keys, nil, false, 1}, {keys, keys, true, 0}, {nil, nil, false, 0},
	} {
		svc := service("music.default", "127.0.0.1:1", "127.0.0.1:2")
		svc.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {Balancer: mesh.Maglev, Hash: tt.hash}}
		vh := weighted("music.default", 50, 50)
		vh.Routes[0].Affinity = tt.affinity
		if tt.abort {
			vh.Routes[0].Fault = &mesh.Fault{Abort: &mesh.Abort{Share: mesh.Everything, Status: 500}}
		}
		dec := compiled(t, snapshot(1, svc, vh)).inMesh("default", "music").decide(newCall("GET", "/"), new(draws))
		var answer wire.Head
		dec.editAnswer(&answer)
		if len(answer.Fields) != tt.want {
			t.Errorf("%+v: the answer sets %v, want %d cookies", tt, answer.Fields, tt.want)
		}
	}
}
