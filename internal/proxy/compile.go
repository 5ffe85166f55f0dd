package proxy

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"serin.dev/serin/internal/mesh"
)

// compiler makes a table of a snapshot that is valid. What the snapshot shares
// with the last one (mesh.Snapshot.Sharing) goes on as it was compiled for that:
// a service with its groups, and routes that lead to none but such services.
type compiler struct {
	snapshot *mesh.Snapshot
	old      *table     // in force until now: what goes on is taken from it
	now      time.Time  // when the table comes into force
	place    mesh.Place // of this proxy
	upstream func(*mesh.Endpoint) *upstream
	// turn starts a group's round robin somewhere, so that proxies that start
	// together do not favour the first endpoint.
	turn func() uint64

	table    *table
	backends map[mesh.Destination]*backend
	made     []*group    // not of the last table
	room     []int       // of a group's endpoints, used again and again
	retry    *mesh.Retry // of routes without one
}

// callee is a mesh.Service with its upstreams, in the order of the endpoints.
type callee struct {
	*mesh.Service
	access    *access
	upstreams []*upstream
	own       *backend
}

func (c *compiler) compile() (*table, error) {
	c.backends, c.retry = map[mesh.Destination]*backend{}, mesh.DefaultRetry()
	services := len(c.snapshot.Services)
	t := &table{
		version:  c.snapshot.Version,
		snapshot: c.snapshot,
		mesh:     newHostIndex(services),
		local:    map[string]localHosts{},
		gateways: map[uint16]*gateway{},
		services: make(map[mesh.ServiceName]*callee, services),
		routes:   make(map[routesKey][]*route, len(c.snapshot.Hosts)),
		groups:   make(map[groupKey]*group, max(services, len(c.old.groups))),
		limits:   map[limitKey]*bucket{},
		servers:  map[serverKey]*serverTLS{},
		clients:  map[clientKey]*clientTLS{},
	}
	c.table = t
	if err := c.addServices(); err != nil {
		return nil, err
	}
	for i := range c.snapshot.Hosts {
		if err := c.addVirtualHost(&t.mesh, 0, &c.snapshot.Hosts[i]); err != nil {
			return nil, err
		}
	}
	for _, svc := range t.services {
		c.addService(&t.mesh, svc)
	}
	t.addLocal()
	for i := range c.snapshot.Gateways {
		g := &c.snapshot.Gateways[i]
		if err := c.addGateway(g); err != nil {
			return nil, fmt.Errorf("gateway %s: %w", g.Name, err)
		}
	}
	// Only now, when nothing can fail any more, does state change hands.
	for _, g := range c.made {
		g.takeOver()
	}
	return t, nil
}

func (c *compiler) addServices() error {
	// A service may refer to certificates, by their names.
	shares := c.old.snapshot != nil && maps.Equal(c.snapshot.Certificates, c.old.snapshot.Certificates)
	for name, of := range c.snapshot.Services {
		was := c.old.services[name]
		if shares && was != nil && was.Service == of {
			c.table.services[name] = was
			continue
		}
		svc := &callee{Service: of, upstreams: make([]*upstream, len(of.Endpoints))}
		for i := range of.Endpoints {
			if svc.upstreams[i] = was.upstreamAt(i, &of.Endpoints[i]); svc.upstreams[i] == nil {
				svc.upstreams[i] = c.upstream(&of.Endpoints[i])
			}
		}
		var err error
		if svc.access, err = compileAccess(of.Access); err != nil {
			return fmt.Errorf("service %s: access: %w", name, err)
		}
		c.table.services[name] = svc
	}
	return nil
}

// upstreamAt returns the upstream of the service's endpoint of a number if that is
// the same as another one; nil if not. The service may be nil.
func (svc *callee) upstreamAt(i int, e *mesh.Endpoint) *upstream {
	if svc == nil || i >= len(svc.Endpoints) {
		return nil
	}
	if was := &svc.Endpoints[i]; was.Dial != e.Dial || was.Address != e.Address || was.Workload != e.Workload {
		return nil
	}
	return svc.upstreams[i]
}

