package telemetry

import (
	"strconv"
	"testing"
	"unsafe"

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

func TestAConnectionFailsWhenNothingCameOfIt(t *testing.T) {
	for _, test := range []struct {
		flags  string
		sent   int64
		failed bool
	}{
		{"", 0, false}, // both ended in good order, maybe without a word
		{"", 10, false},
		{"UF", 0, true},
		{"UF,URX", 0, true},
		{"UH", 0, true},
		{"UO", 0, true},
		{"NC", 0, true},
		{"UC", 0, true},
		{"UC", 10, false},
		{"NR", 0, false},
		{"UAEX", 0, false},
		{"DC", 0, false},
		{"DPE", 0, false},
		{"SI", 10, false},
	} {
		r := Request{Protocol: TCP, Flags: test.flags, Sent: test.sent}
		if got := r.Failed(); got != test.failed {
			t.Errorf("flags %q after %d bytes: failed = %t, want %t", test.flags, test.sent, got, test.failed)
		}
	}
}

func TestHealthCheckersAreKnownByTheirUserAgents(t *testing.T) {
	for agent, want := range map[string]bool{
		"kube-probe/1.34": true, "ELB-HealthChecker/2.0": true, "GoogleHC/1.0": true, "Envoy/HC": true, "Consul Health Check": true,
		CheckerAgent: true, "": false, "curl/8.5.0": false, "Mozilla/5.0 kube-probe/1.34": false,
	} {
		if got := IsProbe(agent); got != want {
			t.Errorf("IsProbe(%q) = %t, want %t", agent, got, want)
		}
	}
}

// TestACloneOutlivesTheBuffer: strings of a record are views of bytes that
// will be other bytes soon.
func TestACloneOutlivesTheBuffer(t *testing.T) {
	buffer := []byte("idGEhost/p13")
	view := func(i int) string { return unsafe.String(&buffer[i], 2) }
	r := Request{ID: view(0), Method: view(2), Host: view(4), Path: view(8), GRPC: view(10), Code: 200}
	c := r.Clone()
	copy(buffer, "xxxxxxxxxxxx")
	want := &Request{ID: "id", Method: "GE", Host: "ho", Path: "/p", GRPC: "13", Code: 200}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("clone (-want +got):\n%s", diff)
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
