package analysis

import "math"

// costTally estimates how many failed requests of users the canary caused: those
// that failed on it, less those that would have failed on stable at the same
// time. It takes counts of what users met: a failure that a retry mended cost
// nobody anything, on either side.
//
// The estimate of a block is e_c - n_c·e_s/n_s. It is right on average
// whatever stable's failure rate does from block to block, so a shared outage
// costs nothing; and as chance does not know that, Variance says how far off
// the sum may be. Where stable never fails it is exact.
type costTally struct {
	Failed   int64   `json:"failed,omitempty"`
	Expected float64 `json:"expected,omitempty"`
	Variance float64 `json:"variance,omitempty"`
	// Direct are failures of users for whom there is no other side.
	Direct int64 `json:"direct,omitempty"`
}

// budgetDeviations is how many standard deviations above chance the cost must
// lie to be held against the budget. A version that is no worse gets so far
// about once in 30,000 looks.
const budgetDeviations = 4

// add counts a block; before is what was seen earlier.
func (c costTally) add(block, before Counts) costTally {
	nc, ns := float64(block.CanaryRequests), float64(block.StableRequests)
	rate := block.StableRate()
	spread := rate * (1 - rate)
	switch {
	case ns > 1:
		spread *= ns / (ns - 1) // unbiased
	default: // stable gets next to nothing now: what it did before must do
		rate = before.StableRate()
		spread = rate * (1 - rate)
		ns = float64(max(1, before.StableRequests))
	}
	c.Failed += block.CanaryFailures
	c.Expected += nc * rate
	c.Variance += nc * spread * (1 + nc/ns)
	return c
}

// cost is the estimate, never negative.
func (c costTally) cost() float64 { return max(0, float64(c.Failed)-c.Expected) + float64(c.Direct) }

// sure is the part of the cost that chance does not explain.
func (c costTally) sure() float64 {
	return max(0, float64(c.Failed)-c.Expected-budgetDeviations*math.Sqrt(c.Variance)) + float64(c.Direct)
}
