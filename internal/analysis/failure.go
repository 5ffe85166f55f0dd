package analysis

import "math"

// The failure test.
//
// Requests are judged in blocks. Of one block we take as given how many
// requests each side answered (n_c, n_s) and how many failures there were in
// all (k), and look at one number only: how many of the failures are the
// canary's (x). If the canary is no worse, then x is hypergeometric: the k
// failures fell on n_c + n_s requests without regard to the side. If its odds
// of failing are ρ times those of stable, x follows Fisher's noncentral
// hypergeometric distribution, and the likelihood ratio of the block is
//
//	L_ρ(x) = ρ^x / E_H[ρ^Y],   Y hypergeometric(n_c, n_s, k)
//
// L_ρ has mean 1 under ρ = 1, and at most 1 for a canary that is better (the
// family has a monotone likelihood ratio). The product over blocks is therefore
// a nonnegative supermartingale, and so is its mean over a grid of ρ: an
// e-process, see eprocess.go.
//
// A shared outage raises k on both sides of its blocks and cancels out. That
// holds for two reasons, of which either one is enough, because the end of a
// block depends on the number of requests of both sides together and on
// nothing else:
//
//   - within a block a failure is equally likely whenever it happens, or
//   - the split chose the side of each request at random, with any weight.
//     Then the failures may come at any time, even at the worst one.
//
// A caller may look earlier because a request failed, as long as it does so for
// failures of both sides alike: then the second reason still holds.
//
// No use is made of the weight that was asked for. A test that believed it
// would decide some requests earlier (the side of each failure is then a coin
// of known weight, and the limit N* is met but for the mixture), and would fail
// good versions wherever traffic does not follow what was asked.
//
// Sources: Ville 1939; Lindon & Malek, "Anytime-Valid Inference for
// Multinomial Count Data" (2022); Turner, Ly & Grünwald, "Generic E-Variables
// for Exact Sequential k-Sample Tests" (2021); Fisher's noncentral
// hypergeometric distribution as in Fog, "Calculation Methods for Wallenius'
// and Fisher's Noncentral Hypergeometric Distributions" (2008).

// failureOdds are the alternatives. The lowest says what is worth a rollback:
// a canary whose odds of failing are up to about 1.12 times those of stable (the
// point where the likelihoods of 1 and 1.25 are alike) is not failed by any
// amount of traffic. The highest is a stable version that never fails. Small
// regressions take long in any case and get little; those between are worth
// about the same. See study_test.go for what this gives.
func failureOdds() []alternative {
	return []alternative{{1.25, 0.025}, {1.6, 0.08}, {2.5, 0.17}, {6, 0.17}, {16, 0.17}, {20000, 0.385}}
}

// failureTest is the e-process against "the canary fails no more than stable".
type failureTest struct{ eProcess }

// add multiplies in one block.
func (t failureTest) add(block Counts) failureTest {
	t.eProcess = t.score(block, failureOdds())
	return t
}

// blockRatios writes the block's log likelihood ratio of each alternative. It
// reports false, and writes nothing, when the block tells nothing because x has
// one possible value.
func blockRatios(block Counts, odds []alternative, ratios []float64) bool {
	k := block.Failures()
	if k == 0 || block.CanaryRequests == 0 || block.StableRequests == 0 || k == block.Requests() {
		return false
	}
	logs := logHypergeometric(block.CanaryRequests, block.StableRequests, k)
	lowest := float64(max(0, k-block.StableRequests))
	total := logSumTilted(logs, 0)
	for i, a := range odds {
		theta := math.Log(a.odds)
		mean := logSumTilted(logs, theta) + lowest*theta - total
		ratios[i] = float64(block.CanaryFailures)*theta - mean
	}
	return true
}

// logHypergeometric returns the logarithms of the hypergeometric probabilities
// of drawing y of canary's requests among k failures, for y from max(0,
// k-stable) to min(k, canary), up to a common constant.
func logHypergeometric(canary, stable, k int64) []float64 {
	lo, hi := max(0, k-stable), min(k, canary)
	logs := make([]float64, hi-lo+1)
	for y := lo; y < hi; y++ {
		// P(y+1)/P(y), from the binomial coefficients.
		up := float64(canary-y) * float64(k-y)
		down := float64(y+1) * float64(stable-k+y+1)
		logs[y-lo+1] = logs[y-lo] + math.Log(up/down)
	}
	return logs
}

// logSumTilted returns ln Σ_i exp(logs[i] + i·theta) without overflow.
func logSumTilted(logs []float64, theta float64) float64 {
	top := math.Inf(-1)
	for i, l := range logs {
		top = max(top, l+float64(i)*theta)
	}
	var sum float64
	for i, l := range logs {
		sum += math.Exp(l + float64(i)*theta - top)
	}
	return top + math.Log(sum)
}
