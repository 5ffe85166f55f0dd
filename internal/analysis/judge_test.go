package analysis

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// traffic draws requests of a split service.
type traffic struct {
	rate, share    float64 // requests per second, the canary's share
	stable, canary float64 // failure rates
	// outage, when set, adds to both failure rates at a time in seconds.
	outage func(second float64) float64
	// drift, when set, is the share at a time, whatever was asked.
	drift func(second float64) float64
	// down, when set, says when stable has no pod.
	down func(second float64) bool
}

const lookEvery = 0.25 // seconds, like the controller's loop

func (tr traffic) look(r *rand.Rand, second float64) Samples {
	var c Counts
	limit, product := math.Exp(-tr.rate*lookEvery), r.Float64()
	share, more := tr.share, 0.0
	if tr.outage != nil {
		more = tr.outage(second)
	}
	if tr.drift != nil {
		share = tr.drift(second)
	}
	for ; product > limit; product *= r.Float64() {
		failed := func(p float64) int64 {
			if r.Float64() < p+more {
				return 1
			}
			return 0
		}
		if r.Float64() < share {
			c.CanaryRequests++
			c.CanaryFailures += failed(tr.canary)
		} else {
			c.StableRequests++
			c.StableFailures += failed(tr.stable)
		}
	}
	down := tr.down != nil && tr.down(second)
	if down {
		c.StableFailures = c.StableRequests
	}
	return Samples{Counts: c, StableDown: down}
}

// watch judges traffic until done or the time is over.
func (tr traffic) watch(policy Policy, seed uint64, seconds float64, done func(Judge) bool) Judge {
	r := rand.New(rand.NewPCG(seed, 42))
	j := Judge{}.NextStep(policy, tr.share, start)
	for s := 0.0; s < seconds && !done(j); s += lookEvery {
		now := start.Add(time.Duration(s * float64(time.Second)))
		j = j.Observe(policy, tr.look(r, s), now)
	}
	return j
}

func failed(j Judge) bool { return j.Failed.Kind != "" }

// limit is N*: no test that compares two versions decides earlier on average.
func (tr traffic) limit(alpha float64) float64 {
	kl := func(p, q float64) float64 {
		var sum float64
		if p > 0 {
			sum += p * math.Log(p/q)
		}
		if p < 1 {
			sum += (1 - p) * math.Log((1-p)/(1-q))
		}
		return sum
	}
	q := tr.share*tr.canary + (1-tr.share)*tr.stable
	return -math.Log(alpha) / (tr.share*kl(tr.canary, q) + (1-tr.share)*kl(tr.stable, q))
}

// TestFalseAlarms: equal versions, looked at four times a second for a long
// time, are failed in no more than the promised share of the runs, whatever
// happens to both of them, and whatever share the traffic really follows.
func TestFalseAlarms(t *testing.T) {
	const alpha, runs = 0.05, 500
	flapping := func(s float64) float64 {
		if math.Mod(s, 7) < 2 {
			return 0.6
		}
		return 0
	}
	for name, tr := range map[string]traffic{
		"steady":                     {rate: 30, share: 0.1, stable: 0.02, canary: 0.02},
		"even split":                 {rate: 30, share: 0.5, stable: 0.1, canary: 0.1},
		"outages of both":            {rate: 30, share: 0.1, stable: 0.01, canary: 0.01, outage: flapping},
		"share is not what is asked": {rate: 30, share: 0.1, stable: 0.05, canary: 0.05, drift: func(float64) float64 { return 0.3 }},
		"share drifts":               {rate: 30, share: 0.1, stable: 0.05, canary: 0.05, drift: func(s float64) float64 { return 0.1 + 0.4*s/300 }},
		"share and outage together": {rate: 30, share: 0.1, stable: 0.01, canary: 0.01, outage: func(s float64) float64 {
			return 0.4 * s / 300
		}, drift: func(s float64) float64 { return 0.1 + 0.4*s/300 }},
		"canary is better": {rate: 30, share: 0.1, stable: 0.1, canary: 0.05},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policy := Policy{FalseAlarm: alpha}
			alarms := 0
			for seed := range uint64(runs) {
				if failed(tr.watch(policy, seed, 300, failed)) {
					alarms++
				}
			}
			most := alpha*runs + 4*math.Sqrt(alpha*(1-alpha)*runs)
			t.Logf("%d of %d equal versions failed (%.1f %%)", alarms, runs, 100*float64(alarms)/runs)
			if float64(alarms) > most {
				t.Errorf("%d of %d equal versions failed; want at most %.0f", alarms, runs, most)
			}
		})
	}
}

