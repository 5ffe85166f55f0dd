package rollout

import (
	"fmt"
	"time"

	"serin.dev/serin/internal/analysis"
)

// move lets the present phase go on, to the next one if it is over.
//
//	Initializing ──► Idle ──► Starting ──► Progressing ──► Promoting ──► Finalizing ──┐
//	                  ▲ ▲        │             │               │              │       │
//	                  │ └── RollingBack ◄──────┴───────────────┴──────────────┘       │
//	                  └───────────────────────────────────────────────────────────────┘
func (r *step) move() {
	switch r.s.Phase {
	case Initializing:
		r.initialize()
	case Idle:
		r.idle()
	case Starting:
		r.start()
	case Testing, Progressing:
		r.advance()
	case Promoting:
		r.takeOver()
	case Finalizing:
		r.finalize()
	case RollingBack:
		r.restore()
	}
}

// initialize makes the stable copy, and gives it the traffic when it is ready.
// It never ends by a deadline: without a copy there is nothing to go back to.
func (r *step) initialize() {
	s, in := &r.s, r.in
	switch {
	case s.Stable == "" && in.Stable.Revision != "":
		// A copy that we do not remember: the journal was lost, or the release
		// was made anew. It holds what was promoted last, the target may not.
		s.Stable, s.Adopted = in.Stable.Revision, true
		r.tell(false, "StableAdopted", "the existing stable copy with revision %s is kept", s.Stable)
	case s.Stable == "" && in.Target.Revision != "":
		s.Stable = in.Target.Revision
		r.tell(false, "StableCreated", "revision %s of the target becomes the stable version", s.Stable)
	case s.Stable == "":
		before := s.Reason
		r.stall("waiting for the target: %s", orElse(in.Target.Message, "it does not exist"))
		r.miss(before)
		return
	}
	ready := in.Stable.Ready && in.Stable.Revision == s.Stable
	if newer := in.Target.Revision; !ready && !s.Split && !s.Adopted && newer != "" {
		s.Stable = newer // it serves all users already, and may be the repair of the copy
	}
	switch {
	case !s.Split && (ready || in.Ack.OK): // the latter: our route is live already
		r.ask(0)
		r.stall("waiting for the proxies to send the traffic to the stable copy")
	case !s.Split:
		r.stall("waiting for the stable copy: %s", orElse(in.Stable.Message, "its pods are not ready"))
	case !r.acked:
		r.stall("waiting for the proxies to send the traffic to the stable copy")
	default:
		r.tell(false, "Initialized", "the stable copy with revision %s serves all users", s.Stable)
		r.enter(Idle)
	}
}

// idle begins a run when the target has a revision that is not stable.
func (r *step) idle() {
	s, target := &r.s, r.in.Target.Revision
	if target != s.Rejected {
		s.Rejected = ""
	}
	s.Next = false
	switch {
	case target == "":
		before := s.Reason
		r.wait("the target does not exist; revision %s serves all users", s.Stable)
		r.miss(before)
	case target == s.Stable:
		r.wait("revision %s serves all users", s.Stable)
	case target == s.Rejected && s.Run.To == target:
		r.wait("revision %s was %s and is not tried again until the target changes: %s", target, s.Run.Outcome.words(), s.Run.Reason)
	case target == s.Rejected:
		r.wait("revision %s was aborted and is not tried until the target changes", target)
	case r.in.Suspended:
		r.wait("suspended: revision %s waits", target)
	case r.ended:
		// The next look begins the run, so that the end of this one is stored.
		s.Next = true
		r.wait("revision %s is next", target)
	default:
		r.begin(target)
	}
}

// begin starts a run.
func (r *step) begin(target Revision) {
	s := &r.s
	s.Run = Run{Number: s.Run.Number + 1, From: s.Stable, To: target, Started: r.in.Now}
	s.Canary, s.Step, s.Touched = target, 0, false
	s.Judge, s.Evidence = analysis.Judge{}, analysis.Evidence{}
	r.tell(false, "RunStarted", "revision %s is released, in %d steps", target, len(r.plan.Steps))
	r.enter(Starting)
}

