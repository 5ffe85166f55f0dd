package mesh_test

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
)

// valid has a service with two endpoints, a host, a gateway and certificates.
func valid() *mesh.Snapshot {
	return &mesh.Snapshot{
		Version: 1,
		Services: map[mesh.ServiceName]*mesh.Service{"music.default": {
			Name:    "music.default",
			Ports:   []mesh.Port{{Number: 80, Name: "http"}},
			Subsets: map[string]mesh.Labels{"v1": {"version": "v1"}},
			Endpoints: []mesh.Endpoint{
				{Port: 80, Address: netip.MustParseAddrPort("127.0.0.1:80"), Labels: mesh.Labels{"version": "v1"}},
				{Port: 80, Dial: "music.lan:8080"},
			},
		}},
		Hosts: []mesh.VirtualHost{{Hosts: []string{"music.default"}, Routes: []mesh.Route{{
			Matches: []mesh.Match{{
				URI:     mesh.StringMatch{Kind: mesh.Regex, Value: "/a|/b"},
				Headers: map[string]mesh.StringMatch{"end-user": {Kind: mesh.Exact, Value: "jason"}},
			}},
			Split: []mesh.Destination{{Service: "music.default", Subset: "v1", Weight: 1}, {Service: "ghost.default"}},
		}}}},
		Gateways: []mesh.Gateway{
			{Name: "default/edge", Port: 80, VirtualHosts: []mesh.VirtualHost{{Hosts: []string{"*", "*.example.org"}}}},
			{
				Name: "default/edge", Port: 443,
				TLS:     []mesh.ServerTLS{{Hosts: []string{"www.example.org"}, Certificate: "default/www", ClientCA: "default/ca"}},
				Streams: []mesh.Stream{{Matches: []mesh.StreamMatch{{SNI: []string{"*.raw.test"}}}, Split: []mesh.Destination{{Service: "music.default"}}}},
			},
		},
		Certificates: meshtest.Snapshot(rand.New(rand.NewPCG(1, 1)), meshtest.Features{TLS: true}).Certificates,
	}
}

// refusal is a change of a valid snapshot and how the reason ends for which it
// is refused then.
type refusal struct {
	change func(*mesh.Snapshot)
	want   string
}

// refuse validates alone, and as what follows a snapshot without the fault.
func refuse(t *testing.T, all []refusal) {
	t.Helper()
	before := valid()
	for _, test := range all {
		s := valid()
		test.change(s)
		err := s.Validate()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Validate = %v, want %q", err, test.want)
		}
		if after := s.Sharing(before).ValidateAfter(before); after == nil || after.Error() != err.Error() {
			t.Errorf("ValidateAfter = %v, want %q", after, err)
		}
	}
}

func service(s *mesh.Snapshot) *mesh.Service { return s.Services["music.default"] }
func route(s *mesh.Snapshot) *mesh.Route     { return &s.Hosts[0].Routes[0] }

