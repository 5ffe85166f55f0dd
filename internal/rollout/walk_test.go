package rollout

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"serin.dev/serin/internal/analysis"
)

// TestNoObservationBreaksARule walks through observations that no real world
// would make in this order: anything may be ready or gone, acknowledged or not,
// answered, ordered or approved at any time. Each step keeps what checkStep
// names, and the release is never without a way on.
func TestNoObservationBreaksARule(t *testing.T) {
	walks := 300
	if testing.Short() {
		walks = 60
	}
	seen := map[Phase]int{}
	for seed := range walks {
		w := &walk{r: rand.New(rand.NewPCG(uint64(seed), 1)), in: Input{Now: time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)}}
		w.plan = w.anyPlan()
		if err := w.plan.Validate(); err != nil {
			t.Fatalf("walk %d: %v", seed, err)
		}
		for range 150 {
			if w.r.IntN(60) == 0 { // the user changes it
				w.plan = w.anyPlan()
			}
			w.observe()
			next, events := Step(w.plan, w.state, w.in)
			checkStep(t, w.plan, w.state, next, w.in, events)
			if t.Failed() {
				t.Fatalf("walk %d, after %s: %s", seed, w.state.Phase, w.state.Reason)
			}
			w.state = next
			seen[next.Phase]++
		}
	}
	for _, p := range []Phase{Initializing, Idle, Starting, Testing, Progressing, Promoting, Finalizing, RollingBack} {
		if seen[p] == 0 {
			t.Errorf("no walk came to %s", p)
		}
	}
	t.Logf("steps in each phase: %v", seen)
}

type walk struct {
	r     *rand.Rand
	plan  Plan
	state State
	in    Input
	ids   int
}

func (w *walk) chance(p float64) bool { return w.r.Float64() < p }

func (w *walk) id() string {
	w.ids++
	return fmt.Sprint("id-", w.ids)
}

func (w *walk) anyPlan() Plan {
	least := 90.0
	p := Plan{
		Strategy: []Strategy{"", Canary, ABTest, BlueGreen, Mirror, Replicas}[w.r.IntN(6)],
		Steps:    [][]Share{{50 * Percent}, {10, 20 * Percent, 99 * Percent}, {5 * Percent, 50 * Percent}}[w.r.IntN(3)],
		Deadline: 30 * time.Second, Iterations: 1 + w.r.IntN(2), Hold: time.Duration(w.r.IntN(2)) * time.Second,
		Policy: analysis.Policy{FalseAlarm: 0.001, Tolerance: 0.2, Confidence: 0.9, FailureLimit: 1 + w.r.IntN(3), Interval: 2 * time.Second},
		Skip:   w.chance(0.05),
	}
	if p.Strategy == Canary && w.chance(0.3) {
		p.Steps = append(p.Steps, All)
	}
	if w.chance(0.3) {
		p.StepDeadline = time.Minute
	}
	if w.chance(0.3) {
		p.Load = Load{Rate: 10, UpTo: int64(w.r.IntN(2) * 40)}
	}
	if w.chance(0.3) {
		p.Policy.Checks = []analysis.Check{{Metric: analysis.SuccessRate, Min: &least}}
	}
	if w.chance(0.3) {
		c := analysis.Check{Metric: "orders", External: true, Min: &least, Severity: analysis.Severity(w.r.IntN(3))}
		c.ToStable = analysis.Margin{Max: &least, InPercent: w.chance(0.5)}
		p.Policy.Checks = append(p.Policy.Checks, c)
	}
	if p.Strategy == Mirror || (p.Strategy == Canary || p.Strategy == "") && w.chance(0.3) {
		p.Mirror = 50 * Percent
	}
	if p.Strategy != Replicas && w.chance(0.5) {
		p.PromotionSteps, p.KeepWarm = []Share{10 * Percent, 60 * Percent}, 20*time.Second
	}
	if w.chance(0.5) {
		p.AbortSteps, p.AbortHold = []Share{30 * Percent, 1}, time.Second
	}
	for i, at := range []Point{AtStart, AtTraffic, AtPromotion} {
		if at == AtTraffic && p.Strategy == Mirror || at != AtStart && p.Skip || !w.chance(0.3) {
			continue
		}
		g := Gate{Name: fmt.Sprint("g", i), At: at, Manual: true, Approvers: []string{"alice"}}
		if w.chance(0.5) {
			g.Expires = 20 * time.Second
		}
		if w.chance(0.3) {
			g.Window = &Window{Days: []time.Weekday{time.Monday}, From: 8 * time.Hour, To: 8*time.Hour + 3*time.Minute}
		}
		p.Gates = append(p.Gates, g)
	}
	for _, kind := range []HookType{
		HookConfirmRollout, HookPreRollout, HookRollout, HookConfirmTrafficIncrease,
		HookConfirmPromotion, HookPostRollout, HookRollback, HookEvent,
	} {
		if w.chance(0.2) {
			p.Hooks = append(p.Hooks, Hook{Name: "h", Type: kind})
		}
	}
	if p.Blind() != nil {
		p.Policy.Tolerance = 0
	}
	return p
}

