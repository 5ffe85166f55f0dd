package rollout

import (
	"fmt"
	"slices"
	"time"

	"serin.dev/serin/internal/analysis"
)

// LongestGap between two looks counts in full towards a deadline, what is more
// of one does not: while nobody looked (the engine was down, the machine slept)
// the pods and proxies are not to blame.
const LongestGap = 10 * time.Second

const (
	// drain is how long the canary's pods stay after the last proxy
	// acknowledged that they get no more requests: those under way then have
	// this long to be answered, before the pods' own graceful end begins.
	drain = 2 * time.Second

	// quiet is how long no request at all has to arrive until a promotion is
	// ended without having seen one served: half a minute, so that a client
	// that calls every few seconds is waited for.
	quiet = 30 * time.Second
)

// Step moves a release forward by one observation.
//
// It is pure: the same plan, state and input give the same result. The plan
// must be valid, and inputs come in the order in which they were observed. One
// that seems older than the last says that the clock was set back, or that
// another machine's is behind; it counts like any other.
func Step(plan Plan, s State, in Input) (State, []Event) {
	in.Now = stamp(in.Now)
	if in.Now.Before(s.At) {
		s = setBack(s.own(), in.Now)
	}
	r := &step{plan: plan, in: in, s: s.own(), was: s.Wait}
	r.s.Filling = false // it is decided at each look
	r.policy = r.plan.policy(&r.s)
	if r.s.Phase == "" {
		r.enter(Initializing)
	}
	r.recountPods()
	r.regain()
	r.acknowledge()
	r.answers()
	r.watch()
	r.retarget()
	r.heed()
	r.obey()
	r.approvals()
	if r.still() != "" {
		r.unask()
	}
	r.s.Passed = false
	// One observation may end several phases, such as a start with pods that
	// are ready already; no more than there are on the longest way.
	for range 6 {
		before := r.s.Phase
		r.move()
		if r.s.Phase == before {
			break
		}
	}
	r.besides()
	r.deliver()
	r.s.At = in.Now
	return r.s.tidy(), r.events
}

// own returns the state with slices of its own.
func (s State) own() State {
	s.Gates, s.Approvals = slices.Clone(s.Gates), slices.Clone(s.Approvals)
	s.Calls, s.Hooks = slices.Clone(s.Calls), slices.Clone(s.Hooks)
	s.Run.Commands = slices.Clone(s.Run.Commands)
	return s
}

// tidy makes a state equal to itself after a trip through JSON.
func (s State) tidy() State {
	s.Gates, s.Approvals = some(s.Gates), some(s.Approvals)
	s.Calls, s.Hooks = some(s.Calls), some(s.Hooks)
	s.Run.Commands = some(s.Run.Commands)
	return s
}

