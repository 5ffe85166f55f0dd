package sim

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

// api is where the state survives, with a version that tells a writer that it
// did not see the latest.
type api struct {
	state   rollout.State
	version int
	legal   rollout.Share // the largest share of the canary that may be in force
	term    int           // odd: the second engine has the lease
	result  *Result
}

// engine is the loop around rollout.Step, one instruction at a time.
type engine struct {
	w       *world
	api     *api
	me      int
	next    time.Time
	pc      int
	down    bool
	skew    time.Duration // of its clock
	input   rollout.Input
	memory  rollout.State
	stored  rollout.State // what it knows the API to have
	version int
	term    int // in which it began its pass
	fenced  bool
	calls   []call
	results []rollout.HookResult
}

func (e *engine) boot() {
	stored, err := roundTrip(e.api.state)
	if err != nil {
		e.violate("state cannot be stored, or not be read: %v", err)
	}
	e.stored, e.version = stored, e.api.version
	e.memory, e.pc, e.down = e.stored, 0, false
	e.input = rollout.Input{}
	e.calls, e.results, e.fenced = nil, nil, false
	e.w.resetTally()
}

// leads reports whether the engine holds the lease since its pass began. It asks
// before each pass, not before each write.
func (e *engine) leads() bool { return e.api.term == e.term }

// elected takes up the lease if the engine has it.
func (e *engine) elected() bool {
	if e.term != e.api.term {
		e.down = true // others may have written meanwhile
	}
	e.term = e.api.term
	return e.term%2 == e.me
}

// last is the program counter of the last instruction.
const last = 8

// run executes the instructions that are due.
func (e *engine) run(since time.Duration) {
	w := e.w
	for !e.next.After(w.now) {
		if e.pc == 0 && !e.elected() {
			return
		}
		if e.down {
			e.boot()
		}
		if w.rand.Float64() < w.Faults.Crash {
			e.api.result.Crashes++
			e.down = true
			e.pc = 0
			e.next = w.now.Add(w.delay(0, 20*time.Second))
			return
		}
		if w.chance(w.Faults.ClockBack) {
			e.skew -= w.delay(0, []time.Duration{time.Minute, time.Hour}[w.rand.IntN(2)])
		}
		e.instruct(since)
		e.pc++
		if e.pc > last {
			e.pc = 0
			e.next = w.now.Add(w.delay(0, 400*time.Millisecond))
		} else if w.rand.IntN(4) == 0 {
			e.next = w.now.Add(w.delay(0, 300*time.Millisecond)) // the API is slow
		}
	}
}

func (e *engine) instruct(since time.Duration) {
	switch e.pc {
	case 0:
		e.observe(since)
	case 1:
		e.step()
	case 2:
		if !e.store() {
			e.pc = 1 // nothing is decided anew, nor done, before it is stored
		}
	case 3:
		e.callHooks()
	case 4:
		e.makeStable()
	case 5:
		e.scaleUp()
	case 6:
		e.makeWarm()
	case 7:
		e.makeRoute()
	case last:
		e.scaleAway()
	}
}

func (e *engine) observe(since time.Duration) {
	w := e.w
	want := e.stored.Want()
	ack := w.ack(want) // first: it sets the base of the samples
	t := &w.tally
	e.input = rollout.Input{
		Now:         w.now.Add(e.skew),
		Target:      w.target.observe(w.now),
		Stable:      w.stable.observe(w.now),
		Warm:        w.warm.observe(w.now),
		Ack:         ack,
		Samples:     t.samples,
		Arrived:     t.arrived,
		Late:        t.late,
		Served:      t.served[want.StableRevision],
		FirstCanary: t.firstCanary,
		Approvals:   w.people.approvals,
		Hooks:       e.results,
	}
	if w.byPods() {
		e.input.Pods = int32(w.userReplicas)
	}
	t.samples, t.arrived, t.late, t.served = analysis.Samples{}, 0, 0, map[rollout.Revision]int64{}
	for i, a := range w.People {
		if a.At > since {
			continue
		}
		if a.Command != "" {
			e.input.Command = rollout.Command{ID: fmt.Sprint(i), Verb: a.Command, By: "alice"}
		}
		switch a.Suspend {
		case "on", "off":
			e.input.Suspended = a.Suspend == "on"
		case "freeze", "thaw":
			e.input.Frozen = ""
			if a.Suspend == "freeze" {
				e.input.Frozen = "holidays"
			}
		}
	}
}

func (e *engine) step() {
	w := e.w
	was := e.memory
	e.memory, _ = rollout.Step(w.Plan, was, e.input)
	if e.memory.Run.Number != was.Run.Number {
		w.tally.firstCanary = time.Time{}
	}
	e.judge(was, e.memory)
}