// TestWrongPasses: a canary that is exactly as bad as must be excluded passes
// at any time in no more than the promised share of the runs; a good one does.
func TestWrongPasses(t *testing.T) {
	const runs = 500
	spike := func(s float64) float64 {
		if s > 10 && s < 25 {
			return 0.5
		}
		return 0
	}
	for _, c := range []struct {
		name  string
		delta float64
		traffic
	}{
		{"never fails", 0.1, traffic{rate: 20, share: 0.1}},
		{"fails seldom", 0.05, traffic{rate: 20, share: 0.25, stable: 0.01, canary: 0.01}},
		{"fails often", 0.1, traffic{rate: 20, share: 0.5, stable: 0.1, canary: 0.1}},
		{"outage", 0.05, traffic{rate: 20, share: 0.1, stable: 0.001, canary: 0.001, outage: spike}},
		{"outage of stable", 0.05, traffic{rate: 20, share: 0.25, stable: 0.001, canary: 0.001, down: func(s float64) bool { return spike(s) > 0 }}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			policy := Policy{Tolerance: c.delta, Confidence: 0.95, Shares: []float64{1}}
			passed := func(j Judge) bool { return j.Bound.logE(c.delta) >= policy.enough() && j.Step.CanaryRequests > 0 }
			bad := c.traffic
			bad.canary += c.delta
			wrong, right := 0, 0
			for seed := range uint64(runs) {
				if passed(bad.watch(policy, seed, 300, passed)) {
					wrong++
				}
			}
			for seed := range uint64(runs / 10) {
				if passed(c.watch(policy, seed, 900, passed)) {
					right++
				}
			}
			t.Logf("passed: %d of %d with the regression, %d of %d without", wrong, runs, right, runs/10)
			if most := 0.05*runs + 4*math.Sqrt(0.05*0.95*runs); float64(wrong) > most {
				t.Errorf("%d of %d bad versions passed; want at most %.0f", wrong, runs, most)
			}
			if right < runs/10*95/100 {
				t.Errorf("%d of %d good versions passed within 15 minutes; want nearly all", right, runs/10)
			}
		})
	}
}

// TestVerdicts goes through what Decide may say.
func TestVerdicts(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, Tolerance: 0.05, Confidence: 0.95, Shares: []float64{0.25, 1}, FailureLimit: 2, Interval: 10 * time.Second}
	good := Samples{Counts: Counts{CanaryRequests: 20, StableRequests: 180}}
	bad := Samples{Counts: Counts{CanaryRequests: 20, CanaryFailures: 10, StableRequests: 180}}
	least := 99.0
	checked := policy
	checked.Checks = []Check{{Metric: SuccessRate, Min: &least}}
	for _, c := range []struct {
		name   string
		policy Policy
		seen   []Samples // one per second, for the step
		next   float64
		want   Verdict
		reason string
	}{
		{"nothing seen", policy, nil, 1, NoData, "no request reached the canary"},
		{"only stable seen", policy, []Samples{{Counts: Counts{StableRequests: 500}}}, 1, NoData, "no request"},
		{"a good start", policy, []Samples{good}, 1, Collecting, "collecting evidence: 20 of about"},
		{"enough for a small step", policy, []Samples{good}, 0.25, Pass, "at most 20 % more"},
		{"enough for all", policy, []Samples{good, good, good, good}, 1, Pass, "at most 5 % more"},
		{"worse", policy, []Samples{bad, good, good}, 0.25, Fail, "the canary failed 10 of"},
		{"nothing asked for", Policy{}, []Samples{{Counts: Counts{CanaryRequests: 1}}}, 1, Pass, "no further evidence"},
		{"nothing asked for and nothing seen", Policy{}, nil, 1, NoData, "no request"},
		{"checks before the first look", checked, []Samples{good, good, good, good}, 0.25, Collecting, "not yet at this share"},
		{"no confidence can be reached", Policy{Tolerance: 0.1, Confidence: 1, Shares: []float64{1}}, []Samples{good, good}, 1, Collecting, "collecting evidence"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := Judge{}.NextStep(c.policy, 0.1, start)
			for i, s := range c.seen {
				j = j.Observe(c.policy, s, start.Add(time.Duration(i+1)*time.Second))
			}
			e := j.Decide(c.policy, c.next)
			if e.Verdict != c.want || !strings.Contains(e.Reason, c.reason) {
				t.Errorf("Decide = %v: %q; want %v: %q", e.Verdict, e.Reason, c.want, c.reason)
			}
		})
	}
	if e := (Judge{}).Decide(Policy{}, 1); e.Verdict != NoData {
		t.Errorf("the zero judge says %v; want NoData", e.Verdict)
	}
}

