package sim

import (
	"math"
	"math/rand/v2"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

// tick is the grain of simulated time.
const tick = 100 * time.Millisecond

// proxies is how many there are: enough for partial application.
const proxies = 3

// Faults are what goes wrong, as rates per second of simulated time unless
// said otherwise. The zero value is a calm world.
type Faults struct {
	Crash     float64 // chance per instruction that the engine is killed
	StoreFail float64 // chance per write that the API refuses it
	LostPush  float64 // chance that a proxy misses a route until it is sent again
	Stale     float64 // chance per look that an older input is given again, too
	Foreign   float64 // somebody else writes the route
	Scaling   float64 // an autoscaler changes the number of pods
	PodCrash  float64 // a pod restarts
	ClockBack float64 // the engine's clock is set back by up to an hour
}

// side is one workload and its pods.
type side struct {
	rev      rollout.Revision // of the template
	replicas int
	pods     []pod
}

type pod struct {
	rev   rollout.Revision
	ready time.Time
}

// proxy is one data plane: the route it applied.
type proxy struct {
	generation int
	share      rollout.Share // -1 = no route: all to the target
	foreign    bool
	at         time.Time
	next       time.Time // when it applies the route that was pushed last
}

// route is the object that carries the split.
type route struct {
	generation int // 0 = does not exist
	share      rollout.Share
	foreign    bool
}

type world struct {
	Scenario
	rand *rand.Rand
	now  time.Time

	target, stable side
	userReplicas   int // what the user asks for, while the target is scaled up
	route          route
	proxies        [proxies]proxy
	tally          tally

	unserved int64 // requests for which no pod was ready
}

// tally counts requests like the telemetry does: samples only since the base.
type tally struct {
	base        int // generation of the route from which on samples count; 0 = none
	cutOff      bool
	samples     analysis.Samples
	arrived     int64
	late        int64
	served      map[rollout.Revision]int64
	firstCanary time.Time
}

func newWorld(sc Scenario, r *rand.Rand) *world {
	w := &world{Scenario: sc, rand: r, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), userReplicas: 2}
	w.target = side{rev: firstRevision, replicas: w.userReplicas}
	for i := range w.proxies {
		w.proxies[i].share = -1
	}
	w.resetTally()
	return w
}

func (w *world) resetTally() { w.tally = tally{served: map[rollout.Revision]int64{}} }

// chance reports whether something of the given rate per second happens in
// this tick.
func (w *world) chance(perSecond float64) bool {
	return perSecond > 0 && w.rand.Float64() < perSecond*tick.Seconds()
}

func (w *world) delay(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rand.Int64N(int64(most-least)))
}

// advance moves everything but the engine by one tick.
func (w *world) advance(since time.Duration) {
	w.now = w.now.Add(tick)
	for _, a := range w.People {
		if a.At > since-tick && a.At <= since && a.Target != "" {
			w.target.rev = a.Target
		}
	}
	w.misfortune()
	w.roll(&w.target)
	w.roll(&w.stable)
	w.push()
	w.traffic(since)
}

func (w *world) misfortune() {
	if w.chance(w.Faults.Foreign) && w.route.generation > 0 {
		w.write(rollout.Share(w.rand.IntN(101))*rollout.Percent, true)
	}
	if w.chance(w.Faults.Scaling) {
		w.userReplicas = 1 + w.rand.IntN(4)
		if w.target.replicas > 0 {
			w.target.replicas = w.userReplicas
		}
		if w.stable.replicas > 0 {
			w.stable.replicas = w.userReplicas
		}
	}
	for _, s := range []*side{&w.target, &w.stable} {
		for i := range s.pods {
			if w.chance(w.Faults.PodCrash) && s.pods[i].rev != w.Broken {
				s.pods[i].ready = w.now.Add(w.delay(time.Second, 5*time.Second))
			}
		}
	}
}

// roll is a rolling update, one pod more than asked for and none less.
func (w *world) roll(s *side) {
	current, ready := 0, 0
	for _, p := range s.pods {
		if p.rev == s.rev {
			current++
		}
		if !p.ready.After(w.now) {
			ready++
		}
	}
	if current < s.replicas && len(s.pods) <= s.replicas {
		p := pod{rev: s.rev, ready: w.now.Add(w.delay(200*time.Millisecond, 3*time.Second))}
		if w.Broken == s.rev {
			p.ready = w.now.Add(1000 * time.Hour)
		}
		s.pods = append(s.pods, p)
		return
	}
	for i, p := range s.pods {
		old := p.rev != s.rev
		down := p.ready.After(w.now)
		if len(s.pods) > s.replicas && (old || current > s.replicas) && (down || ready > s.replicas || s.replicas == 0) {
			s.pods = append(s.pods[:i], s.pods[i+1:]...)
			return
		}
	}
}

