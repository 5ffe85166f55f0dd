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
	// Certificates by name, such as "default/shop-tls": what ServerTLS and
	// ClientTLS refer to.
	Certificates map[string]*Certificate
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
	// Policies by scope: Policy finds the one in force.
	Policies map[PolicyScope]*Policy
	Access   []Access
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
	HTTP  Protocol = iota // HTTP/1.1 to endpoints; callers may speak HTTP/2
	TCP                   // bytes
	HTTP2                 // to endpoints with prior knowledge
	GRPC                  // HTTP/2 whose failures are in grpc-status
	HTTPS                 // the caller speaks TLS to the endpoint: routed by SNI
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
	Place    Place
	Weight   uint32 // its share among the endpoints; 0 = 1
	Priority uint32 // 0 first; a higher one is called when the lower ones are unhealthy; at most MaxPriority
}

// MaxPriority of an endpoint, as with Envoy.
const MaxPriority = 128

// Caller is who a call comes from.
type Caller struct {
	Workload Workload
	Labels   Labels
}

// VirtualHost is an ordered list of routes for one or more hosts.
type VirtualHost struct {
	// Hosts in full: "music.default", "example.org", "*.example.org", "*".
	Hosts  []string
	Routes []Route // the first match wins; no match is answered with 404
	// Streams route connections to the hosts' ports that are not HTTP.
	Streams []Stream
	// RequireTLS redirects plain requests to https (301).
	RequireTLS bool
}

// Gateway is one listener for traffic from outside. Several with the same port
// are one listener: their TLS and their hosts are added up.
type Gateway struct {
	Name string // "namespace/name" of the Gateway object
	Port uint16
	// TLS is what the listener terminates, chosen by SNI; none = plain. A
	// caller who asks for a host that no entry has is cut off. A request for a
	// host of another entry than the one that was chosen is answered with 421.
	TLS          []ServerTLS
	VirtualHosts []VirtualHost
	// Streams route connections; those with SNI take TLS connections as they
	// are, without ending their TLS.
	Streams []Stream
}

// Destination is one share of a split. One whose service, port or subset the
// snapshot does not have takes its share all the same and answers 503, so that
// a mistake in one share never moves the others.
type Destination struct {
	Service ServiceName
	Port    uint16 // 0 = the port that was called, or the only one
	Subset  string // "" = all endpoints
	Weight  uint32
	// Headers are edited for this share alone, after the route's. nil = none.
	Headers *HeaderEdits
}

// Match holds when all of its conditions hold.
type Match struct {
	URI     StringMatch // the path as sent, without the query
	Scheme  StringMatch // "http" or "https", as the caller spoke to the proxy
	Method  StringMatch
	Host    StringMatch            // the authority as sent, port included
	Headers map[string]StringMatch // keys in lower case, never "host"; several values are joined by ","
	Query   map[string]StringMatch // the first value of a parameter, as sent
	Port    uint16                 // 0 = any
	// Who calls. Nothing set = anybody.
	SourceLabels    Labels
	SourceNamespace string
}

// StringMatch is a condition on a string. The zero value holds always.
type StringMatch struct {
	Kind       MatchKind
	Value      string
	IgnoreCase bool // not for Regex, which has (?i)
	Invert     bool // holds when the condition does not, also for what is absent; not for URI and Query
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
	Suffix
	Segments // of URI: a prefix of whole path segments: "/a" holds for "/a" and "/a/b", not for "/ab"
)

// Ack says that every proxy of a plane applied a snapshot.
type Ack struct {
	Version SnapshotVersion
	At      time.Time
}
