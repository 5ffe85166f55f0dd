package rollout

import (
	"fmt"
	"time"

	"serin.dev/serin/internal/analysis"
)

// tests reports whether the canary is tested before any user gets it.
func (p *Plan) tests() bool { return p.Mirror > 0 || p.Strategy == BlueGreen }

// traffic is what the canary gets at a step, from 1; at 0: in the test.
func (p *Plan) traffic(step int) Traffic {
	if step == 0 {
		return Traffic{Mirror: p.Mirror}
	}
	return Traffic{Share: p.steps()[step-1], Match: p.Strategy == ABTest}
}

// looks is how many good ones the present step or test needs; 0 = it is held
// for Hold in their place.
func (r *step) looks() int {
	if r.s.Phase == Testing || r.plan.Strategy == ABTest {
		return r.plan.Iterations
	}
	return 0
}

// test begins the test.
func (r *step) test() {
	s := &r.s
	r.enter(Testing)
	r.forget()
	before := s.Asked
	r.askFor(r.plan.traffic(0))
	if s.Asked.Equal(before) { // no copies: the proxies have nothing to do
		s.Acked = r.in.Now
		s.Judge = s.Judge.NextStep(r.policy, 0, r.in.Now)
		s.Evidence = s.Judge.Decide(r.policy, r.plan.next(0, s.Pods))
		if s.Evidence.Verdict == analysis.Fail { // by a limit that was lowered meanwhile
			r.fail()
			return
		}
	}
	if s.Traffic.Mirror > 0 {
		r.tell(false, "TestStarted", "the canary gets copies of %v of the requests", s.Traffic.Mirror)
	} else {
		r.tell(false, "TestStarted", "the canary is tested without users")
	}
	r.stall("waiting for the proxies to apply the split")
}

// raise takes the next step once nothing is in the way.
func (r *step) raise(n int) {
	if !r.pass(AtTraffic) || !r.carries(n) {
		return
	}
	r.reach(n)
	r.stall("waiting for %s", r.plan.applied())
}

// applied is what has to happen before a share is in effect.
func (p *Plan) applied() string {
	return p.either("the proxies to apply the split", "both sides to have their pods")
}

// reach asks for the traffic of a step, from 1.
func (r *step) reach(n int) {
	s := &r.s
	if s.Phase != Progressing {
		r.enter(Progressing)
	}
	s.Step = n
	r.forget()
	r.askFor(r.plan.traffic(n))
	r.progress()
	steps := r.plan.NumSteps()
	switch {
	case s.Traffic.Match:
		r.tell(false, "StepReached", "the canary gets the matched users: step %d of %d", n, steps)
	case s.ByPods:
		pods, _ := divide(s.Pods, s.Traffic.Share)
		r.tell(false, "StepReached", "the canary gets %d of %d pods for %v: step %d of %d", pods, s.Pods, s.Traffic.Share, n, steps)
	default:
		r.tell(false, "StepReached", "the canary gets %v: step %d of %d", s.Traffic.Share, n, steps)
	}
}

// late rolls back when a deadline is over.
func (r *step) late(over bool) {
	if over {
		r.rollBack(RolledBack, fmt.Sprintf("%s, for longer than %v", r.s.Reason, r.plan.Deadline))
	}
}

// where names the present step or test.
func (r *step) where() string {
	s := &r.s
	switch {
	case s.Phase == Testing && s.Traffic.Mirror > 0:
		return fmt.Sprintf("test (copies of %v)", s.Traffic.Mirror)
	case s.Phase == Testing:
		return "test (no users)"
	case s.Traffic.Match:
		return fmt.Sprintf("step %d of %d (matched users)", s.Step, r.plan.NumSteps())
	}
	return fmt.Sprintf("step %d of %d (%v)", s.Step, r.plan.NumSteps(), s.Traffic.Share)
}

// advance holds a step, or the test, until it is judged good, then goes on.
func (r *step) advance() {
	s, in := &r.s, &r.in
	if !r.follow() {
		return
	}
	at := r.where()
	need, regained := r.regained()
	switch still := r.still(); {
	case !r.acked:
		r.late(r.stall("%s: waiting for %s", at, r.plan.applied()))
	case still != "":
		r.wait(WaitPerson, "%s: %s; %s", at, still, s.Evidence.Reason)
	case !in.Target.Ready:
		r.late(r.stall("%s: waiting for the canary: %s", at, orElse(in.Target.Message, "its pods are not ready")))
	case !regained:
		r.late(r.stall("%s: waiting for the stable copy, which was scaled to 0: %d of %d pods are ready", at, in.Stable.Pods, need))
	case !s.Skipped && !r.proven(at):
	case s.Step < r.plan.NumSteps():
		r.raise(s.Step + 1)
	case r.pass(AtPromotion) && r.together():
		r.promote(r.merit())
	}
}

// merit says why a version is promoted.
func (r *step) merit() string {
	if r.s.Skipped {
		return "a person did not wait for more evidence: " + r.s.Evidence.Reason
	}
	return r.s.Evidence.Reason
}

