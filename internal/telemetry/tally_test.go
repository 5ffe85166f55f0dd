package telemetry

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/mesh"
)

var t0 = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// request builds a record; edit changes it.
func request(backend mesh.ServiceName, code int, edit ...func(*Request)) *Request {
	r := &Request{
		Start: t0, Duration: time.Millisecond, Backend: backend, Split: true, Snapshot: 7,
		Method: "GET", Path: "/songs/17", Code: code,
	}
	for _, f := range edit {
		f(r)
	}
	return r
}

func snapshot(v mesh.SnapshotVersion) func(*Request) { return func(r *Request) { r.Snapshot = v } }
func at(d time.Duration) func(*Request)              { return func(r *Request) { r.Start = t0.Add(d) } }
func answeredBy(rev string) func(*Request) {
	return func(r *Request) { r.Destination.Revision = rev }
}
func direct(r *Request)            { r.Split = false }
func byDestination(r *Request)     { r.Reporter = DestinationSide }
func path(p string) func(*Request) { return func(r *Request) { r.Path = p } }

var spec = TallySpec{Stable: "music-stable.default", Canary: "music-canary.default"}

func TestSamplesAreRequestsUnderTheBaseline(t *testing.T) {
	var hub Hub
	tally := hub.Tally(spec)
	hub.Record(request("music-canary.default", 500)) // before any baseline
	tally.Rebase(Baseline{Snapshot: 7, At: t0})
	hub.Record(request("music-canary.default", 500))
	hub.Record(request("music-canary.default", 404))
	hub.Record(request("music-canary.default", 503, direct))
	hub.Record(request("music-canary.default", 500, byDestination))
	hub.Record(request("music-canary.default", 500, snapshot(6)))
	hub.Record(request("music-stable.default", 200, snapshot(8)))
	hub.Record(request("music-stable.default", 502))
	hub.Record(request("other.default", 500))

	got := tally.Take()
	want := analysis.Counts{CanaryRequests: 2, CanaryFailures: 1, StableRequests: 2, StableFailures: 1}
	if diff := cmp.Diff(want, got.Samples.Counts); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if n, direct := got.Samples.CanaryLatency.Count(), got.Samples.DirectLatency.Count(); n != 1 || direct != 0 {
		t.Errorf("canary latencies = %d and %d direct ones, want 1 and none: failures have none", n, direct)
	}
	if got.Samples.DirectRequests != 1 || got.Samples.DirectFailures != 1 {
		t.Errorf("direct = %d, %d failed; want the one that the caller sent there itself", got.Samples.DirectRequests, got.Samples.DirectFailures)
	}
	if got.Arrived != 6 {
		t.Errorf("arrived = %d, want 6: all but the other service's, the destination's own record and the one sent to the canary itself", got.Arrived)
	}
	if again := tally.Take(); again.Arrived != 0 || again.Samples.Counts != (analysis.Counts{}) {
		t.Errorf("a second Take returns %+v, want nothing", again)
	}
	if run := tally.Run(); run.Canary != (Count{Requests: 5, Failures: 4}) {
		t.Errorf("run = %+v, want 5 canary requests, 4 failed: what users met counts whatever the baseline", run)
	}
}

// TestFailuresAreNotFast: an outage of stable that answers at once says nothing
// of how long its users wait, nor does one of the copies.
func TestFailuresAreNotFast(t *testing.T) {
	var hub Hub
	for name, base := range map[string]Baseline{
		"split":  {Snapshot: 7, At: t0},
		"copies": {Snapshot: 7, At: t0, Mirrored: true},
	} {
		tally := hub.Tally(spec)
		tally.Rebase(base)
		for _, code := range []int{200, 503} {
			if base.Mirrored {
				c := request("music-canary.default", code, func(r *Request) { r.Kind = MirrorCopy })
				c.Original.Duration, c.Original.Failed = time.Millisecond, code == 503
				hub.Record(c)
			} else {
				hub.Record(request("music-stable.default", code))
				hub.Record(request("music-canary.default", code))
			}
		}
		s := tally.Take().Samples
		tally.Close()
		if n, of := s.CanaryLatency.Count(), s.StableLatency.Count(); n != 1 || of != 1 || s.Requests() != 4 || s.Failures() != 2 {
			t.Errorf("%s: durations of %d and %d requests in %+v; want those of 1 and 1 that were answered, of 2 and 2", name, n, of, s.Counts)
		}
		if n := s.Strata[0].CanaryLatency.Count() + s.Strata[0].StableLatency.Count(); n != 2 {
			t.Errorf("%s: %d durations in the endpoint; want 2", name, n)
		}
	}
}

