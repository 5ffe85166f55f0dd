package proxy

import (
	"strings"

	"serin.dev/serin/internal/mesh"
)

// table is a snapshot compiled for routing. It is never changed after it was
// made; what moves (requests under way, turns, health) lives behind pointers
// and is atomic.
type table struct {
	version  mesh.SnapshotVersion
	snapshot *mesh.Snapshot // nil before the first one
	mesh     hostIndex
	local    map[string]localHosts // by namespace
	gateways map[uint16]*gateway
	// What the next table takes over where it has the same.
	services map[mesh.ServiceName]*callee
	routes   map[routesKey][]*route
	groups   map[groupKey]*group
	limits   map[limitKey]*bucket
	servers  map[serverKey]*serverTLS
	clients  map[clientKey]*clientTLS
}

// gateway is what callers from outside find behind one port.
type gateway struct {
	hosts  hostIndex
	tls    []*mesh.ServerTLS
	ends   []*serverTLS // those of tls
	plain  []stream     // without SNI
	passed []stream     // by SNI: their TLS is not ended
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
	service    *mesh.Service // nil when the host is no service of the mesh
	own        *backend      // of the service
	routed     bool          // calls go where routes say, not straight to own
	routes     []*route
	gates      []gate // of the routes' matches, in order
	streams    []stream
	requireTLS bool
}

// backend is one destination with the groups of endpoints it can reach.
type backend struct {
	service mesh.ServiceName
	subset  string
	access  *access // of the service; nil = everybody
	ports   []portGroup
	only    *group // whatever the called port; nil = by ports
}

type portGroup struct {
	port  uint16
	group *group
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
	g := t.gateways[port]
	if g == nil {
		return nil
	}
	return g.hosts.find(host)
}

// newHostIndex has room for so many hosts to begin with.
func newHostIndex(hosts int) hostIndex {
	return hostIndex{exact: make(map[string]*target, hosts), wild: map[string]*target{}}
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
