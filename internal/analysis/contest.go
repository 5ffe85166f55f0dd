package analysis

import "fmt"

// Contest asks of two versions on the same traffic which one is better, in one
// metric. It is a plain value that survives a trip through JSON; its fields are
// for this package and for storage alone. The zero value has seen nothing.
//
// It bets both ways, with the failure test: that the first version has more bad
// requests than the second, and the reverse. Where the metric is a quantile of
// the duration, a bad request is one that takes longer than a limit, which is
// that quantile of what both did before the block began. So both answers may be
// looked for at any time, and what hits both versions cancels out; see
// failure.go and latency.go.
//
// Where users stay with a version, they are what is compared: who failed for
// the first time, and one duration of each.
type Contest struct {
	Block quad `json:"b"` // first, then second
	Total quad `json:"t"`
	// Limit of the block: the last bucket that is not bad; 0 = none yet.
	Limit int16 `json:"l,omitempty"`
	// First and Second are the evidence that this one is the better.
	First  eProcess `json:"first"`
	Second eProcess `json:"second"`
}

// Side is what one version of a contest did: with requests, or with users.
type Side struct {
	Requests, Failures int64
	Latency            Histogram
}

// Add returns the sum of both.
func (s Side) Add(o Side) Side {
	s.Requests += o.Requests
	s.Failures += o.Failures
	s.Latency.Merge(&o.Latency)
	return s
}

// ContestRank is the quantile that versions are compared at, 0 to 1; 0 = their
// failures are compared. ok is false for metrics that cannot be compared.
func ContestRank(m Metric) (rank float64, ok bool) {
	switch m {
	case ErrorRate:
		return 0, true
	case DurationP50:
		return 0.5, true
	case DurationP90:
		return 0.9, true
	case DurationP95:
		return 0.95, true
	case DurationP99:
		return 0.99, true
	case SuccessRate: // the same question as ErrorRate, asked the other way round
	}
	return 0, false
}

// CheckContest refuses metrics in which versions cannot be compared.
func CheckContest(m Metric) error {
	if _, ok := ContestRank(m); !ok {
		return fmt.Errorf("versions cannot be compared by %q: use %s, %s, %s, %s or %s", m, ErrorRate, DurationP50, DurationP90, DurationP95, DurationP99)
	}
	return nil
}

// Observe returns the contest after a look: what both versions did since the
// last one, and in the past before it. share is the first one's of the requests
// of both, 0 to 1; it tunes the size of blocks alone.
func (c Contest) Observe(m Metric, first, second, past Side, share float64) Contest {
	rank, ok := ContestRank(m)
	if !ok {
		return c
	}
	seen := quad{first.Requests, first.Failures, second.Requests, second.Failures}
	if rank > 0 {
		if c.Limit == 0 {
			if past.Latency.Count() < latencyLearn {
				return c
			}
			c.Limit = int16(min(max(1, bucketOf(past.Latency.Quantile(rank))), histogramBuckets-2))
		}
		seen[0], seen[1] = first.Latency.beyond(c.Limit)
		seen[2], seen[3] = second.Latency.beyond(c.Limit)
	}
	c.Block = c.Block.add(seen)
	if n := c.Block.counts().Requests(); n >= blockSize(share, c.Total.counts().Requests()+n) {
		c = c.EndBlock(m)
	}
	return c
}

// ObserveUsers is Observe where users stay with a version: requests are users who
// were seen for the first time since the last EndBlock, failures those who failed
// for the first time, and durations one of each user. Past is of requests all the
// same.
func (c Contest) ObserveUsers(m Metric, first, second, past Side, share float64) Contest {
	if rank, ok := ContestRank(m); !ok || rank > 0 {
		return c.Observe(m, first, second, past, share)
	}
	c.Block = c.Block.add(quad{first.Requests, first.Failures, second.Requests, second.Failures})
	c = c.score(failureOdds())
	c.Block[1], c.Block[3] = 0, 0 // scored; the users stay
	return c
}

// EndBlock scores what was not scored yet. It has to be called when the split
// of the requests between the two changes, or of users, who are seen anew then.
func (c Contest) EndBlock(m Metric) Contest {
	odds := failureOdds()
	if rank, _ := ContestRank(m); rank > 0 {
		odds = latencyOdds()
	}
	c = c.score(odds)
	c.Total = c.Total.add(c.Block)
	c.Block, c.Limit = quad{}, 0
	return c
}

// score bets on the block both ways.
func (c Contest) score(odds []alternative) Contest {
	second := c.Block.counts() // the first in the canary's place: is it worse?
	first := Counts{
		CanaryRequests: second.StableRequests, CanaryFailures: second.StableFailures,
		StableRequests: second.CanaryRequests, StableFailures: second.CanaryFailures,
	}
	c.First, c.Second = c.First.score(first, odds), c.Second.score(second, odds)
	return c
}

// Requests are so many as were compared, or users, of both versions.
func (c Contest) Requests() int64 {
	return c.Total.add(c.Block).counts().Requests()
}

// LogE is the natural logarithm of the evidence that the first version is
// better, and of that for the second, each at its highest so far. Where that is
// not so, it ever reaches ln(1/α) with a probability of at most α.
func (c Contest) LogE() (first, second float64) {
	return float64(c.First.Max), float64(c.Second.Max)
}

// score bets on one block.
func (e eProcess) score(block Counts, odds []alternative) eProcess {
	parts, ratios := make([]float64, len(odds)), make([]float64, len(odds))
	if !blockRatios(block, odds, ratios) {
		return e
	}
	for i, a := range odds {
		parts[i] = a.part
	}
	return e.bet(parts, ratios)
}

// beyond counts the durations, and those in buckets above limit.
func (h *Histogram) beyond(limit int16) (all, over int64) {
	first := min(max(0, int(limit)+1), histogramBuckets)
	over = count(h[first:])
	return count(h[:first]) + over, over
}