func TestRequestsAfterTheCutOffAreLate(t *testing.T) {
	var hub Hub
	tally := hub.Tally(spec)
	tally.Rebase(Baseline{Snapshot: 9, At: t0, CutOff: true})
	hub.Record(request("music-canary.default", 200, snapshot(8), at(-time.Second))) // under way at the cut
	hub.Record(request("music-canary.default", 200, snapshot(8), at(time.Second)))
	hub.Record(request("music-canary.default", 200, at(time.Second), direct)) // asked for by name
	hub.Record(request("music-stable.default", 200, snapshot(9), at(time.Second)))
	if got := tally.Take().Late; got != 1 {
		t.Errorf("late = %d, want 1", got)
	}
}

func TestServedCountsGoodAnswersByRevision(t *testing.T) {
	var hub Hub
	tally := hub.Tally(spec)
	tally.Rebase(Baseline{Snapshot: 7, At: t0})
	hub.Record(request("music-stable.default", 200, answeredBy("new")))
	hub.Record(request("music-stable.default", 500, answeredBy("new")))
	hub.Record(request("music-stable.default", 200, answeredBy("old")))
	hub.Record(request("music-stable.default", 200, answeredBy("new"), snapshot(6)))
	want := map[string]int64{"new": 1, "old": 1}
	if diff := cmp.Diff(want, tally.Take().Served); diff != "" {
		t.Errorf("served (-want +got):\n%s", diff)
	}
}

func TestMeasuredShareBeginsAnewWithTheBaseline(t *testing.T) {
	var hub Hub
	tally := hub.Tally(spec)
	if _, ok := tally.Measured(); ok {
		t.Error("a share was measured without traffic")
	}
	tally.Rebase(Baseline{Snapshot: 7, At: t0})
	for range 3 {
		hub.Record(request("music-stable.default", 200))
	}
	hub.Record(request("music-canary.default", 200))
	if got, ok := tally.Measured(); !ok || got != 0.25 {
		t.Errorf("measured = %v, %v; want 0.25", got, ok)
	}
	tally.Rebase(Baseline{Snapshot: 8, At: t0})
	if got, ok := tally.Measured(); ok {
		t.Errorf("measured = %v after a new baseline, want nothing", got)
	}
}

func TestEndpointsNameTheWorstWithAnExample(t *testing.T) {
	var hub Hub
	tally := hub.Tally(spec)
	hub.Record(request("music-canary.default", 200, path("/health")))
	hub.Record(request("music-canary.default", 500, path("/songs/1")))
	hub.Record(request("music-canary.default", 503, path("/songs/2")))
	hub.Record(request("music-stable.default", 200, path("/songs/3")))
	got := tally.Endpoints()[0]
	if got.Name != "GET /songs/{id}" || got.Canary != (Count{2, 2}) || got.Stable != (Count{1, 0}) {
		t.Errorf("worst endpoint = %+v", got)
	}
	if got.Example == nil || got.Example.Path != "/songs/1" {
		t.Errorf("example = %+v, want the first failed request", got.Example)
	}
}

func TestSamplesAreToldApartByEndpoint(t *testing.T) {
	var hub Hub
	tally := hub.Tally(spec)
	tally.Rebase(Baseline{Snapshot: 7, At: t0})
	hub.Record(request("music-canary.default", 200, path("/health"), direct))
	for range 2 { // every increment names its endpoints anew
		hub.Record(request("music-canary.default", 500, path("/songs/1")))
		hub.Record(request("music-stable.default", 200, path("/songs/2")))
		hub.Record(request("music-stable.default", 503, path("/health")))
		got := tally.Take().Samples
		want := []analysis.Stratum{
			{Name: "GET /songs/{id}", Counts: analysis.Counts{CanaryRequests: 1, CanaryFailures: 1, StableRequests: 1}},
			{Name: "GET /health", Counts: analysis.Counts{StableRequests: 1, StableFailures: 1}},
		}
		want[0].StableLatency.Observe(time.Millisecond)
		if diff := cmp.Diff(want, got.Strata); diff != "" {
			t.Errorf("strata (-want +got):\n%s", diff)
		}
	}
	hub.Record(request("music-stable.default", 200, path("/songs/2")))
	tally.Rebase(Baseline{Snapshot: 8, At: t0})
	hub.Record(request("music-stable.default", 200, path("/health"), snapshot(8)))
	hub.Record(request("music-stable.default", 200, path("/songs/2"), snapshot(8)))
	if got := tally.Take().Samples; len(got.Strata) != 2 || got.Strata[0].Name != "GET /health" || got.Strata[0].StableRequests != 1 || got.StableRequests != 2 {
		t.Errorf("after a new baseline: %d strata, %+v; want the two requests since", len(got.Strata), got.Counts)
	}
}

