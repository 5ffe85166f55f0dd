package controller

import (
	"fmt"
	"math"
	"slices"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/rollout"
)

// asked writes down what a run asks of people and other systems at its present
// point, and what its strategy counts.
func asked(out *v1alpha1.ReleaseStatus, s *rollout.State, plan *rollout.Plan) {
	for _, g := range s.Gates {
		status := v1alpha1.GateStatus{
			Name: g.Gate, At: string(g.At), Step: int32(g.Step), Open: g.Open, By: g.By,
			Since: v1alpha1.OptionalTime(g.Since), Expires: v1alpha1.OptionalTime(g.Expires),
		}
		if i := slices.IndexFunc(plan.Gates, func(p rollout.Gate) bool { return p.Name == g.Gate }); i >= 0 {
			status.Approvers = plan.Gates[i].Approvers
		}
		out.Gates = append(out.Gates, status)
	}
	for _, h := range s.Hooks {
		if h.Known && h.OK || h.Type == rollout.HookRollback {
			continue // the latter's answer holds nothing up
		}
		status := v1alpha1.HookStatus{
			Name: h.Name, Type: string(h.Type), Since: v1alpha1.OptionalTime(h.Since), Called: v1alpha1.OptionalTime(h.At),
		}
		if h.Known {
			status.Answer = "no"
			if h.Reason != "" {
				status.Answer += ": " + h.Reason
			}
		}
		out.Hooks = append(out.Hooks, status)
	}
	if n := looksOf(s, plan); n > 0 {
		out.Iterations = fmt.Sprintf("%d/%d", s.Looks, n)
	}
	if m := s.Run.Mirrored; m != (rollout.Mirrored{}) {
		out.Mirrored = &v1alpha1.Mirrored{
			Compared: m.Compared, Differ: m.Differ,
			NoiseCompared: m.NoiseCompared, NoiseDiffer: m.NoiseDiffer, Example: m.Example,
		}
	}
}

// looksOf is how many good looks the present test or step needs; 0 = it is held
// for a time.
func looksOf(s *rollout.State, plan *rollout.Plan) int {
	switch s.Phase {
	case rollout.Testing:
		return plan.Iterations
	case rollout.Progressing:
		if plan.Strategy == rollout.ABTest {
			return plan.Iterations
		}
	case rollout.Initializing, rollout.Idle, rollout.Starting, rollout.Promoting, rollout.Finalizing, rollout.RollingBack:
	}
	return 0
}

// costOf is what the present run costs its users, or what the last one did.
func costOf(s *rollout.State) v1alpha1.Cost {
	return v1alpha1.Cost{FailedRequests: int64(math.Round(s.Cost()))}
}
