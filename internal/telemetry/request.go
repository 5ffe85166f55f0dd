package telemetry

import (
	"strings"
	"time"

	"serin.dev/serin/internal/mesh"
)

// Request is the record of one request, made once per hop when the answer (or
// the failure) is complete; and of one connection where the hop carries bytes
// (Protocol TCP), made when it has ended.
//
// A Recorder must not keep the pointer: the proxy uses the record again. Nor
// may it keep a string of it: ID, Method, Host, Path and GRPC are views of the
// bytes received. Who keeps a record keeps its Clone.
type Request struct {
	ID       string // x-request-id; "" of a connection
	Start    time.Time
	Duration time.Duration // from the first byte received to the last byte sent
	Protocol string        // of the caller: "HTTP/1.1", "HTTP/2", "TCP"; "" = unreadable

	Reporter    Reporter
	Source      mesh.Workload    // zero = outside the mesh
	Service     mesh.ServiceName // the service that was called, before the split
	Destination mesh.Workload    // zero when no endpoint was reached
	// Backend is the split's pick, equal to Service where there is no split.
	Backend mesh.ServiceName
	// Split is set when a weighted choice between several destinations was
	// made; only such requests compare the sides fairly.
	Split bool
	// User is a hash of what identifies the user by whom the split was chosen,
	// where it keeps users on their side; 0 where it draws each request.
	User uint64

	Upstream string // host:port of the endpoint reached last, as the proxy dials it; "" = none
	Attempts uint32 // how often it was sent to an endpoint, retries included

	Snapshot mesh.SnapshotVersion // under which the request was routed
	Route    mesh.Origin          // the object whose route matched; zero = none

	Method string
	Host   string
	Path   string // without the query
	Code   int    // sent to the caller; 0 when the caller went away first, and of a connection
	GRPC   string // grpc-status that was sent to the caller, "0" to "16"; "" = none
	Flags  string // Envoy's response flags, such as UH, UF, UC, NR, DC; "" = none
	Sent   int64  // bytes of the answer's body; of a connection, to the caller
	Read   int64  // bytes of the request's body; of a connection, from the caller

	// Probe: a health check, by its user agent. It is nobody's traffic and
	// counts in no rate.
	Probe bool

	// Masked is the workload of the endpoint that failed the last try but one:
	// where a later one served, no user saw that. "" = none did.
	Masked string

	// Kind tells what users asked for from copies of it. The rest belongs to
	// copies alone.
	Kind     Kind
	Original Original // how what was copied went
	// Compared: the two answers were compared, and Differs says where they are
	// not the same; "" = they are.
	Compared bool
	Differs  string
}

// Kind is for whom a request was made.
type Kind uint8

// The kinds. Only the first counts as a request: the others' answers reach no
// user.
const (
	UsersRequest Kind = iota
	MirrorCopy        // of a request, to compare another version's answer
	NoiseCopy         // of a request, to its own version: where that answers otherwise each time, a difference means nothing
)

// Original is how a request went of which there is a copy.
type Original struct {
	Duration time.Duration
	Failed   bool
}

// TCP is the Protocol of a connection's record.
const TCP = "TCP"

// Failed reports whether the request counts as failed: 5xx, no answer from the
// upstream, or a gRPC status that says that the server is at fault. A caller
// that went away (DC) is not a failure of the callee.
//
// A connection has failed if it never reached an endpoint that could be called,
// or the endpoint broke it off before it had sent a byte. How one ends later
// depends on what is spoken inside: many a client and server end sessions that
// went well with a reset.
func (r *Request) Failed() bool {
	if r.Protocol == TCP {
		return r.connectionFailed()
	}
	return r.Code >= 500 || grpcFailed(r.GRPC)
}

// connectionFailed looks for the flags by which requests are answered 503: UF
// (could not connect), UH (no healthy endpoint), UO (limits reached), NC (no
// such service), and UC (broken off) before the first byte. NR and UAEX are the
// caller's to mend.
func (r *Request) connectionFailed() bool {
	for flag := range strings.SplitSeq(r.Flags, ",") {
		switch flag {
		case "UF", "UH", "UO", "NC":
			return true
		case "UC":
			return r.Sent == 0
		}
	}
	return false
}

// grpcFailed draws the line where OpenTelemetry draws it for servers: UNKNOWN,
// DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS, which
// are also those that google.rpc.Code maps to 5xx. The others say that the
// caller asked for what cannot be, or left.
func grpcFailed(status string) bool {
	switch status {
	case "2", "4", "12", "13", "14", "15":
		return true
	}
	return false
}

// Clone returns a copy that may be kept.
func (r *Request) Clone() *Request {
	c := *r
	for _, s := range [...]*string{&c.ID, &c.Method, &c.Host, &c.Path, &c.GRPC, &c.Differs} {
		*s = strings.Clone(*s)
	}
	return &c
}

// Reporter says which side of the hop recorded.
type Reporter uint8

// The reporters.
const (
	SourceSide Reporter = iota
	DestinationSide
	GatewaySide
)

// Recorder takes records. Record is called where requests are carried, by
// several goroutines at once, and must not block: whoever is slow makes
// requests slow.
type Recorder interface {
	Record(*Request)
}
