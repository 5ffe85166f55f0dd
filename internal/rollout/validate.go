package rollout

import (
	"errors"
	"fmt"
	"time"

	"serin.dev/serin/internal/analysis"
)

// findings collects what is wrong with a plan.
type findings []error

func (f *findings) check(ok bool, format string, args ...any) {
	if !ok {
		*f = append(*f, fmt.Errorf(format, args...))
	}
}

// Validate reports everything that is wrong with the plan, and what in it could
// never work: errors with the path of the field in the spec, joined.
func (p *Plan) Validate() error {
	var f findings
	p.validateSteps(&f)
	p.validateTest(&f)
	p.validateTimes(&f)
	p.validateGates(&f)
	p.validateHooks(&f)
	p.validateJudge(&f)
	switch {
	case p.Worker:
		p.validateWorker(&f)
	case p.Policy.Tolerance > 0: // else it is said that nothing has to be shown
		if err := p.Blind(); err != nil {
			f = append(f, err)
		}
	}
	return errors.Join(f...)
}

func (p *Plan) validateSteps(f *findings) {
	switch p.Strategy {
	case Canary, "", Replicas:
		f.check(len(p.Steps) > 0, "spec.steps: at least one share is needed, such as [10, 25, 50]")
		most := All
		if p.Strategy == Replicas {
			most = All - 1 // all pods are the canary's: that is promotion
		}
		ascending(f, "spec.steps", p.Steps, most)
	case ABTest, BlueGreen, Mirror: // Steps mean nothing
	default:
		f.check(false, "spec.strategy: %q is unknown; use %s, %s, %s, %s or %s", p.Strategy, Canary, ABTest, BlueGreen, Mirror, Replicas)
	}
	ascending(f, "spec.promotionSteps", p.PromotionSteps, All-1)
	for i, s := range p.AbortSteps {
		f.check(s > 0 && s < All, "spec.abortSteps[%d]: %v is not a share between 0 and 100 %%", i, s)
		f.check(i == 0 || s < p.AbortSteps[i-1], "spec.abortSteps[%d]: the shares must descend, and %v follows %v", i, s, p.AbortSteps[max(0, i-1)])
	}
	byPods := p.Strategy == Replicas
	f.check(!byPods || len(p.PromotionSteps) == 0, "spec.promotionSteps: the strategy %s has no route to move traffic with; leave them out", Replicas)
	f.check(!byPods || p.KeepWarm == 0, "spec.keepWarm: the strategy %s has no route to go back by; leave it out", Replicas)
	f.check(!byPods || p.Mirror == 0, "spec.mirror: the strategy %s has no route to copy requests with; leave it out", Replicas)
}

func ascending(f *findings, path string, shares []Share, most Share) {
	for i, s := range shares {
		f.check(s > 0 && s <= most, "%s[%d]: %v is not a share from 0.01 %% to %v", path, i, s, most)
		f.check(i == 0 || s > shares[i-1], "%s[%d]: the shares must ascend, and %v follows %v", path, i, s, shares[max(0, i-1)])
	}
}

func (p *Plan) validateTest(f *findings) {
	f.check(p.Mirror >= 0 && p.Mirror <= All, "spec.mirror.share: %v is not from 0 to 100 %%", p.Mirror)
	f.check(p.Iterations >= 0, "spec.iterations: %d is negative", p.Iterations)
	switch p.Strategy {
	case ABTest, BlueGreen, Mirror:
		f.check(p.Iterations > 0, "spec.iterations: at least 1 is needed by the strategy %s", p.Strategy)
		f.check(p.Strategy != Mirror || p.Mirror > 0, "spec.mirror.share: more than 0 is needed by the strategy %s", Mirror)
		f.check(p.Strategy == Mirror || p.Mirror == 0, "spec.mirror: the strategy %s copies no requests; use %s or %s", p.Strategy, Canary, Mirror)
	case Canary, Replicas, "":
	}
	f.check(p.Iterations == 0 || p.Policy.Interval > 0, "spec.judge.interval: %v must be longer than 0s to count iterations", p.Policy.Interval)
}

func (p *Plan) validateTimes(f *findings) {
	f.check(p.Hold >= 0, "spec.hold: %v is negative", p.Hold)
	f.check(p.AbortHold >= 0, "spec.abortHold: %v is negative", p.AbortHold)
	f.check(p.KeepWarm >= 0, "spec.keepWarm: %v is negative", p.KeepWarm)
	f.check(p.Deadline > 0, "spec.progressDeadline: %v must be longer than 0s", p.Deadline)
	f.check(p.StepDeadline >= 0, "spec.stepDeadline: %v is negative", p.StepDeadline)
	if p.StepDeadline <= 0 {
		return
	}
	f.check(p.StepDeadline > p.Hold, "spec.stepDeadline: %v is over before the step was held for %v", p.StepDeadline, p.Hold)
	test := time.Duration(p.Iterations) * p.Policy.Interval
	f.check(p.StepDeadline > test, "spec.stepDeadline: %v is over before %d iterations of %v", p.StepDeadline, p.Iterations, p.Policy.Interval)
}

