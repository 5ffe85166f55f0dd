package mesh

import "time"

// PolicyScope says for which calls of a service a Policy is.
type PolicyScope struct {
	Port   uint16 // 0 = every port
	Subset string // "" = every destination
}

// Policy is how a proxy treats the endpoints of a destination. Each is
// complete by itself: nothing is inherited from a wider scope. The zero value
// is what a service without a policy gets.
type Policy struct {
	Balancer Balancer
	// Hash says what of a request a hashing balancer (RingHash, Maglev) looks
	// at: the first key that the request has. Without any, such a balancer
	// draws at random.
	Hash []HashKey
	// RingSize is the least number of points on the ring, at most MaxRingSize;
	// 0 = 1024.
	RingSize uint32
	// TableSize of Maglev, a prime of at most MaxTableSize; 0 = 65537.
	TableSize uint32
	Warmup    *Warmup
	Locality  *Locality
	Pool      Pool
	Outlier   *Outlier
	Budget    *RetryBudget
	TLS       *ClientTLS // nil = plain
	Health    *HealthCheck
}

// The largest hash rings and tables, Envoy's.
const (
	MaxRingSize  = 8 << 20
	MaxTableSize = 5_000_011
)

// Balancer picks one endpoint of many. The zero value is LeastRequest.
type Balancer uint8

// The balancers.
const (
	LeastRequest Balancer = iota // two random choices, the one with fewer requests under way
	RoundRobin
	Random
	RingHash // consistent hashing (Karger 1997)
	Maglev   // Maglev hashing (Eisenbud 2016)
)

// HashKey is one thing in a request that is always the same for one user.
type HashKey struct {
	Source HashSource
	Name   string        // of the header (lower case), cookie or query parameter
	Make   bool          // HashCookie: make it when absent
	TTL    time.Duration // of the cookie that is made; 0 = for the session
	Path   string        // of the cookie that is made; "" = none
}

// HashSource says where a HashKey is found.
type HashSource uint8

// The sources.
const (
	HashHeader HashSource = iota
	HashCookie
	HashSourceIP
	HashQuery
)

// Warmup lets a new endpoint's share grow from MinPercent to its own during
// the time.
type Warmup struct {
	Duration   time.Duration // above zero
	MinPercent uint32        // 1..100; 0 = 10
	Aggression float64       // the exponent is 1/Aggression; 0 = 1, a straight line
}

// Locality says how far calls may go. Where the caller is, the proxy knows.
type Locality struct {
	// Failover prefers endpoints near the caller: same subzone, then zone,
	// then region, then the regions of FailoverTo, then all others. The next
	// ones take over as the nearer ones become unhealthy.
	Failover   bool
	FailoverTo map[string]string // region → region
	// Distribute gives the share of each place for calls from a place; the
	// first that covers the caller's counts. Not together with Failover.
	Distribute []Distribution
}

// Distribution is where the calls from one place go.
type Distribution struct {
	From string            // "region/zone/subzone", with "*" for the rest: "eu/*"
	To   map[string]uint32 // the same form → weight
}

// Place is where an endpoint or a proxy is.
type Place struct {
	Region, Zone, Subzone string
}

// Pool limits connections and requests to a destination, for each proxy. A
// limit of 0 is the default.
type Pool struct {
	ConnectTimeout       time.Duration // default DefaultConnectTimeout
	MaxConnections       uint32        // HTTP/1.1 and TCP; default: no limit
	MaxPending           uint32        // requests that wait for a connection; default: no limit
	MaxRequests          uint32        // under way at once; default: no limit
	MaxRetries           uint32        // retries under way at once; default: no limit
	RequestsPerConn      uint32        // then the connection is closed; default: no limit
	ConcurrentStreams    uint32        // of one HTTP/2 connection; default: as the endpoint allows
	IdleTimeout          time.Duration // of a connection without requests; default DefaultIdleTimeout
	MaxConnectionAge     time.Duration // default: none
	HTTP2                bool          // speak HTTP/2 whatever the port says (Istio's h2UpgradePolicy)
	TCPKeepalive         bool
	TCPKeepaliveTime     time.Duration // default 2 h, the kernel's
	TCPKeepaliveInterval time.Duration // default 75 s, the kernel's
	TCPKeepaliveProbes   uint32        // default 9, the kernel's
}