func some[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

// stamp makes a time equal to itself after a trip through JSON.
func stamp(t time.Time) time.Time { return t.UTC().Round(0) }

// setBack takes the state's times back to now when the clock was set back: no
// wait shall be longer by that. It changes slices in place.
func setBack(s State, now time.Time) State {
	back := s.At.Sub(now)
	for _, t := range []*time.Time{&s.Since, &s.Asked, &s.Acked, &s.Quiet, &s.Looked} {
		if t.After(now) {
			*t = now.Add(-1) // what was asked for was asked before this look
		}
	}
	s.Judge = s.Judge.SetBack(back)
	ends := []*time.Time{&s.WarmUntil}
	for i := range s.Gates {
		ends = append(ends, &s.Gates[i].Since, &s.Gates[i].Expires)
	}
	for i := range s.Hooks {
		ends = append(ends, &s.Hooks[i].Since, &s.Hooks[i].At)
	}
	for _, t := range ends {
		if !t.IsZero() {
			*t = t.Add(-back)
		}
	}
	return s
}

// step is one call of Step under way.
type step struct {
	plan    Plan
	policy  analysis.Policy
	in      Input
	s       State
	was     Wait     // what the last look waited for, until that is accounted for
	acked   bool     // the proxies have the asked traffic now
	ended   bool     // a run, in this look
	failed  []string // hooks whose failure is a failed check
	retried Obeyed   // the command that lets the next run begin
	events  []Event
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
		Step: s.Step, Steps: r.plan.NumSteps(), Traffic: s.Traffic, Evidence: s.Told(),
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
	if s.Traffic.Share > 0 || s.Traffic.Mirror > 0 {
		s.Judge = s.Judge.NextStep(r.policy, s.Traffic.fraction(), r.in.Now)
	}
}

// fraction is the canary's share of the requests that the judge compares.
func (t Traffic) fraction() float64 {
	if copies := t.Mirror.Fraction(); copies > 0 {
		return copies / (1 + copies)
	}
	return t.Share.Fraction()
}

// watch judges the canary in every phase in which it has traffic, whatever else
// is being waited for.
func (r *step) watch() {
	s, in := &r.s, &r.in
	if s.Canary != "" && s.Run.FirstCanary.IsZero() && !in.FirstCanary.IsZero() {
		s.Run.FirstCanary = later(stamp(in.FirstCanary), s.Run.Started)
	}
	if !s.Run.Effective.IsZero() && (s.Phase == RollingBack || s.Phase == Finalizing) {
		s.Run.Late += in.Late
	}
	judged := s.judged()
	if in.Target.Revision == "" || r.emptied() {
		return // whoever takes the pods away makes requests fail, and hooks: retarget ends the run
	}
	if s.Phase != Starting && !judged || s.Phase == Starting && len(r.failed) == 0 {
		return
	}
	if judged && r.acked {
		seen := in.Samples
		down := !in.Stable.Ready && in.Stable.Pods == 0
		seen.StableDown, s.StableDown = down || s.StableDown, down
		s.Judge = s.Judge.Observe(r.policy, seen, in.Now)
	}
	for _, what := range r.failed {
		s.Judge = s.Judge.HookFailed(r.policy, what)
	}
	before := s.Evidence
	next := 1.0
	if r.s.undecided() {
		next = r.plan.next(s.Step, s.Pods)
	}
	s.Evidence = s.Judge.Decide(r.policy, next)
	s.Run.Counts = s.Evidence.Counts
	if s.Traffic.Mirror > 0 {
		s.Run.Mirrored = s.Run.Mirrored.Add(in.Mirrored)
		s.Run.CopiesCost = s.Evidence.Cost
	}
	r.concerns(before.Concerns)
	if s.Evidence.FailedChecks > before.FailedChecks && s.Evidence.Verdict != analysis.Fail {
		why := s.Evidence.Reason
		if !judged { // there is nothing else to be said of it yet
			why = fmt.Sprintf("%s (failed check %d of %d)", r.failed[len(r.failed)-1], s.Evidence.FailedChecks, r.policy.FailureLimit)
		}
		r.tell(true, "CheckFailed", "%s", why)
	}
	if s.Evidence.Verdict == analysis.Fail {
		r.fail()
	}
}

// concerns tells what began to be wrong with a check that decides nothing now,
// and that a metric can be measured again; before is what was told.
func (r *step) concerns(before []analysis.Concern) {
	now := r.s.Evidence.Concerns
	for _, c := range now {
		switch {
		case slices.ContainsFunc(before, c.Same):
		case c.Unmeasured:
			r.tell(true, "CheckNotMeasured", "%s", c.Text)
		default:
			r.tell(true, "CheckWarned", "%s (of severity warn: it decides nothing)", c.Text)
		}
	}
	for _, c := range before {
		if c.Unmeasured && r.measured(c) && !slices.ContainsFunc(now, c.Same) {
			r.tell(false, "CheckMeasured", "%s is measured again", c.Metric)
		}
	}
}

// measured reports whether a check that a concern is about gave a value.
func (r *step) measured(c analysis.Concern) bool {
	checks := r.s.Evidence.Checks
	return c.Check < len(checks) && checks[c.Check].Metric == c.Metric && checks[c.Check].Verdict != analysis.NoData
}

// judged reports whether the canary answers requests by which it is judged.
func (s *State) judged() bool {
	switch s.Phase {
	case Testing:
		return true
	case Progressing, Promoting, RollingBack:
		return s.Traffic.Share > 0
	case Initializing, Idle, Starting, Finalizing:
	}
	return false
}

// fail takes back a canary that the judge failed. One that is on its way back
// by steps goes at once if that is new, or certain.
func (r *step) fail() {
	s := &r.s
	if s.Phase == RollingBack {
		s.Gradual = s.Gradual && s.Run.Failed && !s.Evidence.AtOnce
		return
	}
	s.Run.Failed = true
	r.rollBack(RolledBack, s.Evidence.Reason)
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
	switch {
	case target == s.Canary && r.emptied():
		r.rollBack(Aborted, "the target was scaled to 0")
	case target == s.Canary:
	case target == s.Stable:
		r.rollBack(Aborted, fmt.Sprintf("the target was set back to the stable revision %s", s.Stable))
	case target == "":
		r.rollBack(Aborted, orElse(r.in.Target.Message, "the target was deleted"))
	default:
		r.rollBack(Superseded, fmt.Sprintf("the target was changed to revision %s", target))
	}
}

// emptied reports whether somebody took the pods of a canary that has work to do.
// Where pods are the share it has none before it gets its first.
func (r *step) emptied() bool {
	s := &r.s
	return r.in.Target.ScaledAway && s.judged() && !(s.ByPods && s.Acked.IsZero())
}

// enter begins a phase. Its deadline begins with it.
func (r *step) enter(p Phase) {
	r.s.Phase, r.s.Since = p, r.in.Now
	r.progress()
}

// progress lets the waits of this phase and step begin anew.
func (r *step) progress() {
	s := &r.s
	s.Stalled, s.Collected, s.Wait, s.Deadline = 0, 0, "", time.Time{}
	r.was = ""
}

// askFor changes the traffic that the canary gets.
func (r *step) askFor(t Traffic) {
	s := &r.s
	if s.Split && s.Traffic == t {
		return
	}
	s.Split, s.Traffic, s.Asked, s.Acked = true, t, r.in.Now, time.Time{}
	r.acked = false
}

// still says why nothing may advance; "" = it may.
func (r *step) still() string {
	switch {
	case r.in.Frozen != "":
		return "frozen: " + r.in.Frozen
	case r.in.Blocked != "":
		return "blocked: " + r.in.Blocked
	case r.in.Suspended:
		return "suspended"
	}
	return r.in.Paused
}

// pause says what is waited for, and until when at most; zero = that is not
// known.
func (r *step) pause(kind Wait, until time.Time, format string, args ...any) {
	s, c := &r.s, r.in.Command
	s.Reason = fmt.Sprintf(format, args...)
	if (c.Verb == Promote || c.Verb == Skip) && c.ID != s.Command && r.still() != "" {
		s.Reason += fmt.Sprintf("; %s waits for the end of that", c.Verb)
	}
	s.Wait, s.Deadline = kind, until
}

// wait says what is waited for when nobody knows until when.
func (r *step) wait(kind Wait, format string, args ...any) {
	r.pause(kind, time.Time{}, format, args...)
}

// spent is how long since the last look was spent with a wait of this kind.
func (r *step) spent(kind Wait) time.Duration {
	if r.was != kind {
		return 0
	}
	r.was = ""
	return min(max(0, r.in.Now.Sub(r.s.At)), LongestGap)
}

// stall says which pods, proxies or hooks are waited for, and reports whether
// they took longer than the plan allows in this phase and step.
func (r *step) stall(format string, args ...any) bool {
	s := &r.s
	before := s.Stalled
	s.Stalled += r.spent(WaitOthers)
	r.pause(WaitOthers, r.in.Now.Add(r.plan.Deadline-s.Stalled), format, args...)
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
