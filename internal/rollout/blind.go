package rollout

import (
	"fmt"

	"serin.dev/serin/internal/analysis"
)

// Blind says where in the plan nothing would tell a bad version, with the path
// of the field and what to change; nil = nowhere. Validate refuses such a plan
// unless Policy.Tolerance is 0: then somebody asked for no evidence. Of a Worker's
// plan it says nothing.
func (p *Plan) Blind() error {
	const add = "add a check, such as {metric: success-rate, min: \"99\"}"
	if p.Skip || p.Worker {
		return nil
	}
	switch p.Strategy {
	case ABTest, BlueGreen:
		if p.Load.Rate > 0 || p.judgedByOthers() {
			return nil
		}
		return fmt.Errorf("spec.judge.checks: nothing tells a bad version, for the strategy %s compares no requests of users with stable's: "+
			"%s, a webhook of type %s, a manual gate, or spec.judge.load", p.Strategy, add, HookRollout)
	case Canary, "":
		if !p.toAll() || p.limited() {
			return nil
		}
		last := len(p.Steps) - 1
		instead := "leave it out, because after the last step the version is promoted anyway"
		if last == 0 {
			instead = "begin with less, such as 10, because after the last step the version is promoted anyway"
		}
		return fmt.Errorf("spec.steps[%d]: at %v there is no stable version to compare with, so nothing tells a bad one: %s; or %s", last, All, instead, add)
	case Mirror, Replicas: // both sides answer
	}
	return nil
}

// toAll reports whether all users get the canary at the last step, so that no
// stable version is left to compare with.
func (p *Plan) toAll() bool {
	steps := p.steps()
	return p.Strategy != ABTest && len(steps) > 0 && steps[len(steps)-1] == All
}

// limited reports whether a check decides by a bound of its own.
func (p *Plan) limited() bool {
	for i := range p.Policy.Checks {
		if c := &p.Policy.Checks[i]; c.Severity != analysis.Warn && (c.Min != nil || c.Max != nil) {
			return true
		}
	}
	return false
}

// judgedByOthers reports whether a check, a hook or a person decides, where no
// requests are compared.
func (p *Plan) judgedByOthers() bool {
	for i := range p.Policy.Checks {
		if p.Policy.Checks[i].Severity != analysis.Warn {
			return true
		}
	}
	for _, h := range p.Hooks {
		switch h.Type {
		case HookPreRollout, HookRollout, HookConfirmTrafficIncrease, HookConfirmPromotion:
			return true
		case HookConfirmRollout, HookPostRollout, HookRollback, HookEvent: // silence is consent, or they come too soon or too late
		}
	}
	for _, g := range p.Gates {
		if g.Manual && g.At != AtStart {
			return true
		}
	}
	return false
}
