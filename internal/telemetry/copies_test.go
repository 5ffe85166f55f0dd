package telemetry

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/analysis"
)

func copyOf(kind Kind, code int, differs string, original Original) *Request {
	backend := spec.Canary
	if kind == NoiseCopy {
		backend = spec.Stable
	}
	return request(backend, code, direct, func(r *Request) {
		r.Kind, r.Original, r.Compared, r.Differs = kind, original, true, differs
	})
}

func TestCopiesCompareAndAreNobodysRequests(t *testing.T) {
	var hub Hub
	tally := hub.Tally(spec)
	hub.Record(copyOf(MirrorCopy, 500, "", Original{})) // before any baseline
	tally.Rebase(Baseline{Snapshot: 7, At: t0, CutOff: true, Mirrored: true})
	hub.Record(request(spec.Stable, 200)) // the request itself, of which the copy tells again
	hub.Record(copyOf(MirrorCopy, 500, "status differs: 500 instead of 200", Original{Duration: time.Second}))
	hub.Record(copyOf(MirrorCopy, 200, "", Original{Failed: true}))
	hub.Record(copyOf(NoiseCopy, 200, "$.time differs: 1 instead of 2", Original{}))
	got := tally.Take()
	if diff := cmp.Diff(analysis.Counts{CanaryRequests: 2, CanaryFailures: 1, StableRequests: 2, StableFailures: 1}, got.Samples.Counts); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if len(got.Samples.Strata) != 1 || got.Samples.Strata[0].Counts != got.Samples.Counts || got.Samples.StableLatency.Count() != 1 {
		t.Errorf("strata %+v, want one that has all samples", got.Samples.Strata)
	}
	want := Copies{Compared: 2, Differ: 1, NoiseCompared: 1, NoiseDiffer: 1, Example: "GET /songs/17: status differs: 500 instead of 200"}
	if diff := cmp.Diff(want, got.Copies); diff != "" {
		t.Errorf("comparison (-want +got):\n%s", diff)
	}
	run := tally.Run()
	if got.Arrived != 1 || got.Late != 0 || run.Canary != (Count{}) || run.Stable != (Count{Requests: 1}) {
		t.Errorf("arrived %d, late %d, run %+v; want the one request of a user", got.Arrived, got.Late, run)
	}
	for _, e := range tally.Endpoints() {
		if e.Canary.Requests > 0 {
			t.Errorf("endpoint %+v counts copies", e)
		}
	}
	tally.Rebase(Baseline{Snapshot: 7, At: t0.Add(1)})
	hub.Record(copyOf(MirrorCopy, 500, "", Original{})) // a late one, when copies do not count any more
	if got := tally.Take(); got.Samples.Requests() != 0 || got.Copies != (Copies{}) {
		t.Errorf("a copy counts beside the split: %+v", got)
	}
}

func masked(workload string) func(*Request) { return func(r *Request) { r.Masked = workload } }

