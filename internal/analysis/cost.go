package analysis

import (
	"fmt"
	"math"
)

// costTally estimates how many failed requests of users the canary caused: those
// that failed on it, less those that would have failed on stable at the same
// time. It takes counts of what users met: a failure that a retry mended cost
// nobody anything, on either side.
//
// The estimate of a block is e_c - n_c·e_s/n_s. It is right on average
// whatever stable's failure rate does from block to block, so a shared outage
// costs nothing; how far chance may move it is for the budget to say.
type costTally struct {
	Failed   int64   `json:"failed,omitempty"`
	Expected float64 `json:"expected,omitempty"`
	// Direct are failures of users for whom there is no other side.
	Direct int64 `json:"direct,omitempty"`
}

// add counts a block; before is what was seen earlier.
func (c costTally) add(block, before Counts) costTally {
	rate := block.StableRate()
	if block.StableRequests <= 1 { // next to nothing now: what it did before must do
		rate = before.StableRate()
	}
	c.Failed += block.CanaryFailures
	c.Expected += float64(block.CanaryRequests) * rate
	return c
}

// cost is the estimate, never negative.
func (c costTally) cost() float64 { return max(0, float64(c.Failed)-c.Expected) + float64(c.Direct) }

// The budget.
//
// It is spent when the cost reaches it and is not chance. The cost alone would
// not do: of two versions that are alike, of which one request in a hundred
// fails, one that gets nine tenths of the traffic has a cost of 10 in every third
// run. So there is one more e-process against "the canary fails no more than
// stable". It has its part of the false alarms, and so holds for the budget
// what holds for the other questions: whatever share, budget and failure rate, a
// version that is no worse has spent it in fewer runs than the policy allows.
//
// What the other test of failures is sure of, it fails without asking what it
// cost. So the budget ends runs in which that one is not:
//
//   - where the canary is so little worse that it would not be failed for it,
//     by any amount of traffic: the alternatives begin at excessOdds;
//   - where stable gets no requests to compare with. The canary's failures are
//     held against the highest rate that stable's earlier requests leave room
//     for: there, and only there, an outage of both is taken for its fault;
//   - where nothing can be compared, as those who get the canary are chosen, or
//     stable answered none in the run: there each failure counts.
//
// A bad version so costs the budget or, if that is more, what it takes to tell it
// from a good one. Where stable never fails and the canary has a share w, that is
// about ln(FalseAlarm)/ln(w) failures, and fewer if most of its requests fail:
// four at 10 %, a dozen at 50 %, 75 at 90 %, of which no test knows sooner what
// they are.
const (
	excessPart  = 0.09 // of the false alarms; that of failures is so much less
	historyPart = 0.01 // for a rate of stable's that was higher than it seemed
)

// excessOdds are the alternatives of the budget. An excess at odds nearer to 1
// than the lowest is chance for longer than runs last.
func excessOdds() []alternative {
	return []alternative{{1.02, 0.15}, {1.05, 0.15}, {1.1, 0.2}, {1.25, 0.15}, {2, 0.1}, {6, 0.1}, {50, 0.1}, {2000, 0.05}}
}

// observeExcess adds to the evidence that what the canary costs is no chance.
func (j *Judge) observeExcess(policy Policy, seen *Samples) {
	j.Excess.Slight = true
	met := seen.Counts.Less(seen.Spared)
	switch {
	case j.ByUser:
		j.Excess = j.Excess.observeUsers(seen.NewUsers().Counts)
	case j.Share < 1:
		j.Excess = j.Excess.observe(met, j.users().Requests(), j.Share)
	case met.CanaryRequests > 0:
		before := j.users().Less(j.Spared.Total)
		highest := highestRate(before.StableFailures, before.StableRequests, policy.limit(historyPart))
		j.Excess.eProcess = j.Excess.alone(met.CanaryFailures, met.CanaryRequests, highest, excessOdds())
	}
}

// alone bets on failures against a rate that they have at most: the likelihood
// ratio of failures at odds ρ times those of the rate. Its mean is 1 at the rate
// and less below it.
func (e eProcess) alone(failures, requests int64, rate float64, odds []alternative) eProcess {
	parts, ratios := make([]float64, len(odds)), make([]float64, len(odds))
	for i, a := range odds {
		parts[i] = a.part
		ratios[i] = float64(failures)*math.Log(a.odds) - float64(requests)*math.Log1p(rate*(a.odds-1))
	}
	return e.bet(parts, ratios)
}

// highestRate is the highest failure rate that is not excluded by so many
// failures, by a log e-value of limit: it is lower than the true one, at any
// time, with probability at most exp(-limit). (The mixture of Bernoulli likelihoods
// over Jeffreys' prior: Robbins, "Statistical Methods Related to the Law of the
// Iterated Logarithm", 1970.)
func highestRate(failures, requests int64, limit float64) float64 {
	k, n := float64(failures), float64(requests)
	beta := func(a, b float64) float64 {
		x, _ := math.Lgamma(a)
		y, _ := math.Lgamma(b)
		sum, _ := math.Lgamma(a + b)
		return x + y - sum
	}
	mixture := beta(k+0.5, n-k+0.5) - beta(0.5, 0.5)
	excluded := func(p float64) bool { return mixture-k*math.Log(p)-(n-k)*math.Log1p(-p) >= limit }
	low, high := ratio(failures, requests), 1.0
	for range 60 { // they exhaust a float64
		if p := (low + high) / 2; p > low && p < high && excluded(p) {
			high = p
		} else {
			low = p
		}
	}
	return high
}

// overspent fails the canary when the budget is spent.
func (j *Judge) overspent(policy Policy) failure {
	if policy.Budget <= 0 {
		return failure{}
	}
	spent := j.spent()
	if spent.Direct >= policy.Budget {
		return failure{Kind: Budget, AtOnce: true, Reason: fmt.Sprintf(
			"%d requests of those who were given the canary failed: the budget of %d is spent", spent.Direct, policy.Budget)}
	}
	incomparable := j.Share >= 1 && j.users().StableRequests == 0
	if spent.cost() >= float64(policy.Budget) && (incomparable || float64(j.Excess.Max) >= policy.limit(excessPart)) {
		return failure{Kind: Budget, AtOnce: true, Reason: fmt.Sprintf(
			"the canary caused about %s failed requests (%d failed, of which stable would have failed %s): the budget of %d is spent",
			short(spent.cost()), spent.Failed, short(spent.Expected), policy.Budget)}
	}
	return failure{}
}
