package analysis

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// twoLoads are users' requests, of which the canary gets a tenth, and own load,
// of which it gets half; both sides fail alike, own load at another rate.
type twoLoads struct {
	users, own        int // requests per look
	userFails         float64
	ownFails, ownSlow [2]float64 // stable, canary; slow is a factor
}

func (l twoLoads) look(random *rand.Rand) (seen Samples) {
	draw := func(n int, share float64, add func(canary bool)) {
		for range n {
			add(random.Float64() < share)
		}
	}
	one := func(c *Counts, canary, failed bool) {
		f := int64(0)
		if failed {
			f = 1
		}
		if canary {
			c.CanaryRequests, c.CanaryFailures = c.CanaryRequests+1, c.CanaryFailures+f
		} else {
			c.StableRequests, c.StableFailures = c.StableRequests+1, c.StableFailures+f
		}
	}
	draw(l.users, 0.1, func(canary bool) { one(&seen.Counts, canary, random.Float64() < l.userFails) })
	if l.own == 0 {
		return seen
	}
	stratum := Stratum{Name: "GET /"}
	draw(l.own, ownShare, func(canary bool) {
		side, latency := 0, &stratum.StableLatency
		if canary {
			side, latency = 1, &stratum.CanaryLatency
		}
		one(&stratum.Counts, canary, random.Float64() < l.ownFails[side])
		latency.Observe(time.Duration((0.5 + random.Float64()) * max(1, l.ownSlow[side]) * float64(20*time.Millisecond)))
	})
	seen.Own = Own{Counts: stratum.Counts, CanaryLatency: stratum.CanaryLatency, StableLatency: stratum.StableLatency, Strata: []Stratum{stratum}}
	return seen
}

func ownPolicy() Policy {
	return Policy{FalseAlarm: 0.001, Tolerance: 0.01, Confidence: 0.95, Shares: []float64{0.1, 1}, LatencyTolerance: 0.05, FailureLimit: 1, Interval: time.Second}
}

// play lets the judge look every second; change makes of the samples what it
// gets.
func (l twoLoads) play(seed uint64, looks int, policy Policy, change func(*Samples)) Evidence {
	random, now := rand.New(rand.NewPCG(seed, 0)), time.Unix(0, 0)
	j := Judge{}.NextStep(policy, 0.1, now)
	for range looks {
		now = now.Add(time.Second)
		seen := l.look(random)
		change(&seen)
		if j = j.Observe(policy, seen, now); j.Failed.Kind != "" {
			break
		}
	}
	return j.Decide(policy, 1)
}

func asIs(*Samples) {}

// pooled is what a judge would see that told own load and users' apart no more.
func pooled(s *Samples) {
	s.Counts, s.Own = s.Counts.Add(s.Own.Counts), Own{}
}

func TestOwnLoadThatFailsOftenerThanUsersRequestsIsHeldAgainstNobody(t *testing.T) {
	const runs = 300
	l := twoLoads{users: 50, own: 20, userFails: 0.001, ownFails: [2]float64{0.1, 0.1}}
	var apart, together int
	for seed := range uint64(runs) {
		if l.play(seed, 200, ownPolicy(), asIs).Verdict == Fail {
			apart++
		}
		if l.play(seed, 200, ownPolicy(), pooled).Verdict == Fail {
			together++
		}
	}
	// At most one of a thousand may fail; of 300, two have a chance of 4 %.
	if apart > 2 {
		t.Errorf("%d of %d good versions were failed; want one of a thousand", apart, runs)
	}
	if together < runs*9/10 {
		t.Errorf("put together only %d of %d would be failed: this test shows nothing", together, runs)
	}
}

func TestOwnLoadFindsWhatNoUserMet(t *testing.T) {
	for seed := range uint64(50) {
		e := twoLoads{own: 20, ownFails: [2]float64{0.01, 0.2}}.play(seed, 120, ownPolicy(), asIs)
		if e.Verdict != Fail || e.Kind != Failures || e.Cost != 0 || e.Own != e.Counts || e.Own.CanaryRequests == 0 {
			t.Fatalf("seed %d: %v (%s), cost %v, own %+v of %+v; want a Fail by failures that cost nobody anything", seed, e.Verdict, e.Kind, e.Cost, e.Own, e.Counts)
		}
		e = twoLoads{own: 40, ownSlow: [2]float64{1, 1.5}}.play(seed, 300, ownPolicy(), asIs)
		if e.Verdict != Fail || e.Kind != Latency || e.Stratum != "own load: GET /" {
			t.Fatalf("seed %d: %v (%s) in %q; want a Fail by the durations of own load", seed, e.Verdict, e.Kind, e.Stratum)
		}
	}
}