func TestValidateNamesTheFirstReason(t *testing.T) {
	if err := valid().Validate(); err != nil {
		t.Fatalf("Validate of a good snapshot: %v", err)
	}
	if err := (*mesh.Snapshot)(nil).Validate(); err == nil {
		t.Error("Validate accepts no snapshot")
	}
	refuse(t, []refusal{
		{func(s *mesh.Snapshot) { s.Version = 0 }, "snapshot: version 0 means none; count from 1"},
		{func(s *mesh.Snapshot) { s.Services["x"] = nil }, "service x: is nil"},
		{func(s *mesh.Snapshot) { service(s).Name = "other" }, `service music.default: is named "other" inside`},
		{func(s *mesh.Snapshot) { service(s).Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {Balancer: 9}} }, "service music.default: policy of all: unknown balancer 9"},
		{func(s *mesh.Snapshot) { service(s).Ports[0].Number = 0 }, `service music.default: port "http": number 0`},
		{func(s *mesh.Snapshot) { service(s).Ports = append(service(s).Ports, mesh.Port{Number: 80}) }, "service music.default: port 80: listed twice"},
		{func(s *mesh.Snapshot) { service(s).Ports[0].Protocol = 7 }, "service music.default: port 80: unknown protocol 7"},
		{func(s *mesh.Snapshot) { service(s).Subsets[""] = nil }, "service music.default: a subset has no name"},
		{func(s *mesh.Snapshot) { service(s).Endpoints[0].Port = 81 }, "service music.default: endpoint 127.0.0.1:80: the service has no port 81"},
		{func(s *mesh.Snapshot) { service(s).Endpoints[1].Dial = "music" }, `service music.default: endpoint music: address is not host:port`},
		{func(s *mesh.Snapshot) { service(s).Endpoints[1].Dial = "music:http" }, `service music.default: endpoint music:http: port is not in 1..65535`},
		{func(s *mesh.Snapshot) { service(s).Endpoints[0].Address = netip.AddrPort{} }, `service music.default: endpoint invalid AddrPort: address is not host:port`},
		{func(s *mesh.Snapshot) { s.Hosts[0].Hosts = nil }, "virtual host 0: has no hosts"},
		{func(s *mesh.Snapshot) { s.Hosts[0].Hosts[0] = "" }, `virtual host "": is empty`},
		{func(s *mesh.Snapshot) { s.Hosts[0].Hosts[0] = "Music" }, `virtual host "Music": is not in lower case`},
		{func(s *mesh.Snapshot) { s.Hosts[0].Hosts[0] = "a.*" }, `virtual host "a.*": a wildcard is allowed at the front only`},
		{func(s *mesh.Snapshot) { s.Hosts[0].Hosts[0] = "*a" }, `virtual host "*a": a wildcard stands for whole labels: *.example.org`},
		{func(s *mesh.Snapshot) { s.Hosts[0].Hosts[0] = "a b" }, `virtual host "a b": is not a host name`},
		{func(s *mesh.Snapshot) { s.Hosts = append(s.Hosts, s.Hosts[0]) }, `virtual host "music.default": listed twice`},
		{func(s *mesh.Snapshot) { s.Gateways[0].Port = 0 }, `gateway "default/edge" port 0: name and port are required`},
		{func(s *mesh.Snapshot) { s.Gateways = append(s.Gateways, s.Gateways[0]) }, "gateway default/edge port 80: listed twice"},
		{func(s *mesh.Snapshot) { s.Gateways[0].VirtualHosts[0].Hosts[1] = "*" }, `gateway default/edge port 80: virtual host "*": listed twice`},
		{func(s *mesh.Snapshot) { route(s).Split[1].Service = "" }, `virtual host "music.default": route 0 (no object): destination 1: has no service`},
		{func(s *mesh.Snapshot) { route(s).Split[0].Weight = 0 }, `virtual host "music.default": route 0 (no object): all weights are 0`},
		{func(s *mesh.Snapshot) { route(s).Matches[0].URI.Value = "(" }, `match 0: uri: error parsing regexp`},
		{func(s *mesh.Snapshot) { route(s).Matches[0].Method.Kind = 9 }, `match 0: method: unknown kind 9`},
		{func(s *mesh.Snapshot) { route(s).Matches[0].Headers["End-User"] = mesh.StringMatch{} }, `match 0: header "End-User": name is not in lower case`},
		{func(s *mesh.Snapshot) {
			route(s).Matches[0].Headers["x"] = mesh.StringMatch{Kind: mesh.Regex, Value: "a)(b"}
		}, `match 0: header "x": error parsing regexp`},
		{func(s *mesh.Snapshot) { s.Services["a b"] = &mesh.Service{Name: "a b"} }, "service a b: is not the name of one service"},
		{func(s *mesh.Snapshot) { s.Services["*.a"] = &mesh.Service{Name: "*.a"} }, "service *.a: is not the name of one service"},
		{func(s *mesh.Snapshot) { service(s).Endpoints[0].Priority = 129 }, "endpoint 127.0.0.1:80: priority 129 is not in 0..128"},
		{func(s *mesh.Snapshot) { service(s).Endpoints[0].Place.Zone = "a/b" }, "endpoint 127.0.0.1:80: place /a/b: a part has a slash or a star"},
		{func(s *mesh.Snapshot) {
			service(s).Endpoints[0].Weight, service(s).Endpoints[1].Weight = math.MaxUint32, 1
		}, "port 80: the weights of the endpoints sum up to more than 4294967295"},
		{func(s *mesh.Snapshot) {
			service(s).Access = []mesh.Access{{Matches: []mesh.Match{{URI: mesh.StringMatch{Kind: 9}}}}}
		}, "access rule 0 (no object): match 0: uri: unknown kind 9"},
	})
}

