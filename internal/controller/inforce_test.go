package controller

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

func deliveryOf(r *v1alpha1.Release) (*kube.Delivery, error) {
	return &kube.Delivery{Release: r, Names: kube.NamesOf(r)}, nil
}

// asRead is a Release with that spec, as the API says it.
func asRead(t *testing.T, text string) *kube.Delivery {
	t.Helper()
	rel, err := deliveryOf(&v1alpha1.Release{Spec: *spec(t, text)})
	if err != nil {
		t.Fatal(err)
	}
	return rel
}

// restarted is what another process finds in the journal.
func restarted(t *testing.T, run *delivery) *delivery {
	t.Helper()
	raw, err := json.Marshal(run.journal)
	if err != nil {
		t.Fatal(err)
	}
	next := &delivery{}
	if err := json.Unmarshal(raw, &next.journal); err != nil {
		t.Fatal(err)
	}
	return next
}

var badSpec = strings.Replace(goodSpec, "[10, 50]", "[50, 10]", 1)

func TestARunGoesOnWithTheLastGoodSpec(t *testing.T) {
	good := asRead(t, goodSpec)
	run := &delivery{journal: journal{State: rollout.State{Canary: "r2"}, Spec: &good.Release.Spec}}
	for _, run := range []*delivery{run, restarted(t, run)} {
		rel := run.inForce(asRead(t, badSpec), deliveryOf)
		if !run.planned || len(run.plan.Steps) != 2 || run.plan.Steps[0] != 10*rollout.Percent || rel.Release.Spec.Steps[0] != good.Release.Spec.Steps[0] {
			t.Errorf("plan %+v of %+v, want the last good one", run.plan.Steps, rel.Release.Spec.Steps)
		}
		if run.problem == nil || !strings.Contains(run.problem.Error(), "spec.steps[1]") {
			t.Errorf("problem = %v, want that of the spec", run.problem)
		}
		if run.inForce(asRead(t, goodSpec), deliveryOf); run.problem != nil {
			t.Errorf("problem of a good spec = %v", run.problem)
		}
	}
	taken := asRead(t, goodSpec)
	taken.Problem = kube.ErrTaken
	if run.inForce(taken, deliveryOf); !run.planned || !errors.Is(run.problem, kube.ErrTaken) {
		t.Errorf("problem = %v with a plan: %v; want a conflict and a plan", run.problem, run.planned)
	}
}

// TestARunWithoutAnyPlanGoesBack: nothing else could be decided on it.
func TestARunWithoutAnyPlanGoesBack(t *testing.T) {
	at := time.Unix(1000, 0).UTC()
	pods := func(rev rollout.Revision) rollout.Workload {
		return rollout.Workload{Revision: rev, Ready: true, Pods: 1, Wanted: 1}
	}
	half := rollout.Traffic{Share: rollout.All / 2}
	for _, phase := range []rollout.Phase{rollout.Starting, rollout.Testing, rollout.Progressing, rollout.Promoting} {
		run := restarted(t, &delivery{journal: journal{State: rollout.State{
			Phase: phase, Stable: "r1", Canary: "r2", Step: 1, Split: true, Traffic: half, Asked: at, Acked: at, At: at,
			Run: rollout.Run{Number: 1, From: "r1", To: "r2", Started: at},
		}}})
		rel := run.inForce(asRead(t, badSpec), deliveryOf)
		if run.planned {
			t.Fatal("a plan was found")
		}
		in := rollout.Input{Now: at.Add(time.Second), Stable: pods("r1"), Target: pods("r2"), Ack: rollout.Ack{OK: true, Traffic: half, Since: at}}
		run.hearProblem(rel, &in)
		next, _ := rollout.Step(run.plan, run.journal.State, in)
		if next.Phase != rollout.RollingBack || next.Traffic != (rollout.Traffic{}) || !strings.Contains(next.Run.Reason, "spec.steps[1]") {
			t.Errorf("%s became %s with %+v: %s; want to go back, with the reason", phase, next.Phase, next.Traffic, next.Run.Reason)
		}
	}
}
