package rollout

import (
	"time"

	"serin.dev/serin/internal/analysis"
)

// rollBack decides to take all traffic back to the stable revision.
func (r *step) rollBack(outcome Outcome, reason string) {
	s := &r.s
	s.Run.Outcome, s.Run.Reason, s.Run.Decided = outcome, reason, r.in.Now
	s.Run.Effective = time.Time{}
	s.Run.Evidence = s.Told()
	if outcome != Superseded {
		s.Rejected = s.Canary
	}
	r.tell(outcome == RolledBack, "RollingBack", "revision %s is taken back (%s): %s", s.Canary, outcome.words(), reason)
	s.Part = 0
	s.Gradual = len(r.plan.AbortSteps) > 0 && outcome != Superseded && !s.ByPods &&
		!(s.Run.Failed && s.Evidence.AtOnce) && r.healthy()
	r.enter(RollingBack)
	r.forget()
	if need := pods(All, &r.in); !s.ByPods && need > r.in.Stable.Wanted {
		s.StablePods = max(s.StablePods, need)
	}
	r.fall()
}

// healthy reports whether the target still is the canary and can answer: only
// then its share may fall in steps.
func (r *step) healthy() bool {
	return r.in.Target.Revision == r.s.Canary && r.in.Target.Ready
}

// fall asks for less traffic of the canary: the next of the plan's AbortSteps,
// or none. It asks for nothing while no stable pod could answer.
func (r *step) fall() {
	s := &r.s
	if s.Traffic.Share > 0 && r.stranded() {
		s.StablePods = max(s.StablePods, 1)
		return
	}
	for s.Gradual && s.Part < len(r.plan.AbortSteps) {
		share := r.plan.AbortSteps[s.Part]
		s.Part++
		if share < s.Traffic.Share {
			r.askFor(Traffic{Share: share, Match: s.Traffic.Match})
			return
		}
	}
	s.Gradual = false
	r.askFor(Traffic{Warm: s.Traffic.Warm})
}

// restore waits until the stable version has all traffic, and its own revision
// again. It does not give up: there is nowhere else to go.
func (r *step) restore() {
	s, in := &r.s, &r.in
	if s.Traffic.Share > 0 && !r.fallen() {
		return
	}
	back := in.Stable.Revision == s.Stable && in.Stable.Ready
	r.detour(back)
	if r.acked && (s.Run.Outcome != Reverted || back || s.Traffic.Warm) {
		r.effective()
	}
	target := in.Target.Revision
	newer := target != "" && target != s.Canary && target != s.Stable && target != s.Rejected
	switch {
	case !r.acked:
		r.stall("%s: waiting for %s", s.Run.Reason, r.plan.either("the proxies to send all traffic to the stable version", "the canary's pods to end"))
	case !r.plan.Worker && s.Asked.After(s.Run.Started) && in.Now.Sub(s.Acked) < drain:
		r.pause(WaitTime, s.Acked.Add(drain), "%s: the last requests to the canary are finished", s.Run.Reason)
	case s.Traffic.Warm || s.Touched && !back && !newer:
		// A newer version may be the repair, so it need not wait for this.
		r.stall("%s: waiting for the stable copy to run revision %s again: %s", s.Run.Reason, s.Stable, orElse(in.Stable.Message, "its pods are not ready"))
	default:
		r.end()
	}
}

// fallen takes the canary's share down and reports whether none is left to be
// asked for.
func (r *step) fallen() bool {
	s, in := &r.s, &r.in
	if s.Gradual && !r.healthy() {
		s.Gradual = false
	}
	switch held := in.Now.Sub(s.Acked); {
	case r.stranded():
		r.fall()
		r.stall("%s: no pod of the stable version is ready, so the canary keeps its traffic until one is", s.Run.Reason)
		return false
	case s.Gradual && s.Part > 0 && !r.acked:
		if !r.stall("%s: waiting for the proxies to leave the canary %v", s.Run.Reason, s.Traffic.Share) {
			return false
		}
		s.Gradual = false
	case s.Gradual && s.Part > 0 && held < r.plan.AbortHold:
		r.pause(WaitTime, s.Acked.Add(r.plan.AbortHold), "%s: the canary keeps %v for %v more", s.Run.Reason, s.Traffic.Share, ceilSecond(r.plan.AbortHold-held))
		return false
	}
	r.fall()
	r.progress()
	if s.Traffic.Share > 0 {
		r.stall("%s: waiting for the proxies to leave the canary %v", s.Run.Reason, s.Traffic.Share)
		return false
	}
	return true
}

// detour lets pods that were kept warm answer while the stable copy, which had
// left its revision, is rolled back to it.
func (r *step) detour(back bool) {
	s, warm := &r.s, r.in.Warm
	switch {
	case s.Traffic.Warm && (back || s.Warm == ""):
		r.askFor(Traffic{})
	case !s.Traffic.Warm && s.Touched && !back && s.Warm == s.Stable && warm.Revision == s.Stable && warm.Ready:
		r.askFor(Traffic{Warm: true})
	}
}

// effective notes when every proxy obeyed the run's decision.
func (r *step) effective() {
	if run := &r.s.Run; run.Effective.IsZero() {
		run.Effective = later(r.s.Acked, r.s.Since)
	}
}

// revert goes back from the stable version to the one before it, as the end of
// a run of its own: what is stable now becomes the version that is taken back.
func (r *step) revert(reason string) {
	s := &r.s
	bad, good := s.Stable, s.Previous
	s.Run = Run{Number: s.Run.Number + 1, From: bad, To: good, Started: r.in.Now}
	s.Canary, s.Stable, s.Previous = bad, good, ""
	r.fresh()
	s.Touched = true
	s.Run.Outcome, s.Run.Decided = Reverted, r.in.Now
	s.Run.Reason = reason
	s.Rejected = bad
	r.tell(true, "RollingBack", "the release goes back from revision %s to %s: %s", bad, good, s.Run.Reason)
	r.enter(RollingBack)
}

// end ends the run with the outcome it has.
func (r *step) end() {
	s := &r.s
	s.Run.Ended = r.in.Now
	if s.Run.Outcome == Reverted {
		r.tell(true, "RunEnded", "the release went back to revision %s: %s", s.Run.To, s.Run.Reason)
	} else {
		r.tell(s.Run.Outcome == RolledBack, "RunEnded", "revision %s was %s: %s", s.Run.To, s.Run.Outcome.words(), s.Run.Reason)
	}
	r.post()
	s.Canary, s.Judge = "", analysis.Judge{} // what it said stays
	s.CanaryPods, s.StablePods = 0, 0
	s.Gradual, s.Part = false, 0
	if s.Warm != s.Previous || s.Run.Outcome == Reverted {
		s.Warm, s.WarmUntil = "", time.Time{}
	}
	r.ended = true
	r.enter(Idle)
}
