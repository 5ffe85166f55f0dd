package rollout

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
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

	if next.Phase == "" || next.Reason == "" {
		t.Errorf("phase %q has no reason %q", next.Phase, next.Reason)
	}
	if next.Stalling == next.Deadline.IsZero() {
		t.Errorf("phase %s: stalling=%v with deadline %v", next.Phase, next.Stalling, next.Deadline)
	}
	w := next.Want()
	if w.Traffic.Share > 0 {
		switch next.Phase {
		case Progressing, Promoting:
			if next.Step < 1 || next.Phase == Progressing && w.Traffic.Share > plan.Steps[next.Step-1] {
				t.Errorf("%s at step %d wants %v for the canary", next.Phase, next.Step, w.Traffic.Share)
			}
		case Initializing, Idle, Starting, Testing, Finalizing, RollingBack:
			t.Errorf("%s wants %v for the canary", next.Phase, w.Traffic.Share)
		}
		if !w.CanaryScaled {
			t.Errorf("%s wants %v for a canary without pods", next.Phase, w.Traffic.Share)
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