// proven reports whether the present step has all that it needs: evidence,
// hooks, time. If not, it says what is missing.
func (r *step) proven(at string) bool {
	s, e := &r.s, &r.s.Evidence
	good := e.Verdict == analysis.Pass || r.quiet()
	if !good {
		s.Filling = r.fills()
		switch {
		case e.Overdue:
			r.late(r.stall("%s: inconclusive: %s", at, e.Reason))
		case e.Verdict == analysis.NoData:
			r.collect(at, "not enough evidence: "+e.Reason+r.filling())
		default:
			r.collect(at, e.Reason+r.filling())
		}
		return false
	}
	if name, a := r.unanswered(); name != "" {
		switch {
		case a.Known:
			r.collect(at, fmt.Sprintf("webhook %s did not succeed yet", name))
		default:
			r.late(r.stall("%s: waiting for the answer of webhook %s", at, name))
		}
		return false
	}
	if n := r.looks(); n > 0 {
		return r.looked(at, n)
	}
	if held := r.plan.Hold - r.in.Now.Sub(s.Acked); held > 0 {
		r.pause(WaitTime, s.Acked.Add(r.plan.Hold), "%s: good so far, held for %v more", at, ceilSecond(held))
		return false
	}
	return true
}

// fills reports whether own load has to bring the evidence that users' requests
// did not bring within the hold.
func (r *step) fills() bool {
	s, load := &r.s, &r.plan.Load
	return load.Rate > 0 && r.acked && !s.Evidence.Overdue &&
		r.in.Now.Sub(s.Acked) >= r.plan.Hold && !r.filled()
}

// filled reports whether the run had all of the own load that it may have.
func (r *step) filled() bool {
	return r.plan.Load.UpTo > 0 && r.s.Evidence.Own.Requests() >= r.plan.Load.UpTo
}

// filling says what own load does about a lack of evidence.
func (r *step) filling() string {
	switch {
	case r.s.Filling:
		return ", own load fills in"
	case r.plan.Load.Rate > 0 && r.filled():
		return fmt.Sprintf(", the %d requests of own load are used up", r.plan.Load.UpTo)
	}
	return ""
}

// quiet reports whether a test without users may go on without a request: when
// each check that there is passed by other means, and none is going to be sent.
func (r *step) quiet() bool {
	s, e := &r.s, &r.s.Evidence
	if r.plan.Load.Rate > 0 || s.Phase != Testing || s.Traffic.Mirror > 0 || e.Verdict != analysis.NoData || len(e.Checks) < len(r.policy.Checks) {
		return false
	}
	for _, c := range e.Checks {
		if c.Verdict != analysis.Pass && c.Severity != analysis.Warn {
			return false
		}
	}
	return s.Judge.Step == analysis.Counts{}
}

// looked counts good looks, one per interval, and reports whether there were
// enough.
func (r *step) looked(at string, enough int) bool {
	s, interval := &r.s, r.plan.Policy.Interval
	last := later(s.Looked, s.Acked)
	if s.Looks < enough && r.in.Now.Sub(last) >= interval {
		s.Looks++
		s.Looked, last = r.in.Now, r.in.Now
	}
	if s.Looks >= enough {
		return true
	}
	next := last.Add(interval)
	r.pause(WaitTime, next, "%s: good so far, look %d of %d in %v", at, s.Looks+1, enough, ceilSecond(next.Sub(r.in.Now)))
	return false
}

// collect waits for evidence, no longer than the plan allows.
func (r *step) collect(at, what string) {
	s := &r.s
	s.Collected += r.spent(WaitEvidence)
	limit := r.plan.StepDeadline
	if limit > 0 && s.Collected >= limit {
		r.rollBack(RolledBack, fmt.Sprintf("%s: not shown to be good within %s: %s", at, about(limit), what))
		return
	}
	var until time.Time
	if limit > 0 {
		until = r.in.Now.Add(limit - s.Collected)
	}
	r.pause(WaitEvidence, until, "%s: %s", at, what)
}

// follow fits the run to a plan that was changed meanwhile, never to more than
// the canary has earned. It reports whether the run is at a step of it.
func (r *step) follow() bool {
	s, p := &r.s, r.plan
	if s.Phase == Testing {
		if p.tests() && s.Traffic == p.traffic(0) {
			return true
		}
		r.restart("the test was changed: the run goes back to its start")
		return false
	}
	if s.Step >= 1 && s.Step <= p.NumSteps() && p.traffic(s.Step) == s.Traffic {
		return true
	}
	steps := p.NumSteps()
	if n := p.reached(s.Traffic); n > 0 {
		s.Step = n
		r.forget()
		r.askFor(p.traffic(n))
		r.tell(false, "PlanChanged", "the steps were changed: the run goes on with %v, step %d of %d", s.Traffic.Share, n, steps)
		return true
	}
	r.restart(fmt.Sprintf("the steps were changed, and none is as low as %v: the run goes back to the first", s.Traffic.Share))
	return false
}

// restart takes the traffic off the canary, without giving it up.
func (r *step) restart(why string) {
	r.tell(false, "PlanChanged", "%s", why)
	r.s.Step = 0
	r.forget()
	r.askFor(Traffic{})
	r.enter(Starting)
}

// reached is the last step that gives the canary no more than it has; 0 = none.
// Matched users are another measure than shares of all.
func (p *Plan) reached(has Traffic) int {
	n := 0
	for n < p.NumSteps() && p.traffic(n+1).Match == has.Match && p.traffic(n+1).Share <= has.Share {
		n++
	}
	return n
}