// TestGoodVersionsWithoutUsers is the rate at which good versions are promoted,
// and bad ones let through, by users' requests per second, with own load.
func TestGoodVersionsWithoutUsers(t *testing.T) {
	for users, runs := range map[int]int{0: 1000, 1: 100, 5: 100} {
		passed, failed, missed := 0, 0, 0
		for seed := range uint64(runs) {
			l := twoLoads{users: users, own: 20, userFails: 0.001, ownFails: [2]float64{0.001, 0.001}}
			switch l.play(seed, 120, ownPolicy(), asIs).Verdict {
			case Pass:
				passed++
			case Fail:
				failed++
			case NoData, Collecting:
			}
			l.ownFails[1] = 0.1
			if l.play(seed, 120, ownPolicy(), asIs).Verdict == Pass {
				missed++
			}
		}
		if failed > 4 || passed < runs*95/100 || missed > 0 { // one is expected to fail; 5 have a chance of 0.4 %
			t.Errorf("at %d users' requests per second: of %d good versions %d pass and %d fail in 2 minutes, and %d of the bad ones pass", users, runs, passed, failed, missed)
		}
	}
}

func TestABudgetIsNotSpentByOwnLoad(t *testing.T) {
	policy := ownPolicy()
	policy.Budget = 5
	own := Own{Counts: Counts{CanaryRequests: 50, CanaryFailures: 49}} // nothing to compare with
	e := Judge{}.NextStep(policy, 0.1, time.Unix(0, 0)).Observe(policy, Samples{Own: own}, time.Unix(1, 0)).Decide(policy, 1)
	if e.Kind == Budget || e.Cost != 0 {
		t.Errorf("%v by %s, cost %v; want none", e.Verdict, e.Kind, e.Cost)
	}
}

func TestChecksOnOwnLoad(t *testing.T) {
	least, more := 99.0, 2.0
	policy := ownPolicy()
	policy.Checks = []Check{{Metric: SuccessRate, Min: &least}, {Metric: ErrorRate, ToStable: Margin{Max: &more}}}
	look := func(seen Samples) []CheckResult {
		e := Judge{}.NextStep(policy, 0.1, time.Unix(0, 0)).Observe(policy, seen, time.Unix(2, 0)).Decide(policy, 1)
		for i := range e.Checks {
			e.Checks[i].At, e.Checks[i].Least, e.Checks[i].Most = time.Time{}, nil, nil
		}
		return e.Checks
	}
	own := Own{Counts: Counts{CanaryRequests: 50, CanaryFailures: 10, StableRequests: 50, StableFailures: 10}}
	users := Counts{CanaryRequests: 50, CanaryFailures: 1, StableRequests: 450, StableFailures: 9}
	twenty, two := Value(20), Value(2)
	want := []CheckResult{
		{Metric: SuccessRate, Verdict: Fail, Canary: 80, Requests: 50},
		{Metric: ErrorRate, Verdict: Pass, Canary: 20, Stable: &twenty, Requests: 50},
	}
	if diff := cmp.Diff(want, look(Samples{Own: own})); diff != "" {
		t.Errorf("of own load alone (-want +got):\n%s", diff)
	}
	want = []CheckResult{
		{Metric: SuccessRate, Verdict: Fail, Canary: 89, Requests: 100},
		{Metric: ErrorRate, Verdict: Pass, Canary: 2, Stable: &two, Requests: 50},
	}
	if diff := cmp.Diff(want, look(Samples{Counts: users, Own: own})); diff != "" {
		t.Errorf("beside users, who alone compare (-want +got):\n%s", diff)
	}
}

func TestAddingSamplesAddsOwnLoad(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 0))
	l := twoLoads{users: 3, own: 7}
	a, b := l.look(random), l.look(random)
	sum := a.Add(b)
	if got, want := sum.Own.Requests(), int64(14); got != want || sum.Own.Strata[0].Requests() != want || a.Own.Requests() != 7 || a.Own.Strata[0].Requests() != 7 {
		t.Errorf("sum has %d own requests, %d in its stratum; want %d", got, sum.Own.Strata[0].Requests(), want)
	}
	if only := (Samples{}).Add(a); only.Own.Requests() != 7 {
		t.Error("own load of the second is lost")
	}
}