func TestStrataAddUpToTheTotals(t *testing.T) {
	var hub Hub
	tally := hub.Tally(spec)
	tally.Rebase(Baseline{Snapshot: 7, At: t0})
	for i := range 5 * maxEndpoints {
		backend, code := mesh.ServiceName("music-canary.default"), 200
		if i%3 == 0 {
			backend = "music-stable.default"
		}
		if i%7 == 0 {
			code = 500
		}
		hub.Record(request(backend, code, path("/w"+string(rune('a'+i%26))+string(rune('a'+i/26)))))
	}
	got := tally.Take().Samples
	var sum analysis.Counts
	var latency analysis.Histogram
	for _, s := range got.Strata {
		sum = sum.Add(s.Counts)
		latency.Merge(&s.CanaryLatency)
	}
	if sum != got.Counts || latency != got.CanaryLatency {
		t.Errorf("strata add up to %+v; want %+v", sum, got.Counts)
	}
	if n := len(got.Strata); n != maxEndpoints+1 || got.Strata[n-1].Name != analysis.OtherEndpoints {
		t.Errorf("%d strata, the last is %q; want %d and %q", n, got.Strata[n-1].Name, maxEndpoints, analysis.OtherEndpoints)
	}
}

func TestEndpointsAreBounded(t *testing.T) {
	var hub Hub
	tally := hub.Tally(spec)
	for i := range 3 * maxEndpoints {
		hub.Record(request("music-canary.default", 200, path("/w"+string(rune('a'+i%26))+string(rune('a'+i/26)))))
	}
	if n := len(tally.Endpoints()); n != maxEndpoints+1 {
		t.Errorf("%d endpoints are remembered, want %d and one for the rest", n, maxEndpoints)
	}
}

func TestAClosedTallyHearsNothing(t *testing.T) {
	var hub Hub
	failed := 0
	s := spec
	s.Failed = func() { failed++ }
	tally, other := hub.Tally(s), hub.Tally(spec)
	hub.Record(request("music-canary.default", 500))
	tally.Close()
	hub.Record(request("music-canary.default", 500))
	if failed != 1 || tally.Run().Canary.Requests != 1 {
		t.Errorf("told of %d failures, counted %d requests; want 1 and 1", failed, tally.Run().Canary.Requests)
	}
	if n := other.Run().Canary.Requests; n != 2 {
		t.Errorf("the other tally counted %d requests, want 2", n)
	}
}

func TestRecordingIsSafeWhileTalliesComeAndGo(t *testing.T) {
	var hub Hub
	tally := hub.Tally(spec)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				hub.Record(request("music-canary.default", 200))
			}
		})
		wg.Go(func() {
			for range 100 {
				hub.Tally(spec).Close()
			}
		})
	}
	wg.Wait()
	if n := tally.Run().Canary.Requests; n != 4000 {
		t.Errorf("counted %d requests, want 4000", n)
	}
}

func TestEndpointName(t *testing.T) {
	f := func(path, want string) {
		t.Helper()
		if got := EndpointName("GET", path); got != "GET "+want {
			t.Errorf("EndpointName(GET, %q) = %q, want %q", path, got, "GET "+want)
		}
	}
	f("/", "/")
	f("/api/v1/music", "/api/v1/music")
	f("/api/v1/music/17", "/api/v1/music/{id}")
	f("/api/v1/music/6ecfafd0-8a35-4af6-a9e2-cbd79b3abeea/rating", "/api/v1/music/{id}/rating")
	f("/blobs/deadbeef01", "/blobs/{id}")
	f("/cafe/facade", "/cafe/facade")
	f("/keys/user_01HZX3J8Q9", "/keys/user_01HZX3J8Q9")
	f("/keys/user_01HZX3J8Q9ABCDE", "/keys/{id}")
}

func FuzzEndpointName(f *testing.F) {
	f.Add("/api/v1/music/17")
	f.Add("//%00/é")
	f.Fuzz(func(t *testing.T, path string) {
		name := EndpointName("GET", path)
		if again := EndpointName("GET", name[len("GET "):]); again != name {
			t.Errorf("the name of %q is %q, and of that %q: want a fixed point", path, name, again)
		}
	})
}

