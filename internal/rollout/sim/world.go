package sim

import (
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
	Foreign   float64 // somebody else writes the route
	Scaling   float64 // an autoscaler changes the number of pods of one side
	GitOps    float64 // somebody resets the target's replicas to what stands in Git
	PodCrash  float64 // a pod restarts
	ClockBack float64 // the engine's clock is set back, half of the times by less than a minute, else by up to an hour
	Takeover  float64 // another engine becomes the leader; the old one is not told
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
	generation int // 0 = no route: all to the target
	traffic    rollout.Traffic
	foreign    bool
	at         time.Time
	next       time.Time // when it applies the route that was pushed last
}

// route is the object that carries the split.
type route struct {
	generation int // 0 = does not exist
	traffic    rollout.Traffic
	foreign    bool
}

type world struct {
	Scenario
	rand *rand.Rand
	now  time.Time

	target, stable, warm side
	userReplicas         int // what the user asks for, while the target is scaled up
	route                route
	proxies              [proxies]proxy
	tally                tally

	// joined: without a route, the stable copy's pods are behind the service.
	joined bool
	// shape is the number of pods that was asked for last without a route,
	// shaped since when it is so; zero = not yet.
	shape  [2]int32
	shaped time.Time

	server   server
	people   people
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
	if sc.Pods > 0 {
		w.userReplicas = sc.Pods
	}
	w.target = side{rev: firstRevision, replicas: w.userReplicas}
	w.server.done = map[string]bool{}
	w.resetTally()
	return w
}

func (w *world) resetTally() { w.tally = tally{served: map[rollout.Revision]int64{}} }

// byPods reports whether there is no route.
func (w *world) byPods() bool { return w.Plan.Strategy == rollout.Replicas }

// chance reports whether something of the given rate per second happens in
// this tick.
func (w *world) chance(perSecond float64) bool {
	return perSecond > 0 && w.rand.Float64() < perSecond*tick.Seconds()
}

func (w *world) delay(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rand.Int64N(int64(most-least)))
}

// advance moves everything but the engines by one tick.
func (w *world) advance(since time.Duration) {
	w.now = w.now.Add(tick)
	for _, a := range w.People {
		switch due := a.At > since-tick && a.At <= since; {
		case !due:
		case a.Delete:
			w.target = side{}
		case a.Strand:
			w.stable.replicas = 0
		case a.Target != "":
			w.target.rev = a.Target
		}
	}
	w.misfortune()
	for _, s := range []*side{&w.target, &w.stable, &w.warm} {
		w.roll(s)
	}
	w.push()
	w.traffic(since)
}

func (w *world) misfortune() {
	if w.chance(w.Faults.Foreign) && w.route.generation > 0 {
		w.write(rollout.Traffic{Share: rollout.Share(w.rand.IntN(101)) * rollout.Percent}, true)
	}
	if w.chance(w.Faults.Scaling) {
		w.autoscale()
	}
	if w.chance(w.Faults.GitOps) && w.target.rev != "" {
		w.target.replicas = w.userReplicas
	}
	for _, s := range []*side{&w.target, &w.stable, &w.warm} {
		for i := range s.pods {
			if w.chance(w.Faults.PodCrash) && s.pods[i].rev != w.Broken {
				s.pods[i].ready = w.now.Add(w.delay(time.Second, 5*time.Second))
			}
		}
	}
}

// autoscale changes one side, or what is asked for in all.
func (w *world) autoscale() {
	n := 1 + w.rand.IntN(4)
	switch {
	case w.byPods():
		w.userReplicas = max(2, n)
	case w.rand.IntN(2) == 0 && w.stable.replicas > 0:
		w.stable.replicas = n
	default:
		w.userReplicas = n
		if w.target.replicas > 0 {
			w.target.replicas = n
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

func (s *side) ready(now time.Time) (n int32) {
	for _, p := range s.pods {
		if !p.ready.After(now) {
			n++
		}
	}
	return n
}

// observe is what an informer and the proxies' acks say about a side.
func (s *side) observe(now time.Time) rollout.Workload {
	o := rollout.Workload{Revision: s.rev, Pods: s.ready(now), Wanted: int32(s.replicas)}
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
func (w *world) write(t rollout.Traffic, foreign bool) {
	w.route = route{generation: w.route.generation + 1, traffic: t, foreign: foreign}
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
			*p = proxy{generation: w.route.generation, traffic: w.route.traffic, foreign: w.route.foreign, at: w.now}
		}
	}
}

// ack is what all proxies together confirm. A confirmed route becomes the base
// from which on samples count.
func (w *world) ack(want rollout.World) rollout.Ack {
	if w.byPods() {
		return w.ackPods(want)
	}
	var since time.Time
	for _, p := range w.proxies {
		if w.route.generation == 0 || p.generation != w.route.generation {
			return rollout.Ack{}
		}
		if p.at.After(since) {
			since = p.at
		}
	}
	w.rebase(w.route.generation, w.route.traffic.Share == 0 && w.route.traffic.Mirror == 0)
	return rollout.Ack{OK: true, Traffic: w.route.traffic, Since: since}
}

// ackPods confirms that there are as many pods as are asked for.
func (w *world) ackPods(want rollout.World) rollout.Ack {
	shape := [2]int32{want.CanaryPods, want.StablePods}
	right := w.joined && want.ByPods && len(w.target.pods) == int(want.CanaryPods) && w.target.ready(w.now) == want.CanaryPods &&
		(want.StablePods == 0 || len(w.stable.pods) == int(want.StablePods) && w.stable.ready(w.now) == want.StablePods)
	if !right {
		w.shaped = time.Time{}
		return rollout.Ack{}
	}
	if w.shaped.IsZero() || w.shape != shape {
		w.shape, w.shaped = shape, w.now
		w.route.generation++
	}
	w.rebase(w.route.generation, want.CanaryPods == 0)
	return rollout.Ack{OK: true, Traffic: want.Traffic, Since: w.shaped}
}

func (w *world) rebase(generation int, cutOff bool) {
	if t := &w.tally; t.base != generation {
		t.base, t.cutOff = generation, cutOff
		t.samples, t.served, t.late = analysis.Samples{}, map[rollout.Revision]int64{}, 0
	}
}