// start waits for the canary's pods.
func (r *step) start() {
	in := r.in
	switch {
	case in.Suspended:
		r.wait("suspended before the first step")
	case in.Target.Ready && r.acked:
		r.reach(1)
		r.enter(Progressing)
	case in.Target.Ready:
		r.late(r.stall("waiting for the proxies to keep the traffic on the stable version"))
	default:
		r.late(r.stall("waiting for the canary: %s", orElse(in.Target.Message, "its pods are not ready")))
	}
}

// reach asks for the share of a step, from 1.
func (r *step) reach(n int) {
	s := &r.s
	s.Step = n
	r.ask(r.plan.Steps[n-1])
	r.progress()
	r.tell(false, "StepReached", "the canary gets %v: step %d of %d", s.Traffic.Share, n, len(r.plan.Steps))
}

// late rolls back when a deadline is over.
func (r *step) late(over bool) {
	if over {
		r.rollBack(RolledBack, fmt.Sprintf("%s, for longer than %v", r.s.Reason, r.plan.Deadline))
	}
}

// advance holds a step until it is judged good, then takes the next one.
func (r *step) advance() {
	s, in := &r.s, r.in
	if !r.follow() {
		return
	}
	at := fmt.Sprintf("step %d of %d (%v)", s.Step, len(r.plan.Steps), s.Traffic.Share)
	held := r.plan.Hold - in.Now.Sub(s.Acked)
	switch e := &s.Evidence; {
	case !r.acked:
		r.late(r.stall("%s: waiting for the proxies to apply the split", at))
	case in.Suspended:
		r.wait("%s: suspended; %s", at, e.Reason)
	case !in.Target.Ready:
		r.late(r.stall("%s: waiting for the canary: %s", at, orElse(in.Target.Message, "its pods are not ready")))
	case e.Verdict == analysis.Pass && held > 0:
		r.wait("%s: good so far, held for %v more", at, ceilSecond(held))
	case e.Verdict == analysis.Pass && s.Step < len(r.plan.Steps):
		r.reach(s.Step + 1)
		r.stall("%s", "waiting for the proxies to apply the split")
	case e.Verdict == analysis.Pass:
		r.promote(e.Reason)
	case e.Overdue:
		r.late(r.stall("%s: inconclusive: %s", at, e.Reason))
	case e.Verdict == analysis.NoData:
		r.wait("%s: not enough evidence: %s", at, e.Reason)
	default:
		r.wait("%s: %s", at, e.Reason)
	}
}

// follow fits the run to a plan that was changed meanwhile, never to a larger
// share than the canary has earned. It reports whether the run is at a step.
func (r *step) follow() bool {
	s := &r.s
	if s.Step >= 1 && s.Step <= len(r.plan.Steps) && r.plan.Steps[s.Step-1] == s.Traffic.Share {
		return true
	}
	if n := r.plan.reached(s.Traffic.Share); n > 0 {
		s.Step = n
		r.ask(r.plan.Steps[n-1])
		r.tell(false, "PlanChanged", "the steps were changed: the run goes on with %v, step %d of %d", s.Traffic.Share, n, len(r.plan.Steps))
		return true
	}
	r.tell(false, "PlanChanged", "the steps were changed, and none is as low as %v: the run goes back to the first", s.Traffic.Share)
	s.Step = 0
	r.ask(0)
	r.enter(Starting)
	return false
}

// promote decides that the canary becomes the stable version.
func (r *step) promote(reason string) {
	s := &r.s
	s.Run.Outcome, s.Run.Reason, s.Run.Decided = Promoted, reason, r.in.Now
	s.Run.Evidence = s.Evidence
	s.Touched = true
	r.tell(false, "Promoting", "revision %s becomes the stable version: %s", s.Canary, reason)
	r.enter(Promoting)
}

