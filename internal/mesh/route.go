package mesh

import "time"

// Route sends matching requests to a split of destinations, or answers them
// itself by Redirect or Direct. At most one of the three is set; with none,
// the answer is 404: the route is known but cannot be served.
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
	// all whatever its weight.
	Split []Destination
	// Affinity makes the same user always get the same share of the split, by
	// the hash of the first key that the request has; the shares of all users
	// stay exact. A request without any is drawn.
	Affinity []HashKey
	Redirect *Redirect
	Direct   *DirectAnswer

	// What is done to every request of the route, in this order: CORS,
	// RateLimit, Fault, then Headers and one of the above.
	CORS      *CORS
	RateLimit *RateLimit
	Fault     *Fault
	Headers   *HeaderEdits

	// What follows belongs to a split and is not set without one.
	Rewrite *Rewrite
	Mirrors []Mirror
	Retry   *Retry        // nil = DefaultRetry
	Timeout time.Duration // for the whole answer, retries included; 0 = none
	// IdleTimeout ends a request on which nothing moves in either direction;
	// 0 = DefaultStreamIdle, negative = never.
	IdleTimeout time.Duration
}

// DefaultStreamIdle ends requests whose two ends forgot each other; Envoy's
// default.
const DefaultStreamIdle = 5 * time.Minute

// Share is a part of all requests in millionths, 0..1,000,000: 0.1 % is 1,000.
type Share uint32

// Everything is a share of 100 %.
const Everything Share = 1_000_000

// Redirect answers with another place. Empty parts stay as they were called; at
// least one is set, and not both of Path and Prefix, which begin with "/".
type Redirect struct {
	Code      int // 301, 302, 303, 307 or 308
	Scheme    string
	Authority string
	Port      uint16  // 0 = that of the authority, else the default one of the scheme if that changes, else as called
	Path      string  // replaces the path; the query stays unless Path has one
	Prefix    *string // replaces what a Prefix, Segments or Exact match of the path found
}

// DirectAnswer is an answer made by the proxy.
type DirectAnswer struct {
	Status int    // 200..599
	Body   string // at most MaxDirectBody bytes; not sent with a status that has none
}

// MaxDirectBody is the size of the largest DirectAnswer.Body: every proxy holds
// it in memory.
const MaxDirectBody = 1 << 20

// Rewrite changes what the destination sees: the path by Path or Regex, not
// both. The query stays.
type Rewrite struct {
	Authority string  // "" = as called
	Path      *string // replaces what a Prefix or Segments match found, and the whole path otherwise; begins with "/"
	Regex     *RegexRewrite
}

// RegexRewrite replaces every match in the path, without the query; see Compile.
type RegexRewrite struct {
	Match        string // RE2
	Substitution string // \1 is the first group, \0 all of the match
}

// HeaderEdits changes a request on its way to the destination, and the answer
// on its way back.
type HeaderEdits struct {
	Request, Answer HeaderEdit
}

// HeaderEdit removes first, then sets, then adds. Names are in lower case;
// "host" in Request.Set is the authority. What frames a message (content-length,
// connection, ...) cannot be edited. Values are sent as they are: they have no
// placeholders.
type HeaderEdit struct {
	Remove   []string
	Set, Add []Header
}

// Header is a name and a value.
type Header struct {
	Name, Value string
}

// CORS answers preflight requests of the origins and marks answers to them
// (Fetch standard). Requests of other origins go to the destination as they
// are, preflight ones too.
type CORS struct {
	Origins     []StringMatch // any of them; each says a condition that is not inverted
	Methods     []string
	Headers     []string
	Expose      []string
	MaxAge      time.Duration // 0 = not said
	Credentials bool
}

// Fault is what the proxy does to requests on purpose, delay first.
type Fault struct {
	Delay *Delay
	Abort *Abort
}

// Delay lets a share of the requests wait before they are sent.
type Delay struct {
	Share Share
	Time  time.Duration // above zero
}

// Abort answers a share of the requests in place of the destination.
type Abort struct {
	Share  Share
	Status int // HTTP status 200..599; 0 = by gRPC
	GRPC   int // gRPC status 0..16, when Status is 0
}

// RateLimit lets through what a bucket of tokens allows, for each proxy; the
// rest is answered with 429.
type RateLimit struct {
	Burst uint32        // size of the bucket; at least 1
	Fill  uint32        // tokens that are added ...; at least 1
	Per   time.Duration // ... each so long; at least MinRatePeriod
}

// MinRatePeriod is the shortest RateLimit.Per: Envoy's.
const MinRatePeriod = 50 * time.Millisecond

// Mirror sends a copy of a share of the requests to another destination. Its
// answer is thrown away, and its host is marked with "-shadow".
type Mirror struct {
	Destination Destination // without Weight and Headers
	Share       Share
	// Compare: the answer is compared with the user's before it is thrown
	// away, and some copies go to the user's own destination as well, to learn
	// in what its answers differ from each other.
	Compare bool
}

// Retry says when a failed request is sent once more.
type Retry struct {
	Attempts      uint32        // after the first; 0 = none
	PerTryTimeout time.Duration // 0 = the route's timeout alone
	On            RetryOn
	Codes         []int // answers to retry, beyond those of On
	// Base and Max bound the random wait before a retry: the n-th waits
	// between 0 and min(Max, Base×(2ⁿ−1)). 0 = DefaultRetryBase and 10 times
	// Base.
	Base, Max time.Duration
	// AvoidPrevious tries an endpoint that was not tried yet where there is one.
	AvoidPrevious bool
}

// DefaultRetryBase is Envoy's.
const DefaultRetryBase = 25 * time.Millisecond

// RetryOn is a set of conditions, with the names and meaning of Envoy's.
type RetryOn uint32

// The conditions.
const (
	RetryConnectFailure     RetryOn = 1 << iota // connecting failed or timed out
	RetryRefusedStream                          // HTTP/2: the endpoint said that it did nothing
	RetryReset                                  // no answer: the connection ended, or the try timed out
	RetryResetBeforeRequest                     // as RetryReset, and no byte of the request was sent
	Retry5xx                                    // any 5xx, and RetryReset, RetryConnectFailure, RetryRefusedStream
	RetryGatewayError                           // 502, 503, 504
	RetryRetriable4xx                           // 409
	RetryGRPCCancelled                          // grpc-status of an answer without a body
	RetryGRPCDeadline
	RetryGRPCInternal
	RetryGRPCExhausted
	RetryGRPCUnavailable
	retryConditionsEnd
)

// DefaultRetry is what a route without one has, as with Istio: only what
// surely did no work at the destination is sent again.
func DefaultRetry() *Retry {
	return &Retry{
		Attempts:      2,
		On:            RetryConnectFailure | RetryRefusedStream | RetryGRPCUnavailable | RetryGRPCCancelled,
		AvoidPrevious: true,
	}
}

// Stream sends connections, not requests, to a split of destinations. Of the
// streams with a match that holds, the one with the most specific SNI pattern
// is taken, and the first of those that are equally specific; no pattern is
// less specific than "*". See Snapshot.ResolveStream.
type Stream struct {
	Name    string
	Origin  Origin
	Matches []StreamMatch // any of them; none means every connection
	Service ServiceName   // as of Route
	Split   []Destination // Headers do not count; an empty one closes the connection
}

// StreamMatch holds when all of its conditions hold.
type StreamMatch struct {
	Port uint16 // 0 = any
	// SNI are patterns as in VirtualHost.Hosts for the name that a TLS caller
	// asks for; none = any, also without TLS.
	SNI             []string
	SourceLabels    Labels
	SourceNamespace string
}
