package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"serin.dev/serin/internal/rollout"
)

const firstRevision rollout.Revision = "v1"

// Scenario is a story to be played with many seeds.
type Scenario struct {
	Plan rollout.Plan
	// Rate of requests per second to the service, and Direct of those that a
	// load test sends to the canary itself.
	Rate, Direct float64
	// Matched is the share of users, 0 to 1, that an A/B test is about.
	Matched float64
	// Pods is how many the user asks for; 0 = 2.
	Pods int
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
	Hooks     HookManners
	Gates     GateManners
	// Horizon ends the simulation, whatever the state.
	Horizon time.Duration
}

// Act is something that a person does once.
type Act struct {
	At      time.Duration    // more than 0
	Target  rollout.Revision // deploy it
	Delete  bool             // the target
	Strand  bool             // scale the stable copy to no pod
	Command rollout.Verb
	Suspend string // "on", "off", "freeze", "thaw"
}

// HookManners are how the plan's hooks behave: chances per call, and the
// longest time that one takes.
type HookManners struct {
	Fails, SaysNo, Panics float64
	Silent                float64 // chance that it has no answer yet when it should
	Takes                 time.Duration
}

// GateManners are how people answer manual gates: how often per second, and
// with which chances they say no or are not asked at all.
type GateManners struct {
	Answers            float64
	Rejects, Strangers float64
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
	return play(newWorld(sc, rand.New(rand.NewPCG(seed, 0x5e11))))
}

func play(w *world) Result {
	var result Result
	api := &api{result: &result}
	engines := []*engine{{w: w, api: api, me: 0}, {w: w, api: api, me: 1, down: true}}
	engines[0].boot()
	var since time.Duration // the release was initialized
	for since < w.Horizon {
		if since > 0 || api.state.Phase == rollout.Idle {
			since += tick
		}
		w.advance(since)
		w.look(api.state)
		if w.chance(w.Faults.Takeover) {
			api.term++
		}
		for _, e := range engines {
			e.run(since)
		}
		w.watchShare(api, engines[api.term%2])
		if settled(w, api, since) {
			break
		}
	}
	result.State = api.state
	result.Settled = settled(w, api, since)
	result.Starved = !result.Settled && api.state.Wait == rollout.WaitEvidence && api.state.Deadline.IsZero()
	result.Took = since
	result.Unserved = w.unserved
	if what := w.twice(); what != "" {
		engines[0].violate("%s had its effect twice", what)
	}
	if n, yes := w.missed(result.Runs); yes && result.Settled {
		engines[0].violate("the hooks after run %d were never called", n)
	}
	return result
}

// watchShare checks at every moment that no proxy gives the canary more than
// was legal since the last share that all of them acknowledged.
func (w *world) watchShare(api *api, e *engine) {
	all := true
	for _, p := range w.proxies {
		all = all && p.generation == w.route.generation
		if p.generation > 0 && p.traffic.Share > api.legal && !p.foreign {
			e.violate("a proxy gives %v to the canary, legal is %v (%s)", p.traffic.Share, api.legal, api.state.Phase)
		}
	}
	if want := api.state.Want().Traffic.Share; all && w.route.traffic.Share == want {
		api.legal = want
	}
}

// settled reports whether nothing will happen any more.
func settled(w *world, api *api, since time.Duration) bool {
	for _, a := range w.People {
		if a.At > since {
			return false
		}
	}
	s, target := &api.state, w.target.rev
	return s.Phase == rollout.Idle && (target == s.Stable || target == s.Rejected || target == "") &&
		w.target.replicas == 0 && len(s.Calls) == 0
}

func (r Result) String() string {
	var out string
	for _, run := range r.Runs {
		out += fmt.Sprintf("  run %d of %s: %s: %s\n", run.Number, run.To, run.Outcome, run.Reason)
	}
	return out + fmt.Sprintf("  now %s since %v: %s", r.State.Phase, r.State.Since, r.State.Reason)
}
