package record

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

func backtestOf(t *testing.T, r *Record, plan rollout.Plan) *Comparison {
	t.Helper()
	c, err := Backtest(r, plan)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestThePlanOfTheRunWouldHaveDoneTheSame(t *testing.T) {
	f := func(name string, fails float64) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			w.plan.Hooks = nil // they take a look each
			w.fails["v1"], w.fails["v2"] = 0.01, fails
			w.release("v2")
			c := backtestOf(t, w.record(1), w.plan)
			if diff := cmp.Diff(c.Recorded, c.Estimated); diff != "" || c.Recorded.Outcome != w.state.Run.Outcome || len(c.Notes) > 0 {
				t.Errorf("outcome %s, notes %q (-recorded +estimated):\n%s", w.state.Run.Outcome, c.Notes, diff)
			}
		})
	}
	f("good", 0.01)
	f("bad", 0.3)
}

// TestAnEstimateIsNearTheTruth plays bad versions to two plans, each with its
// own requests, and estimates each plan from the traffic of the other.
func TestAnEstimateIsNearTheTruth(t *testing.T) {
	const worlds = 15
	play := func(first rollout.Share, seed uint64) (*world, float64) {
		w := newWorld(t, t.TempDir())
		w.rand = rand.New(rand.NewPCG(seed, 7))
		w.plan.Steps = []rollout.Share{first, 60 * rollout.Percent}
		w.fails["v1"], w.fails["v2"] = 0.01, 0.12
		w.release("v2")
		return w, float64(backtestOf(t, w.record(1), w.plan).Recorded.Counts.CanaryFailures)
	}
	var truth, estimate [2]float64 // of the bold plan, of the careful one
	estimated := func(i int, on *world, plan rollout.Plan) {
		got := backtestOf(t, on.record(1), plan)
		estimate[i] += float64(got.Estimated.Counts.CanaryFailures)
		if got.Estimated.Outcome != rollout.RolledBack || len(got.Notes) == 0 {
			t.Errorf("%+v", got)
		}
	}
	for seed := range uint64(worlds) {
		bold, failed := play(50*rollout.Percent, seed)
		truth[0] += failed
		careful, failed := play(5*rollout.Percent, seed+1000)
		truth[1] += failed
		estimated(0, careful, bold.plan)
		estimated(1, bold, careful.plan)
	}
	t.Logf("failed requests of %d runs: bold %.0f, estimated %.0f; careful %.0f, estimated %.0f", worlds, truth[0], estimate[0], truth[1], estimate[1])
	for i := range truth {
		if estimate[i] < 0.6*truth[i] || estimate[i] > 1.6*truth[i] || truth[0] < 2*truth[1] {
			t.Errorf("the estimate %.0f is not near the truth %.0f", estimate[i], truth[i])
		}
	}
}

func TestAnotherPlanDecidesElse(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.fails["v2"] = 0.06
	w.release("v2")
	r := w.record(1)

	strict := w.plan
	strict.Policy.Budget = 1
	c := backtestOf(t, r, strict)
	if c.Estimated.Outcome != rollout.RolledBack || c.Estimated.Decided >= c.Recorded.Decided || !strings.Contains(c.Estimated.Reason, "budget of 1") {
		t.Errorf("with a budget: %+v\nrecorded: %+v", c.Estimated, c.Recorded)
	}
	lenient := w.plan
	lenient.Policy.FalseAlarm = 1e-12
	c = backtestOf(t, r, lenient)
	if c.Estimated.Outcome != rollout.RolledBack || c.Estimated.Decided <= c.Recorded.Decided || !strings.Contains(strings.Join(c.Notes, "\n"), "played again") {
		t.Errorf("with a judge that is seldom sure: %+v, notes %q", c.Estimated, c.Notes)
	}
	blind := w.plan
	blind.Skip = true
	c = backtestOf(t, r, blind)
	if c.Estimated.Outcome != rollout.Promoted || !strings.Contains(strings.Join(c.Notes, "\n"), "all users a version that was taken back") {
		t.Errorf("without a judge: %+v, notes %q", c.Estimated, c.Notes)
	}
}

func TestAPlanThatNeverDecidesIsGivenUp(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.release("v2")
	patient := w.plan
	patient.Hold = 1000 * time.Hour
	c := backtestOf(t, w.record(1), patient)
	if c.Estimated.Outcome != "" || !strings.Contains(strings.Join(c.Notes, "\n"), "does not decide, though the recorded traffic was played 100 times") {
		t.Errorf("%+v, notes %q", c.Estimated, c.Notes)
	}
}

