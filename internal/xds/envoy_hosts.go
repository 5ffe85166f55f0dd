package xds

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"serin.dev/serin/internal/mesh"
)

// defaultPort is that of an authority without one: callers of our listeners
// speak http.
const defaultPort = 80

// retryBuffer is how much of a request's body is kept for sending it again, or
// to a mirror: as much as our own proxy keeps.
const retryBuffer = 64 << 10

// table makes one route configuration.
type table struct {
	envoy  *envoy
	hosts  []mesh.VirtualHost
	index  map[string][]int // of hosts, by pattern
	sorted []string         // the patterns
	wild   []string         // those with a wildcard, the most specific first
	config *routev3.RouteConfiguration
	parts  []*routed
	part   *routed // under way; nil = the next virtual host begins one
	mesh   bool    // calls between services; else at a gateway
}

func (e *envoy) table(name string, hosts []mesh.VirtualHost, between bool) *table {
	t := &table{
		envoy: e, hosts: hosts, index: map[string][]int{}, mesh: between,
		config: &routev3.RouteConfiguration{
			Name:                           name,
			MaxDirectResponseBodySizeBytes: wrapperspb.UInt32(mesh.MaxDirectBody),
			IgnorePortInHostMatching:       !between,
		},
	}
	for i := range hosts {
		for _, pattern := range hosts[i].Hosts {
			t.index[pattern] = append(t.index[pattern], i)
		}
	}
	t.sorted = sortedKeys(t.index)
	for _, pattern := range t.sorted {
		if strings.HasPrefix(pattern, "*") {
			t.wild = append(t.wild, pattern)
		}
	}
	slices.SortStableFunc(t.wild, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return t
}

// hostRoutes is what a called host stands for.
type hostRoutes struct {
	key     string        // the pattern or name it was found by
	service *mesh.Service // nil when the host is no service, and at a gateway
	routes  []mesh.Route
	ids     []string // of the routes: the same wherever they are found
	from    []hostID // where routes and streams are from
	streams []mesh.Stream
	routed  bool // has routes, be they none; else calls go straight to the service
	https   bool // refuses plain requests
}

// of returns what a pattern stands for.
func (t *table) of(pattern string) hostRoutes {
	h := hostRoutes{key: pattern}
	for _, i := range t.index[pattern] {
		vh := &t.hosts[i]
		h.routed = true
		h.from = append(h.from, idOf(vh))
		for j := range vh.Routes {
			h.routes = append(h.routes, vh.Routes[j])
			h.ids = append(h.ids, fmt.Sprintf("%s %d", vh.Hosts[0], j))
		}
		h.streams = append(h.streams, vh.Streams...)
		h.https = h.https || vh.RequireTLS
	}
	return h
}

// find returns what a host stands for, by its most specific pattern.
func (t *table) find(host string) hostRoutes {
	pattern := host
	if t.index[host] == nil {
		i := slices.IndexFunc(t.wild, func(p string) bool { return mesh.HostMatches(p, host) })
		if i >= 0 {
			pattern = t.wild[i]
		}
	}
	h := t.of(pattern)
	h.key = host
	if t.mesh {
		h.service = t.envoy.view.Services[mesh.ServiceName(host)]
	}
	return h
}

// ports are those whose calls are told apart: a service's, else those that the
// routes name or depend on. 0 stands for all others.
func (t *table) ports(h *hostRoutes) []uint16 {
	seen := map[uint16]bool{}
	if h.service != nil {
		for _, p := range h.service.Ports {
			seen[p.Number] = true
		}
		return slices.Sorted(maps.Keys(seen))
	}
	seen[0] = true
	follow := func(d mesh.Destination) {
		if svc := t.envoy.view.Services[d.Service]; svc != nil && d.Port == 0 {
			for _, p := range svc.Ports {
				seen[p.Number] = true
			}
		}
	}
	for i := range h.routes {
		r := &h.routes[i]
		for _, m := range r.Matches {
			seen[m.Port] = true
		}
		for _, d := range r.Split {
			follow(d)
			if svc := t.envoy.view.Services[d.Service]; svc != nil {
				for _, rule := range svc.Access {
					for _, m := range rule.Matches {
						seen[m.Port] = true
					}
				}
			}
		}
		for _, m := range r.Mirrors {
			follow(m.Destination)
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// between makes the virtual hosts for calls between services. Every exact host
// has one for each of its ports. Envoy's wildcards cannot leave the port open
// as well, so hosts with wildcards are routes of the last virtual host, which
// ask for the authority; behind them is everything outside of the mesh.
func (t *table) between(namespace string) error {
	names := map[string]bool{}
	for _, pattern := range t.sorted {
		names[pattern] = !strings.HasPrefix(pattern, "*")
	}
	for name := range t.envoy.view.Services {
		names[string(name)] = true
	}
	for _, name := range sortedKeys(names) {
		forms := writtenAs(name, namespace)
		if !names[name] || len(forms) == 0 {
			continue // a wildcard, or no caller of this namespace can mean it
		}
		h := t.find(name)
		if err := t.host(&h, func() error { return t.exact(&h, forms) }); err != nil {
			return fmt.Errorf("host %s: %w", name, err)
		}
	}
	return t.rest(namespace)
}

// exact makes the virtual hosts of one host.
func (t *table) exact(h *hostRoutes, forms []string) error {
	ports := t.ports(h)
	for _, port := range ports {
		vh := t.virtualHost(fmt.Sprintf("%s:%d", h.key, port), nil)
		for _, form := range forms {
			switch {
			case port == 0 && !slices.Contains(ports, defaultPort):
				vh.Domains = append(vh.Domains, form, form+":*")
			case port == 0:
				vh.Domains = append(vh.Domains, form+":*")
			case port == defaultPort:
				vh.Domains = append(vh.Domains, form, fmt.Sprintf("%s:%d", form, port))
			default:
				vh.Domains = append(vh.Domains, fmt.Sprintf("%s:%d", form, port))
			}
		}
		if err := t.fill(vh, h, port); err != nil {
			return err
		}
	}
	if h.service == nil {
		return nil
	}
	closed := t.virtualHost(h.key+":closed", nil)
	for _, form := range forms {
		if !slices.Contains(ports, defaultPort) {
			closed.Domains = append(closed.Domains, form)
		}
		closed.Domains = append(closed.Domains, form+":*")
	}
	closed.Routes = []*routev3.Route{noRoute(h)}
	return t.add(closed)
}

// noRoute is the last route of a host: it answers 404 as Envoy would by itself,
// but keeps for the records what was called and under which snapshot.
func noRoute(h *hostRoutes) *routev3.Route {
	record, f := fields{}, fields{}
	if h.service != nil {
		record.setText("service", string(h.service.Name))
	}
	record.setText("flag", flagNoRoute)
	f.setFields(metadataRecord, record)
	return &routev3.Route{Match: encodeMatch(&mesh.Match{}), Action: notFound(), Metadata: f.metadata()}
}

// flagNoRoute is Envoy's response flag for requests that no route takes.
const flagNoRoute = "NR"

// rest makes the last virtual host: wildcards and what is outside.
func (t *table) rest(namespace string) error {
	vh := t.virtualHost("*", []string{"*"})
	for _, pattern := range t.wild {
		h := t.of(pattern)
		ports := t.ports(&h)
		slices.Reverse(ports) // 0 last: it has no condition on the port
		for _, port := range ports {
			condition := encodeHeader(authorityHeader, mesh.StringMatch{Kind: mesh.Regex, Value: authorityRegex(pattern, namespace, port)})
			before := len(vh.GetRoutes())
			if h.https {
				vh.Routes = append(vh.Routes, &routev3.Route{Match: encodeMatch(&mesh.Match{}), Action: toHTTPS()})
			} else if err := t.routes(vh, &h, port); err != nil {
				return fmt.Errorf("host %s: %w", pattern, err)
			}
			for _, r := range vh.GetRoutes()[before:] {
				r.Match.Headers = append([]*routev3.HeaderMatcher{condition}, r.GetMatch().GetHeaders()...)
			}
		}
	}
	to := mesh.Route{Split: []mesh.Destination{{Service: outsideCluster, Weight: 1}}, Retry: &mesh.Retry{}}
	vh.Routes = append(vh.Routes, connectTo(&routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: outsideCluster}, Timeout: durationpb.New(0),
	}, nil))
	out, err := encodeRoute(&to, &mesh.Match{}, mesh.Destination.String)
	if err != nil {
		return err
	}
	out.Match = encodeMatch(&mesh.Match{})
	vh.Routes = append(vh.Routes, out)
	return t.add(vh)
}

func toHTTPS() *routev3.Route_Redirect {
	return &routev3.Route_Redirect{Redirect: &routev3.RedirectAction{
		SchemeRewriteSpecifier: &routev3.RedirectAction_HttpsRedirect{HttpsRedirect: true},
	}}
}

// authorityRegex covers the authorities that a pattern means on a port; port 0
// on any.
func authorityRegex(pattern, namespace string, port uint16) string {
	suffix := strings.TrimPrefix(pattern, "*")
	forms := []string{".+" + regexp.QuoteMeta(suffix)}
	if inside, one := strings.CutPrefix(suffix, "."); one && inside != "" && !strings.Contains(inside, ".") {
		// "*.shop" means "a.shop.svc", too, and "a" to callers from there.
		forms = append(forms, `[^.:]+`+regexp.QuoteMeta(suffix)+`\.svc(\.cluster\.local)?`)
		if inside == namespace {
			forms = append(forms, `[^.:]+`)
		}
	}
	end := `(:[0-9]*)?`
	switch port {
	case 0:
	case defaultPort:
		end = `(:80?)?`
	default:
		end = fmt.Sprintf(":%d", port)
	}
	return `(?i)(` + strings.Join(forms, "|") + `)` + end
}

// writtenAs lists how callers of a namespace may write a host: exactly what
// mesh.CanonicalHost takes for it.
func writtenAs(host, namespace string) []string {
	forms := []string{host, host + ".svc", host + ".svc.cluster.local"}
	if short, ok := strings.CutSuffix(host, "."+namespace); ok && namespace != "" {
		forms = append(forms, short)
	}
	forms = slices.DeleteFunc(forms, func(form string) bool { return mesh.CanonicalHost(form, namespace) != host })
	for i, form := range forms {
		if strings.Contains(form, ":") {
			forms[i] = "[" + form + "]" // an IPv6 address
		}
	}
	return forms
}

// only makes one virtual host for all: everything is meant for one host.
func (t *table) only(h *hostRoutes, port uint16) error {
	return t.fill(t.virtualHost(h.key, []string{"*"}), h, port)
}

func (t *table) virtualHost(name string, domains []string) *routev3.VirtualHost {
	return &routev3.VirtualHost{Name: name, Domains: domains, RequestBodyBufferLimit: wrapperspb.UInt64(retryBuffer)}
}

// fill makes the routes of a host and adds the virtual host.
func (t *table) fill(vh *routev3.VirtualHost, h *hostRoutes, port uint16) error {
	if h.https {
		vh.RequireTls = routev3.VirtualHost_ALL
	}
	if err := t.routes(vh, h, port); err != nil {
		return err
	}
	return t.add(vh)
}

// add completes a virtual host: what is the same for all, and in each route the
// hash of what routes.
func (t *table) add(vh *routev3.VirtualHost) error {
	retry, err := encodeRetry(mesh.DefaultRetry())
	if err != nil {
		return err
	}
	vh.RetryPolicy = retry
	body, err := marshal(vh)
	if err != nil {
		return err
	}
	routing := digest(body)
	for _, r := range vh.GetRoutes() {
		f := fieldsOf(r.GetMetadata())
		if f == nil {
			f = fields{}
		}
		record := f.fields(metadataRecord)
		if record == nil {
			record = fields{}
		}
		record.setText("routing", routing)
		f.setFields(metadataRecord, record)
		r.Metadata = f.metadata()
	}
	if body, err = marshal(vh); err != nil {
		return err
	}
	part := t.open()
	part.hosts, part.routings = append(part.hosts, body), append(part.routings, routing)
	return nil
}

// metadataRecord holds what the access log says of a route.
const metadataRecord = "record"

// routes appends the routes of a host for calls to one port.
func (t *table) routes(vh *routev3.VirtualHost, h *hostRoutes, port uint16) error {
	if t.mesh {
		connect, err := t.connect(h, port)
		if err != nil {
			return err
		}
		vh.Routes = append(vh.Routes, connect...)
	}
	if !h.routed {
		straight := mesh.Route{Split: []mesh.Destination{{Service: h.service.Name, Port: port, Weight: 1}}}
		out, err := t.route(h, &straight, &mesh.Match{}, port, "")
		if err != nil {
			return err
		}
		vh.Routes = append(vh.Routes, out)
		return nil
	}
	for i := range h.routes {
		r := &h.routes[i]
		for _, m := range orAny(r.Matches) {
			if m.Port != 0 && m.Port != port {
				continue
			}
			out, err := t.route(h, r, &m, port, h.ids[i])
			if err != nil {
				return fmt.Errorf("route %d (%s): %w", i, r.Origin, err)
			}
			vh.Routes = append(vh.Routes, out)
			if isAny(&mesh.Match{URI: m.URI, Scheme: m.Scheme, Method: m.Method, Host: m.Host, Headers: m.Headers, Query: m.Query}) {
				return nil // what follows is never reached
			}
		}
	}
	vh.Routes = append(vh.Routes, noRoute(h))
	return nil
}

// route makes one of Envoy's routes of one match of a route.
func (t *table) route(h *hostRoutes, r *mesh.Route, m *mesh.Match, port uint16, id string) (*routev3.Route, error) {
	out, err := encodeRoute(atShares(r), m, t.envoy.name(port))
	if err != nil {
		return nil, err
	}
	out.Match = encodeMatch(m)
	onlyWhatIsThere(out, m)
	if err := t.guard(out, r, port); err != nil {
		return nil, err
	}
	service := r.Service
	if h.service != nil {
		service = h.service.Name
	}
	record := fields{}
	record.setText("service", string(service))
	record.setFields("origin", encodeOrigin(r.Origin))
	record.setTrue("split", len(r.Split) > 1)
	if len(r.Split) == 0 && r.Redirect == nil && r.Direct == nil {
		record.setText("flag", flagNoRoute)
	}
	f := fields{}
	f.setFields(metadataRecord, record)
	if r.RateLimit != nil {
		delete(out.GetTypedPerFilterConfig(), filterRateLimit)
		f.setText(metadataLimit, id)
		part := t.open()
		part.limits = append(part.limits, limit{id, r.RateLimit})
	}
	out.Metadata = f.metadata()
	return out, nil
}

// onlyWhatIsThere takes back what Envoy would do to nothing: replace a part of
// the path that the match does not name, and tell the type of no content.
func onlyWhatIsThere(out *routev3.Route, m *mesh.Match) {
	switch m.URI.Kind {
	case mesh.Exact, mesh.Prefix, mesh.Segments:
	case mesh.Any, mesh.Present, mesh.Regex, mesh.Suffix:
		if _, part := out.GetRedirect().GetPathRewriteSpecifier().(*routev3.RedirectAction_PrefixRewrite); part {
			out.GetRedirect().PathRewriteSpecifier = nil
		}
	}
	if direct := out.GetDirectResponse(); direct.GetStatus() == 204 || direct.GetStatus() == 304 {
		direct.Body = nil
	}
}

// metadataLimit is the bucket that a route takes from.
const metadataLimit = "limit"

// takeFromBucket tells the filter to take from the bucket that the route names.
func takeFromBucket() []*routev3.RateLimit {
	return []*routev3.RateLimit{{Actions: []*routev3.RateLimit_Action{{
		ActionSpecifier: &routev3.RateLimit_Action_Metadata{Metadata: &routev3.RateLimit_Action_MetaData{
			DescriptorKey: metadataLimit,
			Source:        routev3.RateLimit_Action_MetaData_ROUTE_ENTRY,
			MetadataKey: &metadatav3.MetadataKey{Key: metadataKey, Path: []*metadatav3.MetadataKey_PathSegment{{
				Segment: &metadatav3.MetadataKey_PathSegment_Key{Key: metadataLimit},
			}}},
		}},
	}}}}
}

// guard says what the filters do for each destination: ask its access rules, and
// keep its name. They are asked when the share was picked already.
func (t *table) guard(out *routev3.Route, r *mesh.Route, port uint16) error {
	action := out.GetRoute()
	if action == nil {
		return nil
	}
	for i, d := range r.Split {
		configs, err := t.envoy.forDestination(d, port)
		if err != nil {
			return err
		}
		for name, packed := range configs {
			if w := action.GetWeightedClusters(); w != nil {
				w.Clusters[i].TypedPerFilterConfig = typedConfig(w.Clusters[i].TypedPerFilterConfig, name, packed)
			} else {
				out.TypedPerFilterConfig = typedConfig(out.TypedPerFilterConfig, name, packed)
			}
		}
	}
	return nil
}

// connect makes the route of CONNECT requests, which open connections of bytes
// to the host; none where the port takes none.
func (t *table) connect(h *hostRoutes, port uint16) ([]*routev3.Route, error) {
	to := streamFor(h, port)
	if to == nil || len(to.Split) == 0 {
		return nil, nil
	}
	if !t.envoy.admitsStreams(to.Split) {
		refused := connectTo(&routev3.RouteAction{}, streamRecord(to))
		refused.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 403}}
		return []*routev3.Route{refused}, nil
	}
	action, err := encodeAction(&mesh.Route{Split: to.Split, Retry: &mesh.Retry{}}, &mesh.Match{}, t.envoy.name(port))
	if err != nil {
		return nil, err
	}
	return []*routev3.Route{connectTo(action, streamRecord(to))}, nil
}