func TestTheJudgeSeesWhatRetriesMask(t *testing.T) {
	var hub Hub
	told := 0
	s := spec
	s.Failed = func() { told++ }
	tally := hub.Tally(s)
	tally.Rebase(Baseline{Snapshot: 7, At: t0})
	hub.Record(request(spec.Canary, 200, masked("music")))
	hub.Record(request(spec.Canary, 503, masked("music"))) // the last try failed, too: one failure
	hub.Record(request(spec.Stable, 200, masked("music-stable")))
	got := tally.Take().Samples
	want := analysis.Counts{CanaryRequests: 2, CanaryFailures: 2, StableRequests: 1, StableFailures: 1}
	if diff := cmp.Diff(want, got.Counts); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(analysis.Counts{CanaryFailures: 1, StableFailures: 1}, got.Spared); diff != "" {
		t.Errorf("what users were spared (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, got.Strata[0].Counts); diff != "" || len(got.Strata) != 1 {
		t.Errorf("%d strata, the first (-want +got):\n%s", len(got.Strata), diff)
	}
	if run := tally.Run(); run.Canary.Failures != 1 || run.Stable.Failures != 0 {
		t.Errorf("run = %+v; want the one failure that a user met", run)
	}
	if told != 3 {
		t.Errorf("told of %d failures, want 3", told)
	}
}

// TestAMaskedFailureIsACause with an example, until a user meets one.
func TestAMaskedFailureIsACause(t *testing.T) {
	var hub Hub
	tally := hub.Tally(spec)
	for _, code := range []int{200, 200, 503, 500} {
		hub.Record(request(spec.Canary, code, masked("music")))
		want := code
		if code == 500 {
			want = 503 // the first one
		}
		e := tally.Endpoints()[0]
		if e.Name != "GET /songs/{id}" || e.Example == nil || e.Example.Code != want {
			t.Errorf("%s, example %+v; want one answered %d", e.Name, e.Example, want)
		}
	}
	if e := tally.Endpoints()[0]; e.Canary != (Count{Requests: 4, Failures: 4}) {
		t.Errorf("canary %+v, want 4 failures of 4", e.Canary)
	}
}

func TestBehindOneServiceAMaskedTryBelongsToItsPod(t *testing.T) {
	var hub Hub
	s := spec
	s.Shared, s.CanaryWorkload = "music.default", "music"
	tally := hub.Tally(s)
	tally.Rebase(Baseline{Snapshot: 7, At: t0})
	by := func(workload string) func(*Request) { return func(r *Request) { r.Destination.Name = workload } }
	hub.Record(request("music.default", 200, direct, by("music")))
	hub.Record(request("music.default", 200, direct, by("music-stable")))
	hub.Record(request("music.default", 200, direct, by("music-stable"), masked("music")))
	hub.Record(request("music.default", 503, direct)) // nobody was reached
	got := tally.Take()
	want := analysis.Counts{CanaryRequests: 2, CanaryFailures: 1, StableRequests: 2}
	if diff := cmp.Diff(want, got.Samples.Counts); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if got.Arrived != 4 {
		t.Errorf("arrived = %d, want 4", got.Arrived)
	}

	// Tries count for the judge alone: not as users' requests or failures, in no
	// share that was measured, and as no good answer of stable.
	hub.Record(request("music.default", 500, direct, by("music-stable"), masked("music")))
	hub.Record(request("music.default", 200, direct, by("music"), answeredBy("v2"), masked("music-stable")))
	seen := got.Samples.Add(tally.Take().Samples)
	want = analysis.Counts{CanaryRequests: 2, StableRequests: 3, StableFailures: 1}
	if diff := cmp.Diff(want, seen.Counts.Less(seen.Spared)); diff != "" {
		t.Errorf("what users met (-want +got):\n%s", diff)
	}
	want = analysis.Counts{CanaryRequests: 4, CanaryFailures: 2, StableRequests: 4, StableFailures: 2}
	if diff := cmp.Diff(want, seen.Counts); diff != "" || seen.Strata[0].Counts != want {
		t.Errorf("what is judged (-want +got):\n%s", diff)
	}
	if share, _ := tally.Measured(); share != 0.4 {
		t.Errorf("measured %v, want 2 of the 5 requests", share)
	}
	if e := tally.Endpoints()[0]; e.Canary.Failures != 2 || e.Stable.Failures != 2 || e.Example == nil {
		t.Errorf("endpoint %+v, want two failures on each side", e)
	}
	if run := tally.Run(); run.Canary != (Count{Requests: 2}) || run.Stable != (Count{Requests: 3, Failures: 1}) {
		t.Errorf("run %+v, want what users met", run)
	}
}

func TestATryIsNoAnswerOfStable(t *testing.T) {
	var hub Hub
	s := spec
	s.Shared, s.CanaryWorkload = "music.default", "music"
	tally := hub.Tally(s)
	tally.Rebase(Baseline{Snapshot: 7, At: t0})
	canary := func(r *Request) { r.Destination.Name = "music" }
	hub.Record(request("music.default", 200, canary, answeredBy("v2"), masked("music-stable")))
	if got := tally.Take(); len(got.Served) != 0 || got.Samples.StableFailures != 1 {
		t.Errorf("served %v, %d failures of stable; want none, and one", got.Served, got.Samples.StableFailures)
	}
}

func TestMatchedUsersAreJudgedByThemselves(t *testing.T) {
	var hub Hub
	s := spec
	route := request("", 0).Route
	route.Name = "music"
	s.Routes = append(s.Routes, route)
	tally := hub.Tally(s)
	matched := func(r *Request) { r.Split, r.Route = false, route }
	tally.Rebase(Baseline{Snapshot: 7, At: t0, Matched: true})
	hub.Record(request(spec.Canary, 500, matched))
	hub.Record(request(spec.Stable, 500))
	got := tally.Take()
	if got.Samples.Requests() != 0 || got.Samples.DirectRequests != 1 || got.Samples.DirectFailures != 1 || got.Arrived != 2 {
		t.Errorf("got %+v, want two that arrived and one direct request", got)
	}
	if n := got.Samples.DirectSpared; n != 0 {
		t.Errorf("users were spared %d failures, want none", n)
	}
	hub.Record(request(spec.Canary, 200, matched, masked("music")))
	hub.Record(request(spec.Canary, 500, direct)) // a load test
	if got := tally.Take().Samples; got.DirectFailures != 2 || got.DirectSpared != 2 {
		t.Errorf("%d direct failures, %d of which users were spared; want 2 of 2", got.DirectFailures, got.DirectSpared)
	}
	tally.Rebase(Baseline{Snapshot: 8, At: t0, CutOff: true})
	hub.Record(request(spec.Canary, 200, matched, at(time.Second)))
	hub.Record(request(spec.Canary, 200, direct, at(time.Second)))
	if got := tally.Take().Late; got != 1 {
		t.Errorf("late = %d, want the one that the route sent there", got)
	}
}
