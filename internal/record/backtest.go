package record

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

// Comparison is what a plan decided on traffic, beside what another would have.
type Comparison struct {
	Recorded, Estimated Course
	// Notes say what the estimate leaves out.
	Notes []string
}

// Course is how a plan went.
type Course struct {
	// Outcome that was decided; "" = none before the end of the traffic.
	Outcome rollout.Outcome
	// Decided is how long after the run's beginning that was, or how long the
	// traffic lasts.
	Decided     time.Duration
	Step, Steps int
	Reason      string
	// Counts of users' requests until then, and of the failed ones that they saw.
	Counts analysis.Counts
	// Cost is about how many failed requests the canary caused.
	Cost float64
}

// Backtest plays the traffic of a recorded run to another plan and says what it
// would have decided, when, and at what cost.
//
// It is an estimate. What the two versions did is known at the shares that the
// recorded run had; under other shares each side is taken to have had the same
// requests in another number: the recorded counts of a side are multiplied by
// the ratio of its shares, and rounded so that no fraction is lost. A side that
// gets more than it had thus repeats itself, and seems surer than new requests
// would have made it. Traffic ends where the recorded run decided; to a plan that
// takes longer it is played again. Pods, proxies and hooks are taken to do at
// once what is wanted, gates to be open, and people to keep out of it.
func Backtest(r *Record, plan rollout.Plan) (*Comparison, error) {
	if plan.Strategy != rollout.Canary && plan.Strategy != "" {
		return nil, fmt.Errorf("spec.strategy: %s gives no share of the requests to the canary, so recorded traffic says nothing about it; use %s", plan.Strategy, rollout.Canary)
	}
	b := backtest{out: &Comparison{}, plan: plan}
	b.plan.Gates, b.plan.Hooks, b.plan.Mirror, b.plan.Iterations = nil, nil, 0, 0
	if err := b.plan.Validate(); err != nil {
		return nil, err
	}
	for b.rounds = 0; b.rounds == 0 || b.usable && !b.settled() && b.rounds < mostRounds && b.looks < mostLooks; b.rounds++ {
		if err := b.round(r); err != nil {
			return nil, err
		}
	}
	b.sum(r)
	return b.out, nil
}

// Traffic is played to a plan that does not decide no more often than mostRounds,
// and not again after so many looks, which take some seconds.
const (
	mostRounds = 100
	mostLooks  = 100_000
)

// round plays all of the traffic.
func (b *backtest) round(r *Record) error {
	for look, err := range looks(r, runs()) {
		if err != nil {
			return err
		}
		if s := look.Plan.Strategy; s != rollout.Canary && s != "" {
			return fmt.Errorf("the recorded run had the strategy %s, in which the canary gets no share of the requests: its traffic says nothing about other shares", s)
		}
		if look.Apart {
			b.note("the record was cut for its length: its traffic ends there")
			break
		}
		if err := b.look(look); err != nil {
			return err
		}
	}
	if !b.begun {
		return errors.New("the record does not begin with its run, so another plan has nothing to begin with")
	}
	return nil
}

// backtest is one under way: two releases side by side.
type backtest struct {
	out   *Comparison
	plan  rollout.Plan
	began time.Time
	begun bool

	rounds int       // that the traffic was played
	looks  int       // at it, in all
	usable bool      // it has requests that compare
	now    time.Time // by the clock of the estimate

	recorded, state rollout.State
	ready           bool // the canary's pods were, at some time
	firstCanary     time.Time
	scale           scaler
}

// note says something once.
func (b *backtest) note(format string, args ...any) {
	if note := fmt.Sprintf(format, args...); !slices.Contains(b.out.Notes, note) {
		b.out.Notes = append(b.out.Notes, note)
	}
}

// settled reports whether the estimated release has decided.
func (b *backtest) settled() bool { return decided(&b.state) != "" }

// look gives both a look at the recorded traffic.
func (b *backtest) look(look *releaseLook) error {
	if look.State != nil {
		b.resume(look)
	}
	b.looks++
	was := b.recorded
	next, _, err := decide(rollout.Step, look, was)
	if err != nil {
		return err
	}
	b.recorded = next
	seen := &look.Input
	if b.rounds == 0 && decided(&was) == "" {
		b.out.Recorded = b.course(look.Plan, &next, seen.Now)
	}
	compares := seen.Ack.OK && seen.Ack.Traffic == was.Traffic && was.Traffic.Share > 0
	b.usable = b.usable || compares
	if !b.begun || b.settled() || decided(&was) != "" || b.rounds > 0 && !compares {
		return nil
	}
	b.now = b.now.Add(min(seen.Now.Sub(was.At), longestGap))
	if b.rounds == 0 {
		b.now = seen.Now
	}
	in := b.observe(look, was.Traffic.Share, compares)
	b.state, _, err = decide(rollout.Step, &releaseLook{Plan: &b.plan, Input: in, told: told{At: b.now}}, b.state)
	b.out.Estimated = b.course(&b.plan, &b.state, b.now)
	return err
}

