package rollout

import (
	"errors"
	"fmt"
	"time"

	"serin.dev/serin/internal/analysis"
)

// Percent is a share of the traffic, 0 to 100.
type Percent int32

func (p Percent) String() string { return fmt.Sprintf("%d %%", int32(p)) }

// Plan is how a release wants its runs to go. It may change during a run.
type Plan struct {
	// Steps are the canary's shares, ascending, each 1 to 100. After the
	// last one is judged good the version is promoted.
	Steps []Percent
	// Hold is the shortest time at each step, from the proxies' ack.
	Hold time.Duration
	// Deadline is the longest time that pods and proxies may keep the run
	// waiting. Waiting for evidence does not count: too little traffic is no
	// fault of the version.
	Deadline time.Duration
	// Policy of the judge; its Shares are set from Steps, whatever they hold.
	Policy analysis.Policy
}

// Validate reports everything that is wrong with the plan: errors with the
// path of the field in the spec, joined.
func (p *Plan) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(p.Steps) > 0, "spec.steps: at least one share is needed, such as [10, 25, 50]")
	for i, s := range p.Steps {
		check(s >= 1 && s <= 100, "spec.steps[%d]: %d is not a share from 1 to 100", i, int32(s))
		check(i == 0 || s > p.Steps[i-1], "spec.steps[%d]: steps must ascend, and %d follows %d", i, int32(s), int32(p.Steps[max(0, i-1)]))
	}
	check(p.Hold >= 0, "spec.hold: %v is negative", p.Hold)
	check(p.Deadline > 0, "spec.progressDeadline: %v must be longer than 0s", p.Deadline)

	j := &p.Policy
	check(j.FalseAlarm > 0 && j.FalseAlarm <= 0.5, "spec.judge.falseAlarm: %v is not above 0 and at most 0.5", j.FalseAlarm)
	check(j.Tolerance >= 0 && j.Tolerance <= 1, "spec.judge.tolerance: %v %% is not from 0 to 100", 100*j.Tolerance)
	check(j.Confidence > 0 && j.Confidence < 1, "spec.judge.confidence: %v %% is not between 0 and 100", 100*j.Confidence)
	check(j.FailureLimit >= 1, "spec.judge.failureLimit: %d must be at least 1", j.FailureLimit)
	check(len(j.Checks) == 0 || j.Interval > 0, "spec.judge.interval: %v must be longer than 0s", j.Interval)
	for i, c := range j.Checks {
		check(c.Metric == analysis.SuccessRate || c.Metric == analysis.DurationP99,
			"spec.judge.checks[%d].metric: %q is unknown; use %s or %s", i, c.Metric, analysis.SuccessRate, analysis.DurationP99)
		check(c.Min != nil || c.Max != nil, "spec.judge.checks[%d]: min or max is needed", i)
		check(c.Min == nil || c.Max == nil || *c.Min <= *c.Max, "spec.judge.checks[%d]: min is larger than max", i)
		switch c.Metric { // a limit that no value can keep
		case analysis.SuccessRate:
			check(c.Min == nil || *c.Min <= 100, "spec.judge.checks[%d].min: no success-rate is above 100 %%", i)
			check(c.Max == nil || *c.Max >= 0, "spec.judge.checks[%d].max: no success-rate is below 0 %%", i)
		case analysis.DurationP99:
			check(c.Max == nil || *c.Max > 0, "spec.judge.checks[%d].max: no duration is as short as that", i)
		}
	}
	return errors.Join(errs...)
}

// policy is the judge's policy for this plan's steps.
func (p *Plan) policy() analysis.Policy {
	policy := p.Policy
	policy.Shares = nil
	for i := range p.Steps {
		policy.Shares = append(policy.Shares, fraction(p.next(i+1)))
	}
	return policy
}

// next is the share that follows step (from 1): after the last one, all.
func (p *Plan) next(step int) Percent {
	if step >= 0 && step < len(p.Steps) {
		return p.Steps[step]
	}
	return 100
}

// reached is the last step whose share is at most the given one; 0 = none.
func (p *Plan) reached(share Percent) int {
	n := 0
	for n < len(p.Steps) && p.Steps[n] <= share {
		n++
	}
	return n
}

func fraction(p Percent) float64 { return float64(p) / 100 }
