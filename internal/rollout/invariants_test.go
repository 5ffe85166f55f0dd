package rollout

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/analysis"
)

func exp(x float64) float64 { return math.Exp(x) }

// checkStep holds what must be true of every single step, whatever the story.
func checkStep(t *testing.T, plan Plan, was, next State, in Input, events []Event) {
	t.Helper()
	again, againEvents := Step(plan, was, in)
	if !reflect.DeepEqual(next, again) || !reflect.DeepEqual(events, againEvents) {
		t.Errorf("Step is not deterministic:\n%s", cmp.Diff(next, again))
	}

	data, err := json.Marshal(next)
	if err != nil {
		t.Fatalf("state cannot be stored: %v", err)
	}
	var back State
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatalf("state cannot be read: %v", err)
	}
	if !reflect.DeepEqual(next, back) {
		t.Errorf("a trip through JSON changed the state (-was +is):\n%s", cmp.Diff(next, back))
	}

	checkWait(t, plan, next, in)
	checkTraffic(t, plan, was, next)
	checkAdvance(t, plan, was, next, in, events)
	checkCalls(t, plan, was, next)
	checkLoad(t, plan, next, in)

	for _, e := range events { // of copies nobody is told that they cost users anything
		if e.Evidence.Cost > max(was.Cost(), next.Cost())+1e-9 {
			t.Errorf("%s tells of a cost of %v; it was %v and is %v", e.Reason, e.Evidence.Cost, was.Cost(), next.Cost())
		}
	}
	if (next.Canary == "") != (next.Phase == Idle || next.Phase == Initializing) {
		t.Errorf("%s has canary %q", next.Phase, next.Canary)
	}
	if next.Run.Outcome == Promoted && next.Phase == Idle && next.Stable != next.Run.To {
		t.Errorf("promoted %q, but stable is %q", next.Run.To, next.Stable)
	}
	if !was.MustWrite(next) && !was.Want().Equal(next.Want()) {
		t.Errorf("the world changes from %+v to %+v without need to write", was.Want(), next.Want())
	}
}

// checkWait: each wait says for what, and until when if anybody knows.
func checkWait(t *testing.T, plan Plan, s State, in Input) {
	t.Helper()
	if s.Phase == "" || s.Reason == "" {
		t.Errorf("phase %q has no reason %q", s.Phase, s.Reason)
	}
	var open bool
	switch s.Wait {
	case "":
		open = s.Phase == Idle
	case WaitOthers, WaitTime:
	case WaitEvidence:
		open = plan.StepDeadline == 0
	case WaitGate:
		open = true // by those that never expire
	case WaitPerson:
		open = in.Suspended || in.Frozen != "" || in.Blocked != "" || in.Paused != "" || len(in.DependsOn) > 0 || len(in.Set) > 0
	}
	if s.Deadline.IsZero() && !open {
		t.Errorf("%s waits for %q without a deadline: %s", s.Phase, s.Wait, s.Reason)
	}
}

// checkLoad: own load is sent where evidence is waited for, never before the
// hold is over, nor beyond its limit, nor while nothing may advance.
func checkLoad(t *testing.T, plan Plan, s State, in Input) {
	t.Helper()
	if !s.Want().Load {
		return
	}
	tooMuch := plan.Load.UpTo > 0 && s.Evidence.Own.Requests() >= plan.Load.UpTo
	if s.Wait != WaitEvidence || s.Phase != Testing && s.Phase != Progressing || in.Suspended || in.Frozen != "" || in.Blocked != "" || in.Paused != "" ||
		plan.Load.Rate <= 0 || tooMuch || in.Now.Sub(s.Acked) < plan.Hold || s.Evidence.Verdict == analysis.Pass {
		t.Errorf("own load is sent in %s after %v of a hold of %v, with %v and %d own requests of %+v: %s",
			s.Phase, in.Now.Sub(s.Acked), plan.Hold, s.Evidence.Verdict, s.Evidence.Own.Requests(), plan.Load, s.Reason)
	}
}

