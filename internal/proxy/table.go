package proxy

import (
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"

	"serin.dev/serin/internal/mesh"
)

// table is a snapshot compiled for routing. It is never changed after it was
// made; what moves (requests under way, turns) lives behind pointers and is
// atomic.
type table struct {
	version  mesh.SnapshotVersion
	mesh     hostIndex
	local    map[string]localHosts // by namespace
	gateways map[uint16]*hostIndex
}

// localHosts holds the targets of one namespace under their short names, so
// that "music" is found without making "music.default".
type localHosts struct {
	short map[string]*target
	rest  *target // of "*.namespace"
}

// hostIndex finds the target of a host.
type hostIndex struct {
	exact map[string]*target
	wild  map[string]*target // by what follows the "*": ".example.org", ""
}

// target is what a called host stands for.
type target struct {
	service  *mesh.Service // nil when the host is no service of the mesh
	straight *backend      // where calls go without routes; nil when routes decide
	routes   []route
}

// route is one mesh.Route.
type route struct {
	matches []match // any; none means always
	origin  mesh.Origin
	service mesh.ServiceName
	split   split
}

// split holds the shares with a weight, and whether there were several
// destinations before those without one were left out.
type split struct {
	several bool
	shares  []share
}

// share is one destination; upTo is the sum of the weights so far.
type share struct {
	upTo    uint64
	backend *backend
}

// backend is one destination with the groups of endpoints it can reach.
type backend struct {
	service mesh.ServiceName
	subset  string
	ports   []portGroup
	only    *group // whatever the called port; nil = by ports
}

type portGroup struct {
	port  uint16
	group *group
}

// group is the endpoints of a service behind one port and subset.
type group struct {
	upstreams []*upstream
	balancer  mesh.Balancer
	turn      atomic.Uint64 // of round robin
}

// call is what routing looks at.
type call struct {
	host      string // as parseAuthority returns it
	port      uint16 // the called one; at a gateway the gateway's
	authority string // the Host header as sent
	method    string
	path      string // as sent, without the query
	header    http.Header
}

// decision is where a call goes and what its record says of it.
type decision struct {
	service mesh.ServiceName
	backend *backend // nil with flag NR
	group   *group   // nil with flag NR or NC
	origin  mesh.Origin
	several bool // a weighted choice among several destinations was made
	flag    string
}

// inMesh finds the target of a call between services; nil when the host is
// not of this mesh.
func (t *table) inMesh(namespace, host string) *target {
	if namespace == "" || strings.ContainsAny(host, ".:") {
		return t.mesh.find(host)
	}
	local := t.local[namespace]
	if found := local.short[host]; found != nil {
		return found
	}
	if local.rest != nil {
		return local.rest
	}
	return t.mesh.wild[""]
}

// atGateway finds the target of a call from outside.
func (t *table) atGateway(port uint16, host string) *target {
	index := t.gateways[port]
	if index == nil {
		return nil
	}
	return index.find(host)
}

// find prefers the exact host, then the longest wildcard.
func (x *hostIndex) find(host string) *target {
	host = mesh.TrimClusterSuffix(host)
	if found := x.exact[host]; found != nil {
		return found
	}
	return x.findWild(host)
}

func (x *hostIndex) findWild(host string) *target {
	if len(x.wild) == 0 {
		return nil
	}
	// From the second byte on: "*.example.org" does not cover ".example.org".
	for i := 1; i < len(host); i++ {
		if host[i] == '.' {
			if found := x.wild[host[i:]]; found != nil {
				return found
			}
		}
	}
	return x.wild[""]
}

// decide routes one call. It does not allocate.
func (t *target) decide(c *call, d *draws) decision {
	var out decision
	if t.service != nil {
		out.service = t.service.Name
		if _, open := t.service.Port(c.port); !open {
			out.flag = flagNoRoute
			return out
		}
	}
	out.backend = t.straight
	if t.straight == nil {
		r := t.match(c)
		if r == nil || len(r.split.shares) == 0 {
			if r != nil {
				out.origin = r.origin
			}
			out.flag = flagNoRoute
			return out
		}
		out.origin = r.origin
		out.several = r.split.several
		out.backend = r.split.pick(d)
		if out.service == "" {
			out.service = r.service
		}
		if out.service == "" {
			out.service = out.backend.service
		}
	}
	if out.group = out.backend.reach(c.port); out.group == nil {
		out.flag = flagNoCluster
	}
	return out
}

func (t *target) match(c *call) *route {
	for i := range t.routes {
		if t.routes[i].covers(c) {
			return &t.routes[i]
		}
	}
	return nil
}

func (r *route) covers(c *call) bool {
	if len(r.matches) == 0 {
		return true
	}
	for i := range r.matches {
		if r.matches[i].holds(c) {
			return true
		}
	}
	return false
}

// reach returns the group for a call to the port; nil when the destination
// does not have it.
func (b *backend) reach(port uint16) *group {
	if b.only != nil {
		return b.only
	}
	for i := range b.ports {
		if b.ports[i].port == port {
			return b.ports[i].group
		}
	}
	return nil
}

// match is one mesh.Match.
type match struct {
	uri     condition
	method  condition
	port    uint16
	headers []headerCondition
}

type headerCondition struct {
	name string // canonical; "" is the authority
	condition
}

// condition is one mesh.StringMatch.
type condition struct {
	kind  mesh.MatchKind
	value string
	regex *regexp.Regexp
}

func (m *match) holds(c *call) bool {
	if m.port != 0 && m.port != c.port ||
		!m.method.holds(c.method, true) || !m.uri.holds(c.path, true) {
		return false
	}
	for i := range m.headers {
		h := &m.headers[i]
		if h.name == "" {
			if !h.holds(c.authority, true) {
				return false
			}
			continue
		}
		values := c.header[h.name]
		value, present := "", len(values) > 0
		switch {
		case len(values) == 1:
			value = values[0]
		case present:
			value = strings.Join(values, ",") // RFC 9110, section 5.3
		}
		if !h.holds(value, present) {
			return false
		}
	}
	return true
}

func (c *condition) holds(value string, present bool) bool {
	switch c.kind {
	case mesh.Any:
		return true
	case mesh.Exact:
		return present && value == c.value
	case mesh.Prefix:
		return present && strings.HasPrefix(value, c.value)
	case mesh.Regex:
		return present && c.regex.MatchString(value)
	case mesh.Present:
		return present
	}
	panic("proxy: a compiled condition has a known kind")
}
