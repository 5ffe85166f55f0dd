package analysis

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// spend judges traffic block by block and returns the judge.
func spend(policy Policy, tr traffic, seed uint64, blocks int) Judge {
	r := rand.New(rand.NewPCG(seed, 9))
	j := Judge{}.NextStep(policy, tr.share, start)
	for n := range blocks {
		canary := binomial(r, 40, tr.share)
		more := 0.0
		if tr.outage != nil {
			more = tr.outage(float64(n))
		}
		j = j.Observe(policy, Samples{Counts: Counts{
			CanaryRequests: canary, CanaryFailures: binomial(r, canary, tr.canary+more),
			StableRequests: 40 - canary, StableFailures: binomial(r, 40-canary, tr.stable+more),
		}}, start)
		if failed(j) {
			break
		}
	}
	return j
}

// TestTheBudgetBoundsTheCost of versions that are so little worse that they are
// not failed for it.
func TestTheBudgetBoundsTheCost(t *testing.T) {
	slightly := traffic{share: 0.5, stable: 0.1, canary: 0.109} // at odds of 1.10
	for _, budget := range []int64{0, 50, 2000} {
		for seed := range uint64(2) {
			j := spend(Policy{FalseAlarm: 0.001, Budget: budget}, slightly, seed, 30_000)
			e := j.Decide(Policy{FalseAlarm: 0.001, Budget: budget}, 1)
			switch {
			case budget == 0:
				if e.Verdict == Fail {
					t.Errorf("seed %d: without a budget failed at a cost of %v: %s", seed, e.Cost, e.Reason)
				}
			case e.Kind != Budget || !e.AtOnce || !strings.Contains(e.Reason, fmt.Sprintf("the budget of %d is spent", budget)):
				t.Errorf("seed %d, budget %d: %v %q: %s", seed, budget, e.Verdict, e.Kind, e.Reason)
			case len(e.Questions) < 2 || e.Questions[1].Kind != Budget:
				t.Errorf("seed %d, budget %d: the questions are not asked: %+v", seed, budget, e.Questions)
			case e.Questions[1].LogE < e.Questions[1].Limit && e.Cost-j.spent().luck(j.Total) < float64(budget):
				t.Errorf("seed %d, budget %d: neither the questions nor the cost say why: %v, %+v", seed, budget, e.Cost, e.Questions)
			case e.Cost < float64(budget) || e.Cost > max(1000, float64(budget)+20):
				t.Errorf("seed %d, budget %d: cost %v", seed, budget, e.Cost)
			}
		}
	}
}

// handedOver is a run that goes on to a step at which stable gets nothing.
func handedOver(policy Policy, stable, canary float64, seed uint64, blocks int) Judge {
	r := rand.New(rand.NewPCG(seed, 10))
	j := Judge{}.NextStep(policy, 0.5, start)
	for n := range blocks {
		if n == blocks/3 {
			j = j.NextStep(policy, 1, start)
		}
		c := Counts{CanaryRequests: 40}
		fails := canary
		if n < blocks/3 {
			c = Counts{CanaryRequests: 20, StableRequests: 20}
			c.StableFailures, fails = binomial(r, 20, stable), stable // it begins to fail at 100 %
		}
		c.CanaryFailures = binomial(r, c.CanaryRequests, fails)
		if j = j.Observe(policy, Samples{Counts: c}, start); failed(j) {
			break
		}
	}
	return j
}

// TestTheBudgetHoldsWhereStableGetsNothing: nothing else does.
func TestTheBudgetHoldsWhereStableGetsNothing(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, Budget: 20}
	for seed := range uint64(20) {
		for _, rates := range [][2]float64{{0, 0.05}, {0.001, 1}, {0.01, 0.1}} {
			j := handedOver(policy, rates[0], rates[1], seed, 3000)
			if e := j.Decide(policy, 1); e.Kind != Budget || e.Cost < 20 || e.Cost > 60 {
				t.Errorf("seed %d, %v: %v %q, cost %v: %s", seed, rates, e.Verdict, e.Kind, e.Cost, e.Reason)
			}
		}
	}
	// Where stable was never seen there is nothing to compare with.
	j := Judge{}.NextStep(policy, 1, start).Observe(policy, Samples{Counts: Counts{CanaryRequests: 1000, CanaryFailures: 19}}, start)
	if failed(j) {
		t.Errorf("failed by 19: %+v", j.Failed)
	}
	if j = j.Observe(policy, Samples{Counts: Counts{CanaryRequests: 1, CanaryFailures: 1}}, start); j.Failed.Kind != Budget {
		t.Errorf("20 failures of 20: %+v", j.Failed)
	}
}

