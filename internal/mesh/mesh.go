package mesh

import (
	"net/netip"
	"time"
)

// SnapshotVersion orders snapshots; a later one is larger. Zero means none.
type SnapshotVersion uint64

// ServiceName is "name.namespace", such as "music.default", or the host itself
// for a service outside of the cluster, such as "api.example.org".
type ServiceName string

// Snapshot is everything a proxy needs to route. It is immutable.
type Snapshot struct {
	Version  SnapshotVersion
	Services map[ServiceName]*Service
	// Hosts routes calls between services, by the called host.
	Hosts []VirtualHost
	// Gateways are the listeners for traffic from outside.
	Gateways []Gateway
	// Origins are the objects this snapshot was made from, with the
	// generation that it contains: an ack of Version is an ack of these.
	Origins map[Origin]int64
}

// Origin names an API object, such as {VirtualService, default, music}.
type Origin struct {
	Kind, Namespace, Name string
}

// Service is a named set of endpoints.
type Service struct {
	Name      ServiceName
	Ports     []Port
	Subsets   map[string]Labels // by name; an endpoint belongs when it has all of the labels
	Endpoints []Endpoint        // ready ones only
	Balancer  Balancer
}

// Port is one port under which a service is called.
type Port struct {
	Number   uint16
	Name     string
	Protocol Protocol
}

// Protocol is what is spoken on a port. The zero value is HTTP.
type Protocol uint8

// The protocols.
const (
	HTTP Protocol = iota
	TCP
)

// Balancer picks one endpoint of many. The zero value is LeastRequest.
type Balancer uint8

// The balancers.
const (
	LeastRequest Balancer = iota // two random choices, the one with fewer requests under way
	RoundRobin
	Random
)

// Labels are an object's labels, or those an endpoint must have.
type Labels map[string]string

// Workload says who sends or answers a request.
type Workload struct {
	Namespace string
	Name      string // the Deployment's name
	Version   string // value of the version label, or the image's tag
	Revision  string // hash of the pod template
	Pod       string
}

// Endpoint is one pod (or process) behind one port of a service.
type Endpoint struct {
	Port     uint16         // the service port it answers
	Address  netip.AddrPort // its address in the mesh: pod IP and target port; zero for one known by name only
	Dial     string         // host:port to connect to from this machine; "" = Address
	Labels   Labels
	Workload Workload
}

// VirtualHost is an ordered list of routes for one or more hosts.
type VirtualHost struct {
	// Hosts in full: "music.default", "example.org", "*.example.org", "*".
	Hosts  []string
	Routes []Route // the first match wins; no match is answered with 404
}

// Gateway is one listener for traffic from outside.
type Gateway struct {
	Name         string // "namespace/name" of the Gateway object
	Port         uint16
	VirtualHosts []VirtualHost
}

// Route sends matching requests to a split of destinations.
type Route struct {
	Name    string
	Origin  Origin
	Matches []Match // any of them; none means every request
	// Service is what callers of this route call, for records, where the
	// called host does not say so itself: a route for "shop.example.org" of an
	// object that also names "music" stands for music. "" = the called host's,
	// else the one that the split picked.
	Service ServiceName
	// Split's weights sum up to more than zero; a single destination takes
	// all whatever its weight. An empty split answers 404: the route is known
	// but cannot be served.
	Split []Destination
}

// Destination is one share of a split. One whose service, port or subset the
// snapshot does not have takes its share all the same and answers 503, so that
// a mistake in one share never moves the others.
type Destination struct {
	Service ServiceName
	Port    uint16 // 0 = the port that was called, or the only one
	Subset  string // "" = all endpoints
	Weight  uint32
}

// Match holds when all of its conditions hold.
type Match struct {
	URI     StringMatch // the path as sent, without the query
	Method  StringMatch
	Headers map[string]StringMatch // keys in lower case; "host" is the authority; several values are joined by ","
	Port    uint16                 // 0 = any
}

// StringMatch is a condition on a string. The zero value holds always.
type StringMatch struct {
	Kind  MatchKind
	Value string
}

// MatchKind says how a StringMatch compares.
type MatchKind uint8

// The kinds. Regex is RE2 over the whole string.
const (
	Any MatchKind = iota
	Exact
	Prefix
	Regex
	Present
)

// Ack says that every proxy of a plane applied a snapshot.
type Ack struct {
	Version SnapshotVersion
	At      time.Time
}
