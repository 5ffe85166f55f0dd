package rollout

import (
	"fmt"
	"time"

	"serin.dev/serin/internal/analysis"
)

const (
	// drain is how long the canary's pods stay after the last proxy
	// acknowledged that they get no more requests: those under way then have
	// this long to be answered, before the pods' own graceful end begins.
	drain = 2 * time.Second

	// quiet is how long no request at all has to arrive until a promotion is
	// ended without having seen one served: half a minute, so that a client
	// that calls every few seconds is waited for.
	quiet = 30 * time.Second

	// longestGap between two looks that counts in full towards a deadline.
	// While nobody looked (the engine was down, the machine slept) the pods
	// and proxies are not to blame.
	longestGap = 10 * time.Second

	// oldest is how much older than the last look an input may be and be
	// taken for stale. Beyond, the clock was set back.
	oldest = time.Minute
)

// Step moves a release forward by one observation.
//
// It is pure: the same plan, state and input give the same result. The plan
// must be valid. An input that was observed before the state's last one is
// stale and changes nothing.
func Step(plan Plan, s State, in Input) (State, []Event) {
	in.Now = stamp(in.Now)
	if in.Now.Before(s.At) {
		if s.At.Sub(in.Now) < oldest {
			return s, nil
		}
		s = setBack(s, in.Now)
	}
	r := &step{plan: &plan, policy: plan.policy(), in: &in, s: s}
	if r.s.Phase == "" {
		r.enter(Initializing)
	}
	r.acknowledge()
	r.watch()
	r.retarget()
	r.obey()
	// One observation may end several phases, such as a start with pods that
	// are ready already; no more than there are on the longest way.
	for range 4 {
		before := r.s.Phase
		r.move()
		if r.s.Phase == before {
			break
		}
	}
	r.s.At = in.Now
	return r.s, r.events
}

// stamp makes a time equal to itself after a trip through JSON.
func stamp(t time.Time) time.Time { return t.UTC().Round(0) }

// setBack takes the state's times back to now when the clock was set back: no
// wait shall be longer by that.
func setBack(s State, now time.Time) State {
	for _, t := range []*time.Time{&s.Since, &s.Asked, &s.Acked, &s.Quiet} {
		if t.After(now) {
			*t = now.Add(-1) // what was asked for was asked before this look
		}
	}
	return s
}

// step is one call of Step under way.
type step struct {
	plan   *Plan
	policy analysis.Policy
	in     *Input
	s      State
	acked  bool // the proxies have the asked share now
	ended  bool // a run, in this look
	events []Event
}

// miss tells, once, that there is no target; before is what was waited for
// until now.
func (r *step) miss(before string) {
	if r.s.Reason != before {
		r.tell(true, "TargetMissing", "%s", r.s.Reason)
	}
}

func (r *step) tell(warning bool, reason, format string, args ...any) {
	s := &r.s
	r.events = append(r.events, Event{
		Warning: warning, Reason: reason, Message: fmt.Sprintf(format, args...), At: r.in.Now,
		Run: s.Run.Number, Phase: s.Phase, Stable: s.Stable, Canary: s.Canary,
		Step: s.Step, Steps: r.plan.NumSteps(), Traffic: s.Traffic, Evidence: s.Evidence,
	})
}

// acknowledge notes whether the proxies have what was asked. An observation
// that is not younger than the asking cannot tell.
func (r *step) acknowledge() {
	s, ack := &r.s, r.in.Ack
	r.acked = s.Split && ack.OK && ack.Traffic == s.Traffic && r.in.Now.After(s.Asked)
	if !r.acked || !s.Acked.IsZero() {
		return
	}
	s.Acked = later(stamp(ack.Since), s.Asked)
	if s.Acked.After(r.in.Now) {
		s.Acked = r.in.Now // noted before the clock was set back
	}
	s.Quiet = r.in.Now
	if s.Traffic.Share > 0 {
		s.Judge = s.Judge.NextStep(r.policy, s.Traffic.Share.Fraction(), r.in.Now)
	}
}

// watch judges the canary in every phase in which it has traffic, whatever else
// is being waited for.
func (r *step) watch() {
	s, in := &r.s, r.in
	if s.Canary != "" && s.Run.FirstCanary.IsZero() && !in.FirstCanary.IsZero() {
		s.Run.FirstCanary = later(stamp(in.FirstCanary), s.Run.Started)
	}
	switch s.Phase {
	case Progressing, Promoting:
	case RollingBack, Finalizing:
		if !s.Run.Effective.IsZero() {
			s.Run.Late += in.Late
		}
		return
	case Initializing, Idle, Starting, Testing:
		return
	}
	if s.Traffic.Share == 0 {
		return
	}
	if r.acked {
		s.Judge = s.Judge.Observe(r.policy, in.Samples, in.Now)
	}
	for _, what := range in.FailedHooks {
		s.Judge = s.Judge.HookFailed(r.policy, what)
	}
	failedBefore := s.Evidence.FailedChecks
	next := All
	if s.Phase == Progressing {
		next = r.plan.next(s.Step)
	}
	s.Evidence = s.Judge.Decide(r.policy, next.Fraction())
	s.Run.Counts = s.Evidence.Counts
	if s.Evidence.FailedChecks > failedBefore && s.Evidence.Verdict != analysis.Fail {
		r.tell(true, "CheckFailed", "%s", s.Evidence.Reason)
	}
	if s.Evidence.Verdict == analysis.Fail {
		s.Run.Failed = true
		r.rollBack(RolledBack, s.Evidence.Reason)
	}
}

