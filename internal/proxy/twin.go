package proxy

import (
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
)

// twin brings the answers to copies together with the user's, whichever comes
// first. All of its methods are called on the loop of the exchange. The nil one
// is of copies that nobody records.
type twin struct {
	proxy   *Proxy
	user    heard
	record  *telemetry.Request // of the user's request, when it is over
	over    bool
	waiting []response // answers that came before the user's was over
}

// response is how a copy went.
type response struct {
	kind     telemetry.Kind
	backend  mesh.ServiceName
	at       mesh.Workload
	start    time.Time
	duration time.Duration
	heard    *heard
	code     int
	grpc     string
}

// hears takes the answer to a copy. One that was not sent for want of room says
// nothing of the version.
func (t *twin) hears(c response, out outcome) {
	if t == nil || out.kind == refused {
		return
	}
	switch out.kind {
	case answered, refused:
		c.code = out.status
	case timedOut:
		c.code = 504
	case connectFailed, broken:
		c.code = 503
	}
	if out.kind != answered {
		*c.heard = heard{} // not all of it came
	}
	if out.isFailure() && c.code < 500 {
		c.grpc = "13" // of all that mean a failure, the vaguest
	}
	if !t.over {
		t.waiting = append(t.waiting, c)
		return
	}
	t.pair(c)
}

// answered takes the record of the user's request. Without a user who waited
// for the end there is nothing to compare with.
func (t *twin) answered(r *telemetry.Request) {
	t.over = true
	if r.Code != 0 && r.Flags != flagCallerGone {
		t.record = r.Clone()
	}
	for _, c := range t.waiting {
		t.pair(c)
	}
	t.waiting = nil
}

// pair records a copy beside the request.
func (t *twin) pair(c response) {
	if t.record == nil {
		return
	}
	r := *t.record
	r.Kind, r.Original = c.kind, telemetry.Original{Duration: r.Duration, Failed: r.Failed()}
	r.Start, r.Duration = c.start, c.duration
	r.Backend, r.Destination = c.backend, c.at
	r.Code, r.GRPC, r.Flags, r.Masked = c.code, c.grpc, "", ""
	r.Split, r.User, r.Sent, r.Read = false, 0, 0, 0
	if t.user.status == 0 || t.record.Flags != "" { // the proxy's own answer, or a part of one
		t.proxy.recorder.Record(&r)
		return
	}
	t.proxy.comparer.report(&r, &t.user, c.heard, t.proxy.recorder)
}
