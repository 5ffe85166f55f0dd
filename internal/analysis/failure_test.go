package analysis

import (
	"math"
	"testing"
)

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