// checkTraffic: no state asks for more than its step has earned.
func checkTraffic(t *testing.T, plan Plan, was, next State) {
	t.Helper()
	w := next.Want()
	if w.Traffic.Mirror > 0 && next.Phase != Testing {
		t.Errorf("%s copies %v", next.Phase, w.Traffic.Mirror)
	}
	if w.Traffic.Warm && (next.Phase != RollingBack || w.Warm != next.Stable || w.Traffic.Share > 0) {
		t.Errorf("%s sends the traffic to pods that are kept warm: %+v", next.Phase, w)
	}
	if w.Traffic.Share == 0 {
		return
	}
	switch next.Phase {
	case Progressing:
		if next.Step < 1 || w.Traffic.Share > plan.traffic(next.Step).Share {
			t.Errorf("%s at step %d wants %+v for the canary", next.Phase, next.Step, w.Traffic)
		}
	case Promoting, RollingBack:
		if w.Traffic.Share > was.Traffic.Share || w.Traffic.Match != was.Traffic.Match {
			t.Errorf("%s raises the canary from %+v to %+v", next.Phase, was.Traffic, w.Traffic)
		}
	case Initializing, Idle, Starting, Testing, Finalizing:
		t.Errorf("%s wants %+v for the canary", next.Phase, w.Traffic)
	}
	if !w.CanaryScaled {
		t.Errorf("%s wants %+v for a canary without pods", next.Phase, w.Traffic)
	}
	if !w.ByPods && !w.TargetHeld {
		t.Errorf("%s wants %+v for a canary that may be deleted meanwhile", next.Phase, w.Traffic)
	}
}

// checkAdvance: nothing advances while it is held, or past a gate; and nothing
// holds up the way back.
func checkAdvance(t *testing.T, plan Plan, was, next State, in Input, events []Event) {
	t.Helper()
	same := was.Run.Number == next.Run.Number
	raised := same && next.Phase == Progressing && next.Traffic.Share > was.Traffic.Share
	promoted := same && was.Run.Outcome == "" && next.Run.Outcome == Promoted
	began := !same && next.Run.Outcome != Reverted
	if (in.Suspended || in.Frozen != "" || in.Blocked != "" || in.Paused != "") && (raised || promoted || began) {
		t.Errorf("%s became %s while nothing may advance", was.Phase, next.Phase)
	}
	byHand := in.Command.Verb == Promote || plan.Skip
	for _, g := range plan.Gates {
		asked := raised && g.At == AtTraffic && (g.Step == 0 || g.Step == next.Step) || promoted && g.At == AtPromotion && !byHand
		if asked && !opened(g, was, in, events) {
			t.Errorf("gate %s did not hold %s: %s", g.Name, next.Phase, next.Reason)
		}
	}
	if promoted && in.Command.Verb != Promote {
		for _, m := range in.Set {
			if m.Standing != Passed && m.Standing != Settled {
				t.Errorf("promoted without %s of its set, which is %q", m.Name, m.Standing)
			}
		}
	}
	if next.undecided() && next.Evidence.Verdict == analysis.Fail {
		t.Errorf("%s goes on with a failed canary: %s", next.Phase, next.Evidence.Reason)
	}
	obeyed := in.Command.ID != was.Command && in.Command.Verb == Abort
	if obeyed && next.undecided() && same && was.Phase != Idle {
		t.Errorf("%s goes on after abort", next.Phase)
	}
	if next.Phase == RollingBack && was.Traffic.Share > 0 && !next.Gradual && next.Traffic.Share > 0 && in.Stable.Pods > 0 {
		t.Errorf("the canary keeps %v for no reason", next.Traffic.Share)
	}
}

func opened(g Gate, was State, in Input, events []Event) bool {
	if g.Window != nil {
		if open, _ := g.Window.Opens(in.Now); !open {
			return false
		}
	}
	if !g.Manual {
		return true
	}
	for _, e := range events {
		if e.Reason == "GateApproved" && strings.HasPrefix(e.Message, "gate "+g.Name+" ") {
			return true
		}
	}
	return slices.ContainsFunc(was.Gates, func(a Asked) bool { return a.Gate == g.Name && a.By != "" })
}

// checkCalls: no call has the ID of another, one that is not wanted any more
// does not come back, and there are no more than hooks and events explain.
func checkCalls(t *testing.T, plan Plan, was, next State) {
	t.Helper()
	seen := map[string]bool{}
	for _, c := range next.Calls {
		if seen[c.ID] {
			t.Errorf("call %s is wanted twice", c.ID)
		}
		seen[c.ID] = true
		if next.Phase == Idle && c.Type != HookEvent && c.Type != HookPostRollout {
			t.Errorf("no run is on, and call %s waits for an answer that the next one would get", c.ID)
		}
		before := slices.ContainsFunc(was.Calls, func(b HookCall) bool { return b.ID == c.ID })
		n, err := strconv.ParseInt(c.ID[strings.LastIndex(c.ID, "/")+1:], 10, 64)
		if err != nil || before != (n <= was.Called) {
			t.Errorf("call %s came back, or was never decided: %d were", c.ID, was.Called)
		}
	}
	if most := len(plan.Hooks)*2 + 2*mostTold; len(next.Calls) > most {
		t.Errorf("%d calls are under way", len(next.Calls))
	}
}
