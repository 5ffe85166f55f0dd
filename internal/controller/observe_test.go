package controller

import (
	"testing"
	"time"

	"serin.dev/serin/internal/rollout"
)

// After a restart failures count when both sides are back, or when the canary
// had its time while stable serves.
func TestFailuresCountWhenTheSidesAreBackOrHadTheirTime(t *testing.T) {
	none, some, all := rollout.Workload{}, rollout.Workload{Pods: 2}, rollout.Workload{Pods: 3, Ready: true}
	f := func(stable, canary rollout.Workload, want time.Duration) {
		t.Helper()
		run := &delivery{}
		run.stored.State = rollout.State{Phase: rollout.Progressing, Canary: "v2"}
		if !run.stored.State.Want().CanaryScaled {
			t.Fatal("no pods are wanted of the canary")
		}
		began, got := time.Unix(1e9, 0), time.Duration(-1)
		for after := time.Duration(0); after <= time.Minute && got < 0; after += time.Second {
			if run.settle(&rollout.Input{Now: began.Add(after), Stable: stable, Target: canary}); run.settled {
				got = after
			}
		}
		if got != want {
			t.Errorf("stable %+v, canary %+v: they count after %v, want %v", stable, canary, got, want)
		}
	}
	f(all, all, 0)
	f(all, some, 5*time.Second) // one of three crashes
	f(some, all, 5*time.Second)
	f(all, none, 30*time.Second) // all of them do
	f(none, all, -1)             // nobody is served, by either
	f(none, none, -1)
}
