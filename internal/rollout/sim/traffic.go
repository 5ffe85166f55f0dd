package sim

import (
	"math"
	"math/rand/v2"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

// traffic sends the requests of one tick.
func (w *world) traffic(since time.Duration) {
	rate := w.Rate
	if w.NoTraffic.covers(since) {
		rate = 0
	}
	w.direct(since)
	for i := range w.proxies {
		p := &w.proxies[i]
		n := poisson(w.rand, rate*tick.Seconds()/proxies)
		w.tally.arrived += n
		switch {
		case w.byPods():
			w.anyPod(n, since)
		case p.generation == 0:
			w.answer(&w.target, n, since)
		default:
			w.split(p, n, since)
		}
	}
}

// split sends the requests of one proxy by its route.
func (w *world) split(p *proxy, n int64, since time.Duration) {
	matched := int64(0)
	of := n
	if p.traffic.Match {
		matched = binomial(w.rand, n, w.Matched)
		of = matched
	}
	canary := binomial(w.rand, of, p.traffic.Share.Fraction())
	home := &w.stable
	if p.traffic.Warm {
		home = &w.warm
	}
	copies := binomial(w.rand, n, p.traffic.Mirror.Fraction())
	canaryFailed := w.answer(&w.target, canary, since)
	seen := analysis.Samples{}
	switch {
	case copies > 0: // the copied ones compare
		seen.StableRequests, seen.StableFailures = copies, w.answer(home, copies, since)
		w.answer(home, n-copies, since)
		seen.CanaryRequests, seen.CanaryFailures = copies, w.copies(copies, since)
	case p.traffic.Match:
		seen.DirectRequests, seen.DirectFailures = canary, canaryFailed
		w.answer(home, n-canary, since)
	default:
		seen.CanaryRequests, seen.CanaryFailures = canary, canaryFailed
		seen.StableRequests, seen.StableFailures = n-canary, w.answer(home, n-canary, since)
	}
	w.count(seen, canary, w.tally.base > 0 && p.generation >= w.tally.base)
}

// anyPod sends requests to any pod that is ready.
func (w *world) anyPod(n int64, since time.Duration) {
	canary := n
	if w.joined {
		ours, theirs := float64(w.target.ready(w.now)), float64(w.stable.ready(w.now))
		canary = binomial(w.rand, n, ours/max(1, ours+theirs))
	}
	seen := analysis.Samples{}
	seen.CanaryRequests, seen.CanaryFailures = canary, w.answer(&w.target, canary, since)
	seen.StableRequests, seen.StableFailures = n-canary, w.answer(&w.stable, n-canary, since)
	w.count(seen, canary, w.tally.base > 0)
}

// direct sends a load test's requests to a canary that has no user yet.
func (w *world) direct(since time.Duration) {
	if w.Direct == 0 || w.target.ready(w.now) == 0 {
		return
	}
	n := poisson(w.rand, w.Direct*tick.Seconds())
	failed := w.copies(n, since)
	seen := analysis.Samples{DirectRequests: n, DirectFailures: failed, DirectSpared: failed}
	w.count(seen, 0, w.tally.base > 0)
}

func (w *world) count(seen analysis.Samples, canary int64, current bool) {
	t := &w.tally
	if seen.CanaryRequests+seen.DirectRequests > 0 && t.firstCanary.IsZero() {
		t.firstCanary = w.now
	}
	if !current {
		return
	}
	t.samples.Counts = t.samples.Counts.Add(seen.Counts)
	t.samples.DirectRequests += seen.DirectRequests
	t.samples.DirectFailures += seen.DirectFailures
	t.samples.DirectSpared += seen.DirectSpared
	if t.cutOff {
		t.late += canary
	}
}

// copies lets the canary answer requests of which no user sees the answer.
func (w *world) copies(n int64, since time.Duration) (failed int64) {
	if w.target.ready(w.now) == 0 {
		return n
	}
	return w.answer(&w.target, n, since)
}

// answer lets a side answer n requests and returns how many failed.
func (w *world) answer(s *side, n int64, since time.Duration) (failed int64) {
	if n == 0 {
		return 0
	}
	var ready [16]rollout.Revision // more than any autoscaler asks for
	pods := 0
	for _, p := range s.pods {
		if !p.ready.After(w.now) && pods < len(ready) {
			ready[pods] = p.rev
			pods++
		}
	}
	if pods == 0 {
		if since > 0 { // before, the world is only being built
			w.unserved += n
		}
		return n
	}
	for range n {
		rev := ready[w.rand.IntN(pods)]
		rate := w.Fails[rev]
		if w.Outage.covers(since) {
			rate = 1 - (1-rate)*(1-w.OutageFails)
		}
		if w.rand.Float64() < rate {
			failed++
		}
		if s != &w.target {
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
	if p <= 0 {
		return 0
	}
	for range n {
		if r.Float64() < p {
			k++
		}
	}
	return k
}
