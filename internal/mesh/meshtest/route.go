package meshtest

import (
	"fmt"
	"time"

	"serin.dev/serin/internal/mesh"
)

// routes makes up to four routes, the last one mostly for every request. At a
// gateway, at says so; service is what the host stands for, "" for none.
func (m *maker) routes(at string, service mesh.ServiceName) []mesh.Route {
	var out []mesh.Route
	for i := range m.IntN(4) {
		out = append(out, m.route(at, service, i))
	}
	if m.percent(80) {
		last := m.route(at, service, len(out))
		last.Matches = nil
		out = append(out, last)
	}
	return out
}

func (m *maker) route(at string, service mesh.ServiceName, i int) mesh.Route {
	r := mesh.Route{Name: fmt.Sprintf("route-%s%d", at, i), Origin: m.origin("VirtualService"), Service: service}
	for range 1 + m.IntN(3) {
		r.Matches = append(r.Matches, m.match())
	}
	action := 0
	if m.Answers && m.percent(30) {
		action = 1 + m.IntN(3)
	}
	switch action {
	case 0:
		m.forward(&r, service)
	case 1:
		r.Redirect = m.redirect()
	case 2:
		r.Direct = &mesh.DirectAnswer{Status: pick(m, 200, 204, 418, 503), Body: pick(m, "", "unknown error", "line\nline")}
	}
	if m.Edits && m.percent(40) {
		r.Headers = m.headers()
		if len(r.Split) == 0 {
			r.Headers.Request = mesh.HeaderEdit{}
		}
	}
	if m.CORS && m.percent(30) {
		r.CORS = m.cors()
	}
	if m.Faults && m.percent(30) {
		r.Fault = m.fault()
	}
	if m.Limits && m.percent(20) {
		r.RateLimit = &mesh.RateLimit{Burst: 1 + m.Uint32N(100), Fill: 1 + m.Uint32N(10), Per: pick(m, mesh.MinRatePeriod, time.Second, time.Minute)}
	}
	return r
}

// forward sends the route's requests to a split.
func (m *maker) forward(r *mesh.Route, service mesh.ServiceName) {
	r.Split = m.split(service, m.Edits)
	if m.Affinity && len(r.Split) > 1 && m.percent(40) {
		r.Affinity = m.hash()
	}
	if m.Edits && m.percent(40) {
		rewrite := pick(m,
			mesh.Rewrite{Path: ref("/v2")},
			mesh.Rewrite{Path: ref("/"), Authority: "inner.test"},
			mesh.Rewrite{Authority: "inner.test:8080"},
			mesh.Rewrite{Regex: &mesh.RegexRewrite{Match: `^/(\w+)/(.*)$`, Substitution: `/\2/\1`}},
		)
		r.Rewrite = &rewrite
	}
	if m.Mirrors && m.percent(30) {
		for range 1 + m.IntN(2) {
			d := m.destination("")
			r.Mirrors = append(r.Mirrors, mesh.Mirror{Destination: d, Share: m.share(), Compare: m.Compares && m.percent(30)})
		}
	}
	if m.Retries && m.percent(50) {
		r.Retry = m.retry()
	}
	if m.Retries && m.percent(50) {
		r.Timeout = m.duration()
	}
	if m.Retries && m.percent(20) {
		r.IdleTimeout = pick(m, -time.Second, time.Second, time.Hour)
	}
}

func ref[T any](v T) *T { return &v }

// split makes one to three shares, which are not the same; for a host that
// stands for a service mostly of its subsets.
func (m *maker) split(service mesh.ServiceName, edits bool) []mesh.Destination {
	var out []mesh.Destination
	seen := map[mesh.Destination]bool{}
	for range 1 + m.IntN(3) {
		d := m.destination(service)
		if seen[d] {
			continue
		}
		seen[d] = true
		d.Weight = pick[uint32](m, 0, 1, 10, 50, 99, 1_000_000)
		if edits && m.percent(20) {
			d.Headers = m.headers()
		}
		out = append(out, d)
	}
	if len(out) > 1 && out[0].Weight == 0 {
		out[0].Weight = 1
	}
	return out
}