// retarget ends the run when the target no longer has the revision under
// judgement. A promotion that has taken the traffic over is ended regularly;
// then the newer revision gets its own run.
func (r *step) retarget() {
	s, target := &r.s, r.in.Target.Revision
	switch s.Phase {
	case Starting, Testing, Progressing, Promoting:
	case Initializing, Idle, Finalizing, RollingBack:
		return
	}
	switch target {
	case s.Canary:
	case s.Stable:
		r.rollBack(Aborted, fmt.Sprintf("the target was set back to the stable revision %s", s.Stable))
	case "":
		r.rollBack(Aborted, "the target does not exist any more")
	default:
		r.rollBack(Superseded, fmt.Sprintf("the target was changed to revision %s", target))
	}
}

// obey executes a command once.
func (r *step) obey() {
	s, c := &r.s, r.in.Command
	if c.ID == "" || c.ID == s.Command {
		return
	}
	switch c.Verb {
	case Promote:
		if r.in.Suspended {
			return // it stays to be obeyed; wait says that it waits
		}
		s.Command = c.ID
		r.promoteNow(c)
	case Abort:
		s.Command = c.ID
		r.abort(c)
	default:
		s.Command = c.ID
		r.tell(true, "CommandUnknown", "command %q is not known: use %s or %s", c.Verb, Promote, Abort)
	}
}

func (r *step) promoteNow(c Command) {
	switch r.s.Phase {
	case Starting, Testing, Progressing:
		r.promote(fmt.Sprintf("promoted by %s, without waiting for evidence", c))
	case Initializing, Idle, Promoting, Finalizing, RollingBack:
		r.tell(false, "NothingToPromote", "%s: no version waits to be promoted", c)
	}
}

func (r *step) abort(c Command) {
	s := &r.s
	switch s.Phase {
	case Starting, Testing, Progressing, Promoting, Finalizing:
		r.rollBack(Aborted, fmt.Sprintf("aborted by %s", c))
		return
	case Initializing:
	case Idle, RollingBack:
		// A version that waits for its run is not started any more.
		if t := r.in.Target.Revision; t != "" && t != s.Stable && t != s.Rejected {
			s.Rejected = t
			r.tell(false, "Aborted", "revision %s is not released: aborted by %s", t, c)
			return
		}
	}
	r.tell(false, "NothingToAbort", "%s: no run is on", c)
}

// enter begins a phase. Its deadline begins with it.
func (r *step) enter(p Phase) {
	r.s.Phase, r.s.Since = p, r.in.Now
	r.progress()
}

func (r *step) progress() {
	r.s.Stalled, r.s.Stalling, r.s.Deadline = 0, false, time.Time{}
}

// ask changes the canary's share.
func (r *step) ask(share Share) {
	s := &r.s
	if s.Split && s.Traffic.Share == share {
		return
	}
	s.Split, s.Traffic, s.Asked, s.Acked = true, Traffic{Share: share}, r.in.Now, time.Time{}
	r.acked = false
}

// wait says what is waited for when no deadline helps: evidence, a hold, a
// person.
func (r *step) wait(format string, args ...any) {
	s := &r.s
	s.Reason = fmt.Sprintf(format, args...)
	if r.in.Suspended && r.in.Command.Verb == Promote && r.in.Command.ID != s.Command {
		s.Reason += "; promote waits for the end of the suspension"
	}
	s.Stalling, s.Deadline = false, time.Time{}
}

// stall says which pods or proxies are waited for, and reports whether they
// took longer than the plan allows in this phase and step.
func (r *step) stall(format string, args ...any) bool {
	s := &r.s
	s.Reason = fmt.Sprintf(format, args...)
	before := s.Stalled
	if s.Stalling {
		s.Stalled += min(max(0, r.in.Now.Sub(s.At)), longestGap)
	}
	s.Stalling = true
	s.Deadline = r.in.Now.Add(r.plan.Deadline - s.Stalled)
	over := s.Stalled >= r.plan.Deadline
	if over && before < r.plan.Deadline {
		switch s.Phase {
		case Initializing, Finalizing, RollingBack: // these go on, but somebody should look
			r.tell(true, "DeadlineExceeded", "%s, for longer than %v", s.Reason, r.plan.Deadline)
		case Idle, Starting, Testing, Progressing, Promoting:
		}
	}
	return over
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