func (p *Plan) validateHooks(f *findings) {
	seen := map[Hook]bool{}
	for i, h := range p.Hooks {
		path := fmt.Sprintf("spec.webhooks[%d]", i)
		f.check(h.Name != "", "%s.name: a name is needed", path)
		id := Hook{Name: h.Name, Type: h.Type}
		f.check(!seen[id], "%s.name: %q is used twice for the type %s", path, h.Name, h.Type)
		seen[id] = true
		switch h.Type {
		case HookConfirmRollout, HookConfirmTrafficIncrease, HookConfirmPromotion:
			f.check(h.Expires >= 0, "%s.expires: %v is negative", path, h.Expires)
			f.check(p.Policy.Interval > 0, "spec.judge.interval: %v must be longer than 0s to ask %s again", p.Policy.Interval, h.Name)
		case HookPreRollout, HookRollout, HookRollback:
			f.check(h.Expires == 0, "%s.expires: only the confirm types expire", path)
			f.check(p.Policy.Interval > 0, "spec.judge.interval: %v must be longer than 0s to call %s again", p.Policy.Interval, h.Name)
		case HookPostRollout, HookEvent:
			f.check(h.Expires == 0, "%s.expires: only the confirm types expire", path)
		default:
			f.check(false, "%s.type: %q is unknown; use confirm-rollout, pre-rollout, rollout, confirm-traffic-increase, confirm-promotion, post-rollout, rollback or event", path, h.Type)
		}
	}
}

func (p *Plan) validateJudge(f *findings) {
	j := &p.Policy
	f.check(j.FalseAlarm > 0 && j.FalseAlarm <= 0.5, "spec.judge.falseAlarm: %v is not above 0 and at most 0.5", j.FalseAlarm)
	f.check(j.Tolerance >= 0 && j.Tolerance <= 1, "spec.judge.tolerance: %v %% is not from 0 to 100", 100*j.Tolerance)
	f.check(j.Confidence > 0 && j.Confidence < 1, "spec.judge.confidence: %v %% is not between 0 and 100", 100*j.Confidence)
	f.check(j.Warmup >= 0, "spec.judge.latency.warmUp: %v is negative; 0s compares durations from the start", j.Warmup)
	f.check(j.FailureLimit >= 1, "spec.judge.failureLimit: %d must be at least 1", j.FailureLimit)
	f.check(j.Budget >= 0, "spec.judge.budget.failedRequests: %d is negative; leave it out for no limit", j.Budget)
	f.check(p.Load.Rate >= 0, "spec.judge.load.rate: %v is negative", p.Load.Rate)
	f.check(p.Load.UpTo >= 0, "spec.judge.load.upTo: %d is negative; leave it out for no limit", p.Load.UpTo)
	for i := range j.Checks {
		p.validateCheck(f, &j.Checks[i], fmt.Sprintf("spec.judge.checks[%d]", i))
	}
}

// validateWorker checks that something tells a bad version, and that it needs no
// requests.
func (p *Plan) validateWorker(f *findings) {
	f.check(p.Strategy == Replicas, "spec.service: is missing: say at which port users call it, such as {port: 8080}; where nobody does, say strategy: %s", Replicas)
	f.check(p.Load.Rate <= 0, "spec.judge.load: nobody answers it without spec.service; leave it out")
	f.check(p.Policy.Budget <= 0, "spec.judge.budget: there are no requests to fail without spec.service; leave it out")
	for i := range p.Policy.Checks {
		c := &p.Policy.Checks[i]
		f.check(c.External, "spec.judge.checks[%d].metric: there are no requests to measure %s by without spec.service; use cpu, memory or restarts, or say with template or scrape how it is measured", i, c.Metric)
	}
	f.check(p.Skip || p.judgedByOthers(), "spec.judge.checks: nothing tells a bad version: without spec.service there are no requests to judge it by, so add a check, such as {metric: restarts, max: \"0\"}, or a webhook of type %s", HookRollout)
}

func (p *Plan) validateCheck(f *findings, c *analysis.Check, path string) {
	interval := p.Policy.Interval
	if c.Interval != 0 {
		interval = c.Interval
		f.check(interval > 0, "%s.interval: %v must be longer than 0s", path, interval)
	} else {
		f.check(interval > 0, "spec.judge.interval: %v must be longer than 0s", interval)
	}
	f.check(p.StepDeadline <= 0 || interval < p.StepDeadline, "%s: looked at every %v, and spec.stepDeadline ends a step after %v", path, interval, p.StepDeadline)
	f.check(c.Min != nil || c.Max != nil || c.ToStable.Min != nil || c.ToStable.Max != nil, "%s: min, max or toStable is needed", path)
	ordered(f, path, c.Min, c.Max)
	ordered(f, path+".toStable", c.ToStable.Min, c.ToStable.Max)
	if c.External {
		return
	}
	f.check(c.Severity == analysis.Warn || c.Min != nil || c.Max != nil || c.ToStable == analysis.Margin{} || p.Load.Rate > 0 || !p.toAll(),
		"%s.toStable: at %v there is no stable version to compare with, so the last step would never end: set min or max, too", path, All)
	switch c.Metric { // limits that no value can keep, or that none can break
	case analysis.SuccessRate, analysis.ErrorRate:
		f.check(c.Min == nil || *c.Min <= 100, "%s.min: no %s is above 100 %%", path, c.Metric)
		f.check(c.Max == nil || *c.Max >= 0, "%s.max: no %s is below 0 %%", path, c.Metric)
	case analysis.DurationP50, analysis.DurationP90, analysis.DurationP95, analysis.DurationP99:
		f.check(c.Max == nil || *c.Max > 0, "%s.max: no duration is as short as that", path)
	default:
		f.check(false, "%s.metric: %q is unknown; use %s, %s, %s, %s, %s, %s, cpu, memory or restarts, or say with template or scrape how it is measured", path, c.Metric,
			analysis.SuccessRate, analysis.ErrorRate, analysis.DurationP50, analysis.DurationP90, analysis.DurationP95, analysis.DurationP99)
	}
}

func ordered(f *findings, path string, least, most *float64) {
	f.check(least == nil || most == nil || *least <= *most, "%s: min is larger than max", path)
}