func TestOwnLoadComparesAndIsNobodysRequest(t *testing.T) {
	var hub Hub
	told := 0
	s := spec
	s.Own, s.OwnTimeout = mesh.Workload{Namespace: "kube-system", Name: "serin-load"}, 10*time.Second
	s.Failed = func() { told++ }
	tally := hub.Tally(s)
	own := func(r *Request) { r.Split, r.Source = false, s.Own }
	took := func(d time.Duration) func(*Request) { return func(r *Request) { r.Duration = d } }
	hub.Record(request(spec.Canary, 500, own)) // before any baseline
	tally.Rebase(Baseline{Snapshot: 7, At: t0, CutOff: true})
	hub.Record(request(spec.Canary, 500, own, at(time.Second)))
	hub.Record(request(spec.Canary, 200, own, masked("music")))
	hub.Record(request(spec.Canary, 0, own, took(10*time.Second))) // no answer in time
	hub.Record(request(spec.Canary, 0, own, took(time.Second)))    // broken off
	hub.Record(request(spec.Stable, 200, own, path("/b")))
	hub.Record(request(spec.Stable, 200))

	got := tally.Take()
	want := analysis.Counts{CanaryRequests: 3, CanaryFailures: 3, StableRequests: 1}
	if got.Samples.Own.Counts != want {
		t.Errorf("own load %+v, want %+v", got.Samples.Own, want)
	}
	if o := &got.Samples.Own; len(o.Strata) != 2 || o.Strata[0].Name != "GET /songs/{id}" || o.Strata[0].CanaryRequests != 3 || o.CanaryLatency.Count() != 0 || o.Strata[1].StableLatency.Count() != 1 {
		t.Errorf("strata %+v", o.Strata)
	}
	if users := (analysis.Counts{StableRequests: 1}); got.Samples.Counts != users || got.Samples.DirectRequests != 0 || got.Arrived != 1 || got.Late != 0 || len(got.Served) != 1 {
		t.Errorf("own load counts as users': %+v", got)
	}
	if run := tally.Run(); run.Canary != (Count{}) || run.FirstCanary.IsZero() {
		t.Errorf("run %+v; want no user's request to the canary, and the time of the first", run)
	}
	if e := tally.Endpoints()[0]; e.Canary.Failures != 4 || e.Example == nil {
		t.Errorf("endpoint %+v; want the failures, to name a cause", e)
	}
	if told != 4 {
		t.Errorf("told of %d failures, want 4", told)
	}
	if again := tally.Take().Samples; again.Own.Requests() != 0 {
		t.Error("own load is taken twice")
	}
}

func TestRequestsByRoutesOfOthersGoPast(t *testing.T) {
	var hub Hub
	own := mesh.Workload{Name: "load", Namespace: "serin"}
	ours, mine := mesh.Origin{Kind: "VirtualService", Name: "music"}, mesh.Origin{Kind: "VirtualService", Name: "mine"}
	by := func(o mesh.Origin) func(*Request) { return func(r *Request) { r.Route = o } }
	s := spec
	s.Service, s.Routes, s.Own = "music.default", []mesh.Origin{ours}, own
	tally := hub.Tally(s)
	defer tally.Close()
	tally.Rebase(Baseline{Snapshot: 7, At: t0, Mirrored: true})
	hub.Record(request("music.default", 200, by(mine)))
	hub.Record(request("music.default", 500, by(mine)))
	hub.Record(request("music.default", 200, by(ours)))          // as before the split
	hub.Record(request("music.default", 200, by(mesh.Origin{}))) // in the mesh
	hub.Record(request("music.default", 200, by(mine), byDestination))
	hub.Record(request("music.default", 200, by(mine), func(r *Request) { r.Source = own }))
	hub.Record(request("music.default", 200, by(mine), func(r *Request) { r.Kind = MirrorCopy }))
	hub.Record(request("music.default", 200, by(mine), func(r *Request) { r.Probe = true }))
	hub.Record(request("music-stable.default", 200, by(mine)))
	got := tally.Take()
	if diff := cmp.Diff(map[mesh.Origin]int64{mine: 2}, got.Past); diff != "" {
		t.Errorf("past (-want +got):\n%s", diff)
	}
	if run := tally.Run(); got.Arrived != 1 || run.Stable.Requests != 1 || run.Canary.Requests != 0 || got.Copies != (Copies{}) {
		t.Errorf("arrived %d, %+v, copies %+v; want what was sent to stable by its name alone", got.Arrived, run, got.Copies)
	}
	if again := tally.Take(); len(again.Past) != 0 {
		t.Errorf("a second Take returns %v", again.Past)
	}
}
