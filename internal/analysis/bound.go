package analysis

import "math"

// The evidence to advance.
//
// A canary whose failure rate p1 exceeds stable's p0 by at least δ must be
// held. For each δ that the run will ask about we keep an e-process against
// that hypothesis, p1 >= p0 + δ with p0 unknown; when it stands at 1/β or more
// the regression δ is excluded with confidence 1-β, at any time (Ville). All δ
// together are a confidence sequence for p1 - p0.
//
// One block with n_c and n_s requests is scored by the likelihood ratio of a
// guess (q1, q0), made before the block from earlier blocks alone, against the
// nearest regression (r+δ, r): r minimises n_c·KL(q1‖r+δ) + n_s·KL(q0‖r).
// Nobody has to know p0, and it may differ from block to block. The ratio has
// mean at most 1 under every (p1, p0) with p1 >= p0+δ: by the inequality of
// arithmetic and geometric means the mean A^n_c·B^n_s is at most
// ((n_c·A + n_s·B)/n)^n, where A and B are the means of one canary and one
// stable request; n_c·A + n_s·B is linear in (p1, p0), equals n at (r+δ, r),
// stays n along the line p1 = p0+δ because r is the minimum, and falls with
// p1. (Turner & Grünwald, "Exact Anytime-valid Confidence Intervals for
// Contingency Tables and Beyond", 2023, after Turner, Ly & Grünwald, 2021.)
//
// The one approximation is that requests of one block and side fail
// independently with one rate. A wrong guess costs time, never validity.
//
// With no failures at all the process grows by -ln(1-δ) per canary request:
// 14, 29 and 59 requests exclude 20 %, 10 % and 5 % with 95 % confidence.

const (
	// boundReserve is the share of the stake that is not bet on a block: a
	// block that belies the guess, such as the first one of an outage, costs
	// at most ln(1/0.02) = 3.9, and a good run is slowed by 2 %.
	boundReserve = 0.02

	// boundRecent is the weight per block that fades what is recent: about
	// five blocks count, so that the guess follows an outage.
	boundRecent = 0.8
	// boundLong is how many requests of both sides the long memory reaches
	// back: a guess from few requests is a bad one, and costs time.
	boundLong = 2000

	// boundFloor, times δ, is the lowest rate that is guessed: a guess of 0
	// would be ruined by one stray failure, a guess far below δ costs nothing.
	boundFloor = 0.05

	// boundPause: while the canary is expected to fail more than every fourth
	// request, for whatever reason, no block counts as evidence that it serves
	// well. Without this a total outage would "show" that it is no worse.
	boundPause = 0.25

	// overdueFactor: a version as good as stable needs more than this many
	// times the expected requests in about one run of a hundred, when p0 is
	// several times δ, and far more seldom otherwise.
	overdueFactor = 10
)

// boundTest keeps the evidence against regressions.
type boundTest struct {
	// Recent and Long are requests and failures that fade, by block and by
	// number of requests.
	Recent fading `json:"recent"`
	Long   fading `json:"long"`
	// Canary counts the canary's requests in the blocks that were scored.
	Canary int64 `json:"canary"`
	// Regressions are ordered as in Policy.Shares.
	Regressions []regression `json:"regressions,omitempty"`
}

type fading struct {
	CanaryRequests float64 `json:"canaryRequests"`
	CanaryFailures float64 `json:"canaryFailures"`
	StableRequests float64 `json:"stableRequests"`
	StableFailures float64 `json:"stableFailures"`
}

// add fades what was counted and adds a block.
func (f fading) add(block Counts, weight float64) fading {
	return fading{
		CanaryRequests: f.CanaryRequests*weight + float64(block.CanaryRequests),
		CanaryFailures: f.CanaryFailures*weight + float64(block.CanaryFailures),
		StableRequests: f.StableRequests*weight + float64(block.StableRequests),
		StableFailures: f.StableFailures*weight + float64(block.StableFailures),
	}
}

// regression is one e-process, against p1 >= p0 + Delta.
type regression struct {
	Delta float64 `json:"delta"`
	LogE  float64 `json:"logE"`
}

// add scores one block against each of the deltas. Evidence is kept for the
// deltas that were asked for before; a new one begins with none.
func (t boundTest) add(block Counts, deltas []float64) boundTest {
	counts := !t.paused()
	var next []regression
	for _, delta := range deltas {
		r := regression{Delta: delta, LogE: t.logE(delta)}
		if counts {
			q0, q1 := t.guess(lowest(delta))
			score := blockScore(block, q1, q0, delta)
			r.LogE += logAddExp(math.Log(boundReserve), math.Log1p(-boundReserve)+score)
		}
		next = append(next, r)
	}
	t.Regressions = next
	if counts {
		t.Canary += block.CanaryRequests
	}
	t.Recent = t.Recent.add(block, boundRecent)
	t.Long = t.Long.add(block, math.Exp(-float64(block.Requests())/boundLong))
	return t
}

