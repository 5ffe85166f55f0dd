package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

const firstRevision rollout.Revision = "v1"

// Scenario is a story to be played with many seeds.
type Scenario struct {
	Plan rollout.Plan
	// Rate of requests per second to the service.
	Rate float64
	// Fails is the failure rate of each revision, 0 to 1.
	Fails map[rollout.Revision]float64
	// Broken is a revision whose pods never become ready.
	Broken rollout.Revision
	// People act at times since the release was initialized, and so do the
	// spans below.
	People []Act
	// Outage makes requests of both sides fail at OutageFails.
	Outage      Span
	OutageFails float64
	// NoTraffic: no request arrives.
	NoTraffic Span
	Faults    Faults
	// Horizon ends the simulation, whatever the state.
	Horizon time.Duration
}

// Act is something that a person does once.
type Act struct {
	At      time.Duration    // more than 0
	Target  rollout.Revision // deploy it
	Command rollout.Verb
	Suspend string // "on", "off"
}

// Span is a part of the simulated time; the zero value never is.
type Span struct{ From, To time.Duration }

func (s Span) covers(t time.Duration) bool { return t >= s.From && t < s.To }

// Result is how a simulation ended.
type Result struct {
	State rollout.State
	// Runs that ended, in order.
	Runs []rollout.Run
	// Settled: no run is on and none will begin. Starved: a run waits for
	// requests, and says so.
	Settled, Starved bool
	Took             time.Duration
	Crashes          int
	Unserved         int64
	// Violations of what must hold at every moment.
	Violations []string
}

// Last returns the outcome of the last run that ended; "" when none did.
func (r *Result) Last() rollout.Outcome {
	if len(r.Runs) == 0 {
		return ""
	}
	return r.Runs[len(r.Runs)-1].Outcome
}

// Play plays a scenario.
func Play(sc Scenario, seed uint64) Result {
	r := rand.New(rand.NewPCG(seed, 0x5e11))
	w := newWorld(sc, r)
	e := &engine{w: w}
	e.boot()
	var since time.Duration // the release was initialized
	for since < sc.Horizon {
		if since > 0 || e.stored.Phase == rollout.Idle {
			since += tick
		}
		w.advance(since)
		e.run(since)
		e.watchShare()
		if e.settled(since) {
			break
		}
	}
	e.result.State = e.stored
	e.result.Settled = e.settled(since)
	e.result.Starved = !e.result.Settled && starved(e.stored)
	e.result.Took = since
	e.result.Unserved = w.unserved
	return e.result
}

// starved reports whether the state says that it waits for requests.
func starved(s rollout.State) bool {
	return s.Phase == rollout.Progressing && s.Deadline.IsZero() &&
		(strings.Contains(s.Reason, "evidence") || strings.Contains(s.Reason, "checks were not looked at"))
}

// engine is the loop around rollout.Step, one instruction at a time.
type engine struct {
	w      *world
	next   time.Time
	pc     int
	down   bool
	skew   time.Duration // of its clock
	input  rollout.Input
	older  rollout.Input
	memory rollout.State
	stored rollout.State // what the API has
	legal  rollout.Share
	result Result
}

func (e *engine) boot() {
	e.memory, e.pc, e.down = e.stored, 0, false
	e.older = rollout.Input{}
	e.w.resetTally()
}

// run executes the instructions that are due.
func (e *engine) run(since time.Duration) {
	w := e.w
	if e.next.After(w.now) {
		return
	}
	if e.down {
		e.boot()
	}
	if w.rand.Float64() < w.Faults.Crash {
		e.result.Crashes++
		e.down = true
		e.next = w.now.Add(w.delay(0, 20*time.Second))
		return
	}
	if w.chance(w.Faults.ClockBack) {
		e.skew -= w.delay(0, time.Hour)
	}
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
		e.makeStable()
	case 4:
		e.scaleUp()
	case 5:
		e.makeRoute()
	case 6:
		e.scaleAway()
	}
	e.pc++
	if e.pc > 6 {
		e.pc = 0
		e.next = w.now.Add(w.delay(0, 400*time.Millisecond))
	} else if w.rand.IntN(4) == 0 {
		e.next = w.now.Add(w.delay(0, 300*time.Millisecond)) // the API is slow
	} else {
		e.run(since)
	}
}

