package rollout

import (
	"fmt"
	"slices"
)

// mostObeyed bounds the records of a run's commands; the oldest are given up.
const mostObeyed = 16

// obey executes a command once.
func (r *step) obey() {
	s, c := &r.s, r.in.Command
	if c.ID == "" || c.ID == s.Command {
		return
	}
	if (c.Verb == Promote || c.Verb == Skip) && r.still() != "" {
		return // it stays to be obeyed; say says that it waits
	}
	s.Command = c.ID
	switch c.Verb {
	case Promote:
		r.promoteNow(c)
	case Abort:
		r.abort(c)
	case Skip:
		r.skip(c)
	case Retry:
		r.retry(c)
	case Rollback:
		r.goBack(c)
	case Approve, Reject:
		r.answerGate(c)
	default:
		r.tell(true, "CommandUnknown", "command %q is not known: use %s, %s, %s, %s, %s, %s or %s",
			c.Verb, Promote, Abort, Skip, Retry, Rollback, Approve, Reject)
	}
}

// note records what a person did in the present run.
func (r *step) note(o Obeyed) {
	s := &r.s
	o.At, o.Phase, o.Step = r.in.Now, s.Phase, s.Step
	s.Run.Commands = append(s.Run.Commands, o)
	if n := len(s.Run.Commands); n > mostObeyed {
		s.Run.Commands = slices.Delete(s.Run.Commands, 0, n-mostObeyed)
	}
}

func (c Command) obeyed() Obeyed {
	return Obeyed{ID: c.ID, Verb: c.Verb, By: c.By, Reason: c.Reason, Gate: c.Gate}
}

func (r *step) promoteNow(c Command) {
	switch r.s.Phase {
	case Starting, Testing, Progressing:
		r.note(c.obeyed())
		r.promote(fmt.Sprintf("promoted by %s, without waiting for evidence", c))
	case Initializing, Idle, Promoting, Finalizing, RollingBack:
		r.tell(false, "NothingToPromote", "%s by %s: no version waits to be promoted", c.Verb, c)
	}
}

func (r *step) abort(c Command) {
	s := &r.s
	switch s.Phase {
	case Starting, Testing, Progressing, Promoting, Finalizing:
		r.note(c.obeyed())
		r.rollBack(Aborted, fmt.Sprintf("aborted by %s", c))
		return
	case RollingBack:
		if s.Gradual {
			r.note(c.obeyed())
			s.Gradual = false
			r.tell(false, "Aborted", "all traffic is taken back at once: aborted by %s", c)
			return
		}
	case Idle:
	case Initializing:
		r.tell(false, "NothingToAbort", "%s by %s: no run is on", c.Verb, c)
		return
	}
	// A version that waits for its run is not started any more.
	if t := r.in.Target.Revision; t != "" && t != s.Stable && t != s.Rejected && t != s.Canary {
		s.Rejected, s.Run.BySet = t, ""
		r.tell(false, "Aborted", "revision %s is not released: aborted by %s", t, c)
		return
	}
	r.tell(false, "NothingToAbort", "%s by %s: no run is on", c.Verb, c)
}

// skip ends the wait for the present step's evidence. The judge may still fail
// the canary, and gates are still asked.
func (r *step) skip(c Command) {
	s := &r.s
	switch s.Phase {
	case Testing, Progressing:
		r.note(c.obeyed())
		s.Skipped = true
		r.tell(true, "StepSkipped", "%s: not waited for any longer: skipped by %s", r.where(), c)
	case Initializing, Idle, Starting, Promoting, Finalizing, RollingBack:
		r.tell(false, "NothingToSkip", "%s by %s: no step is on", c.Verb, c)
	}
}

// retry lets a revision that was rejected be released once more.
func (r *step) retry(c Command) {
	s := &r.s
	if s.Phase != Idle || s.Rejected == "" || s.Rejected != r.in.Target.Revision {
		r.tell(false, "NothingToRetry", "%s by %s: no version was taken back that could be tried again", c.Verb, c)
		return
	}
	r.retried = c.obeyed()
	r.tell(false, "Retried", "revision %s may be tried again: asked for by %s", s.Rejected, c)
	s.Rejected = ""
}

// goBack goes to the last good version.
func (r *step) goBack(c Command) {
	switch s := &r.s; {
	case s.Canary != "" && s.Run.Outcome != Reverted:
		r.abort(c)
	case s.Phase != Idle || s.Previous == "" || s.Previous == s.Stable:
		r.tell(false, "NothingToRollBack", "%s by %s: no version before the stable one is known", c.Verb, c)
	default:
		r.revert(fmt.Sprintf("rolled back by %s", c))
		r.note(c.obeyed())
	}
}

// answerGate makes an approval of a command.
func (r *step) answerGate(c Command) {
	asked := slices.ContainsFunc(r.s.Gates, func(a Asked) bool { return a.Gate == c.Gate && a.By == "" })
	if !r.s.undecided() || !asked && c.Verb == Approve {
		r.tell(false, "NothingToApprove", "%s by %s: gate %q is not asked now", c.Verb, c, c.Gate)
		return
	}
	r.in.Approvals = append(slices.Clip(r.in.Approvals), Approval{
		ID: c.ID, Gate: c.Gate, By: c.By, At: r.in.Now, Reject: c.Verb == Reject, Reason: c.Reason,
	})
}