func TestWhatCannotBeEstimatedIsRefused(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.release("v2")
	r := w.record(1)
	f := func(plan rollout.Plan, want string) {
		t.Helper()
		if c, err := Backtest(r, plan); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, error %v, want one that says %q", c, err, want)
		}
	}
	plan := w.plan
	plan.Strategy = rollout.Replicas
	f(plan, "spec.strategy: Replicas")
	plan = w.plan
	plan.Steps = nil
	f(plan, "spec.steps")
}

func TestScalingLosesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		had, has := 0.01+0.98*r.Float64(), 0.01+0.98*r.Float64()
		var s scaler
		var seen, got analysis.Samples
		for range 100 {
			one := analysis.Samples{}
			for _, name := range []string{"GET /a", "GET /b"} {
				o := analysis.Stratum{Name: name}
				for range r.IntN(20) {
					failed := int64(r.IntN(2))
					o.Counts = o.Counts.Add(analysis.Counts{CanaryRequests: 1, CanaryFailures: failed, StableRequests: 2, StableFailures: failed})
					o.CanaryLatency.Observe(time.Duration(r.IntN(1e9)))
					o.StableLatency.Observe(time.Duration(r.IntN(1e9)))
					o.StableLatency.Observe(time.Duration(r.IntN(1e9)))
				}
				one.Strata = append(one.Strata, o)
				add(&one, &o)
			}
			one.Spared = one.Counts // all, as tries beside the users' own requests where they can be
			one.Spared.CanaryRequests, one.Spared.StableRequests = one.CanaryFailures, one.StableFailures/2
			one.CanaryRequests++ // of no endpoint
			one.CanaryLatency.Observe(time.Second)
			seen = seen.Add(one)
			scaled := s.samples(&one, had, has)
			if err := scaled.Validate(); err != nil {
				t.Fatalf("%+v: %v", scaled.Counts, err)
			}
			got = got.Add(scaled)
		}
		near := func(what string, n, of int64, factor float64) {
			if d := float64(n) - float64(of)*factor; d < -5 || d > 5 {
				t.Errorf("%s: %d of %d, want %v times as many", what, n, of, factor)
			}
		}
		canary, stable := has/had, (1-has)/(1-had)
		near("canary", got.CanaryRequests, seen.CanaryRequests, canary)
		near("canary's failures", got.CanaryFailures, seen.CanaryFailures, canary)
		near("stable", got.StableRequests, seen.StableRequests, stable)
		near("stable's failures", got.StableFailures, seen.StableFailures, stable)
		near("canary's failures that users were spared", got.Spared.CanaryFailures, seen.Spared.CanaryFailures, canary)
		near("canary's tries", got.Spared.CanaryRequests, seen.Spared.CanaryRequests, canary)
		near("stable's failures that users were spared", got.Spared.StableFailures, seen.Spared.StableFailures, stable)
		near("stable's tries", got.Spared.StableRequests, seen.Spared.StableRequests, stable)
		near("canary's durations", got.CanaryLatency.Count(), got.CanaryRequests, 1)
		near("stable's durations", got.StableLatency.Count(), got.StableRequests, 1)
	}
}

func TestADocumentSaysWhatHappenedAndReadsBack(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.fails["v2"] = 0.3
	w.release("v2")
	r := w.record(1)
	doc := exported(t, r)
	if doc.Outcome != string(rollout.RolledBack) || doc.Failures != w.seen.Failures || doc.Cost < 1 || len(doc.Gaps) > 0 {
		t.Errorf("outcome %q, %d failures, cost %v, gaps %q", doc.Outcome, doc.Failures, doc.Cost, doc.Gaps)
	}
	hooks, evidence := 0, 0
	for _, e := range doc.Timeline {
		if e.Hook != nil && e.Hook.OK {
			hooks++
		}
		if e.Decision != nil && e.Decision.Outcome == string(rollout.RolledBack) {
			for _, event := range e.Decision.Events {
				if event.Evidence.LogE > 0 && event.Evidence.Counts.CanaryRequests > 0 {
					evidence++
				}
			}
		}
	}
	if hooks != 1 || evidence == 0 {
		t.Errorf("%d hooks, %d events with evidence, in %s", hooks, evidence, toJSON(t, doc.Timeline))
	}
	shown := 0
	for _, s := range doc.Splits {
		if s.Traffic.Share == 10*rollout.Percent && !s.Acked.IsZero() {
			shown++
		}
	}
	if shown != 1 || doc.Splits[len(doc.Splits)-1].Traffic.Share != 0 {
		t.Errorf("splits %s", toJSON(t, doc.Splits))
	}

	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	again := parse(t, data)
	if got := replayed(t, again); got.First != nil || got.Decisions != replayed(t, r).Decisions {
		t.Errorf("the document replays to %+v", got.First)
	}
}