// longestGap between two looks that are played again: in longer ones Serin was
// not there.
const longestGap = 10 * time.Second

// resume takes up the recorded state; where it is the first, the estimated
// release begins with it, too.
func (b *backtest) resume(look *releaseLook) {
	b.recorded = *look.State
	switch {
	case b.begun && look.Unwritten > 0:
		b.note("some looks of the run could not be written: what came in between was not recorded")
	case b.begun && look.State.Phase != rollout.Idle:
		b.note("Serin was started again during the run: what came in between was not recorded")
	case !b.begun:
		b.begun = b.recorded.Phase == rollout.Idle
		b.state, b.began = b.recorded, look.Input.Now
		// What the release was waiting for before is not part of it.
		b.state.Calls, b.state.Gates, b.state.Hooks = nil, nil, nil
	}
}

// decided is the outcome of a run as soon as it is clear; "" before, and between
// runs.
func decided(s *rollout.State) rollout.Outcome {
	switch {
	case !on(s):
		return ""
	case s.Run.Outcome != "":
		return s.Run.Outcome
	case s.Phase == rollout.Promoting || s.Phase == rollout.Finalizing:
		return rollout.Promoted
	}
	return ""
}

func (b *backtest) course(plan *rollout.Plan, s *rollout.State, now time.Time) Course {
	c := Course{
		Outcome: decided(s), Decided: now.Sub(b.began), Step: s.Step, Steps: plan.NumSteps(), Reason: s.Reason,
		Counts: s.Evidence.Users(), Cost: s.Cost(),
	}
	if c.Outcome != "" && s.Run.Reason != "" {
		c.Reason = s.Run.Reason
	}
	return c
}

// observe is what the estimated release would have seen, of traffic at another
// share; where that does not compare the two versions, nothing.
func (b *backtest) observe(look *releaseLook, had rollout.Share, compares bool) rollout.Input {
	seen := &look.Input
	b.ready = b.ready || seen.Target.Ready
	in := rollout.Input{
		Now:     b.now,
		Target:  rollout.Workload{Revision: b.recorded.Run.To, Ready: b.ready, Message: seen.Target.Message},
		Stable:  rollout.Workload{Revision: b.state.Stable, Ready: true},
		Arrived: seen.Arrived,
	}
	if b.state.Split && b.now.After(b.state.Asked) {
		in.Ack = rollout.Ack{OK: true, Traffic: b.state.Traffic, Since: b.state.Asked}
	}
	if has := b.state.Traffic.Share; compares && in.Ack.OK && has > 0 {
		in.Samples = b.scale.samples(&seen.Samples, had.Fraction(), has.Fraction())
		in.Samples.DirectRequests, in.Samples.DirectFailures = seen.Samples.DirectRequests, seen.Samples.DirectFailures
		in.Samples.DirectSpared = seen.Samples.DirectSpared
		in.Samples.DirectLatency = seen.Samples.DirectLatency
		in.Samples.Measured = b.measured(look)
		if b.state.Want().Load {
			in.Samples.Own = seen.Samples.Own // which no share changes
		}
	}
	if in.Samples.CanaryRequests > 0 && b.firstCanary.IsZero() {
		b.firstCanary = b.now
	}
	in.FirstCanary = b.firstCanary
	return in
}

// measured are the values of external metrics that both plans ask for.
func (b *backtest) measured(look *releaseLook) []analysis.Measured {
	var out []analysis.Measured
	for _, m := range look.Input.Samples.Measured {
		if m.Check < 0 || m.Check >= len(look.Plan.Policy.Checks) {
			continue
		}
		of := look.Plan.Policy.Checks[m.Check].Metric
		for i, c := range b.plan.Policy.Checks {
			if c.External && c.Metric == of {
				m.Check = i
				out = append(out, m)
			}
		}
	}
	return out
}

func (b *backtest) sum(r *Record) {
	recorded, estimated := &b.out.Recorded, &b.out.Estimated
	switch {
	case !b.usable:
		b.note("the recorded run ended before the canary had any request, so there is nothing to judge by")
	case estimated.Outcome == "":
		b.note("this plan does not decide, though the recorded traffic was played %d times", b.rounds)
	case b.rounds > 1:
		b.note("the recorded run decided before this plan would have: from there on its traffic was played again, %d times in all", b.rounds)
	}
	if estimated.Outcome == rollout.Promoted && recorded.Outcome != rollout.Promoted && recorded.Outcome != "" {
		b.note("it would have given all users a version that was taken back; what they would have met then is not counted")
	}
	if b.scale.most > 1 {
		b.note("one side would have had up to %.3g times the requests that it had: they are counted as often, which makes the judge surer than new ones would", b.scale.most)
	}
	if r.Lost > 0 {
		b.note("%d looks of the record are lost", r.Lost)
	}
}
