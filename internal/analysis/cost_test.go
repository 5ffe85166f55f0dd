package analysis

import (
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

// TestTheBudgetBoundsTheCost whatever the statistics say: here they are told
// to believe nothing.
func TestTheBudgetBoundsTheCost(t *testing.T) {
	policy := Policy{FalseAlarm: 1e-300, Budget: 50}
	j := spend(policy, traffic{share: 0.1, canary: 0.02}, 1, 100_000)
	e := j.Decide(policy, 1)
	if e.Verdict != Fail || e.Kind != Budget || !e.AtOnce || !strings.Contains(e.Reason, "the budget of 50 is spent") {
		t.Fatalf("%v %q: %s", e.Verdict, e.Kind, e.Reason)
	}
	if e.Counts.CanaryFailures < 50 || e.Counts.CanaryFailures > 54 || e.Cost != float64(e.Counts.CanaryFailures) {
		t.Errorf("%d failed requests, cost %v; want 50, and all of them the canary's fault", e.Counts.CanaryFailures, e.Cost)
	}
	for seed := range uint64(20) { // stable fails, too: chance is not held against the canary
		j = spend(policy, traffic{share: 0.1, stable: 0.05, canary: 0.1}, seed, 100_000)
		if c := j.Decide(policy, 1).Cost; !failed(j) || c < 50 || c > 200 {
			t.Errorf("seed %d: cost %v, %+v; want it failed at 50 and what chance explains", seed, c, j.Failed)
		}
	}
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
	if math.Abs(c.cost()-20) > 1e-9 || c.sure() >= c.cost() {
		t.Errorf("cost %v, sure %v; want 20, and less", c.cost(), c.sure())
	}
	if c := (costTally{}).add(Counts{CanaryRequests: 5}, Counts{}); c.cost() != 0 || c.sure() != 0 {
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