func (w *walk) observe() {
	in, want := &w.in, w.state.Want()
	in.Now = in.Now.Add(time.Duration(w.r.IntN(3000)) * time.Millisecond)
	if w.chance(0.02) {
		in.Now = in.Now.Add(-2 * time.Hour) // the clock was set back
	}
	often := 0.03
	if w.state.Phase == Idle {
		often = 0.3
	}
	if in.Target.Revision == "" || w.chance(often) {
		in.Target.Revision = Revision([]string{"v1", "v2", "v3", ""}[w.r.IntN(4)])
	}
	in.Target = w.pods(in.Target.Revision)
	in.Stable = w.pods(want.StableRevision)
	in.Warm = w.pods(want.Warm)
	in.Ack = Ack{}
	if w.chance(0.8) {
		in.Ack = Ack{OK: true, Traffic: want.Traffic, Since: in.Now.Add(-50 * time.Millisecond)}
	}
	if w.chance(0.05) {
		in.Ack.Traffic.Share = Share(w.r.IntN(int(All)))
	}
	in.Samples = analysis.Samples{}
	if w.chance(0.7) {
		in.Samples.CanaryRequests, in.Samples.StableRequests = 40, 40
		in.Samples.DirectRequests = 10
	}
	if w.chance(0.05) {
		in.Samples.CanaryFailures, in.Samples.DirectFailures = in.Samples.CanaryRequests, in.Samples.DirectRequests
	}
	if w.chance(0.1) {
		anything := []analysis.Value{0, -1, 95, 1e308, analysis.Value(math.Inf(1)), analysis.Value(math.Inf(-1)), analysis.Value(math.NaN())}
		value := func() analysis.Value { return anything[w.r.IntN(len(anything))] }
		in.Samples.Measured = []analysis.Measured{{
			Check: w.r.IntN(3), Canary: value(), HasCanary: true, Stable: value(), HasStable: w.chance(0.5), At: in.Now,
		}}
	}
	if want.Load && w.chance(0.7) {
		in.Samples.Own.CanaryRequests, in.Samples.Own.StableRequests = 5, 5
	}
	in.Arrived, in.Served = in.Samples.Requests(), in.Samples.StableRequests
	in.Suspended = w.chance(0.05)
	in.Frozen = ""
	if w.chance(0.05) {
		in.Frozen = "holidays"
	}
	in.Paused = ""
	if w.chance(0.05) {
		in.Paused = "the target is paused"
	}
	in.Blocked = ""
	if w.chance(0.05) {
		in.Blocked = "the route is somebody else's"
	}
	in.DependsOn = nil
	if w.chance(0.05) {
		in.DependsOn = []string{"catalog"}
	}
	in.Pods = int32(w.r.IntN(5))
	in.Set = w.set()
	w.persons()
	in.Hooks = nil
	for _, c := range want.Hooks {
		if w.chance(0.5) {
			in.Hooks = append(in.Hooks, HookResult{ID: c.ID, OK: w.chance(0.7) && c.Type != HookRollback || w.chance(0.02)})
		}
	}
	in.Hooks = append(in.Hooks, HookResult{ID: "run-1/rollout/h/1", OK: w.chance(0.5)}) // old, or made up
}

// set is mostly none, and otherwise in no way consistent over time.
func (w *walk) set() []Member {
	if w.chance(0.8) {
		return nil
	}
	m := Member{Name: "other", Standing: []Standing{Behind, Passed, Settled, Failed, ""}[w.r.IntN(5)], Why: "why"}
	m.Started = w.in.Now.Add(-time.Duration(w.r.IntN(60)) * time.Second)
	if m.Standing == Failed {
		m.Decided = w.in.Now.Add(-time.Duration(w.r.IntN(60)) * time.Second)
	}
	return []Member{m}
}

func (w *walk) pods(rev Revision) Workload {
	o := Workload{Revision: rev, Ready: rev != "" && w.chance(0.9), Pods: int32(w.r.IntN(5)), Wanted: int32(w.r.IntN(5))}
	if w.chance(0.6) { // nothing is scarce
		o.Pods, o.Wanted = 4, 4
	}
	return o
}

func (w *walk) persons() {
	if w.chance(0.05) {
		verbs := []Verb{Promote, Abort, Skip, Retry, Rollback, Approve, Reject, "dance"}
		w.in.Command = Command{ID: w.id(), Verb: verbs[w.r.IntN(len(verbs))], By: []string{"alice", "eve"}[w.r.IntN(2)], Gate: "g1"}
	}
	if w.chance(0.1) {
		w.in.Approvals = append(w.in.Approvals, Approval{
			ID: w.id(), Gate: fmt.Sprint("g", w.r.IntN(4)), By: []string{"alice", "eve"}[w.r.IntN(2)], Reject: w.chance(0.1),
		})
	}
	if w.chance(0.05) {
		w.in.Approvals = nil
	}
}