func TestValidateNamesTheFirstReasonOfListeners(t *testing.T) {
	tls := func(s *mesh.Snapshot) *mesh.ServerTLS { return &s.Gateways[1].TLS[0] }
	stream := func(s *mesh.Snapshot) *mesh.Stream { return &s.Gateways[1].Streams[0] }
	certificate := func(c *mesh.Certificate) func(*mesh.Snapshot) {
		return func(s *mesh.Snapshot) { s.Certificates["default/www"] = c }
	}
	good := valid().Certificates
	refuse(t, []refusal{
		{certificate(nil), `certificate "default/www": is nil`},
		{certificate(&mesh.Certificate{}), `certificate "default/www": has neither a key pair nor authorities`},
		{certificate(&mesh.Certificate{Chain: good["default/www"].Chain}), "a chain needs its key, and a key its chain"},
		{certificate(&mesh.Certificate{Chain: good["default/www"].Chain, Key: good["default/test"].Key}), "key pair: tls: private key does not match public key"},
		{certificate(&mesh.Certificate{CA: []byte("no PEM")}), "authorities: no certificate in the PEM"},
		{func(s *mesh.Snapshot) { tls(s).Hosts = nil }, "gateway default/edge port 443: tls 0: has no hosts"},
		{func(s *mesh.Snapshot) { tls(s).Hosts[0] = "WWW" }, `tls 0: host "WWW": is not in lower case`},
		{func(s *mesh.Snapshot) { s.Gateways[1].TLS = append(s.Gateways[1].TLS, *tls(s)) }, `tls 1: host "www.example.org": listed twice`},
		{func(s *mesh.Snapshot) { tls(s).Certificate = "" }, `tls 0: no key pair is named ""`},
		{func(s *mesh.Snapshot) { tls(s).Certificate = "default/ca" }, `tls 0: no key pair is named "default/ca"`},
		{func(s *mesh.Snapshot) { tls(s).ClientCA = "default/www" }, `tls 0: no authorities are named "default/www"`},
		{func(s *mesh.Snapshot) { tls(s).ClientCA, tls(s).Optional = "", true }, "optional without authorities"},
		{func(s *mesh.Snapshot) { tls(s).Max = 9 }, "tls 0: unknown version 9"},
		{func(s *mesh.Snapshot) { tls(s).Max = mesh.TLS11 }, "version TLS 1.2 at least, and TLS 1.1 at most"},
		{func(s *mesh.Snapshot) { stream(s).Matches[0].SNI[0] = "a.*" }, `stream 0 (no object): match 0: sni "a.*": a wildcard`},
		{func(s *mesh.Snapshot) { stream(s).Matches = append(stream(s).Matches, mesh.StreamMatch{}) }, "match 1: some matches have sni and some have none"},
		{func(s *mesh.Snapshot) { stream(s).Split[0].Service = "" }, "stream 0 (no object): destination 0: has no service"},
		{func(s *mesh.Snapshot) { s.Hosts[0].Streams = []mesh.Stream{{Split: []mesh.Destination{{}}}} }, `virtual host "music.default": stream 0 (no object): destination 0`},
	})
}

