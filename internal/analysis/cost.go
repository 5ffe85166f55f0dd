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
// costs nothing; and as chance does not know that, Variance says how far off
// the sum may be.
type costTally struct {
	Failed   int64   `json:"failed,omitempty"`
	Expected float64 `json:"expected,omitempty"`
	Variance float64 `json:"variance,omitempty"`
	// Direct are failures of users for whom there is no other side.
	Direct int64 `json:"direct,omitempty"`
}

// add counts a block; before is what was seen earlier.
func (c costTally) add(block, before Counts) costTally {
	of := block
	if block.StableRequests <= 1 { // next to nothing now: what it did before must do
		of = before
	}
	nc, ns, rate := float64(block.CanaryRequests), float64(max(2, of.StableRequests)), of.StableRate()
	c.Failed += block.CanaryFailures
	c.Expected += nc * rate
	c.Variance += nc * rate * (1 - rate) * ns / (ns - 1) * (1 + nc/ns) // unbiased
	return c
}

// cost is the estimate, never negative.
func (c costTally) cost() float64 { return max(0, float64(c.Failed)-c.Expected) + float64(c.Direct) }

// luck is what to take off a cost that the failures of stable do not explain
// before it counts: what they spread by, and one failure which stable was spared
// so far, for each of its requests as likely as for the canary's. all is what was
// seen of both.
func (c costTally) luck(all Counts) float64 {
	return luckDeviations*math.Sqrt(c.Variance) + float64(all.CanaryRequests)/float64(all.StableRequests+1)
}

// The budget.
//
// It bounds what users are exposed to, whatever the other tests say: it is spent
// when the cost, less luck, reaches it. Where stable does not fail, w being the
// canary's share, a budget of N ends the run at the failure after N, at half of
// the traffic, and w/(1-w) later at more. That cannot have a false alarm rate
// too: the first N+1 failures of versions that are alike are all the canary's
// with probability w^(N+1), which is one run of 30 for 5 at half of the traffic,
// and none for 50. Who sets a small budget asks for that.
//
// Luck grows with what fails on both, and covers a slight excess for long. So
// there is one more e-process against "the canary fails no more than stable",
// with its part of the false alarms; where it is sure, the budget is spent by the
// cost alone. It is for runs in which the other test of failures is not sure:
//
//   - where the canary is so little worse that it would not be failed for it,
//     by any amount of traffic: the alternatives begin at excessOdds;
//   - where stable gets no requests to compare with. The canary's failures are
//     held against the highest rate that stable's earlier requests leave room
//     for: there, and only there, an outage of both is taken for its fault;
//   - where nothing can be compared, as those who get the canary are chosen, or
//     stable answered none in the run: there each failure counts.
//
// Where users stay with a version, that process alone decides, of users: all
// failures of one of them may be one fault of theirs.
const (
	luckDeviations = 4 // standard deviations; of requests that fail independently

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
	all, budget := j.users().Less(j.Spared.Total), float64(policy.Budget)
	incomparable := j.Share >= 1 && all.StableRequests == 0
	unlucky := !j.ByUser && spent.cost()-spent.luck(all) >= budget
	if spent.cost() >= budget && (incomparable || unlucky || float64(j.Excess.Max) >= policy.limit(excessPart)) {
		return failure{Kind: Budget, AtOnce: true, Reason: fmt.Sprintf(
			"the canary caused about %s failed requests (%d failed, of which stable would have failed %s): the budget of %d is spent",
			short(spent.cost()), spent.Failed, short(spent.Expected), policy.Budget)}
	}
	return failure{}
}