// TestEachStepNeedsItsOwnRequests: evidence of earlier steps counts, but not
// alone.
func TestEachStepNeedsItsOwnRequests(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, Tolerance: 0.05, Confidence: 0.95, Shares: []float64{0.5, 1}}
	j := Judge{}.NextStep(policy, 0.1, start)
	j = j.Observe(policy, Samples{Counts: Counts{CanaryRequests: 1000, StableRequests: 9000}}, start)
	if got := j.Decide(policy, 0.5).Verdict; got != Pass {
		t.Fatalf("first step: %v; want Pass", got)
	}
	j = j.NextStep(policy, 0.5, start)
	if got := j.Decide(policy, 1).Verdict; got != NoData {
		t.Errorf("second step without requests: %v; want NoData", got)
	}
	j = j.Observe(policy, Samples{Counts: Counts{CanaryRequests: 1}}, start)
	if got := j.Decide(policy, 1).Verdict; got != Pass {
		t.Errorf("second step with one: %v; want Pass", got)
	}
}

// TestAStepEndsTheBlock: a block of two different splits would make the canary
// look worse, or better, than it is.
func TestAStepEndsTheBlock(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, Tolerance: 0.05, Confidence: 0.95, Shares: []float64{1}}
	j := Judge{}.NextStep(policy, 0.1, start)
	j = j.Observe(policy, Samples{Counts: Counts{CanaryRequests: 1, CanaryFailures: 1, StableRequests: 9}}, start)
	if j.Block.Requests() != 10 || j.Failure.Max != 0 {
		t.Fatalf("10 requests of a block of %d are scored already: %+v", blockSize(0.1, 10), j)
	}
	j = j.NextStep(policy, 0.5, start)
	if j.Block != (Counts{}) || j.Failure.Max <= 0 {
		t.Errorf("the block was not scored by itself: block %+v, e-value e^%v", j.Block, j.Failure.Max)
	}
}

// TestUsersAreTheUnitWhereTheyStay: one user who fails again and again is one
// failure, and users who fail one after the other are as many.
func TestUsersAreTheUnitWhereTheyStay(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001}
	one := func(users Counts) Samples {
		return Samples{
			Counts: Counts{CanaryRequests: 1, CanaryFailures: 1, StableRequests: 20},
			ByUser: true, Users: &Users{Counts: users},
		}
	}
	for _, story := range []struct {
		name        string
		first, then Counts
		want        Kind
	}{
		{"the same user", Counts{CanaryRequests: 1, CanaryFailures: 1, StableRequests: 20}, Counts{}, ""},
		{"another each time", Counts{CanaryRequests: 1, CanaryFailures: 1, StableRequests: 20}, Counts{CanaryRequests: 1, CanaryFailures: 1, StableRequests: 20}, Failures},
		{"users who were seen before", Counts{CanaryRequests: 30, StableRequests: 600}, Counts{CanaryFailures: 1}, Failures},
		{"more failures than users", Counts{CanaryRequests: 1, StableRequests: 20}, Counts{CanaryFailures: 2}, ""},
	} {
		j := Judge{}.NextStep(policy, 0.05, start)
		j = j.Observe(policy, one(story.first), start)
		for range 20 {
			j = j.Observe(policy, one(story.then), start)
		}
		if j.Failed.Kind != story.want {
			t.Errorf("%s: %+v; want %q", story.name, j.Failed, story.want)
		}
	}
}