// destination picks a service with HTTP on the port that it names.
func (m *maker) destination(service mesh.ServiceName) mesh.Destination {
	if m.Broken && m.percent(5) {
		return pick(m,
			mesh.Destination{Service: "ghost.default"},
			mesh.Destination{Service: m.names[0], Subset: "v99"},
			mesh.Destination{Service: m.names[0], Port: 4711})
	}
	if service == "" || m.percent(20) {
		service = m.names[m.IntN(len(m.names))]
	}
	d := mesh.Destination{Service: service, Subset: pick(m, "", "v1", "v2", "blue")}
	for _, p := range m.s.Services[service].Ports {
		if p.Protocol != mesh.TCP && p.Protocol != mesh.HTTPS && m.percent(30) {
			d.Port = p.Number
		}
	}
	if d.Port == 0 && len(m.s.Services[service].Ports) > 1 {
		d.Port = 80
	}
	return d
}

// match makes a condition that some calls of Call fulfil.
func (m *maker) match() mesh.Match {
	out := mesh.Match{Headers: map[string]mesh.StringMatch{}, Query: map[string]mesh.StringMatch{}}
	if m.percent(60) {
		out.URI = pick(m,
			mesh.StringMatch{Kind: mesh.Exact, Value: "/api/v1/items"},
			mesh.StringMatch{Kind: mesh.Exact, Value: "/API", IgnoreCase: true},
			mesh.StringMatch{Kind: mesh.Prefix, Value: "/api"},
			mesh.StringMatch{Kind: mesh.Prefix, Value: "/Static/", IgnoreCase: true},
			mesh.StringMatch{Kind: mesh.Suffix, Value: ".png"},
			mesh.StringMatch{Kind: mesh.Segments, Value: "/api/v1"},
			mesh.StringMatch{Kind: mesh.Regex, Value: `/(api|static)/[^/]+`})
	}
	if m.percent(20) {
		out.Method = pick(m,
			mesh.StringMatch{Kind: mesh.Exact, Value: "GET"},
			mesh.StringMatch{Kind: mesh.Regex, Value: "PUT|POST"},
			mesh.StringMatch{Kind: mesh.Exact, Value: "DELETE", Invert: true})
	}
	if m.percent(10) {
		out.Scheme = mesh.StringMatch{Kind: mesh.Exact, Value: pick(m, "http", "https")}
	}
	if m.percent(10) {
		out.Host = pick(m,
			mesh.StringMatch{Kind: mesh.Suffix, Value: ".example.org"},
			mesh.StringMatch{Kind: mesh.Prefix, Value: "WWW.", IgnoreCase: true},
			mesh.StringMatch{Kind: mesh.Regex, Value: ".*:80", Invert: true})
	}
	if m.percent(30) {
		for _, name := range some(m, 1, 2, headerNames()...) {
			out.Headers[name] = pick(m,
				mesh.StringMatch{Kind: mesh.Exact, Value: "jason"},
				mesh.StringMatch{Kind: mesh.Exact, Value: "JASON", IgnoreCase: true},
				mesh.StringMatch{Kind: mesh.Prefix, Value: "ja"},
				mesh.StringMatch{Kind: mesh.Suffix, Value: "son"},
				mesh.StringMatch{Kind: mesh.Regex, Value: "(jason|jack).*"},
				mesh.StringMatch{Kind: mesh.Present},
				mesh.StringMatch{Kind: mesh.Present, Invert: true},
				mesh.StringMatch{Kind: mesh.Exact, Value: "jason", Invert: true})
		}
	}
	if m.percent(20) {
		out.Query[pick(m, "q", "version")] = pick(m,
			mesh.StringMatch{Kind: mesh.Exact, Value: "2"},
			mesh.StringMatch{Kind: mesh.Prefix, Value: "2"},
			mesh.StringMatch{Kind: mesh.Regex, Value: "[0-9]+"},
			mesh.StringMatch{Kind: mesh.Present})
	}
	if m.percent(10) {
		out.Port = pick[uint16](m, 80, 9080)
	}
	if m.Sources && m.percent(15) {
		out.SourceLabels = mesh.Labels{"app": pick(m, "web", "reviews")}
	}
	if m.Sources && m.percent(15) {
		out.SourceNamespace = pick(m, "default", "shop")
	}
	if len(out.Headers) == 0 {
		out.Headers = nil
	}
	if len(out.Query) == 0 {
		out.Query = nil
	}
	return out
}