func connectTo(action *routev3.RouteAction, record fields) *routev3.Route {
	action.UpgradeConfigs = []*routev3.RouteAction_UpgradeConfig{{
		UpgradeType: "CONNECT", ConnectConfig: &routev3.RouteAction_UpgradeConfig_ConnectConfig{},
	}}
	f := fields{}
	f.setFields(metadataRecord, record)
	return &routev3.Route{
		Match:    &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_ConnectMatcher_{ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{}}},
		Action:   &routev3.Route_Route{Route: action},
		Metadata: f.metadata(),
	}
}

// finish completes the configuration.
func (t *table) finish() error {
	hosts, limits := t.collect()
	if len(limits) > 0 {
		packed, err := pack(&ratelimitv3.LocalRateLimit{
			StatPrefix: statPrefix, FilterEnabled: always100(), FilterEnforced: always100(), Descriptors: limits, RateLimits: takeFromBucket(),
			// Of the routes without a limit; Envoy wants to be told.
			TokenBucket: encodeBucket(&mesh.RateLimit{Burst: unlimited, Fill: unlimited, Per: mesh.MinRatePeriod}),
		})
		if err != nil {
			return err
		}
		t.config.TypedPerFilterConfig = map[string]*anypb.Any{filterRateLimit: packed}
	}
	return t.envoy.out.setRoutes(t.config, hosts)
}