// judge holds what must be true of every step of an engine.
func (e *engine) judge(was, s rollout.State) {
	in := &e.input
	if s.Phase == rollout.Finalizing && was.Phase != s.Phase && !(in.Stable.Ready && in.Stable.Revision == s.Canary) {
		e.violate("all traffic goes to a stable side that is not ready")
	}
	if s.Reason == "" || (s.Wait == rollout.WaitOthers || s.Wait == rollout.WaitTime) && s.Deadline.IsZero() {
		e.violate("%s waits without deadline or reason: %q", s.Phase, s.Reason)
	}
	undecided := s.Phase == rollout.Starting || s.Phase == rollout.Testing || s.Phase == rollout.Progressing
	if undecided && s.Evidence.Verdict == analysis.Fail {
		e.violate("%s goes on with a failed canary: %s", s.Phase, s.Evidence.Reason)
	}
	if undecided && in.Command.Verb == rollout.Abort && in.Command.ID != was.Command && s.Run.Number == was.Run.Number && was.Canary != "" {
		e.violate("%s goes on after abort", s.Phase)
	}
	held := in.Suspended || in.Frozen != ""
	raised := s.Run.Number == was.Run.Number && s.Traffic.Share > was.Traffic.Share
	promoted := s.Run.Outcome == rollout.Promoted && was.Run.Outcome == ""
	if held && (raised || promoted) {
		e.violate("%s advances while it is held", was.Phase)
	}
	if promoted && !approved(e.w.Plan, s.Run) {
		e.violate("promoted past a gate")
	}
	if s.Traffic.Share > 0 && s.Traffic.Match != (e.w.Plan.Strategy == rollout.ABTest) {
		e.violate("the canary gets %+v in the strategy %s", s.Traffic, e.w.Plan.Strategy)
	}
	e.judgeCapacity(was, s, raised)
}

// approved reports whether the manual gates before promotion were opened by
// those who may, or a person promoted in spite of them.
func approved(plan rollout.Plan, run rollout.Run) bool {
	for _, g := range plan.Gates {
		if g.At != rollout.AtPromotion || !g.Manual || plan.Skip {
			continue
		}
		if !slices.ContainsFunc(run.Commands, func(o rollout.Obeyed) bool {
			return o.Verb == rollout.Promote || o.Verb == rollout.Approve && o.Gate == g.Name && slices.Contains(g.Approvers, o.By)
		}) {
			return false
		}
	}
	return true
}

// judgeCapacity: no side gets traffic that its pods cannot carry, but on the
// way back.
func (e *engine) judgeCapacity(was, s rollout.State, raised bool) {
	in := &e.input
	if e.w.byPods() {
		return
	}
	all := float64(max(in.Stable.Wanted, in.Target.Wanted))
	if raised && !s.Traffic.Match && float64(in.Target.Pods) < s.Traffic.Share.Fraction()*all {
		e.violate("the canary gets %v with %d of %v pods", s.Traffic.Share, in.Target.Pods, all)
	}
	fewer := s.Traffic.Share < was.Traffic.Share
	ahead := s.Phase == rollout.Promoting || s.Phase == rollout.Finalizing
	if fewer && ahead && float64(in.Stable.Pods) < (1-s.Traffic.Share.Fraction())*all {
		e.violate("stable gets %v back with %d of %v pods", rollout.All-s.Traffic.Share, in.Stable.Pods, all)
	}
	if fewer && s.Phase == rollout.RollingBack && in.Stable.Pods == 0 && in.Target.Pods > 0 {
		e.violate("a rollback sends users to no pod at all")
	}
}

// store writes the state like the controller does: at once for decisions, at
// leisure for counts. A writer that did not see the latest state starts anew. A
// process that starts writes before it acts for the first time: from then on
// the writes of one that was the leader before it, and is not told, are refused.
func (e *engine) store() bool {
	w, api := e.w, e.api
	if w.rand.Float64() < w.Faults.StoreFail {
		return false
	}
	must := e.stored.MustWrite(e.memory)
	if !must && e.fenced && w.rand.IntN(10) > 0 {
		return true
	}
	if e.version != api.version {
		e.down = true
		e.pc = last
		return true
	}
	back, was := e.memory, api.state
	if was.Run.Number != back.Run.Number && was.Run.Number > 0 && was.Run.Ended.IsZero() {
		e.violate("the end of run %d was never stored", was.Run.Number)
	}
	if !back.Run.Ended.IsZero() && (was.Run.Ended.IsZero() || was.Run.Number != back.Run.Number) {
		api.result.Runs = append(api.result.Runs, back.Run)
	}
	api.version++
	api.state = back
	e.stored, e.version, e.fenced = back, api.version, true
	api.legal = max(api.legal, back.Want().Traffic.Share)
	return true
}

