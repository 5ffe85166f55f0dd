package analysis

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// crossings counts, by false alarm rate, the runs of equal versions in which a
// test of failures was ever at the limit of that rate.
type crossings []int

func (c crossings) count(alphas []float64, test *failureTest) {
	for k, alpha := range alphas {
		if float64(test.Max) >= -math.Log(alpha) {
			c[k]++
		}
	}
}

// check allows the rate in so many runs, and three deviations.
func (c crossings) check(t *testing.T, what string, alphas []float64, runs int) {
	t.Helper()
	for k, alpha := range alphas {
		mean := alpha * float64(runs)
		if most := mean + 3*math.Sqrt(mean); float64(c[k]) > most {
			t.Errorf("%s: %d of %d runs ever at 1/%v; want at most %.0f", what, c[k], runs, alpha, most)
		}
	}
	t.Logf("%s: %v of %d runs ever at 1/%v", what, c, runs, alphas)
}

// choose is the binomial coefficient, the slow and obvious way.
func choose(n, k int64) float64 {
	if k < 0 || k > n {
		return 0
	}
	c := 1.0
	for i := range k {
		c = c * float64(n-i) / float64(i+1)
	}
	return c
}

// TestBlockRatioIsTheLikelihoodRatio compares add with Fisher's noncentral
// hypergeometric distribution written out, and its mean under "no worse" with 1.
func TestBlockRatioIsTheLikelihoodRatio(t *testing.T) {
	for _, n := range []struct{ canary, stable, failures int64 }{
		{1, 9, 1}, {2, 18, 3}, {10, 10, 7}, {5, 3, 6}, {3, 40, 12}, {30, 2, 30},
	} {
		for i, a := range failureOdds() {
			odds := a.odds
			var norm, mean, total float64
			lo, hi := max(0, n.failures-n.stable), min(n.failures, n.canary)
			weight := func(y int64) float64 { return choose(n.canary, y) * choose(n.stable, n.failures-y) }
			for y := lo; y <= hi; y++ {
				norm += weight(y) * math.Pow(odds, float64(y))
				total += weight(y)
			}
			for x := lo; x <= hi; x++ {
				block := Counts{
					CanaryRequests: n.canary, CanaryFailures: x,
					StableRequests: n.stable, StableFailures: n.failures - x,
				}
				ratios := make([]float64, len(failureOdds()))
				blockRatios(block, failureOdds(), ratios)
				got := ratios[i]
				want := math.Log(math.Pow(odds, float64(x)) * total / norm)
				if math.Abs(got-want) > 1e-9*max(1, math.Abs(want)) {
					t.Errorf("block %+v, odds %v: log ratio %v; want %v", block, odds, got, want)
				}
				mean += weight(x) / total * math.Exp(got)
			}
			if math.Abs(mean-1) > 1e-9 {
				t.Errorf("%+v, odds %v: mean %v under no worse; want 1", n, odds, mean)
			}
		}
	}
}

func TestBlocksThatTellNothingChangeNothing(t *testing.T) {
	for _, block := range []Counts{
		{},
		{CanaryRequests: 10, StableRequests: 10},
		{CanaryRequests: 10, CanaryFailures: 10},
		{StableRequests: 10, StableFailures: 3},
		{CanaryRequests: 10, CanaryFailures: 10, StableRequests: 90, StableFailures: 90},
	} {
		if got := (failureTest{}).add(block); got.Blocks != 0 || got.Max != 0 {
			t.Errorf("add(%+v) = %+v; want no change", block, got)
		}
	}
}

// TestHugeBlocksStayFinite: a minute of a large service in one block, and a
// total outage of it.
func TestHugeBlocksStayFinite(t *testing.T) {
	for _, block := range []Counts{
		{CanaryRequests: 200_000, CanaryFailures: 100_000, StableRequests: 1_800_000, StableFailures: 18_000},
		{CanaryRequests: 200_000, CanaryFailures: 0, StableRequests: 1_800_000, StableFailures: 900_000},
		{CanaryRequests: 100_000, CanaryFailures: 99_999, StableRequests: 900_000, StableFailures: 899_999},
	} {
		f := failureTest{}.add(block)
		for i, l := range append(f.Log, f.Max, float32(f.logE())) {
			if math.IsNaN(float64(l)) || math.IsInf(float64(l), 0) {
				t.Errorf("block %+v: value %d is %v", block, i, l)
			}
		}
	}
}

// TestAStretchIsAFairBet: over all ways in which ten requests may be split, what
// a stretch multiplies by has a mean of 1 at its end, with failures that are
// scored one by one as they come.
func TestAStretchIsAFairBet(t *testing.T) {
	const n, share = 10, 0.3
	for _, failing := range [][]int{{9}, {3, 6}, {0, 1, 2, 7, 9}} {
		for k := range failureOdds() {
			mean := 0.0
			for sides := range 1 << n {
				canary := bits.OnesCount(uint(sides))
				chance := math.Pow(share, float64(canary)) * math.Pow(1-share, float64(n-canary))
				var seen Counts
				log := 0.0
				for i := range n {
					onCanary := sides>>i&1 == 1
					block := Counts{}
					if onCanary {
						seen.CanaryRequests++
						block.CanaryFailures = 1
					} else {
						seen.StableRequests++
						block.StableFailures = 1
					}
					if !slices.Contains(failing, i) {
						continue
					}
					block.CanaryRequests, block.StableRequests = seen.CanaryRequests, seen.StableRequests
					ratios := make([]float64, len(failureOdds()))
					if blockRatios(block, failureOdds(), ratios) {
						log += ratios[k]
					}
				}
				mean += chance * math.Exp(log)
			}
			if math.Abs(mean-1) > 1e-9 {
				t.Errorf("failures %v, odds %v: mean %v at the end; want 1", failing, failureOdds()[k].odds, mean)
			}
		}
	}
}

// TestFalseAlarmsWhenLookingAfterEveryRequest is what the failure test promises
// within a stretch, where it is measured and not proven: of versions that fail
// alike so many are ever found to be worse, whatever they fail, and whatever the
// share. A look is taken after every request.
func TestFalseAlarmsWhenLookingAfterEveryRequest(t *testing.T) {
	const runs, requests = 300, 6_000
	alphas := []float64{0.2, 0.05, 0.01}
	for _, share := range []float64{0.5, 0.1, 0.02} {
		for _, fails := range []float64{0.005, 0.03, 0.2} {
			crossed := make(crossings, len(alphas))
			for seed := range uint64(runs) {
				r := rand.New(rand.NewPCG(seed, 11))
				var test failureTest
				for i := range int64(requests) {
					var one Counts
					requests, failures := &one.StableRequests, &one.StableFailures
					if r.Float64() < share {
						requests, failures = &one.CanaryRequests, &one.CanaryFailures
					}
					*requests = 1
					if r.Float64() < fails {
						*failures = 1
					}
					test = test.observe(one, i, share)
				}
				crossed.count(alphas, &test)
			}
			crossed.check(t, fmt.Sprintf("share %v, %v fail", share, fails), alphas, runs)
		}
	}
}