func TestValidateNamesTheFirstReasonOfMatches(t *testing.T) {
	for _, test := range []struct {
		match mesh.Match
		want  string
	}{
		{mesh.Match{Scheme: mesh.StringMatch{Kind: 9}}, "match 0: scheme: unknown kind 9"},
		{mesh.Match{Host: mesh.StringMatch{Kind: 9}}, "match 0: host: unknown kind 9"},
		{mesh.Match{Method: mesh.StringMatch{Value: "GET"}}, "method: any compares nothing: no value and no case"},
		{mesh.Match{Method: mesh.StringMatch{Invert: true}}, "method: the opposite of anything never holds"},
		{mesh.Match{Method: mesh.StringMatch{Kind: mesh.Present}}, "method: is always present"},
		{mesh.Match{Method: mesh.StringMatch{Kind: mesh.Segments, Value: "/a"}}, "method: segments are of paths"},
		{mesh.Match{URI: mesh.StringMatch{Kind: mesh.Segments, Value: "/a/"}}, `uri: segments "/a/": begin with a slash and end without`},
		{mesh.Match{URI: mesh.StringMatch{Kind: mesh.Prefix}}, "uri: every string has an empty prefix"},
		{mesh.Match{URI: mesh.StringMatch{Kind: mesh.Suffix}}, "uri: every string has an empty suffix"},
		{mesh.Match{URI: mesh.StringMatch{Kind: mesh.Regex, Value: "a", IgnoreCase: true}}, "uri: a regex ignores case by (?i)"},
		{mesh.Match{URI: mesh.StringMatch{Kind: mesh.Exact, Value: "/a", Invert: true}}, "uri: cannot be inverted"},
		{mesh.Match{Headers: map[string]mesh.StringMatch{"host": {Kind: mesh.Present}}}, `header "host": is the authority: use Host`},
		{mesh.Match{Headers: map[string]mesh.StringMatch{"": {Kind: mesh.Present}}}, `header "": name is empty`},
		{mesh.Match{Headers: map[string]mesh.StringMatch{"a b": {Kind: mesh.Present}}}, `header "a b": name is not a token`},
		{mesh.Match{Query: map[string]mesh.StringMatch{"": {Kind: mesh.Present}}}, "query: a parameter has no name"},
		{mesh.Match{Query: map[string]mesh.StringMatch{"q": {Kind: mesh.Exact, Value: "1", Invert: true}}}, `query "q": cannot be inverted`},
	} {
		refuse(t, []refusal{{func(s *mesh.Snapshot) { route(s).Matches[0] = test.match }, test.want}})
	}
}