// roundTrip is what storing a state and reading it again makes of it. It is made
// when a process starts, as others do not read the state.
func roundTrip(s rollout.State) (back rollout.State, err error) {
	data, err := json.Marshal(s)
	if err != nil {
		return back, err
	}
	return back, json.Unmarshal(data, &back)
}

// callHooks makes the calls that are wanted, and collects the answers. What is
// under way when the engine dies is called again.
func (e *engine) callHooks() {
	w := e.w
	wanted := e.stored.Want().Hooks
	e.results = slices.DeleteFunc(e.results, func(r rollout.HookResult) bool {
		return !slices.ContainsFunc(wanted, func(c rollout.HookCall) bool { return c.ID == r.ID })
	})
	for _, c := range wanted {
		if slices.ContainsFunc(e.results, func(r rollout.HookResult) bool { return r.ID == c.ID }) {
			continue
		}
		i := slices.IndexFunc(e.calls, func(x call) bool { return x.id == c.ID })
		if i < 0 {
			e.calls = append(e.calls, call{id: c.ID, due: w.now.Add(w.delay(0, w.Hooks.Takes+time.Millisecond))})
			continue
		}
		if e.calls[i].due.After(w.now) {
			continue
		}
		if r, ok := w.answerCall(c); ok {
			e.results = append(e.results, r)
			e.calls = slices.Delete(e.calls, i, i+1)
		}
	}
}

func (e *engine) makeStable() {
	want, s := e.stored.Want(), &e.w.stable
	if want.StableRevision == "" {
		return
	}
	phase := e.stored.Phase
	if s.rev != want.StableRevision && s.rev != "" && e.stored.Split && want.StableRevision != e.stored.Stable &&
		phase != rollout.Promoting && phase != rollout.Finalizing {
		e.violate("%s rolls the stable copy to %s", phase, want.StableRevision)
	}
	if s.rev == "" {
		s.replicas = max(1, e.w.userReplicas)
	}
	s.rev = want.StableRevision
	switch {
	case want.ByPods && want.StablePods == 0:
		s.replicas = e.w.userReplicas
	case want.ByPods:
		s.replicas = int(want.StablePods)
	default:
		s.replicas = max(s.replicas, int(want.StablePods))
	}
}

func (e *engine) scaleUp() {
	want, t := e.stored.Want(), &e.w.target
	switch {
	case !want.CanaryScaled || t.rev == "":
	case want.ByPods:
		t.replicas = int(want.CanaryPods)
	case t.replicas == 0:
		t.replicas = max(e.w.userReplicas, int(want.CanaryPods))
	default:
		t.replicas = max(t.replicas, int(want.CanaryPods))
	}
}

func (e *engine) makeWarm() {
	want, s := e.stored.Want(), &e.w.warm
	if want.Warm == "" {
		s.replicas = 0
		return
	}
	s.rev, s.replicas = want.Warm, max(1, e.w.stable.replicas)
}

func (e *engine) makeRoute() {
	want, r := e.stored.Want(), e.w.route
	if !want.Split {
		return
	}
	if e.w.byPods() {
		e.w.joined = true
		return
	}
	if r.generation > 0 && r.traffic == want.Traffic {
		return
	}
	if limit := earned(e.w.Plan, e.stored); want.Traffic.Share > limit && e.leads() {
		e.violate("%s at step %d asks for %v, earned is %v", e.stored.Phase, e.stored.Step, want.Traffic.Share, limit)
	}
	e.w.write(want.Traffic, !e.leads()) // who lost the lease without knowing it is a stranger
}

// earned is the largest share that a state may ask for.
func earned(plan rollout.Plan, s rollout.State) rollout.Share {
	if s.Phase != rollout.Progressing && s.Phase != rollout.Promoting && s.Phase != rollout.RollingBack || s.Step < 1 {
		return 0
	}
	switch plan.Strategy {
	case rollout.ABTest, rollout.BlueGreen:
		return rollout.All
	case rollout.Mirror:
		return 0
	case rollout.Canary, rollout.Replicas:
	}
	return plan.Steps[s.Step-1]
}

func (e *engine) scaleAway() {
	want := e.stored.Want()
	if want.CanaryScaled || e.w.target.replicas == 0 {
		return
	}
	for _, p := range e.w.proxies {
		if p.generation > 0 && p.traffic.Share != 0 && !p.foreign && !e.w.route.foreign && e.leads() && !e.w.byPods() {
			e.violate("the canary's pods are taken away while a proxy gives them %v", p.traffic.Share)
		}
	}
	e.w.target.replicas = 0
}

func (e *engine) violate(format string, args ...any) {
	if r := e.api.result; len(r.Violations) < 5 {
		r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
	}
}
