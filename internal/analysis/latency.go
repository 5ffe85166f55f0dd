package analysis

import (
	"fmt"
	"math"
	"time"
)

// The latency test.
//
// The canary is slow enough to be failed when its requests take more than
// 1 + LatencyTolerance times as long as stable's, in stochastic order: when for
// some duration t more of the canary's requests are longer than (1+tolerance)·t
// than of stable's are longer than t. So for a few t we count both, call them
// failures, and the failure test's e-process says the rest. What holds there
// holds here: it may be looked at any time, a slowdown that both sides share
// cancels out, whatever the shape of the distribution, and no independence of
// one request from the next is needed where the split is random.
//
// Any t is valid that was chosen before its block. Those that tell most are
// near stable's median for a change of all requests, and far out for one of the
// slow ones, so several quantiles are mixed; they are followed by stochastic
// approximation on stable's earlier requests (Robbins & Monro 1951), which
// needs one number each to remember.
//
// A version all of whose requests take longer moves all quantiles at once, and
// one of them alone sees two thirds of that. shift.go sees them together.
//
// Durations are compared by histogram buckets, whose bounds are exact: the
// tolerance is rounded up to whole buckets, never down.
//
// Sources: Howard & Ramdas, "Sequential estimation of quantiles with
// applications to A/B testing and best-arm identification" (2022); Lindon,
// Sanden & Shirikian, "Rapid Regression Detection in Software Deployments
// through Sequential Testing" (KDD 2022), which compare distributions by
// thresholds, too, but know only a tolerance of 0.

// latencyQuantiles are the quantiles of stable's durations that are compared.
const latencyQuantiles = 4

func latencyRanks() [latencyQuantiles]float64 {
	return [latencyQuantiles]float64{0.5, 0.8, 0.95, 0.99}
}

// latencyOdds are the alternatives at each quantile, with their parts of what
// that quantile gets: +20 % multiplies the odds of being late by 1.2 to 1.7
// beyond a tolerance of 5 %, a version that takes twice as long by ten.
func latencyOdds() []alternative {
	return []alternative{{1.25, 0.4}, {1.6, 0.35}, {3, 0.15}, {12, 0.1}}
}

// latencyShifts are the alternatives of shiftRatios, in standard deviations of
// the logarithm of the duration: +20 % beyond a tolerance of 5 % is 0.13 where
// durations spread by a factor of e, and 0.4 where they spread by 1.4.
func latencyShifts() [2]float64 { return [2]float64{0.15, 0.4} }

// latencyShiftPart is what they get of what is bet.
const latencyShiftPart = 0.6

// latencyLearn is how many of stable's requests are waited for before the first
// thresholds are set.
const latencyLearn = 20

// latencyTest is the e-process against "the canary is no slower than the
// tolerance allows".
type latencyTest struct {
	eProcess
	// Learned counts stable's durations; Quantiles are estimated from them, in
	// buckets.
	Learned   int64    `json:"s,omitempty"`
	Quantiles float32s `json:"q"`
	// At are the block's thresholds: the last bucket that is not late.
	// 0 = there is no block yet.
	At [latencyQuantiles]int16 `json:"at"`
	// Block and Total are what was counted at them.
	Block late `json:"b"`
	Total late `json:"t"`
}

// late counts requests of canary and stable, and of those the late ones at each
// quantile, in pairs: few numbers, which take little room.
type late [2 + 2*latencyQuantiles]int64

// at is what was counted at quantile i, late requests as failures.
func (l *late) at(i int) Counts {
	return Counts{
		CanaryRequests: l[0], CanaryFailures: l[2+2*i],
		StableRequests: l[1], StableFailures: l[3+2*i],
	}
}

func (l *late) requests() int64 { return l[0] + l[1] }

// observe adds the durations of one look.
func (t latencyTest) observe(canary, stable *Histogram, tolerance, share float64) latencyTest {
	if t.At[0] > 0 {
		shift := int16(toleratedBuckets(tolerance))
		allowed := t.At
		for i := range allowed {
			allowed[i] += shift
		}
		nc, canaryLate := canary.over(allowed)
		ns, stableLate := stable.over(t.At)
		t.Block[0] += nc
		t.Block[1] += ns
		for i := range t.At {
			t.Block[2+2*i] += canaryLate[i]
			t.Block[3+2*i] += stableLate[i]
		}
	}
	t = t.learn(stable)
	if n := t.Block.requests(); t.At[0] == 0 || n >= blockSize(share, t.Total.requests()+n) {
		t = t.endBlock()
	}
	return t
}

