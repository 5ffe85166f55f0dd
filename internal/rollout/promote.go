package rollout

import (
	"fmt"
	"time"
)

// promote decides that the canary becomes the stable version.
func (r *step) promote(reason string) {
	s := &r.s
	s.Run.Outcome, s.Run.Reason, s.Run.Decided = Promoted, reason, r.in.Now
	s.Run.Evidence = s.Told()
	s.Touched, s.Cleared, s.Passed = true, true, false
	s.Part = 0
	if r.plan.KeepWarm > 0 && !s.ByPods {
		s.Warm, s.WarmUntil = s.Stable, time.Time{}
	}
	r.tell(false, "Promoting", "revision %s becomes the stable version: %s", s.Canary, reason)
	r.enter(Promoting)
	r.forget()
	if s.Traffic.Mirror > 0 {
		r.askFor(Traffic{})
	}
}

// takeOver waits until the stable copy runs the canary's revision, then gives it
// the traffic back. The canary keeps its share until then, so that the stable
// side loses no capacity before it is back in full.
func (r *step) takeOver() {
	s, in := &r.s, &r.in
	switch still := r.still(); {
	case still != "":
		r.wait(WaitPerson, "%s while the stable copy is rolled to revision %s", still, s.Canary)
	case !in.Stable.Ready || in.Stable.Revision != s.Canary:
		r.late(r.stall("waiting for the stable copy to run revision %s: %s", s.Canary, orElse(in.Stable.Message, "its pods are not ready")))
	case s.Part > 0 && !r.acked:
		r.late(r.stall("waiting for the proxies to give the new stable version %v", All-s.Traffic.Share))
	case s.Part > 0 && in.Now.Sub(s.Acked) < r.plan.Hold:
		r.pause(WaitTime, s.Acked.Add(r.plan.Hold), "the new stable version has %v, held for %v more",
			All-s.Traffic.Share, ceilSecond(r.plan.Hold-in.Now.Sub(s.Acked)))
	default:
		r.handOver()
	}
}

// handOver gives the new stable pods the next share, or all.
func (r *step) handOver() {
	s := &r.s
	part, keeps := s.Part, Share(0)
	for part < len(r.plan.PromotionSteps) {
		keeps = All - r.plan.PromotionSteps[part]
		part++
		if keeps < s.Traffic.Share {
			break
		}
		keeps = 0
	}
	if !r.returns(keeps) {
		return
	}
	s.Part = part
	if keeps > 0 {
		r.askFor(Traffic{Share: keeps, Match: s.Traffic.Match})
		r.progress()
		r.tell(false, "PromotionStep", "the new stable version gets %v", All-keeps)
		r.stall("waiting for the proxies to give the new stable version %v", All-keeps)
		return
	}
	r.askFor(Traffic{})
	s.Served, s.Quiet = false, r.in.Now
	r.enter(Finalizing)
}

// finalize sends all traffic to the new stable pods and ends the run when it
// was seen there; of a worker there is none, and its pods are ready.
//
// It does not give up: going back would need the same proxies.
func (r *step) finalize() {
	s, in := &r.s, &r.in
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
		r.stall("waiting for %s", r.plan.either("the proxies to send all traffic to the new stable version", "the canary's pods to leave their work to the new stable version"))
	case !ready:
		r.stall("waiting for the stable copy: %s", orElse(in.Stable.Message, "its pods are not ready"))
	case r.plan.Worker:
		r.finish(s.Run.Reason)
	case !s.Served && silent >= quiet:
		r.finish(fmt.Sprintf("%s; no request arrived for %v to see it serve", s.Run.Reason, quiet))
	case !s.Served && in.Arrived == 0 && silent > drain:
		r.pause(WaitTime, s.Quiet.Add(quiet), "waiting for a request to be served by the new stable version; without any it ends in %v", ceilSecond(quiet-silent))
	case !s.Served:
		r.stall("waiting for a request to be served by the new stable version")
	case in.Now.Sub(s.Acked) < drain:
		r.pause(WaitTime, s.Acked.Add(drain), "the last requests to the canary are finished")
	default:
		r.finish(s.Run.Reason)
	}
}

// finish ends a promotion.
func (r *step) finish(reason string) {
	s := &r.s
	s.Run.Reason = reason
	s.Previous, s.Stable = s.Stable, s.Canary
	if s.Warm == s.Previous && r.plan.KeepWarm > 0 {
		s.WarmUntil = r.in.Now.Add(r.plan.KeepWarm)
	}
	r.end()
}

// cool lets the previous version's pods go when their time is over.
func (r *step) cool() {
	s := &r.s
	if s.Warm == "" || s.Warm == s.Previous && s.WarmUntil.After(r.in.Now) && r.plan.KeepWarm > 0 {
		return
	}
	s.Warm, s.WarmUntil = "", time.Time{}
}
