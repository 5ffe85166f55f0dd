package analysis

import (
	"math"
	"slices"
	"sort"
)

// The failure test.
//
// Of the requests since some moment we take as given how many each side answered
// (n_c, n_s) and which of them failed, and look at one thing only: on which side
// those k failures fell that are new since the last look. If the canary is no
// worse, the number x of them on the canary is hypergeometric: the k fell on
// n_c + n_s requests without regard to the side. If its odds of failing are ρ
// times those of stable, x follows Fisher's noncentral hypergeometric
// distribution, and the likelihood ratio of the look is
//
//	L_ρ(x) = ρ^x / E_H[ρ^Y],   Y hypergeometric(n_c, n_s, k)
//
// L_ρ has mean 1 under ρ = 1, and at most 1 for a canary that is better (the
// family has a monotone likelihood ratio). So has the product over the looks of
// one stretch of requests: taken backwards, given the requests of both sides up to
// the last look and whatever happened after, the sides of its k failures are a
// random draw, and so are those of the look before among the requests up to
// there, independently. At the ends of stretches, and of blocks that are scored
// as a whole, the product is therefore a martingale, and its mean over a grid of ρ
// an e-process, see eprocess.go.
//
// Within a stretch it is none, as n_c and n_s tell something of the sides of
// earlier failures: who stops at a high value has a mean of up to 1.08 there
// instead of 1, in simulations of steps of 20 to 400 failures. What is promised
// is not that mean but that a value of 1/α is ever met with a chance of at most α.
// Between the ends of stretches this is measured and not proven: whoever
// looks after every request meets it with 0.3 to 0.8 of α, see
// TestFalseAlarmsWhenLookingAfterEveryRequest, and bench/decision for α = 0.001.
//
// A shared outage raises k on both sides and cancels out, as failures may come at
// any time, even at the worst one: that the split chose the side of each
// request at random, with any weight, is enough. So the moment of a look, and that
// from which requests are counted, may depend on failures, as long as they are
// those of both sides alike. A split that takes turns does as well as a random
// one: what was answered since the moment is then at most one request from the
// weight.
//
// The weight may differ from one stretch of requests to the next, and nobody
// has to know it: no use is made of what was asked for. A test that believed it
// would fail good versions wherever traffic does not follow what was asked. To
// know it well all the same, a stretch is long, and a failure is scored at once
// and not at its end; the limit N* is met but for the mixture.
//
// Where users stay on a side (cohorts), what was chosen at random is the side
// of the user, and one who fails again and again, or calls often, is no more
// evidence than another: the design effect of a cluster of m like requests is m.
// There the same test is asked of users: those who failed for the first time in
// the run among all who were seen since the step began.
//
// That is not the log-rank test of the time to a user's first failure, which
// leaves out who has failed already. It is a martingale at any look, but only
// where all who are left are as likely to be the next. Users are not alike, and
// come one after the other: those who never fail are left, by chance more of them
// on one side, and whoever comes and fails at once is held against that again
// and again. Where who comes early fails more, equal versions met 1/α with up to
// four times α. With those who failed among the others, who are counted is who was
// assigned, whatever became of them. Then failures are drawn without putting
// back, from a number that takes no notice of it: over four users of whom two are
// the canary's the mean is 0.96 in the end, and 1.04 for who stops at the first
// failure of a canary's user at odds of 2. The chance of ever meeting 1/α is
// measured, with users who differ in all these ways, in
// TestUsersWhoFailAlikeAreNoFalseAlarm.
//
// Sources: Ville 1939; Lindon & Malek, "Anytime-Valid Inference for
// Multinomial Count Data" (2022); Turner, Ly & Grünwald, "Generic E-Variables
// for Exact Sequential k-Sample Tests" (2021); Vovk, Gammerman & Shafer,
// "Algorithmic Learning in a Random World" (2nd ed. 2022), on conformal
// martingales; ter Schure, Pérez-Ortiz, Ly & Grünwald, "The Anytime-Valid
// Logrank Test" (2024); Kish, "Survey Sampling" (1965), on the design effect;
// Kohavi, Tang & Xu, "Trustworthy Online Controlled Experiments" (2020), ch. 14,
// on the unit of randomization; Fog, "Calculation Methods for Wallenius' and
// Fisher's Noncentral Hypergeometric Distributions" (2008).

const (
	// stretchFirst is how many requests of the smaller side are to have come on
	// average before the first failure of a stretch is scored: fewer do not say
	// what the split is.
	stretchFirst = 1.4
	// stretchMost bounds a stretch, in the same unit: the longer it is, the more
	// the weight may change within.
	stretchMost = 100
	// stretchFailing is the part of the requests from which failures are scored
	// a block at a time, and end the stretch: where many requests fail, those
	// that do not tell something, too, but only together with those that do.
	stretchFailing = 0.05
)

// failureOdds are the alternatives. The lowest says what is worth a rollback:
// a canary whose odds of failing are up to about 1.12 times those of stable (the
// point where the likelihoods of 1 and 1.25 are alike) is not failed by any
// amount of traffic. The highest is a stable version that never fails. Small
// regressions take long in any case and get little; those between are worth
// about the same. See study_test.go for what this gives.
func failureOdds() []alternative {
	return []alternative{{1.25, 0.03}, {1.5, 0.12}, {2.25, 0.145}, {6, 0.155}, {16, 0.145}, {20000, 0.405}}
}