// goesOn reports whether a service is the last table's, or neither has it.
func (c *compiler) goesOn(name mesh.ServiceName) bool {
	return c.table.services[name] == c.old.services[name]
}

// keep lets the groups of a backend go on, whose service does.
func (c *compiler) keep(b *backend) {
	if b.only != nil {
		c.keepGroup(b.only)
	}
	for _, p := range b.ports {
		c.keepGroup(p.group)
	}
}

func (c *compiler) keepGroup(g *group) {
	c.table.groups[g.groupKey] = g
	if t := g.transport.tls; t != nil {
		c.table.clients[t.key] = t
	}
}

// addLocal files the hosts of the form "name.namespace", and the wildcards for
// a namespace, under the namespace.
func (t *table) addLocal() {
	at := func(namespace string) localHosts {
		local := t.local[namespace]
		if local.short == nil {
			local.short = map[string]*target{}
		}
		return local
	}
	for host, found := range t.mesh.exact {
		if name, namespace, ok := strings.Cut(host, "."); ok && !strings.Contains(namespace, ".") {
			local := at(namespace)
			local.short[name] = found
			t.local[namespace] = local
		}
	}
	for suffix, found := range t.mesh.wild {
		if namespace, ok := strings.CutPrefix(suffix, "."); ok && !strings.Contains(namespace, ".") {
			local := at(namespace)
			local.rest = found
			t.local[namespace] = local
		}
	}
}

func (c *compiler) addGateway(of *mesh.Gateway) error {
	g := c.table.gateways[of.Port]
	if g == nil {
		g = &gateway{hosts: newHostIndex(len(of.VirtualHosts))}
		c.table.gateways[of.Port] = g
	}
	for i := range of.VirtualHosts {
		if err := c.addVirtualHost(&g.hosts, of.Port, &of.VirtualHosts[i]); err != nil {
			return err
		}
	}
	for i := range of.TLS {
		g.tls, g.ends = append(g.tls, &of.TLS[i]), append(g.ends, c.serverTLS(&of.TLS[i]))
	}
	for i := range of.Streams {
		to := &g.plain
		if of.Streams[i].SNI() {
			to = &g.passed
		}
		*to = append(*to, c.stream(&of.Streams[i]))
	}
	return nil
}

// routesKey tells the routes of virtual hosts apart, across snapshots that share
// them.
type routesKey struct {
	port  uint16      // of the gateway; 0 = in the mesh
	host  string      // the first one
	first *mesh.Route // of the list
}

// routes compiles the routes of a virtual host, or lets them go on.
func (c *compiler) routes(port uint16, vh *mesh.VirtualHost) ([]*route, error) {
	if len(vh.Routes) == 0 {
		return nil, nil
	}
	key := routesKey{port, vh.Hosts[0], &vh.Routes[0]}
	routes := c.old.routes[key]
	kept := len(routes) == len(vh.Routes) && c.keepRoutes(routes)
	if !kept {
		routes = make([]*route, len(vh.Routes))
	}
	for i := range vh.Routes {
		of := &vh.Routes[i]
		var limit *bucket
		if of.RateLimit != nil {
			limit = c.bucket(limitKey{port, vh.Hosts[0], i, *of.RateLimit})
		}
		if kept {
			continue
		}
		var err error
		if routes[i], err = c.route(of); err != nil {
			return nil, fmt.Errorf("virtual host %s: route %d: %w", vh.Hosts[0], i, err)
		}
		routes[i].limit = limit
	}
	c.table.routes[key] = routes
	return routes, nil
}

// keepRoutes lets routes go on if all services do to which they lead.
func (c *compiler) keepRoutes(routes []*route) bool {
	for _, r := range routes {
		for b := range r.backends {
			if !c.goesOn(b.service) {
				return false
			}
		}
	}
	for _, r := range routes {
		for b := range r.backends {
			c.keep(b)
		}
	}
	return true
}