// paused reports whether the next block will not count: see boundPause.
func (t boundTest) paused() bool {
	_, canary := t.guess(0)
	return canary > boundPause
}

// logE returns the evidence against a regression of delta; 0 when none was kept.
func (t boundTest) logE(delta float64) float64 {
	for _, r := range t.Regressions {
		if r.Delta == delta {
			return r.LogE
		}
	}
	return 0
}

// guess returns the failure rates that the next block is expected to have if
// the canary is good: stable's, and the same for the canary unless it clearly
// does better. The long memory is believed unless the recent one belies it.
func (t boundTest) guess(floor float64) (stable, canary float64) {
	const most = 1 - 1e-6
	f := t.Long
	stable = f.StableFailures / max(1, f.StableRequests)
	if r := t.Recent; math.Abs(deviation(r.StableFailures, r.StableRequests, stable)) > 3 {
		f = r
		stable = f.StableFailures / max(1, f.StableRequests)
	}
	if f.StableRequests == 0 { // a split of 100 %
		stable = f.CanaryFailures / max(1, f.CanaryRequests)
	}
	stable = min(max(stable, floor), most)
	canary = stable
	if deviation(f.CanaryFailures, f.CanaryRequests, stable) < -3 {
		canary = min(stable, (f.CanaryFailures+1)/(f.CanaryRequests+2))
	}
	return stable, canary
}

// lowest is the lowest rate that is guessed: see boundFloor. It is not 0 for
// any delta.
func lowest(delta float64) float64 { return max(boundFloor*delta, math.SmallestNonzeroFloat64) }

// deviation is how many standard deviations the failures lie above what the
// rate lets expect; one failure more or less is never many.
func deviation(failures, requests, rate float64) float64 {
	return (failures - requests*rate) / math.Sqrt(requests*rate*(1-rate)+1)
}

// blockScore is the logarithm of a block's likelihood ratio of (q1, q0) against
// the nearest regression of delta. It needs 0 < q1 <= q0 < 1 and 0 < delta < 1.
func blockScore(block Counts, q1, q0, delta float64) float64 {
	nc, ns := float64(block.CanaryRequests), float64(block.StableRequests)
	if nc == 0 {
		return 0
	}
	r := nearest(nc, ns, q1, q0, delta)
	score := logRatio(block.CanaryFailures, block.CanaryRequests, q1, r+delta)
	if ns > 0 {
		score += logRatio(block.StableFailures, block.StableRequests, q0, r)
	}
	return score
}

// logRatio is the log likelihood ratio of two Bernoulli rates.
func logRatio(failures, requests int64, q, r float64) float64 {
	k, n := float64(failures), float64(requests)
	return k*math.Log(q/r) + (n-k)*(math.Log1p(-q)-math.Log1p(-r))
}

// nearest returns the r that minimises nc·KL(q1‖r+delta) + ns·KL(q0‖r). The
// sum is convex in r, so its slope is bisected; 60 halvings exhaust a float64.
func nearest(nc, ns, q1, q0, delta float64) float64 {
	if ns == 0 {
		return max(0, q1-delta)
	}
	slope := func(r float64) float64 {
		a := r + delta
		return nc*(a-q1)/(a*(1-a)) + ns*(r-q0)/(r*(1-r))
	}
	lo, hi := 0.0, 1-delta
	for range 60 {
		mid := (lo + hi) / 2
		if mid == lo || mid == hi {
			break
		}
		if slope(mid) > 0 {
			hi = mid
		} else {
			lo = mid
		}
	}
	return (lo + hi) / 2
}

// growth is the mean evidence against a regression of delta that one canary
// request brings, when both sides fail at the rate and the canary has the
// share; 0 when there is none to be had.
func growth(rate, share, delta float64) float64 {
	rate = min(max(rate, lowest(delta)), 1-1e-6)
	nc, ns := share, 1-share
	if nc <= 0 {
		return 0
	}
	r := nearest(nc, ns, rate, rate, delta)
	g := klBernoulli(rate, r+delta)
	if ns > 0 {
		g += ns / nc * klBernoulli(rate, r)
	}
	return (1 - boundReserve) * max(0, g)
}

func klBernoulli(p, q float64) float64 {
	return p*math.Log(p/q) + (1-p)*(math.Log1p(-p)-math.Log1p(-q))
}