// failureTest is the e-process against "the canary fails no more than stable".
type failureTest struct {
	eProcess
	// Stretch are the requests, or users, among which failures fall.
	Stretch quad `json:"s,omitzero"`
	// New are the failures of canary and stable that are not scored yet.
	New [2]int64 `json:"f,omitzero"`
	// Slight: slight regressions are asked about, too, for what they cost.
	Slight bool `json:"slight,omitempty"`
}

// observe adds requests that were seen since the last look, before which there
// were so many.
func (t failureTest) observe(seen Counts, before int64, share float64) failureTest {
	t = t.count(seen)
	s := t.Stretch.counts()
	n, failures := s.Requests(), s.Failures()
	switch {
	case n >= blockOf(share, stretchMost):
		return t.endStretch()
	case t.New == [2]int64{} || n < blockOf(share, stretchFirst):
		return t
	case float64(failures) < stretchFailing*float64(n):
		return t.scoreNew()
	case n < blockSize(share, before):
		return t
	}
	return t.endStretch()
}

// observeUsers adds users that were seen since the last look. The stretch is
// the step: it is bounded, and its users stay, those who failed as well.
func (t failureTest) observeUsers(seen Counts) failureTest {
	return t.count(seen).scoreNew()
}

func (t failureTest) count(seen Counts) failureTest {
	t.Stretch = t.Stretch.add(quadOf(seen))
	t.New[0] += seen.CanaryFailures
	t.New[1] += seen.StableFailures
	return t
}

// endStretch scores what is left and begins anew.
func (t failureTest) endStretch() failureTest {
	t = t.scoreNew()
	t.Stretch = quad{}
	return t
}

// scoreNew multiplies in the new failures.
func (t failureTest) scoreNew() failureTest {
	c := t.Stretch.counts()
	c.CanaryFailures, c.StableFailures = t.New[0], t.New[1]
	t.New = [2]int64{}
	return t.add(c)
}

// add multiplies in the failures among requests.
func (t failureTest) add(block Counts) failureTest {
	odds := failureOdds()
	if t.Slight {
		odds = excessOdds()
	}
	t.eProcess = t.score(block, odds)
	return t
}

// blockRatios writes the block's log likelihood ratio of each alternative; the
// odds are more than 1, and rise. It reports false, and writes nothing, when the
// block tells nothing because x has one possible value, or cannot be: users are
// told apart but roughly, and may be counted as failed and not as seen.
func blockRatios(block Counts, odds []alternative, ratios []float64) bool {
	k := block.Failures()
	if k == 0 || block.CanaryRequests == 0 || block.StableRequests == 0 || k == block.Requests() ||
		block.CanaryFailures > block.CanaryRequests || block.StableFailures > block.StableRequests {
		return false
	}
	var room [256]float64 // enough for most blocks
	h := hypergeometric{up: upward(room[:0], block.CanaryRequests, block.StableRequests, k)}
	lowest := float64(max(0, k-block.StableRequests))
	total := h.logSum(1, 0)
	for i, a := range odds {
		theta := math.Log(a.odds)
		mean := h.logSum(a.odds, theta) + lowest*theta - total
		ratios[i] = float64(block.CanaryFailures)*theta - mean
	}
	return true
}

// hypergeometric is the distribution of how many of canary's requests are drawn
// among k failures, y from max(0, k-stable) to min(k, canary).
type hypergeometric struct {
	up []float64 // P(y+1)/P(y), which falls with y

	// log is ln P of the at-th y, up to a common constant.
	at  int
	log float64
}

// upward returns the ratios of each chance to the one before, in room if it is
// enough.
func upward(room []float64, canary, stable, k int64) []float64 {
	lowest, highest := max(0, k-stable), min(k, canary)
	n := int(highest - lowest)
	up := slices.Grow(room, n)[:n]
	nc, failed, rest := float64(canary), float64(k), float64(stable-k)
	for i := range up {
		y := float64(lowest) + float64(i)
		up[i] = (nc - y) * (failed - y) / ((y + 1) * (rest + y + 1)) // from the binomial coefficients
	}
	return up
}

// logSum returns ln Σ_i P(i)·odds^i, theta being the logarithm of the odds: from
// the largest term on to both sides, until the terms, which fall, change nothing.
// From one call to the next the odds must rise, and with them the place of that
// term: logarithms take most of the time, and each is taken once.
func (h *hypergeometric) logSum(odds, theta float64) float64 {
	top := sort.Search(len(h.up), func(i int) bool { return h.up[i]*odds <= 1 })
	sum, before := 1.0, 0.0
	for i, term := top, 1.0; i < len(h.up) && sum > before; i++ {
		term *= h.up[i] * odds
		sum, before = sum+term, sum
	}
	before = 0
	for i, term := top, 1.0; i > 0 && sum > before; i-- {
		term /= h.up[i-1] * odds
		sum, before = sum+term, sum
	}
	for ; h.at < top; h.at++ {
		h.log += math.Log(h.up[h.at])
	}
	return h.log + float64(top)*theta + math.Log(sum)
}