// TestSamplesOfUsersAddUp: the sum shares no memory with its parts.
func TestSamplesOfUsersAddUp(t *testing.T) {
	users := func(n int64) Samples {
		return Samples{
			Users:  &Users{Counts: Counts{CanaryRequests: n}},
			Strata: []Stratum{{Name: "GET /", Users: &Users{Counts: Counts{CanaryRequests: n}}}},
		}
	}
	a, b := users(1), users(2)
	for _, sum := range []Samples{a.Add(b), a.Add(Samples{}).Add(b), Samples{}.Add(a).Add(b)} {
		if n, of := sum.Users.CanaryRequests, sum.Strata[0].Users.CanaryRequests; n != 3 || of != 3 {
			t.Errorf("1 and 2 users are %d, in their endpoint %d", n, of)
		}
	}
	if a.Users.CanaryRequests != 1 || b.Users.CanaryRequests != 2 {
		t.Errorf("adding changed its parts to %d and %d", a.Users.CanaryRequests, b.Users.CanaryRequests)
	}
}

// TestJudgeSurvivesStorage: a trip through JSON at any moment changes nothing
// that follows.
func TestJudgeSurvivesStorage(t *testing.T) {
	most := 500.0
	policy := Policy{
		FalseAlarm: 0.001, Tolerance: 0.02, Confidence: 0.95, Shares: []float64{0.25, 0.5, 1},
		Checks: []Check{{Metric: DurationP99, Max: &most}}, FailureLimit: 3, Interval: 5 * time.Second,
	}
	tr := traffic{rate: 40, share: 0.2, stable: 0.02, canary: 0.04}
	r := rand.New(rand.NewPCG(1, 2))
	a := Judge{}.NextStep(policy, tr.share, start)
	b := a
	for i := range 200 {
		seen := tr.look(r, float64(i))
		for range seen.CanaryRequests {
			seen.CanaryLatency.Observe(time.Duration(r.ExpFloat64() * float64(100*time.Millisecond)))
		}
		now := start.Add(time.Duration(i) * 250 * time.Millisecond)
		a, b = a.Observe(policy, seen, now), b.Observe(policy, seen, now)
		data, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		b = Judge{}
		if err := json.Unmarshal(data, &b); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("after look %d (-kept +stored):\n%s", i, cmp.Diff(fmt.Sprintf("%+v", a), fmt.Sprintf("%+v", b)))
		}
	}
}