func (e *engine) observe(since time.Duration) {
	w := e.w
	ack := w.ack() // first: it sets the base of the samples
	t := &w.tally
	e.older = e.input
	e.input = rollout.Input{
		Now:         w.now.Add(e.skew),
		Target:      w.target.observe(w.now),
		Stable:      w.stable.observe(w.now),
		Ack:         ack,
		Samples:     t.samples,
		Arrived:     t.arrived,
		Late:        t.late,
		Served:      t.served[e.stored.Want().StableRevision],
		FirstCanary: t.firstCanary,
	}
	t.samples, t.arrived, t.late, t.served = analysis.Samples{}, 0, 0, map[rollout.Revision]int64{}
	for i, a := range w.People {
		if a.At > since {
			continue
		}
		if a.Command != "" {
			e.input.Command = rollout.Command{ID: fmt.Sprint(i), Verb: a.Command}
		}
		if a.Suspend != "" {
			e.input.Suspended = a.Suspend == "on"
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
	if w.rand.Float64() < w.Faults.Stale && !e.older.Now.IsZero() && e.older.Now.Before(e.input.Now) {
		before := e.memory
		e.memory, _ = rollout.Step(w.Plan, e.memory, e.older)
		if !e.memory.Want().Equal(before.Want()) {
			e.violate("a stale input changed the wanted world from %+v to %+v", before.Want(), e.memory.Want())
		}
	}
	s := e.memory
	if s.Phase == rollout.Finalizing && was.Phase != s.Phase && !(e.input.Stable.Ready && e.input.Stable.Revision == s.Canary) {
		e.violate("all traffic goes to a stable side that is not ready")
	}
	if s.Reason == "" || (s.Wait == rollout.WaitOthers || s.Wait == rollout.WaitTime) && s.Deadline.IsZero() {
		e.violate("%s waits without deadline or reason: %q", s.Phase, s.Reason)
	}
}

// store writes the state like the controller does: at once for decisions, at
// leisure for counts.
func (e *engine) store() bool {
	w := e.w
	if w.rand.Float64() < w.Faults.StoreFail {
		return false
	}
	if !e.stored.MustWrite(e.memory) && w.rand.IntN(10) > 0 {
		return true
	}
	data, err := json.Marshal(e.memory)
	if err != nil {
		e.violate("state cannot be stored: %v", err)
		return false
	}
	var back rollout.State
	if err := json.Unmarshal(data, &back); err != nil {
		e.violate("state cannot be read: %v", err)
		return false
	}
	if e.stored.Run.Number != back.Run.Number && e.stored.Run.Number > 0 && e.stored.Run.Ended.IsZero() {
		e.violate("the end of run %d was never stored", e.stored.Run.Number)
	}
	if !back.Run.Ended.IsZero() && (e.stored.Run.Ended.IsZero() || e.stored.Run.Number != back.Run.Number) {
		e.result.Runs = append(e.result.Runs, back.Run)
	}
	e.stored = back
	e.legal = max(e.legal, back.Want().Traffic.Share)
	return true
}

func (e *engine) makeStable() {
	want, s := e.stored.Want().StableRevision, &e.w.stable
	if want == "" {
		return
	}
	if s.rev != want && s.rev != "" && e.stored.Split && want != e.stored.Stable &&
		e.stored.Phase != rollout.Promoting && e.stored.Phase != rollout.Finalizing {
		e.violate("%s rolls the stable copy to %s", e.stored.Phase, want)
	}
	if s.rev == "" {
		s.replicas = max(1, e.w.userReplicas)
	}
	s.rev = want
}

func (e *engine) scaleUp() {
	if e.stored.Want().CanaryScaled && e.w.target.replicas == 0 {
		e.w.target.replicas = e.w.userReplicas
	}
}

func (e *engine) makeRoute() {
	want, r := e.stored.Want(), e.w.route
	if !want.Split || r.generation > 0 && r.share == want.Traffic.Share {
		return
	}
	if limit := earned(e.w.Plan, e.stored); want.Traffic.Share > limit {
		e.violate("%s at step %d asks for %v, earned is %v", e.stored.Phase, e.stored.Step, want.Traffic.Share, limit)
	}
	e.w.write(want.Traffic.Share, false)
}

// earned is the largest share that a state may ask for.
func earned(plan rollout.Plan, s rollout.State) rollout.Share {
	if s.Phase != rollout.Progressing && s.Phase != rollout.Promoting || s.Step < 1 {
		return 0
	}
	return plan.Steps[s.Step-1]
}

func (e *engine) scaleAway() {
	want := e.stored.Want()
	if want.CanaryScaled || e.w.target.replicas == 0 {
		return
	}
	for _, p := range e.w.proxies {
		if p.share != 0 && !p.foreign && !e.w.route.foreign {
			e.violate("the canary's pods are taken away while a proxy gives them %v", p.share)
		}
	}
	e.w.target.replicas = 0
}

// watchShare checks at every moment that no proxy gives the canary more than
// was legal since the last share that all of them acknowledged.
func (e *engine) watchShare() {
	w := e.w
	all := true
	for _, p := range w.proxies {
		all = all && p.generation == w.route.generation
		if p.share > e.legal && !p.foreign {
			e.violate("a proxy gives %v to the canary, legal is %v (%s)", p.share, e.legal, e.stored.Phase)
		}
	}
	if want := e.stored.Want().Traffic.Share; all && w.route.share == want {
		e.legal = want
	}
}

// settled reports whether nothing will happen any more.
func (e *engine) settled(since time.Duration) bool {
	for _, a := range e.w.People {
		if a.At > since {
			return false
		}
	}
	s, target := e.stored, e.w.target.rev
	return s.Phase == rollout.Idle && (target == s.Stable || target == s.Rejected) &&
		e.w.target.replicas == 0
}

func (e *engine) violate(format string, args ...any) {
	if len(e.result.Violations) < 5 {
		e.result.Violations = append(e.result.Violations, fmt.Sprintf(format, args...))
	}
}
