package controller

import (
	"cmp"
	"fmt"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

// on reports whether a run is: there may be a canary that answers users, which is
// judged whatever else is wrong.
func (run *delivery) on() bool { return run.journal.State.Canary != "" }

// inForce reads the plan of a Release, and returns the Release as it is worked
// with. While a run is on, a spec that cannot be worked with leaves the last good
// one in force, after a restart as well: read says what the API has for that one.
// Where none is known either, the plan is one that suffices to go back.
func (run *delivery) inForce(rel *kube.Delivery, read func(*v1alpha1.Release) (*kube.Delivery, error)) *kube.Delivery {
	plan, err := planOf(&rel.Release.Spec)
	run.plan, run.planned, run.problem = plan, err == nil, err
	if err == nil {
		run.problem = rel.Problem
		return rel
	}
	if run.journal.Spec != nil {
		last := rel.Release.DeepCopy()
		last.Spec = *run.journal.Spec.DeepCopy()
		good, badToo := planOf(&last.Spec)
		of, unread := read(last)
		if badToo == nil && unread == nil {
			run.plan, run.planned = good, true
			return of
		}
	}
	spec := &rel.Release.Spec
	run.plan = rollout.Plan{Worker: spec.Worker(), Deadline: cmp.Or(max(0, spec.ProgressDeadline.Duration), endingDeadline)}
	return rel
}

// hearProblem adds to an input what keeps a run from going on.
func (run *delivery) hearProblem(rel *kube.Delivery, in *rollout.Input) {
	if !run.planned { // nothing is known that could be released: what is on its way goes back
		in.Target = rollout.Workload{Message: fmt.Sprintf("the spec cannot be worked with: %v", inOneLine{run.problem}), Pods: in.Target.Pods}
	}
	if rel.Problem != nil {
		in.Blocked = rel.Problem.Error()
	}
}
