package experiment

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

// checkStep is what every step keeps, whatever was observed.
func checkStep(t *testing.T, p Plan, was, next State, in Input) {
	t.Helper()
	order := []Phase{"", Waiting, Starting, Running, Restoring, Promoting, Removing, Finished}
	if slices.Index(order, next.Phase) < slices.Index(order, was.Phase) {
		t.Errorf("from %s back to %s", was.Phase, next.Phase)
	}
	if next.Reason == "" {
		t.Errorf("%s says nothing", next.Phase)
	}
	waits := next.Phase != Finished && (next.Phase != Running || in.Unacked != "")
	if waits && next.Deadline.IsZero() {
		t.Errorf("%s waits for %q without a deadline", next.Phase, next.Reason)
	}
	if next.Phase != Finished && was.Phase == next.Phase && !was.Deadline.IsZero() && !in.Now.Before(was.Deadline) && next.Deadline.Equal(was.Deadline) {
		t.Errorf("%s waits beyond its deadline: %s", next.Phase, next.Reason)
	}
	if (next.Outcome == "") != (next.Phase == Waiting || next.Phase == Starting || next.Phase == Running) {
		t.Errorf("%s has the outcome %q", next.Phase, next.Outcome)
	}
	for i, c := range next.Candidates {
		if c.Dropped != "" && c.Share > 0 || c.Share > p.Candidates[i].Share {
			t.Errorf("%s: %s has a share of %v (dropped: %q)", next.Phase, c.Name, c.Share, c.Dropped)
		}
		if c.Share > 0 && (next.Phase != Running || was.Phase == Starting && !in.Candidates[i].Ready) {
			t.Errorf("%s, after %s: %s has a share of %v", next.Phase, was.Phase, c.Name, c.Share)
		}
		if i < len(was.Candidates) && was.Candidates[i].Dropped != "" && c.Dropped == "" {
			t.Errorf("%s is in again", c.Name)
		}
	}
	w := next.Want()
	if left(w.Shares) <= 0 {
		t.Errorf("stable has %v", left(w.Shares))
	}
	for i, pods := range w.Pods {
		if !pods && was.Want().Shares != nil && was.Want().Shares[i] > 0 {
			t.Errorf("%s loses its pods while proxies may still send to them", next.Candidates[i].Name)
		}
	}
	if w.Promote != "" && (w.Promote == Stable || next.Outcome != Chosen || w.Promote != next.Winner || in.Cancel != "") {
		t.Errorf("%s is promoted: winner %q, outcome %s, cancelled %q", w.Promote, next.Winner, next.Outcome, in.Cancel)
	}
}

// TestNoObservationBreaksARule walks through observations that no real world
// would make in this order, and ends each walk: an experiment always ends.
func TestNoObservationBreaksARule(t *testing.T) {
	seen, outcomes := map[Phase]int{}, map[Outcome]int{}
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		chance := func(p float64) bool { return r.Float64() < p }
		p := Plan{
			Candidates: []Planned{{"a", 10 * rollout.Percent}, {"b", 30 * rollout.Percent}, {"c", 59 * rollout.Percent}}[:1+r.IntN(3)],
			Duration:   30 * time.Second, Deadline: 10 * time.Second,
			Metric:  []analysis.Metric{"", analysis.ErrorRate, analysis.DurationP50}[r.IntN(3)],
			Promote: chance(0.7),
			Policy:  analysis.Policy{FalseAlarm: 0.01, Tolerance: 0.2, Confidence: 0.9, FailureLimit: 1, Interval: time.Second},
		}
		if err := p.Validate(); err != nil {
			t.Fatalf("walk %d: %v", seed, err)
		}
		bad, good := r.Float64(), 0.2*r.Float64()
		trouble := 0.3 * r.Float64() * float64(r.IntN(2))
		stuck := r.IntN(10) // 0: something has the target for ever; 1: proxies never follow
		in := Input{Now: time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC), Target: "v1"}
		var s State
		for range 150 {
			in.Now = in.Now.Add(time.Duration(r.IntN(3)) * time.Second)
			switch {
			case chance(0.01): // the clock was set back
				in.Now = in.Now.Add(-2 * time.Hour)
			case chance(0.01): // the machine slept
				in.Now = in.Now.Add(2 * time.Hour)
			}
			in.Promoted, in.Removed = !chance(trouble), !chance(trouble)
			in.Blocked, in.Cancel, in.Target, in.Unacked = "", "", "v1", ""
			if chance(trouble) || stuck == 1 {
				in.Unacked = "a proxy has another route"
			}
			if chance(trouble) || stuck == 0 {
				in.Blocked = "a release is in a run"
			}
			if chance(0.003) {
				in.Cancel = "it was deleted"
			}
			if chance(0.003) {
				in.Target = "v2"
			}
			in.Candidates = make([]Observed, len(p.Candidates))
			for i := range in.Candidates {
				o := &in.Candidates[i]
				o.Ready, o.Message = !chance(trouble), "its pods are not ready"
				rate := good
				if i == 0 {
					rate = bad
				}
				for range r.IntN(10) {
					o.Samples.CanaryRequests++
					o.Samples.CanaryLatency.Observe(time.Duration(1+r.IntN(20)*(i+1)) * time.Millisecond)
					if chance(rate) {
						o.Samples.CanaryFailures++
					}
				}
				for range r.IntN(10) {
					o.Samples.StableRequests++
					o.Samples.StableLatency.Observe(time.Duration(1+r.IntN(20)) * time.Millisecond)
					if chance(0.1) {
						o.Samples.StableFailures++
					}
				}
			}
			next, _ := Step(p, s, in)
			checkStep(t, p, s, next, in)
			if t.Failed() {
				t.Fatalf("walk %d, after %s: %s", seed, s.Phase, s.Reason)
			}
			s = next
			seen[s.Phase]++
		}
		if s.Phase != Finished {
			t.Fatalf("walk %d is still %s after %v: %s", seed, s.Phase, in.Now, s.Reason)
		}
		outcomes[s.Outcome]++
	}
	for _, p := range []Phase{Waiting, Starting, Running, Restoring, Promoting, Removing, Finished} {
		if seen[p] == 0 {
			t.Errorf("no walk came to %s", p)
		}
	}
	for _, o := range []Outcome{Chosen, NoDifference, Compared, AllDropped, Cancelled, Failed, NotStarted} {
		if outcomes[o] == 0 {
			t.Errorf("no walk ended %s", o)
		}
	}
	t.Logf("steps in each phase: %v; walks by outcome: %v", seen, outcomes)
}
