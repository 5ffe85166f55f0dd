package telemetry

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFailuresOfGRPCAreThoseOfTheServer(t *testing.T) {
	failed := map[string]bool{"2": true, "4": true, "12": true, "13": true, "14": true, "15": true}
	for code := range 17 {
		status := strconv.Itoa(code)
		r := Request{Code: 200, GRPC: status}
		if got := r.Failed(); got != failed[status] {
			t.Errorf("grpc-status %s: failed = %t, want %t", status, got, failed[status])
		}
	}
	if (&Request{Code: 200}).Failed() {
		t.Error("a request without a grpc-status failed")
	}
}

// TestACloneOutlivesTheBuffer: strings of a record are views of bytes that
// will be other bytes soon.
func TestACloneOutlivesTheBuffer(t *testing.T) {
	text := strings.Repeat("x", 10)
	r := Request{ID: text[0:2], Method: text[2:4], Host: text[4:6], Path: text[6:8], GRPC: text[8:10], Code: 200}
	c := r.Clone()
	if diff := cmp.Diff(&r, c); diff != "" {
		t.Errorf("clone (-want +got):\n%s", diff)
	}
	if n := testing.AllocsPerRun(10, func() { r.Clone() }); n != 6 {
		t.Errorf("a clone takes %v allocations, want one for itself and one for each of 5 views", n)
	}
}

func TestProbesAndConnectionsAreNoSamples(t *testing.T) {
	var hub Hub
	tally := hub.Tally(spec)
	tally.Rebase(Baseline{Snapshot: 7, At: t0})
	hub.Record(request("music-canary.default", 500, func(r *Request) { r.Probe = true }))
	hub.Record(request("music-canary.default", 0, func(r *Request) { r.Protocol = TCP }))
	hub.Record(request("music-canary.default", 500))
	if got := tally.Take(); got.Arrived != 1 || got.Samples.CanaryRequests != 1 {
		t.Errorf("arrived %d, canary requests %d; want the one that somebody sent", got.Arrived, got.Samples.CanaryRequests)
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	var hub Hub
	tally := hub.Tally(spec)
	tally.Rebase(Baseline{Snapshot: 7, At: t0})
	stable, canary := request("music-stable.default", 200), request("music-canary.default", 500)
	record := func() {
		hub.Record(stable)
		hub.Record(canary)
	}
	record() // each endpoint's first
	if n := testing.AllocsPerRun(1000, record); n != 0 {
		t.Errorf("recording two requests allocates %v times, want 0", n)
	}
}