// TestOneUserSpendsNoBudget: where users stay with a version, one of them who
// fails again and again is one, and chance put them on the canary.
func TestOneUserSpendsNoBudget(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, Budget: 5}
	play := func(failing int) Judge {
		j := Judge{}.NextStep(policy, 0.5, start)
		for n := range 100 {
			seen := Samples{ByUser: true, Counts: Counts{CanaryRequests: 1, StableRequests: 1}, Users: &Users{}}
			if n < 50 {
				seen.Users.CanaryRequests, seen.Users.StableRequests = 1, 1
			}
			seen.CanaryFailures = 1
			if n < failing {
				seen.Users.CanaryFailures = 1
			}
			j = j.Observe(policy, seen, start)
		}
		return j
	}
	if j := play(1); failed(j) || j.Decide(policy, 1).Cost != 100 {
		t.Errorf("by one user: %+v at a cost of %v", j.Failed, j.Decide(policy, 1).Cost)
	}
	if j := play(50); !failed(j) {
		t.Error("not failed where 50 users of the canary fail, and none of stable")
	}
}

// TestEqualVersionsDoNotSpendTheBudget more often than its part of the false
// alarms says, whatever share and failure rate, but for budgets that are so small
// that so many failures come to the canary alone by chance.
func TestEqualVersionsDoNotSpendTheBudget(t *testing.T) {
	const alpha, runs, blocks = 0.1, 60, 150
	flapping := func(n float64) float64 { return 0.3 * math.Mod(n, 2) }
	most := func(p float64, n int) float64 { return p*float64(n) + 4*math.Sqrt(p*float64(n)) }
	sum, cells := 0, 0 // without those
	for _, share := range []float64{0.01, 0.1, 0.5, 0.9, 1} {
		for _, budget := range []int64{1, 5, 20} {
			for _, rate := range []float64{0.001, 0.01, 0.1} {
				policy := Policy{FalseAlarm: alpha, Budget: budget}
				spent, all := 0, 0
				for seed := range uint64(runs) {
					tr := traffic{share: share, stable: rate, canary: rate}
					if seed%4 == 0 {
						tr.outage = flapping
					}
					var j Judge
					if share < 1 {
						j = spend(policy, tr, seed, blocks)
					} else {
						j = handedOver(policy, rate, rate, seed, blocks)
					}
					if failed(j) {
						all++
						if j.Failed.Kind == Budget {
							spent++
						}
					}
				}
				w := share
				if w == 1 {
					w = 5. / 6 // of the requests of the run
				}
				chance := math.Pow(w, float64(budget)+w/(1-w))
				if float64(spent) > most(alpha*(excessPart+historyPart)+chance, runs) || float64(all) > most(alpha+chance, runs) {
					t.Errorf("share %v, budget %d, %v %% fail: of %d equal versions %d failed, %d by the budget", share, budget, 100*rate, runs, all, spent)
				}
				if chance < alpha/1000 {
					sum, cells = sum+spent, cells+1
				}
			}
		}
	}
	if n := cells * runs; n < 900 || float64(sum) > alpha*(excessPart+historyPart)*float64(n) {
		t.Errorf("of %d equal versions %d failed by the budget", n, sum)
	}
	t.Logf("of %d equal versions %d failed by the budget", cells*runs, sum)
}

// TestWhatABadVersionCosts with a budget: no more than without, and no more than
// the budget with the luck that stable may have. Run with -v for the table.
func TestWhatABadVersionCosts(t *testing.T) {
	const runs = 200
	var table strings.Builder
	for _, share := range []float64{0.01, 0.1, 0.5, 0.9} {
		for _, canary := range []float64{1, 0.2, 0.05} {
			fmt.Fprintf(&table, "%3.0f %%, %3.0f %% fail:", 100*share, 100*canary)
			var without float64
			for _, budget := range []int64{0, 3, 5, 20, 50} {
				policy, mean := Policy{FalseAlarm: 0.001, Budget: budget}, 0.0
				for seed := range uint64(runs) {
					j, ok := traffic{share: share, canary: canary}.decide(policy, seed, 1e6)
					if !ok {
						t.Fatalf("share %v, %v fail, budget %d: not failed", share, canary, budget)
					}
					mean += float64(j.Total.CanaryFailures) / runs
				}
				if budget == 0 {
					without = mean
				}
				if mean > 1.05*without+0.5 {
					t.Errorf("share %v, %v fail, budget %d: %.1f failed requests, %.1f without", share, canary, budget, mean, without)
				}
				if luck := share / (1 - share); budget > 0 && mean > float64(budget)+luck+2 {
					t.Errorf("share %v, %v fail, budget %d: %.1f failed requests", share, canary, budget, mean)
				}
				fmt.Fprintf(&table, " %6.1f", mean)
			}
			table.WriteString("\n")
		}
	}
	t.Logf("failed requests until a version is failed, with no budget and those of 3, 5, 20, 50:\n%s", &table)
}

// TestSharedFailuresCostNothing: a dependency that fails for both versions, in
// bursts, is no fault of the canary, which only passes its failures on.
func TestSharedFailuresCostNothing(t *testing.T) {
	burst := func(n float64) float64 {
		if math.Mod(n, 50) < 20 {
			return 0.7
		}
		return 0
	}
	var mean float64
	const runs = 100
	policy := Policy{FalseAlarm: 0.001, Budget: 50}
	for seed := range uint64(runs) {
		j := spend(policy, traffic{share: 0.1, stable: 0.01, canary: 0.01, outage: burst}, seed, 2000)
		if failed(j) {
			t.Errorf("seed %d: failed for what stable does, too: %+v after %+v", seed, j.Failed, j.Total)
		}
		whole := j.Cost.add(j.Block, j.Total)
		mean += (float64(whole.Failed) - whole.Expected) / runs
	}
	// The canary fails 2,300 requests a run, with a deviation of 40.
	if math.Abs(mean) > 4*45/math.Sqrt(runs) {
		t.Errorf("an innocent canary costs %.1f requests on average; want 0", mean)
	}
}