// backends yields those to which the route leads.
func (r *route) backends(yield func(*backend) bool) {
	for i := range r.split.shares {
		if !yield(r.split.shares[i].backend) {
			return
		}
	}
	for i := range r.mirrors {
		if !yield(r.mirrors[i].backend) {
			return
		}
	}
}

// addVirtualHost adds the routes under each host. Where a second gateway on
// the same port has the host too, its routes come after.
func (c *compiler) addVirtualHost(x *hostIndex, port uint16, vh *mesh.VirtualHost) error {
	routes, err := c.routes(port, vh)
	if err != nil {
		return err
	}
	streams := make([]stream, len(vh.Streams))
	for i := range vh.Streams {
		streams[i] = c.stream(&vh.Streams[i])
	}
	for _, host := range vh.Hosts {
		at, key := x.exact, host
		if suffix, wild := strings.CutPrefix(host, "*"); wild {
			at, key = x.wild, suffix
		}
		found := at[key]
		if found == nil {
			found = &target{routed: true}
			at[key] = found
		}
		for _, r := range routes {
			found.routes, found.gates = append(found.routes, r), r.gates(found.gates)
		}
		found.streams = append(found.streams, streams...)
		found.requireTLS = found.requireTLS || vh.RequireTLS
	}
	return nil
}

// bucket finds or makes the bucket of a route. A mistake in the key, such as
// after another route was put before this one, fills it once more.
func (c *compiler) bucket(key limitKey) *bucket {
	b := c.old.limits[key]
	if b == nil {
		b = newBucket(key.limit, c.now)
	}
	c.table.limits[key] = b
	return b
}

// addService makes the service callable under its own name: through the routes
// of its host, else those of a wildcard that covers it, else straight.
func (c *compiler) addService(x *hostIndex, svc *callee) {
	host := string(svc.Name)
	found := x.exact[host]
	if found == nil {
		found = &target{}
		if wild := x.findWild(host); wild != nil {
			*found = *wild
		}
		x.exact[host] = found
	}
	if svc.own == nil {
		svc.own = c.backend(mesh.Destination{Service: svc.Name})
	} else {
		c.keep(svc.own)
	}
	found.service, found.own = svc.Service, svc.own
}

func (c *compiler) route(of *mesh.Route) (*route, error) {
	r := &route{
		name: of.Name, origin: of.Origin, service: of.Service, affinity: of.Affinity,
		redirect: compileRedirect(of.Redirect), fault: of.Fault,
		retry: of.Retry, timeout: of.Timeout, idle: max(of.IdleTimeout, 0),
		interferes: of.CORS != nil || of.RateLimit != nil || of.Fault != nil,
	}
	var err error
	if r.matches, err = compileMatches(of.Matches); err != nil {
		return nil, err
	}
	if r.cors, err = compileCORS(of.CORS); err != nil {
		return nil, fmt.Errorf("cors: %w", err)
	}
	if r.rewrite, err = compileRewrite(of.Rewrite); err != nil {
		return nil, fmt.Errorf("rewrite: %w", err)
	}
	if r.retry == nil {
		r.retry = c.retry
	}
	if of.IdleTimeout == 0 {
		r.idle = mesh.DefaultStreamIdle
	}
	if d := of.Direct; d != nil {
		r.direct = &reply{status: d.Status, grpc: noGRPC, body: d.Body}
	}
	if of.Headers != nil {
		r.request, r.authority = compileEdit(of.Headers.Request)
		r.answer, _ = compileEdit(of.Headers.Answer)
	}
	if of.Rewrite != nil && of.Rewrite.Authority != "" {
		r.authority = of.Rewrite.Authority
	}
	r.split = c.split(of.Split)
	for _, m := range of.Mirrors {
		r.mirrors = append(r.mirrors, mirror{c.backend(m.Destination), m.Share, m.Compare})
	}
	return r, nil
}

