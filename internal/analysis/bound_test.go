package analysis

import (
	"math"
	"testing"
)

// TestBlockScoreIsAnEVariable enumerates all outcomes of small blocks: under
// every regression of at least delta the mean ratio is at most 1.
func TestBlockScoreIsAnEVariable(t *testing.T) {
	for _, n := range []struct{ canary, stable int64 }{{1, 1}, {2, 18}, {1, 9}, {5, 5}, {4, 0}, {0, 5}, {9, 1}} {
		for _, delta := range []float64{0.01, 0.05, 0.2, 0.5} {
			for _, q := range []struct{ canary, stable float64 }{
				{0.05 * delta, 0.05 * delta}, {0.01, 0.01}, {0.2, 0.2}, {0.01, 0.9}, {0.001, 0.3},
			} {
				for p0 := 0.0; p0+delta <= 1; p0 += 0.03 {
					for p1 := p0 + delta; p1 <= 1; p1 += 0.07 {
						mean := meanScore(n.canary, n.stable, q.canary, q.stable, delta, p1, p0)
						if mean > 1+1e-9 {
							t.Fatalf("block of %d and %d, guess %+v, delta %v: mean %v under p1=%v p0=%v; want at most 1",
								n.canary, n.stable, q, delta, mean, p1, p0)
						}
					}
				}
			}
		}
	}
}

func meanScore(nc, ns int64, q1, q0, delta, p1, p0 float64) float64 {
	var mean float64
	for x := int64(0); x <= nc; x++ {
		for y := int64(0); y <= ns; y++ {
			block := Counts{CanaryRequests: nc, CanaryFailures: x, StableRequests: ns, StableFailures: y}
			p := choose(nc, x) * math.Pow(p1, float64(x)) * math.Pow(1-p1, float64(nc-x)) *
				choose(ns, y) * math.Pow(p0, float64(y)) * math.Pow(1-p0, float64(ns-y))
			if p > 0 {
				mean += p * math.Exp(blockScore(block, q1, q0, delta))
			}
		}
	}
	return mean
}

// TestNearestIsTheMinimum compares the bisection with a search.
func TestNearestIsTheMinimum(t *testing.T) {
	for _, c := range []struct{ nc, ns, q1, q0, delta float64 }{
		{2, 18, 0.01, 0.01, 0.05}, {10, 10, 0.001, 0.001, 0.01}, {1, 99, 0.2, 0.4, 0.3}, {50, 1, 0.05, 0.05, 0.9},
	} {
		cost := func(r float64) float64 {
			return c.nc*klBernoulli(c.q1, r+c.delta) + c.ns*klBernoulli(c.q0, r)
		}
		got := nearest(c.nc, c.ns, c.q1, c.q0, c.delta)
		best := math.Inf(1)
		for r := 1e-5; r < 1-c.delta; r += 1e-5 {
			best = min(best, cost(r))
		}
		if cost(got) > best+1e-6 {
			t.Errorf("%+v: nearest = %v costs %v; %v is possible", c, got, cost(got), best)
		}
	}
}

// TestRequestsWithoutAFailure: how many good canary requests exclude a
// regression, against the limit ln(1/β)/-ln(1-δ) = 14, 29, 59. The rest goes to
// the reserve, the floor of the guess and the last block.
func TestRequestsWithoutAFailure(t *testing.T) {
	for _, c := range []struct {
		share, next float64
		limit       int64
	}{{0.10, 0.25, 14}, {0.25, 0.5, 29}, {0.5, 1, 59}} {
		policy := Policy{FalseAlarm: 0.001, Tolerance: 0.05, Confidence: 0.95, Shares: []float64{c.next}}
		j := Judge{}.NextStep(policy, c.share, start)
		one := Samples{Counts: Counts{CanaryRequests: 1, StableRequests: int64(math.Round(1/c.share)) - 1}}
		for j.Decide(policy, c.next).Verdict != Pass {
			j = j.Observe(policy, one, start)
			if j.Total.CanaryRequests > 2*c.limit {
				t.Fatalf("%+v: no pass after %d good requests: %+v", c, j.Total.CanaryRequests, j.Decide(policy, c.next))
			}
		}
		got := j.Total.CanaryRequests
		if got < c.limit || float64(got) > 1.25*float64(c.limit)+2 {
			t.Errorf("%+v: passed after %d good requests; want %d and at most a quarter more", c, got, c.limit)
		}
	}
}