// observe is what an informer and the proxies' acks say about a side.
func (s *side) observe(now time.Time) rollout.Workload {
	o := rollout.Workload{Revision: s.rev}
	if s.rev == "" {
		return o
	}
	good := 0
	for _, p := range s.pods {
		if p.rev == s.rev && !p.ready.After(now) {
			good++
		}
	}
	o.Ready = s.replicas > 0 && good == s.replicas && len(s.pods) == s.replicas
	if !o.Ready {
		o.Message = "pods are not ready"
	}
	return o
}

// write changes the route object, and starts to push it.
func (w *world) write(share rollout.Share, foreign bool) {
	w.route = route{generation: w.route.generation + 1, share: share, foreign: foreign}
	for i := range w.proxies {
		w.proxies[i].next = w.now.Add(w.pushDelay())
	}
}

func (w *world) pushDelay() time.Duration {
	if w.rand.Float64() < w.Faults.LostPush {
		return w.delay(5*time.Second, 15*time.Second) // sent again after a time-out
	}
	return w.delay(0, 400*time.Millisecond)
}

func (w *world) push() {
	for i := range w.proxies {
		p := &w.proxies[i]
		if p.generation != w.route.generation && !p.next.After(w.now) {
			*p = proxy{generation: w.route.generation, share: w.route.share, foreign: w.route.foreign, at: w.now}
		}
	}
}

// ack is what all proxies together confirm. A confirmed route becomes the base
// from which on samples count.
func (w *world) ack() rollout.Ack {
	var since time.Time
	for _, p := range w.proxies {
		if w.route.generation == 0 || p.generation != w.route.generation {
			return rollout.Ack{}
		}
		if p.at.After(since) {
			since = p.at
		}
	}
	if t := &w.tally; t.base != w.route.generation {
		t.base, t.cutOff = w.route.generation, w.route.share == 0
		t.samples, t.served, t.late = analysis.Samples{}, map[rollout.Revision]int64{}, 0
	}
	return rollout.Ack{OK: true, Traffic: rollout.Traffic{Share: w.route.share}, Since: since}
}

// traffic sends the requests of one tick.
func (w *world) traffic(since time.Duration) {
	rate := w.Rate
	if w.NoTraffic.covers(since) {
		rate = 0
	}
	for i := range w.proxies {
		p := &w.proxies[i]
		n := poisson(w.rand, rate*tick.Seconds()/proxies)
		w.tally.arrived += n
		if p.share < 0 {
			w.answer(&w.target, n, since)
			continue
		}
		canary := binomial(w.rand, n, p.share.Fraction())
		stable := n - canary
		canaryFailed := w.answer(&w.target, canary, since)
		stableFailed := w.answer(&w.stable, stable, since)
		t := &w.tally
		if canary > 0 && t.firstCanary.IsZero() {
			t.firstCanary = w.now
		}
		if t.base == 0 || p.generation < t.base {
			continue
		}
		t.samples.Counts = t.samples.Counts.Add(analysis.Counts{
			CanaryRequests: canary, CanaryFailures: canaryFailed,
			StableRequests: stable, StableFailures: stableFailed,
		})
		if t.cutOff {
			t.late += canary
		}
	}
}

// answer lets a side answer n requests and returns how many failed.
func (w *world) answer(s *side, n int64, since time.Duration) (failed int64) {
	if n == 0 {
		return 0
	}
	var ready []rollout.Revision
	for _, p := range s.pods {
		if !p.ready.After(w.now) {
			ready = append(ready, p.rev)
		}
	}
	if len(ready) == 0 {
		if since > 0 { // before, the world is only being built
			w.unserved += n
		}
		return n
	}
	for range n {
		rev := ready[w.rand.IntN(len(ready))]
		rate := w.Fails[rev]
		if w.Outage.covers(since) {
			rate = 1 - (1-rate)*(1-w.OutageFails)
		}
		if w.rand.Float64() < rate {
			failed++
		}
		if s == &w.stable {
			w.tally.served[rev]++
		}
	}
	return failed
}

func poisson(r *rand.Rand, mean float64) int64 {
	limit, product := math.Exp(-mean), r.Float64()
	var n int64
	for product > limit {
		product *= r.Float64()
		n++
	}
	return n
}

func binomial(r *rand.Rand, n int64, p float64) (k int64) {
	for range n {
		if r.Float64() < p {
			k++
		}
	}
	return k
}