// takeOver waits until the stable copy runs the canary's revision. The canary
// keeps its share, so that the stable side loses no capacity before it is back
// in full.
func (r *step) takeOver() {
	s, in := &r.s, r.in
	switch {
	case in.Suspended:
		r.wait("suspended while the stable copy is rolled to revision %s", s.Canary)
	case in.Stable.Ready && in.Stable.Revision == s.Canary:
		r.ask(0)
		s.Served, s.Quiet = false, r.in.Now
		r.enter(Finalizing)
	default:
		r.late(r.stall("waiting for the stable copy to run revision %s: %s", s.Canary, orElse(in.Stable.Message, "its pods are not ready")))
	}
}

// finalize sends all traffic to the new stable pods and ends the run when it
// was seen there. It does not give up: going back would need the same proxies.
func (r *step) finalize() {
	s, in := &r.s, r.in
	ready := in.Stable.Ready && in.Stable.Revision == s.Canary
	if r.acked {
		r.effective()
		s.Served = s.Served || in.Served > 0
		if in.Arrived > 0 || in.Now.Before(s.Quiet) {
			s.Quiet = in.Now
		}
	}
	silent := in.Now.Sub(s.Quiet)
	switch {
	case !r.acked:
		r.stall("waiting for the proxies to send all traffic to the new stable version")
	case !ready:
		r.stall("waiting for the stable copy: %s", orElse(in.Stable.Message, "its pods are not ready"))
	case !s.Served && silent >= quiet:
		r.finish(fmt.Sprintf("%s; no request arrived for %v to see it serve", s.Run.Reason, quiet))
	case !s.Served && in.Arrived == 0 && silent > drain:
		r.wait("waiting for a request to be served by the new stable version; without any it ends in %v", ceilSecond(quiet-silent))
	case !s.Served:
		r.stall("waiting for a request to be served by the new stable version")
	case in.Now.Sub(s.Acked) < drain:
		r.wait("the last requests to the canary are finished")
	default:
		r.finish(s.Run.Reason)
	}
}

// finish ends a promotion.
func (r *step) finish(reason string) {
	s := &r.s
	s.Run.Reason = reason
	s.Stable = s.Canary
	r.end()
}

// rollBack decides to take all traffic back to the stable revision.
func (r *step) rollBack(outcome Outcome, reason string) {
	s := &r.s
	s.Run.Outcome, s.Run.Reason, s.Run.Decided = outcome, reason, r.in.Now
	s.Run.Effective = time.Time{}
	s.Run.Evidence = s.Evidence
	if outcome != Superseded {
		s.Rejected = s.Canary
	}
	r.tell(outcome == RolledBack, "RollingBack", "revision %s is taken back (%s): %s", s.Canary, outcome.words(), reason)
	r.ask(0)
	r.enter(RollingBack)
}

// restore waits until the stable version has all traffic, and its own revision
// again. It does not give up: there is nowhere else to go.
func (r *step) restore() {
	s, in := &r.s, r.in
	if r.acked {
		r.effective()
	}
	target := in.Target.Revision
	newer := target != "" && target != s.Canary && target != s.Stable && target != s.Rejected
	back := in.Stable.Revision == s.Stable && in.Stable.Ready
	switch {
	case !r.acked:
		r.stall("%s: waiting for the proxies to send all traffic to the stable version", s.Run.Reason)
	case s.Asked.After(s.Run.Started) && in.Now.Sub(s.Acked) < drain:
		r.wait("%s: the last requests to the canary are finished", s.Run.Reason)
	case s.Touched && !back && !newer:
		// A newer version may be the repair, so it need not wait for this.
		r.stall("%s: waiting for the stable copy to run revision %s again: %s", s.Run.Reason, s.Stable, orElse(in.Stable.Message, "its pods are not ready"))
	default:
		r.end()
	}
}

// effective notes when every proxy obeyed the run's decision.
func (r *step) effective() {
	if run := &r.s.Run; run.Effective.IsZero() {
		run.Effective = later(r.s.Acked, r.s.Since)
	}
}

// end ends the run with the outcome it has.
func (r *step) end() {
	s := &r.s
	s.Run.Ended = r.in.Now
	r.tell(s.Run.Outcome == RolledBack, "RunEnded", "revision %s was %s: %s", s.Run.To, s.Run.Outcome.words(), s.Run.Reason)
	s.Canary = ""
	r.ended = true
	r.enter(Idle)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func ceilSecond(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}