const (
	// DefaultConnectTimeout: a healthy endpoint in reach accepts within a
	// round trip; one SYN may be lost and is sent again after 1 s, a second
	// after 3 s.
	DefaultConnectTimeout = 5 * time.Second
	// DefaultIdleTimeout is below 5 s, the shortest keep-alive of common
	// servers (Node), so that we close first: a request with a body that meets
	// a closing connection could not be sent again.
	DefaultIdleTimeout = 4 * time.Second
)

// Outlier ejects endpoints that misbehave. A count of 0 is not looked at.
type Outlier struct {
	Consecutive5xx     uint32 // 5xx answers in a row; failures to get one count as well unless SplitLocal
	ConsecutiveGateway uint32 // 502, 503, 504 in a row
	ConsecutiveLocal   uint32 // failures to get an answer in a row; only with SplitLocal
	SplitLocal         bool
	Interval           time.Duration // between two looks at who may come back; 0 = 10 s
	BaseEjection       time.Duration // times the number of ejections in a row; 0 = DefaultBaseEjection
	MaxEjection        time.Duration // 0 = 300 s, at least BaseEjection
	MaxPercent         uint32        // of the endpoints, 0..100; at least one can always be ejected when above 0
	MinHealthPercent   uint32        // below that, all endpoints are used and none is ejected; 0 = never so
}

// DefaultBaseEjection is Envoy's.
const DefaultBaseEjection = 30 * time.Second

// RetryBudget bounds the retries under way by a share of the requests under
// way.
type RetryBudget struct {
	Percent        Share
	MinConcurrency uint32 // always allowed
}

// ClientTLS is how a proxy speaks TLS to endpoints.
type ClientTLS struct {
	SNI         string   // "" = the called host
	CA          string   // key in Snapshot.Certificates whose CA signs the endpoints'; "" = the system's
	Certificate string   // key in Snapshot.Certificates of our own key pair; "" = none
	SubjectAlts []string // the endpoint's certificate must have one of these; none = SNI
	Insecure    bool     // do not verify
}

// HealthCheck asks endpoints from time to time whether they work.
type HealthCheck struct {
	Path           string        // of a GET; "" = a connection is enough
	Host           string        // of the GET; "" = the service
	Interval       time.Duration // above zero
	Timeout        time.Duration // above zero
	UnhealthyAfter uint32        // failed checks in a row; at least 1
	HealthyAfter   uint32        // good ones in a row; at least 1
}

// Certificate is a key pair, a set of authorities, or both; PEM.
type Certificate struct {
	Chain, Key []byte
	CA         []byte
}

// TLSVersion bounds what is spoken. The zero value is the default: 1.2 at
// least, the newest at most.
type TLSVersion uint8

// The versions.
const (
	TLSDefault TLSVersion = iota
	TLS10
	TLS11
	TLS12
	TLS13
)

// ServerTLS is how a gateway speaks TLS to callers who ask for one of the
// hosts by SNI.
type ServerTLS struct {
	Hosts       []string // patterns as in VirtualHost.Hosts
	Certificate string   // key in Snapshot.Certificates
	// ClientCA, a key in Snapshot.Certificates, makes callers prove who they
	// are; "" = they need not.
	ClientCA string
	Optional bool // with ClientCA: a caller without a certificate is let in
	Min, Max TLSVersion
}

// Access rules say who may call a service. A call that a Deny rule covers is
// refused with 403; so is one that no Allow rule covers, when there is any.
type Access struct {
	Origin  Origin
	Deny    bool
	Sources []Source // any; none = everybody
	Matches []Match  // any; none = every request (and the only possibility for TCP)
}

// Source says who calls. Everything that is set must hold.
type Source struct {
	Namespace string
	Service   string // name of the caller's workload; "" = any
	Not       bool   // all others
}
