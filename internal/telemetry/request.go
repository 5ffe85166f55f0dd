package telemetry

import (
	"time"

	"serin.dev/serin/internal/mesh"
)

// Request is the record of one request, made once per hop when the answer (or
// the failure) is complete. A Recorder must not keep the pointer: the proxy
// uses the record again.
type Request struct {
	ID       string // x-request-id
	Start    time.Time
	Duration time.Duration // from the first byte received to the last byte sent

	Reporter    Reporter
	Source      mesh.Workload    // zero = outside the mesh
	Service     mesh.ServiceName // the service that was called, before the split
	Destination mesh.Workload    // zero when no endpoint was reached
	// Backend is the split's pick, equal to Service where there is no split.
	Backend mesh.ServiceName
	// Split is set when a weighted choice between several destinations was
	// made; only such requests compare the sides fairly.
	Split bool

	Snapshot mesh.SnapshotVersion // under which the request was routed
	Route    mesh.Origin          // the object whose route matched; zero = none

	Method string
	Host   string
	Path   string // without the query
	Code   int    // sent to the caller; 0 when the caller went away first
	Flags  string // Envoy's response flags, such as UH, UF, UC, NR, DC; "" = none
	Sent   int64  // bytes of the answer's body
	Read   int64  // bytes of the request's body
}

// Failed reports whether the request counts as failed: 5xx or no answer from
// the upstream. A caller that went away (DC) is not a failure of the callee.
func (r *Request) Failed() bool {
	return r.Code >= 500
}

// Reporter says which side of the hop recorded.
type Reporter uint8

// The reporters.
const (
	SourceSide Reporter = iota
	DestinationSide
	GatewaySide
)

// Recorder takes records.
type Recorder interface {
	Record(*Request)
}