func (c *compiler) stream(of *mesh.Stream) stream {
	return stream{origin: of.Origin, service: of.Service, matches: of.Matches, split: c.split(of.Split)}
}

func (c *compiler) split(destinations []mesh.Destination) split {
	out := split{several: len(destinations) > 1}
	var sum uint64
	for _, d := range destinations {
		weight := uint64(d.Weight)
		if len(destinations) == 1 {
			weight = 1
		}
		if weight == 0 {
			continue
		}
		sum += weight
		s := share{upTo: sum, backend: c.backend(d)}
		if d.Headers != nil {
			s.request, s.authority = compileEdit(d.Headers.Request)
			s.answer, _ = compileEdit(d.Headers.Answer)
		}
		out.shares = append(out.shares, s)
	}
	return out
}

// backend finds or makes the destination.
func (c *compiler) backend(d mesh.Destination) *backend {
	d.Weight, d.Headers = 0, nil // they are the share's
	if known := c.backends[d]; known != nil {
		return known
	}
	b := &backend{service: d.Service, subset: d.Subset}
	c.backends[d] = b
	svc := c.table.services[d.Service]
	if svc == nil {
		return b
	}
	b.access = svc.access
	if d.Port != 0 || len(svc.Ports) == 1 {
		if port, ok := svc.TargetPort(d.Port, 0); ok {
			b.only = c.group(svc, port, d.Subset)
		}
		return b
	}
	for _, p := range svc.Ports {
		if g := c.group(svc, p.Number, d.Subset); g != nil {
			b.ports = append(b.ports, portGroup{p.Number, g})
		}
	}
	return b
}

// group finds or makes the endpoints behind a port; nil for an unknown subset.
func (c *compiler) group(svc *callee, port uint16, subset string) *group {
	key := groupKey{svc.Name, port, subset}
	if known := c.table.groups[key]; known != nil {
		return known
	}
	old := c.old.groups[key]
	if old != nil && c.goesOn(svc.Name) {
		c.keepGroup(old)
		return old
	}
	if _, known := svc.Subsets[subset]; subset != "" && !known {
		return nil
	}
	at, _ := svc.Port(port)
	g := &group{groupKey: key, protocol: at.Protocol, policy: svc.Policy(port, subset)}
	g.transport = c.transport(g)
	c.table.groups[key] = g
	c.made = append(c.made, g)
	if old == nil {
		g.groupState = &groupState{start: c.now}
		g.turn.Store(c.turn())
	} else {
		g.groupState = old.groupState
	}
	c.addMembers(g, old, svc)
	g.arrange(c.place)
	return g
}

// addMembers adds the endpoints to a group, with what the last snapshot's, nil if
// there was none, knows of them.
func (c *compiler) addMembers(g, old *group, svc *callee) {
	since, joins := int64(g.clock(c.now)), old != nil && old.policy.Health != nil
	labels, selected := svc.Subsets[g.subset], c.room[:0]
	for i := range svc.Endpoints {
		if e := &svc.Endpoints[i]; e.Port == g.port && (g.subset == "" || e.Labels.Contains(labels)) {
			selected = append(selected, i)
		}
	}
	c.room = selected
	// In one piece each, since a snapshot has tens of thousands.
	members, fresh := make([]member, len(selected)), []vitals(nil)
	g.members = make([]*member, 0, len(selected))
	for n, i := range selected {
		e, u := &svc.Endpoints[i], svc.upstreams[i]
		if g.find(u, 0) != nil {
			continue
		}
		m := &members[n]
		*m = member{upstream: u, group: g, weight: max(e.Weight, 1), priority: e.Priority, place: e.Place}
		if was := old.find(u, len(g.members)); was != nil {
			m.vitals = was.vitals
		} else {
			if fresh == nil {
				fresh = make([]vitals, len(selected))
			}
			m.vitals = &fresh[n]
			m.checks = newChecks(joins)
			m.since.Store(since)
		}
		g.members = append(g.members, m)
	}
}
