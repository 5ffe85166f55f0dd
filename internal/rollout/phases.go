package rollout

import (
	"fmt"
	"strings"
	"time"

	"serin.dev/serin/internal/analysis"
)

// move lets the present phase go on, to the next one if it is over.
//
//	Initializing ─► Idle ─► Starting ─► Testing ─► Progressing ─► Promoting ─► Finalizing ─┐
//	                 ▲ ▲       │           │            │             │            │       │
//	                 │ └── RollingBack ◄───┴────────────┴─────────────┴────────────┘       │
//	                 └─────────────────────────────────────────────────────────────────────┘
//
// Testing is left out when the plan has no test, Progressing when it has no step.
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
	s, in := &r.s, &r.in
	r.countPods()
	switch {
	case s.Stable == "" && in.Stable.Revision != "":
		// A copy that we do not remember: the journal was lost, or the release
		// was made anew. It holds what was promoted last, the target may not.
		s.Stable, s.Adopted = in.Stable.Revision, true
		r.tell(false, "StableAdopted", "the existing stable copy with revision %s is kept", s.Stable)
	case s.Stable == "" && in.Target.Revision != "" && in.Paused != "":
		r.wait(WaitPerson, "%s: the stable copy waits", in.Paused)
		return
	case s.Stable == "" && in.Target.Revision != "":
		s.Stable = in.Target.Revision
		r.tell(false, "StableCreated", "revision %s of the target becomes the stable version", s.Stable)
	case s.Stable == "":
		before := s.Reason
		r.stall("waiting for the target: %s", orElse(in.Target.Message, "it does not exist"))
		r.miss(before)
		return
	}
	serves := r.plan.serves()
	ready := in.Stable.Ready && in.Stable.Revision == s.Stable
	if newer := in.Target.Revision; !ready && !s.Split && !s.Adopted && newer != "" && in.Paused == "" {
		s.Stable = newer // it serves all users already, and may be the repair of the copy
	}
	switch {
	case !s.Split && (ready || in.Ack.OK): // the latter: our route is live already
		r.askFor(Traffic{})
		r.stall("waiting for %s", r.plan.either("the proxies to send the traffic to the stable copy", "the target's pods to leave their work to the stable copy"))
	case !s.Split:
		r.stall("waiting for the stable copy: %s", orElse(in.Stable.Message, "its pods are not ready"))
	case !r.acked:
		r.stall("waiting for %s", r.plan.either("the proxies to send the traffic to the stable copy", "the target's pods to leave their work to the stable copy"))
	default:
		r.tell(false, "Initialized", "the stable copy with revision %s %s", s.Stable, serves)
		r.enter(Idle)
	}
}

// idle begins a run when the target has a revision that is not stable.
func (r *step) idle() {
	s, target := &r.s, r.in.Target.Revision
	r.countPods()
	r.cool()
	failed := r.in.failed()
	if target != s.Rejected || s.Run.BySet != "" && failed == nil { // the latter was not at fault
		s.Rejected = ""
	}
	s.Next = false
	serves := r.plan.serves()
	switch {
	case target == "":
		before := s.Reason
		r.wait("", "the target does not exist; revision %s %s", s.Stable, serves)
		r.miss(before)
	case target == s.Stable:
		r.wait("", "revision %s %s", s.Stable, serves)
	case target == s.Rejected && s.Run.BySet != "":
		r.wait("", "revision %s %s; %s is tried again when %s has another version: %s", s.Stable, serves, target, s.Run.BySet, s.Run.Reason)
	case target == s.Rejected && s.Run.Outcome == Reverted:
		r.wait("", "revision %s %s again, and %s is not tried until the target changes: %s", s.Stable, serves, target, s.Run.Reason)
	case target == s.Rejected && s.Run.To == target:
		r.wait("", "revision %s was %s and is not tried again until the target changes: %s", target, s.Run.Outcome.words(), s.Run.Reason)
	case target == s.Rejected:
		r.wait("", "revision %s was aborted and is not tried until the target changes", target)
	case r.still() != "":
		r.wait(WaitPerson, "%s: revision %s waits", r.still(), target)
	case failed != nil:
		r.wait(WaitPerson, "revision %s waits for another version of %s, which is of the same set and was taken back", target, failed.Name)
	case len(r.in.DependsOn) > 0:
		r.wait(WaitPerson, "revision %s waits for the releases that it depends on: %s", target, strings.Join(r.in.DependsOn, ", "))
	case r.ended:
		// The next look begins the run, so that the end of this one is stored.
		s.Next = true
		r.wait("", "revision %s is next", target)
	default:
		r.begin(target)
	}
}

// serves says what the stable version does.
func (p *Plan) serves() string { return p.either("serves all users", "does all the work") }

// begin starts a run.
func (r *step) begin(target Revision) {
	s := &r.s
	s.Run = Run{Number: s.Run.Number + 1, From: s.Stable, To: target, Started: r.in.Now}
	s.Canary = target
	r.fresh()
	s.Approvals = nil
	for _, a := range r.in.Approvals { // they belong to no run
		s.Approvals = append(s.Approvals, a.ID)
	}
	r.tell(false, "RunStarted", "revision %s is released, %s", target, r.plan.words())
	r.enter(Starting)
	if r.retried.ID != "" {
		r.note(r.retried)
	}
}

// fresh forgets what belongs to the run before.
func (r *step) fresh() {
	s := &r.s
	s.Step, s.Part, s.Touched, s.Gradual = 0, 0, false, false
	s.Cleared, s.Prepared = false, false
	s.Judge, s.Evidence = analysis.Judge{}, analysis.Evidence{}
	s.CanaryPods, s.StablePods = 0, 0
	r.forget()
	s.Hooks = nil
}

// words says what a run with the plan consists of.
func (p *Plan) words() string {
	var parts []string
	switch {
	case p.Skip:
		return "without being judged"
	case p.Mirror > 0:
		parts = append(parts, "first with copies of requests")
	case p.Strategy == BlueGreen:
		parts = append(parts, "first without users")
	}
	switch n := p.NumSteps(); {
	case p.Strategy == ABTest:
		parts = append(parts, "to the matched users")
	case p.Strategy == BlueGreen:
		parts = append(parts, "then to all at once")
	case n == 1:
		parts = append(parts, "in one step")
	case n > 0:
		parts = append(parts, fmt.Sprintf("in %d steps", n))
	}
	return strings.Join(parts, ", ")
}

// start waits for the canary's pods, and for all that has to be before it gets
// traffic.
func (r *step) start() {
	s, in := &r.s, &r.in
	if still := r.still(); still != "" {
		r.wait(WaitPerson, "%s before the first step", still)
		return
	}
	if !s.Cleared {
		if !r.pass(AtStart) {
			return
		}
		s.Cleared = true
		r.forget()
	}
	switch {
	case s.ByPods:
		// Its pods would have traffic as soon as they are ready.
	case !in.Target.Ready:
		r.late(r.stall("waiting for the canary: %s", orElse(in.Target.Message, "its pods are not ready")))
		return
	case !r.acked:
		r.late(r.stall("waiting for the proxies to keep the traffic on the stable version"))
		return
	}
	switch {
	case r.plan.Skip && !r.together():
	case r.plan.Skip:
		r.promote("promoted without being judged, as the plan asks for")
	case !r.prepared():
	case r.plan.tests():
		r.test()
	default:
		r.raise(1)
	}
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