// endBlock scores the block and sets the thresholds of the next.
func (t latencyTest) endBlock() latencyTest {
	t = t.score()
	for i, n := range t.Block {
		t.Total[i] += n
	}
	t.Block = late{}
	if t.Learned >= latencyLearn {
		t.At = buckets(t.Quantiles)
	}
	return t
}

// score bets on the block.
func (t latencyTest) score() latencyTest {
	odds, shifts := latencyOdds(), latencyShifts()
	n := len(odds) * latencyQuantiles
	ratios := make([]float64, n+len(shifts))
	told := false
	for i := range latencyQuantiles {
		if blockRatios(t.Block.at(i), odds, ratios[i*len(odds):]) {
			told = true
		}
	}
	if !told {
		return t
	}
	shiftRatios(&t.Block, shifts[:], ratios[n:])
	parts := make([]float64, 0, len(ratios))
	for range latencyQuantiles {
		for _, a := range odds {
			parts = append(parts, a.part*(1-latencyShiftPart)/latencyQuantiles)
		}
	}
	for range shifts {
		parts = append(parts, latencyShiftPart/float64(len(shifts)))
	}
	t.eProcess = t.bet(parts, ratios)
	return t
}

// learn moves the estimates towards the quantiles of what stable does.
func (t latencyTest) learn(stable *Histogram) latencyTest {
	const (
		least = 0.5 // buckets per request: about ±2 buckets of noise in the end
		first = 100 // and this much in all at the beginning, to get there
	)
	known := len(t.Quantiles) == latencyQuantiles
	var at [latencyQuantiles]int16
	if known {
		at = buckets(t.Quantiles)
	}
	n, over := stable.over(at)
	if n == 0 {
		return t
	}
	next := make(float32s, latencyQuantiles)
	for i, rank := range latencyRanks() {
		if !known {
			next[i] = float32(bucketOf(stable.Quantile(rank)))
			continue
		}
		step := least + first/float64(t.Learned+first/10)
		move := step * (float64(over[i]) - (1-rank)*float64(n))
		// A look with many requests at once must not overshoot.
		move = min(max(move, -20), 20)
		next[i] = float32(min(max(0, float64(t.Quantiles[i])+move), histogramBuckets-1))
	}
	t.Quantiles = next
	t.Learned += n
	return t
}

// best is the quantile that speaks most for a regression.
func (t latencyTest) best() int {
	best, most := 0, math.Inf(-1)
	per := len(latencyOdds())
	if len(t.Log) < per*latencyQuantiles {
		return 0
	}
	for i := range latencyQuantiles {
		if sum := t.Log[i*per : (i+1)*per].logSumExp(); sum > most {
			best, most = i, sum
		}
	}
	return best
}

// text says in which way the canary is slower.
func (t latencyTest) text(tolerance float64) string {
	i := t.best()
	c := t.Total.at(i)
	limit := bucketBound(int(t.At[i]))
	return fmt.Sprintf("slower: %s of the canary's requests took longer than %s, and %s of stable's longer than %s",
		percentText(c.CanaryRate()), durationText(time.Duration(float64(limit)*(1+tolerance))),
		percentText(c.StableRate()), durationText(limit))
}

// toleratedBuckets is the tolerance in whole buckets, rounded up.
func toleratedBuckets(tolerance float64) int {
	const exact = 1e-9 // 5 % is two buckets, not two and a rounding error
	return int(math.Ceil(math.Log1p(tolerance)/math.Log(histogramGrowth) - exact))
}

// buckets rounds estimates of quantiles to buckets that divide durations.
func buckets(quantiles float32s) (at [latencyQuantiles]int16) {
	for i := range at {
		at[i] = int16(min(max(1, math.Round(float64(quantiles[i]))), histogramBuckets-2))
		at[i] = max(at[i], at[max(0, i-1)]) // estimates may cross at first
	}
	return at
}

// over counts the durations, and those in buckets above each of at, which do not
// fall.
func (h *Histogram) over(at [latencyQuantiles]int16) (n int64, over [latencyQuantiles]int64) {
	end := histogramBuckets
	for k := latencyQuantiles - 1; k >= 0; k-- {
		first := min(max(0, int(at[k])+1), end)
		n += count(h[first:end])
		over[k], end = n, first
	}
	return n + count(h[:end]), over
}

func durationText(d time.Duration) string {
	return short(float64(d)/float64(time.Millisecond)) + " ms"
}

func percentText(share float64) string { return short(100*share) + " %" }
