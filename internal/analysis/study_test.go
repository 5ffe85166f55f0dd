package analysis

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

var study = flag.Bool("study", false, "run the whole study of the judge's speed and false alarms: some minutes")

// regressions are failure rates of stable and canary.
var regressions = []struct{ stable, canary float64 }{
	{0, 1}, {0, 0.5}, {0, 0.1}, {0, 0.01}, {0.001, 0.01}, {0.005, 0.05}, {0.01, 0.03}, {0.05, 0.1}, {0.01, 0.02}, {0.01, 0.015},
}

// decide judges traffic that is looked at after each failure, as a controller
// does, and at least once per block.
func (tr traffic) decide(policy Policy, seed uint64, most float64) (Judge, bool) {
	r := rand.New(rand.NewPCG(seed, 7))
	j := Judge{}.NextStep(policy, tr.share, start)
	fails := tr.share*tr.canary + (1-tr.share)*tr.stable
	for float64(j.Total.Requests()) < most {
		n, gap := blockSize(tr.share, j.Total.Requests()), int64(math.Log(1-r.Float64())/math.Log1p(-fails))
		var one Counts
		if gap < n {
			n = gap
			one = Counts{StableRequests: 1, StableFailures: 1}
			if r.Float64() < tr.share*tr.canary/fails {
				one = Counts{CanaryRequests: 1, CanaryFailures: 1}
			}
		}
		canary := binomial(r, n, tr.share*(1-tr.canary)/(1-fails))
		j = j.Observe(policy, Samples{Counts: one.Add(Counts{CanaryRequests: canary, StableRequests: n - canary})}, start)
		if failed(j) {
			return j, true
		}
	}
	return j, false
}

// binomial draws by the gaps between successes.
func binomial(r *rand.Rand, n int64, p float64) int64 {
	switch {
	case p <= 0:
		return 0
	case p > 0.5:
		return n - binomial(r, n, 1-p)
	}
	var successes, at int64
	for per := math.Log1p(-p); ; successes++ {
		if at += int64(math.Log(1-r.Float64())/per) + 1; at > n {
			return successes
		}
	}
}

// TestRatioToTheLimit holds the mean number of requests to decide against the
// limit N*: at most 1.4 times where the limit is over 500, and twice and 20
// below. Run with -study -v for the whole table; otherwise only what is quick.
func TestRatioToTheLimit(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001}
	runs, largest := 2000, 2500.
	if *study {
		runs, largest = 1000, 1e6
	}
	shares := []float64{0.01, 0.05, 0.1, 0.25, 0.5, 0.9}
	var table strings.Builder
	for i, g := range regressions {
		fmt.Fprintf(&table, "%4v → %-4v", 100*g.stable, 100*g.canary)
		for _, share := range shares {
			tr := traffic{share: share, stable: g.stable, canary: g.canary}
			limit := tr.limit(policy.FalseAlarm)
			if limit > largest {
				fmt.Fprintf(&table, " | %8.0f     ", limit)
				continue
			}
			var sum, squares float64
			for seed := range uint64(runs) {
				j, ok := tr.decide(policy, seed+uint64(i)*1000, 40*limit+1000)
				if !ok {
					t.Fatalf("%+v, seed %d: not failed by %d requests", tr, seed, j.Total.Requests())
				}
				n := float64(j.Total.Requests())
				sum, squares = sum+n, squares+n*n
			}
			mean := sum / float64(runs)
			noise := math.Sqrt((squares/float64(runs) - mean*mean) / float64(runs))
			fmt.Fprintf(&table, " | %8.0f %4.2f", limit, mean/limit)
			most := 1.4 * limit
			if limit <= 500 {
				most = 2*limit + 20
			}
			if mean-3*noise > most {
				t.Errorf("%+v: %.0f ± %.0f requests, %.2f times the limit of %.0f; want at most %.0f", tr, mean, noise, mean/limit, limit, most)
			}
			if mean+4*noise < limit {
				t.Errorf("%+v: %.2f times the limit is impossible: the test is invalid", tr, mean/limit)
			}
		}
		table.WriteString("\n")
	}
	t.Logf("limit and ratio, at shares of 1, 5, 10, 25, 50, 90 %%:\n%s", table.String())
}