func TestValidateNamesTheFirstReasonOfRoutes(t *testing.T) {
	edit := func(e mesh.HeaderEdit) func(*mesh.Route) {
		return func(r *mesh.Route) { r.Headers = &mesh.HeaderEdits{Request: e} }
	}
	redirect := func(d mesh.Redirect) func(*mesh.Route) {
		return func(r *mesh.Route) { r.Split, r.Redirect = nil, &d }
	}
	rewrite := func(w mesh.Rewrite) func(*mesh.Route) { return func(r *mesh.Route) { r.Rewrite = &w } }
	cors := func(c mesh.CORS) func(*mesh.Route) { return func(r *mesh.Route) { r.CORS = &c } }
	fault := func(f mesh.Fault) func(*mesh.Route) { return func(r *mesh.Route) { r.Fault = &f } }
	retry := func(p mesh.Retry) func(*mesh.Route) { return func(r *mesh.Route) { r.Retry = &p } }
	limit := func(l mesh.RateLimit) func(*mesh.Route) { return func(r *mesh.Route) { r.RateLimit = &l } }
	mirror := func(m mesh.Mirror) func(*mesh.Route) { return func(r *mesh.Route) { r.Mirrors = []mesh.Mirror{m} } }
	text := func(s string) *string { return &s }
	for _, test := range []struct {
		change func(*mesh.Route)
		want   string
	}{
		{func(r *mesh.Route) { r.Split[0].Weight, r.Split[1].Weight = math.MaxUint32, 1 }, "the weights sum up to more than 4294967295"},
		{func(r *mesh.Route) {
			r.Split[1].Headers = &mesh.HeaderEdits{Answer: mesh.HeaderEdit{Remove: []string{""}}}
		}, `destination 1: headers: answer: remove "": name is empty`},
		{func(r *mesh.Route) { r.Redirect = &mesh.Redirect{Code: 301, Path: "/"} }, "has several of a split, a redirect and a direct answer"},
		{func(r *mesh.Route) { r.Split, r.Timeout = nil, time.Second }, "has no split, and so no affinity"},
		{func(r *mesh.Route) { r.Affinity = []mesh.HashKey{{Source: 9}} }, "affinity: key 0: unknown source 9"},
		{redirect(mesh.Redirect{Code: 200, Path: "/"}), "redirect: code 200 is not 301, 302, 303, 307 or 308"},
		{redirect(mesh.Redirect{Code: 301, Scheme: "ftp"}), `redirect: scheme "ftp" is not http or https`},
		{redirect(mesh.Redirect{Code: 301, Path: "/", Prefix: text("/")}), "redirect: replaces both the path and its prefix"},
		{redirect(mesh.Redirect{Code: 301}), "redirect: changes nothing"},
		{redirect(mesh.Redirect{Code: 301, Authority: "a/b"}), `redirect: authority "a/b" is not host or host:port`},
		{redirect(mesh.Redirect{Code: 301, Path: "new"}), `redirect: path "new" does not begin with a slash`},
		{redirect(mesh.Redirect{Code: 301, Path: "/a\r\nb"}), `redirect: path "/a\r\nb" has a character`},
		{redirect(mesh.Redirect{Code: 301, Prefix: text("/a?b")}), `redirect: "/a?b" has a query`},
		{func(r *mesh.Route) { r.Split, r.Direct = nil, &mesh.DirectAnswer{Status: 100} }, "direct answer: status 100 is not in 200..599"},
		{func(r *mesh.Route) {
			r.Split, r.Direct = nil, &mesh.DirectAnswer{Status: 200, Body: strings.Repeat("x", mesh.MaxDirectBody+1)}
		}, "direct answer: body of 1048577 bytes is larger than 1048576"},
		{rewrite(mesh.Rewrite{Path: text("/"), Regex: &mesh.RegexRewrite{}}), "rewrite: changes the path in two ways"},
		{rewrite(mesh.Rewrite{Authority: "a b"}), `rewrite: authority "a b" is not host or host:port`},
		{rewrite(mesh.Rewrite{Path: text("")}), `rewrite: path "" does not begin with a slash`},
		{rewrite(mesh.Rewrite{Path: text("/?a")}), `rewrite: "/?a" has a query`},
		{rewrite(mesh.Rewrite{Regex: &mesh.RegexRewrite{Match: "("}}), "rewrite: error parsing regexp"},
		{rewrite(mesh.Rewrite{Regex: &mesh.RegexRewrite{Match: "a", Substitution: `\1`}}), `substitution "\\1": the expression has 0 groups`},
		{rewrite(mesh.Rewrite{Regex: &mesh.RegexRewrite{Match: "a", Substitution: `\`}}), "ends in a backslash"},
		{rewrite(mesh.Rewrite{Regex: &mesh.RegexRewrite{Match: "a", Substitution: `\x`}}), "stands before a digit"},
		{rewrite(mesh.Rewrite{Regex: &mesh.RegexRewrite{Match: "a", Substitution: "\n"}}), "has control characters"},
		{edit(mesh.HeaderEdit{Remove: []string{"Host"}}), `headers: request: remove "Host": name is not in lower case`},
		{edit(mesh.HeaderEdit{Remove: []string{"host"}}), `remove "host": can be set in requests, and nothing else`},
		{edit(mesh.HeaderEdit{Add: []mesh.Header{{Name: "host", Value: "a"}}}), `add "host": can be set in requests, and nothing else`},
		{edit(mesh.HeaderEdit{Set: []mesh.Header{{Name: "host"}}}), `set "host": "" is not host or host:port`},
		{edit(mesh.HeaderEdit{Set: []mesh.Header{{Name: "content-length", Value: "1"}}}), "is part of the framing and cannot be edited"},
		{edit(mesh.HeaderEdit{Set: []mesh.Header{{Name: ":path", Value: "1"}}}), `set ":path": name is not a token`},
		{edit(mesh.HeaderEdit{Set: []mesh.Header{{Name: "a", Value: "x\r\nb: c"}}}), "has control characters"},
		{edit(mesh.HeaderEdit{Add: []mesh.Header{{Name: "a", Value: "\x00"}}}), "has control characters"},
		{func(r *mesh.Route) {
			r.Headers = &mesh.HeaderEdits{Answer: mesh.HeaderEdit{Set: []mesh.Header{{Name: "host", Value: "a"}}}}
		}, "headers: answer: set \"host\": can be set in requests, and nothing else"},
		{cors(mesh.CORS{Origins: []mesh.StringMatch{{}}}), `cors: origin 0: no condition: use the regex ".*" for any`},
		{cors(mesh.CORS{Origins: []mesh.StringMatch{{Kind: mesh.Exact, Invert: true}}}), "cors: origin 0: cannot be inverted"},
		{cors(mesh.CORS{Methods: []string{"GET,"}}), `cors: "GET," is not a token`},
		{cors(mesh.CORS{Headers: []string{""}}), `cors: "" is not a token`},
		{cors(mesh.CORS{Expose: []string{"a\r"}}), `cors: "a\r" is not a token`},
		{cors(mesh.CORS{MaxAge: -time.Second}), "cors: max age -1s is negative"},
		{fault(mesh.Fault{Delay: &mesh.Delay{}}), "fault: delay: 0s is not above zero"},
		{fault(mesh.Fault{Delay: &mesh.Delay{Time: 1, Share: mesh.Everything + 1}}), "fault: delay: share of 100.0001% is more than everything"},
		{fault(mesh.Fault{Abort: &mesh.Abort{Status: 600}}), "fault: abort: status 600 is not in 200..599"},
		{fault(mesh.Fault{Abort: &mesh.Abort{Status: 500, GRPC: 14}}), "fault: abort: by HTTP status and by gRPC status"},
		{fault(mesh.Fault{Abort: &mesh.Abort{GRPC: 17}}), "fault: abort: gRPC status 17 is not in 0..16"},
		{fault(mesh.Fault{Abort: &mesh.Abort{Share: mesh.Everything + 1}}), "fault: abort: share of"},
		{limit(mesh.RateLimit{Fill: 1, Per: time.Second}), "rate limit: a burst of 0 lets nothing through"},
		{limit(mesh.RateLimit{Burst: 1, Per: time.Second}), "rate limit: a fill of 0"},
		{limit(mesh.RateLimit{Burst: 1, Fill: 1, Per: time.Millisecond}), "rate limit: 1ms is shorter than 50ms"},
		{mirror(mesh.Mirror{}), "mirror 0: has no service"},
		{mirror(mesh.Mirror{Destination: mesh.Destination{Service: "a", Weight: 1}}), "mirror 0: has a weight or headers, which are of a split"},
		{mirror(mesh.Mirror{Destination: mesh.Destination{Service: "a"}, Share: mesh.Everything + 1}), "mirror 0: share of"},
		{retry(mesh.Retry{Codes: []int{99}}), "retry: code 99 is not in 200..599"},
		{retry(mesh.Retry{On: 1 << 20}), "retry: unknown condition 0x100000"},
		{retry(mesh.Retry{Max: time.Millisecond}), "retry: waits at most 1ms, and 25ms to begin with"},
		{retry(mesh.Retry{PerTryTimeout: -1}), "retry: per try timeout -1ns is negative"},
		{retry(mesh.Retry{Base: -1}), "retry: base -1ns is negative"},
		{func(r *mesh.Route) { r.Timeout = -1 }, "timeout -1ns is negative"},
	} {
		refuse(t, []refusal{{func(s *mesh.Snapshot) { test.change(route(s)) }, test.want}})
	}
}

func TestValidateNamesTheFirstReasonOfPolicies(t *testing.T) {
	hash := func(k mesh.HashKey) mesh.Policy { return mesh.Policy{Hash: []mesh.HashKey{k}} }
	locality := func(l mesh.Locality) mesh.Policy { return mesh.Policy{Locality: &l} }
	distribute := func(from, to string, weight uint32) mesh.Policy {
		return locality(mesh.Locality{Distribute: []mesh.Distribution{{From: from, To: map[string]uint32{to: weight}}}})
	}
	for _, test := range []struct {
		policy mesh.Policy
		want   string
	}{
		{mesh.Policy{RingSize: mesh.MaxRingSize + 1}, "ring of 8388609 points is larger than 8388608"},
		{mesh.Policy{TableSize: mesh.MaxTableSize + 1}, "table of 5000012 places is larger than 5000011"},
		{mesh.Policy{TableSize: 65536}, "table size 65536 is no prime"},
		{hash(mesh.HashKey{Source: 9}), "hash: key 0: unknown source 9"},
		{hash(mesh.HashKey{Source: mesh.HashSourceIP, Name: "x"}), "a source address has no name"},
		{hash(mesh.HashKey{Source: mesh.HashQuery}), "a query parameter needs its name"},
		{hash(mesh.HashKey{Source: mesh.HashHeader, Name: "a", Make: true}), "only cookies are made"},
		{hash(mesh.HashKey{Source: mesh.HashCookie, Name: "a", TTL: 1}), "has a time or path for a cookie that is not made"},
		{hash(mesh.HashKey{Source: mesh.HashCookie, Name: "a", Make: true, TTL: -1}), "time -1ns is negative"},
		{hash(mesh.HashKey{Source: mesh.HashCookie, Name: "a;"}), `"a;" is not the name of a cookie`},
		{hash(mesh.HashKey{Source: mesh.HashCookie, Name: "a", Make: true, Path: ";"}), `";" is not the path of a cookie`},
		{hash(mesh.HashKey{Source: mesh.HashHeader, Name: "A"}), "name is not in lower case"},
		{mesh.Policy{Warmup: &mesh.Warmup{}}, "warmup: duration 0s is not above zero"},
		{mesh.Policy{Warmup: &mesh.Warmup{Duration: 1, MinPercent: 101}}, "warmup: minimum 101 % is not in 1..100"},
		{mesh.Policy{Warmup: &mesh.Warmup{Duration: 1, Aggression: math.NaN()}}, "warmup: aggression NaN is not above zero"},
		{mesh.Policy{Warmup: &mesh.Warmup{Duration: 1, Aggression: math.Inf(1)}}, "warmup: aggression +Inf is not above zero"},
		{locality(mesh.Locality{Failover: true, Distribute: []mesh.Distribution{{}}}), "locality: both distributes and fails over"},
		{locality(mesh.Locality{Failover: true, FailoverTo: map[string]string{"eu": "eu"}}), `locality: failover from "eu" to "eu": two regions are needed`},
		{distribute("eu/*/rack", "eu", 1), `locality: distribution 0: from "eu/*/rack": is not region/zone/subzone`},
		{distribute("eu", "", 1), `locality: distribution 0: to "": is not region/zone/subzone`},
		{distribute("eu", "eu/west/rack/slot", 1), "is not region/zone/subzone"},
		{distribute("eu", "us", 0), "locality: distribution 0: all weights are 0"},
		{locality(mesh.Locality{Distribute: []mesh.Distribution{{From: "eu", To: map[string]uint32{"eu": math.MaxUint32, "us": 1}}}}), "the weights sum up to more than"},
		{mesh.Policy{Pool: mesh.Pool{ConcurrentStreams: 1 << 31}}, "pool: 2147483648 concurrent streams are more than HTTP/2 can count"},
		{mesh.Policy{Pool: mesh.Pool{ConnectTimeout: -1}}, "pool: connect timeout -1ns is negative"},
		{mesh.Policy{Pool: mesh.Pool{IdleTimeout: -1}}, "pool: idle timeout -1ns is negative"},
		{mesh.Policy{Pool: mesh.Pool{MaxConnectionAge: -1}}, "pool: max connection age -1ns is negative"},
		{mesh.Policy{Pool: mesh.Pool{TCPKeepaliveTime: -1}}, "pool: tcp keepalive time -1ns is negative"},
		{mesh.Policy{Pool: mesh.Pool{TCPKeepaliveInterval: -1}}, "pool: tcp keepalive interval -1ns is negative"},
		{mesh.Policy{Outlier: &mesh.Outlier{MaxPercent: 101}}, "outlier: max percent 101 is not in 0..100"},
		{mesh.Policy{Outlier: &mesh.Outlier{MinHealthPercent: 101}}, "outlier: min health percent 101 is not in 0..100"},
		{mesh.Policy{Outlier: &mesh.Outlier{MaxEjection: time.Second}}, "outlier: ejects for 1s at most, and for 30s to begin with"},
		{mesh.Policy{Outlier: &mesh.Outlier{Interval: -1}}, "outlier: interval -1ns is negative"},
		{mesh.Policy{Outlier: &mesh.Outlier{BaseEjection: -1}}, "outlier: base ejection -1ns is negative"},
		{mesh.Policy{Budget: &mesh.RetryBudget{Percent: mesh.Everything + 1}}, "budget: share of"},
		{mesh.Policy{TLS: &mesh.ClientTLS{SNI: "*.a"}}, `tls: sni "*.a" is not the name of one host`},
		{mesh.Policy{TLS: &mesh.ClientTLS{CA: "default/www"}}, `tls: no authorities are named "default/www"`},
		{mesh.Policy{TLS: &mesh.ClientTLS{Certificate: "default/ca"}}, `tls: no key pair is named "default/ca"`},
		{mesh.Policy{TLS: &mesh.ClientTLS{SubjectAlts: []string{""}}}, "tls: a subject alternative name is empty"},
		{mesh.Policy{Health: &mesh.HealthCheck{}}, "health: interval 0s and timeout 0s must be above zero"},
		{mesh.Policy{Health: &mesh.HealthCheck{Interval: 1, Timeout: 1, HealthyAfter: 1}}, "health: unhealthy after 0 and healthy after 1 must be at least 1"},
		{mesh.Policy{Health: &mesh.HealthCheck{Interval: 1, Timeout: 1, HealthyAfter: 1, UnhealthyAfter: 1, Host: "a"}}, `health: has a host "a" and no path`},
		{mesh.Policy{Health: &mesh.HealthCheck{Interval: 1, Timeout: 1, HealthyAfter: 1, UnhealthyAfter: 1, Path: "a"}}, `health: path "a" does not begin with a slash`},
		{mesh.Policy{Health: &mesh.HealthCheck{Interval: 1, Timeout: 1, HealthyAfter: 1, UnhealthyAfter: 1, Path: "/", Host: "a b"}}, "health: authority"},
	} {
		refuse(t, []refusal{{func(s *mesh.Snapshot) {
			service(s).Policies = map[mesh.PolicyScope]*mesh.Policy{{Port: 80, Subset: "v1"}: &test.policy}
		}, "service music.default: policy of port 80, subset v1: "}})
		refuse(t, []refusal{{func(s *mesh.Snapshot) { service(s).Policies = map[mesh.PolicyScope]*mesh.Policy{{}: &test.policy} }, test.want}})
	}
	refuse(t, []refusal{{func(s *mesh.Snapshot) { service(s).Policies = map[mesh.PolicyScope]*mesh.Policy{{}: nil} }, "policy of all: is nil"}})
}

func TestRegexRewriteIsWhatEnvoyMeans(t *testing.T) {
	for _, test := range []struct{ match, substitution, path, want string }{
		{`^/(\w+)/(.*)$`, `/\2/\1`, "/a/b/c", "/b/c/a"},
		{`a`, `b`, "/a/a", "/b/b"},
		{`a`, `[\0]`, "/a", "/[a]"},
		{`(a)`, `$1\\`, "/a", `/$1\`},
	} {
		re, substitution, err := (&mesh.RegexRewrite{Match: test.match, Substitution: test.substitution}).Compile()
		if err != nil {
			t.Errorf("Compile(%q, %q): %v", test.match, test.substitution, err)
		} else if got := re.ReplaceAllString(test.path, substitution); got != test.want {
			t.Errorf("%q to %q makes of %q %q, want %q", test.match, test.substitution, test.path, got, test.want)
		}
	}
}