// TestTheJudgeThatIsGivenStaysAsItIs: a step returns another one, and what both
// share is not changed, so that a state that is stored while the next one is made
// is whole, and the step can be taken again.
func TestTheJudgeThatIsGivenStaysAsItIs(t *testing.T) {
	most := 60.0
	policy := Policy{
		FalseAlarm: 0.001, Tolerance: 0.02, Confidence: 0.95, Shares: []float64{0.5, 1}, LatencyTolerance: 0.1, Warmup: 5 * time.Second,
		Checks: []Check{
			{Metric: DurationP99, Max: &most, Severity: Warn},
			{Metric: SuccessRate, Min: &most, Interval: time.Second},
		},
		FailureLimit: 3, Interval: 5 * time.Second,
	}
	s := site{share: 0.2, timed: true, endpoints: []endpoint{
		{part: 0.6, stable: 0.05, canary: 0.05}, {part: 0.3, stable: 0.02, canary: 0.1}, {part: 0.1},
	}}
	r := rand.New(rand.NewPCG(3, 4))
	text := func(j Judge) string {
		t.Helper()
		data, err := json.Marshal(j)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	j := Judge{}
	for i := range 120 {
		seen, own := s.look(r, i, 60), s.look(r, i, 10)
		seen.Own = Own{Counts: own.Counts, CanaryLatency: own.CanaryLatency, StableLatency: own.StableLatency, Strata: own.Strata}
		now := start.Add(time.Duration(i) * 250 * time.Millisecond)
		step := func() Judge {
			if i%40 == 0 {
				return j.NextStep(policy, s.share, now)
			}
			return j.Observe(policy, seen, now).HookFailed(policy, "a hook")
		}
		before := text(j)
		next := step()
		if after := text(j); after != before {
			t.Fatalf("look %d changed the judge that was given (-before +after):\n%s", i, cmp.Diff(before, after))
		}
		if again := step(); !reflect.DeepEqual(again, next) {
			t.Fatalf("look %d taken again (-first +again):\n%s", i, cmp.Diff(text(next), text(again)))
		}
		j = next
	}
	if len(j.Strata) != 6 || j.Latency.Blocks == 0 || j.Failure.Blocks == 0 || len(j.Checks.Windows) != 2 {
		t.Errorf("%d strata, %d and %d blocks, %d windows: the test is invalid", len(j.Strata), j.Latency.Blocks, j.Failure.Blocks, len(j.Checks.Windows))
	}
}

// TestNoRequestIsSaidAndNotEstimated when the traffic stops.
func TestNoRequestIsSaidAndNotEstimated(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, Tolerance: 0.05, Confidence: 0.95, Shares: []float64{0.5}}
	j := Judge{}.NextStep(policy, 0.1, start)
	seen := Samples{Counts: Counts{CanaryRequests: 1, StableRequests: 9}}
	at := start
	look := func(s Samples, after time.Duration, want string) {
		t.Helper()
		at = at.Add(after)
		j = j.Observe(policy, s, at)
		if e := j.Decide(policy, 0.5); !strings.Contains(e.Reason, want) || (e.Left > 0) != strings.Contains(want, "left") {
			t.Errorf("after %v: %q, %v left; want %q", at.Sub(start), e.Reason, e.Left, want)
		}
	}
	look(seen, time.Second, "left")
	look(Samples{}, 50*time.Second, "left")
	look(Samples{}, 4*time.Minute+10*time.Second, ", no request for 5m")
	look(seen, time.Second, "left")
}

// TestAnEstimateThatCannotBeTrueIsNotSaid: of a rate that would take weeks, and
// of fewer requests than there were already.
func TestAnEstimateThatCannotBeTrueIsNotSaid(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, Tolerance: 0.0001, Confidence: 0.95, Shares: []float64{0.5}}
	j := Judge{}.NextStep(policy, 0.1, start)
	at := start
	for range 40 {
		at = at.Add(4 * time.Minute)
		j = j.Observe(policy, Samples{Counts: Counts{CanaryRequests: 1, StableRequests: 9}}, at)
		e := j.Decide(policy, 0.5)
		if e.Needed == 0 {
			t.Fatalf("nothing is needed: %q", e.Reason)
		}
		if e.Left != 0 || strings.Contains(e.Reason, "left") {
			t.Errorf("after %v: %q, %v left; want no estimate", at.Sub(start), e.Reason, e.Left)
		}
	}

	policy.Tolerance = 0.01
	j, at = Judge{}.NextStep(policy, 0.1, start), start
	for range 2000 {
		at = at.Add(time.Second)
		j = j.Observe(policy, Samples{Counts: Counts{CanaryRequests: 1, StableRequests: 9}}, at)
		e := j.Decide(policy, 0.5)
		var have, about int64
		if n, err := fmt.Sscanf(e.Reason, "collecting evidence: %d of about %d", &have, &about); n == 2 && err == nil && about <= have {
			t.Errorf("after %v: %q", at.Sub(start), e.Reason)
		}
	}
}