// TestCostWithoutStable: when stable gets nothing any more, what it did before
// is what is expected.
func TestCostWithoutStable(t *testing.T) {
	before := Counts{StableRequests: 1000, StableFailures: 100}
	c := costTally{}.add(Counts{CanaryRequests: 100, CanaryFailures: 30}, before)
	if math.Abs(c.cost()-20) > 1e-9 {
		t.Errorf("cost %v; want 20", c.cost())
	}
	if c := (costTally{}).add(Counts{CanaryRequests: 5}, Counts{}); c.cost() != 0 {
		t.Errorf("no failure costs %v", c.cost())
	}
}

// TestFailuresThatUsersWereSparedCostNothing: a third of the canary's first
// tries fail, a retry mends each, and the canary is failed for it all the same.
func TestFailuresThatUsersWereSparedCostNothing(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, Budget: 1}
	j := Judge{}.NextStep(policy, 0.5, start)
	for !failed(j) && j.Total.CanaryRequests < 1000 {
		seen := Samples{Counts: Counts{CanaryRequests: 3, CanaryFailures: 1, StableRequests: 3}}
		seen.Spared.CanaryFailures = 1
		j = j.Observe(policy, seen, start)
	}
	e := j.Decide(policy, 1)
	if e.Kind != Failures || e.Cost != 0 || e.Counts.CanaryFailures == 0 || e.Users().CanaryFailures != 0 {
		t.Errorf("%s, cost %v, %+v; want it failed for its failures, at no cost", e.Kind, e.Cost, e)
	}
	if !strings.Contains(e.Reason, "; retries spared users ") {
		t.Errorf("reason %q does not say that no user met the failures", e.Reason)
	}
	if e := (Judge{}).NextStep(policy, 0.5, start).Observe(policy, Samples{DirectRequests: 9, DirectFailures: 9}, start).Decide(policy, 1); e.Cost != 0 {
		t.Errorf("direct requests cost %v, want nothing: they are no users'", e.Cost)
	}
	policy.DirectUsers, policy.Budget = true, 5
	j = Judge{}.NextStep(policy, 1, start).Observe(policy, Samples{DirectRequests: 9, DirectFailures: 9, DirectSpared: 5}, start)
	if e := j.Decide(policy, 1); e.Cost != 4 || failed(j) {
		t.Errorf("cost %v, %+v; want the 4 that users met, and a budget of 5 not spent", e.Cost, j.Failed)
	}
}

// TestStableIsExpectedToFailAsUsersMetIt: what is subtracted from the canary's
// failures is what users met on stable, of requests without its tries.
func TestStableIsExpectedToFailAsUsersMetIt(t *testing.T) {
	f := func(name string, share float64, looks []Samples, want float64) {
		t.Helper()
		policy := Policy{FalseAlarm: 1e-300}
		j := Judge{}.NextStep(policy, share, start)
		for i := range looks {
			if err := looks[i].Validate(); err != nil {
				t.Fatal(err)
			}
			j = j.Observe(policy, looks[i], start)
		}
		if got := j.Decide(policy, 1).Cost; math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: cost %v, want %v", name, got, want)
		}
		if want == 0 {
			return
		}
		for i := range looks { // as an older record has them
			looks[i].Spared = Counts{}
		}
		j = Judge{}.NextStep(policy, share, start)
		for i := range looks {
			j = j.Observe(policy, looks[i], start)
		}
		if got := j.Decide(policy, 1).Cost; math.Abs(got-want) < 1 {
			t.Errorf("%s: cost %v without what users were spared; want it to matter", name, got)
		}
	}
	f("stable's failures were masked", 0.5, []Samples{{
		Counts: Counts{CanaryRequests: 100, CanaryFailures: 10, StableRequests: 100, StableFailures: 50},
		Spared: Counts{StableFailures: 50},
	}}, 10)
	f("tries are no requests", 0.5, []Samples{{
		Counts: Counts{CanaryRequests: 100, CanaryFailures: 20, StableRequests: 200, StableFailures: 110},
		Spared: Counts{StableRequests: 100, StableFailures: 100},
	}}, 10)
	f("both alike", 0.5, []Samples{{
		Counts: Counts{CanaryRequests: 150, CanaryFailures: 60, StableRequests: 100, StableFailures: 10},
		Spared: Counts{CanaryRequests: 50, CanaryFailures: 50},
	}}, 0)
	f("stable gets nothing any more", 0.9, []Samples{
		{Counts: Counts{CanaryRequests: 100, CanaryFailures: 10, StableRequests: 100, StableFailures: 60}, Spared: Counts{StableFailures: 50}},
		{Counts: Counts{CanaryRequests: 1000, CanaryFailures: 200}},
	}, 100)
}
