package proxy

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"serin.dev/serin/internal/mesh"
)

// compiler makes a table of a snapshot that is valid.
type compiler struct {
	snapshot *mesh.Snapshot
	upstream func(*mesh.Endpoint) *upstream
	// turn starts a group's round robin somewhere, so that frequent snapshots
	// do not favour the first endpoint.
	turn     func() uint64
	backends map[mesh.Destination]*backend
	groups   map[groupKey]*group
}

type groupKey struct {
	service mesh.ServiceName
	port    uint16
	subset  string
}

func (c *compiler) compile() (*table, error) {
	c.backends = map[mesh.Destination]*backend{}
	c.groups = map[groupKey]*group{}
	t := &table{
		version:  c.snapshot.Version,
		mesh:     newHostIndex(),
		local:    map[string]localHosts{},
		gateways: map[uint16]*hostIndex{},
	}
	for i := range c.snapshot.Hosts {
		if err := c.addVirtualHost(&t.mesh, &c.snapshot.Hosts[i]); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.snapshot.Services)) {
		c.addService(&t.mesh, c.snapshot.Services[name])
	}
	t.addLocal()
	for i := range c.snapshot.Gateways {
		g := &c.snapshot.Gateways[i]
		index := t.gateways[g.Port]
		if index == nil {
			fresh := newHostIndex()
			index = &fresh
			t.gateways[g.Port] = index
		}
		for j := range g.VirtualHosts {
			if err := c.addVirtualHost(index, &g.VirtualHosts[j]); err != nil {
				return nil, fmt.Errorf("gateway %s: %w", g.Name, err)
			}
		}
	}
	return t, nil
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

func newHostIndex() hostIndex {
	return hostIndex{exact: map[string]*target{}, wild: map[string]*target{}}
}

// addVirtualHost adds the routes under each host. Where a second gateway on
// the same port has the host too, its routes come after.
func (c *compiler) addVirtualHost(x *hostIndex, vh *mesh.VirtualHost) error {
	routes := make([]route, 0, len(vh.Routes))
	for i := range vh.Routes {
		r, err := c.route(&vh.Routes[i])
		if err != nil {
			return fmt.Errorf("virtual host %s: route %d: %w", vh.Hosts[0], i, err)
		}
		routes = append(routes, r)
	}
	for _, host := range vh.Hosts {
		at, key := x.exact, host
		if suffix, wild := strings.CutPrefix(host, "*"); wild {
			at, key = x.wild, suffix
		}
		if at[key] == nil {
			at[key] = &target{}
		}
		at[key].routes = append(at[key].routes, routes...)
	}
	return nil
}

// addService makes the service callable under its own name: through the routes
// of its host, else those of a wildcard that covers it, else straight.
func (c *compiler) addService(x *hostIndex, svc *mesh.Service) {
	host := string(svc.Name)
	found := x.exact[host]
	if found == nil {
		found = &target{}
		if wild := x.findWild(host); wild != nil {
			found.routes = wild.routes
		} else {
			found.straight = c.backend(mesh.Destination{Service: svc.Name})
		}
		x.exact[host] = found
	}
	found.service = svc
}

func (c *compiler) route(r *mesh.Route) (route, error) {
	out := route{origin: r.Origin, service: r.Service}
	for i := range r.Matches {
		m, err := compileMatch(&r.Matches[i])
		if err != nil {
			return out, fmt.Errorf("match %d: %w", i, err)
		}
		out.matches = append(out.matches, m)
	}
	out.split.several = len(r.Split) > 1
	var sum uint64
	for _, d := range r.Split {
		weight := uint64(d.Weight)
		if len(r.Split) == 1 {
			weight = 1
		}
		if weight == 0 {
			continue
		}
		sum += weight
		d.Weight, d.Headers = 0, nil // they are not part of the backend's identity
		out.split.shares = append(out.split.shares, share{upTo: sum, backend: c.backend(d)})
	}
	return out, nil
}

// backend finds or makes the destination (whose weight is 0).
func (c *compiler) backend(d mesh.Destination) *backend {
	if known := c.backends[d]; known != nil {
		return known
	}
	b := &backend{service: d.Service, subset: d.Subset}
	c.backends[d] = b
	svc := c.snapshot.Services[d.Service]
	if svc == nil {
		return b
	}
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
func (c *compiler) group(svc *mesh.Service, port uint16, subset string) *group {
	key := groupKey{svc.Name, port, subset}
	if known := c.groups[key]; known != nil {
		return known
	}
	endpoints, known := svc.Select(port, subset)
	if !known {
		return nil
	}
	g := &group{balancer: svc.Policy(port, subset).Balancer}
	g.turn.Store(c.turn())
	for i := range endpoints {
		if u := c.upstream(&endpoints[i]); !slices.Contains(g.upstreams, u) {
			g.upstreams = append(g.upstreams, u)
		}
	}
	c.groups[key] = g
	return g
}

func compileMatch(m *mesh.Match) (match, error) {
	out := match{port: m.Port}
	var err error
	if out.uri, err = compileCondition(m.URI); err != nil {
		return out, fmt.Errorf("uri: %w", err)
	}
	if out.method, err = compileCondition(m.Method); err != nil {
		return out, fmt.Errorf("method: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		cond, err := compileCondition(m.Headers[name])
		if err != nil {
			return out, fmt.Errorf("header %s: %w", name, err)
		}
		h := headerCondition{condition: cond}
		if name != "host" {
			h.name = http.CanonicalHeaderKey(name)
		}
		out.headers = append(out.headers, h)
	}
	return out, nil
}

func compileCondition(m mesh.StringMatch) (condition, error) {
	out := condition{kind: m.Kind, value: m.Value}
	if m.Kind == mesh.Regex {
		var err error
		if out.regex, err = mesh.CompileRegex(m.Value); err != nil {
			return out, err
		}
	}
	return out, nil
}