// headerNames are those that matches look at.
func headerNames() []string { return []string{"end-user", "x-debug", "x-canary", "cookie"} }

func (m *maker) redirect() *mesh.Redirect {
	r := pick(m,
		mesh.Redirect{Path: "/new"},
		mesh.Redirect{Path: "/new?from=old", Authority: "other.test"},
		mesh.Redirect{Scheme: "https"},
		mesh.Redirect{Scheme: "https", Port: 8443},
		mesh.Redirect{Authority: "other.test:8080", Prefix: ref("/moved")},
		mesh.Redirect{Prefix: ref("/")})
	r.Code = pick(m, 301, 302, 303, 307, 308)
	return &r
}

func (m *maker) headers() *mesh.HeaderEdits {
	edit := func(names ...string) mesh.HeaderEdit {
		var e mesh.HeaderEdit
		e.Remove = some(m, 0, 2, names...)
		for _, name := range some(m, 0, 2, "x-set", "x-debug", "x-canary") {
			e.Set = append(e.Set, mesh.Header{Name: name, Value: pick(m, "1", "a b, c", "100%", `"quoted"`)})
		}
		for _, name := range some(m, 0, 2, "x-add", "x-debug", "set-cookie") {
			e.Add = append(e.Add, mesh.Header{Name: name, Value: pick(m, "2", "k=v; path=/")})
		}
		return e
	}
	out := &mesh.HeaderEdits{Request: edit("end-user", "x-gone"), Answer: edit("server", "x-gone")}
	if m.percent(20) {
		out.Request.Set = append(out.Request.Set, mesh.Header{Name: "host", Value: "inner.test"})
	}
	return out
}

func (m *maker) cors() *mesh.CORS {
	return &mesh.CORS{
		Origins: some(m, 1, 2,
			mesh.StringMatch{Kind: mesh.Exact, Value: "https://example.org"},
			mesh.StringMatch{Kind: mesh.Prefix, Value: "https://"},
			mesh.StringMatch{Kind: mesh.Suffix, Value: ".EXAMPLE.org", IgnoreCase: true},
			mesh.StringMatch{Kind: mesh.Regex, Value: ".*"}),
		Methods:     some(m, 0, 2, "GET", "POST", "PUT"),
		Headers:     some(m, 0, 2, "x-debug", "Content-Type"),
		Expose:      some(m, 0, 1, "x-served-by"),
		MaxAge:      pick(m, 0, time.Minute, 24*time.Hour),
		Credentials: m.percent(50),
	}
}

func (m *maker) fault() *mesh.Fault {
	f := &mesh.Fault{}
	if m.percent(60) {
		f.Delay = &mesh.Delay{Share: m.share(), Time: pick(m, time.Millisecond, 50*time.Millisecond, 7*time.Second)}
	}
	if m.percent(60) || f.Delay == nil {
		f.Abort = &mesh.Abort{Share: m.share(), Status: pick(m, 400, 500, 503)}
		if m.percent(30) {
			f.Abort.Status, f.Abort.GRPC = 0, m.IntN(17)
		}
	}
	return f
}

func (m *maker) retry() *mesh.Retry {
	r := &mesh.Retry{Attempts: m.Uint32N(5), AvoidPrevious: m.percent(50)}
	if m.percent(20) {
		return mesh.DefaultRetry()
	}
	if r.Attempts == 0 {
		return &mesh.Retry{}
	}
	for bit := mesh.RetryConnectFailure; bit <= mesh.RetryGRPCUnavailable; bit <<= 1 {
		if m.percent(30) {
			r.On |= bit
		}
	}
	r.Codes = some(m, 0, 2, 404, 429, 503)
	if m.percent(50) {
		r.PerTryTimeout = m.duration()
	}
	if m.percent(30) {
		r.Base = pick(m, time.Millisecond, 25*time.Millisecond, time.Second)
		r.Max = r.Base * time.Duration(m.IntN(3)*10)
	}
	return r
}
