package analysis

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// passes plays one run at a step and reports whether it was ever held by doubt,
// whether it passed, and how many failures the canary had in endpoint k then.
func passes(s site, policy Policy, seed uint64, k int) (held, passed bool, failures int64) {
	r := rand.New(rand.NewPCG(seed, 17))
	s.buffer = new([]Stratum)
	policy.Shares = []float64{1}
	j := Judge{}.NextStep(policy, s.share, start)
	for look := range 4000 {
		j = j.Observe(policy, s.look(r, look, 25), start.Add(time.Duration(look)*250*time.Millisecond))
		e := j.Decide(policy, 1)
		held = held || strings.Contains(e.Reason, "it may be worse")
		if e.Verdict == Pass || e.Verdict == Fail {
			if k < len(j.Strata) {
				failures = j.Strata[k].seen().CanaryFailures
			}
			return held, e.Verdict == Pass, failures
		}
	}
	return held, false, failures
}

// TestARareFaultIsNotGivenMoreUsers: the whole would pass, but an endpoint of
// which one request of 500 is fails always.
func TestARareFaultIsNotGivenMoreUsers(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, Tolerance: 0.01, Confidence: 0.95}
	s := site{share: 0.1, endpoints: []endpoint{{part: 0.5}, {part: 0.498}, {canary: 1}}}
	const runs = 200
	for seed := range uint64(runs) {
		// Two failures of an endpoint that nobody on stable was ever failed by
		// may be met before the third; more must not pass.
		if _, passed, failures := passes(s, policy, seed, 2); passed && failures > 3 {
			t.Errorf("run %d passed with %d failures at the rare endpoint", seed, failures)
		}
	}
}

// TestDoubtSeldomHoldsAGoodVersionAndNeverForLong: with equal versions.
func TestDoubtSeldomHoldsAGoodVersionAndNeverForLong(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, Tolerance: 0.01, Confidence: 0.95}
	s := site{share: 0.1}
	for range 10 {
		s.endpoints = append(s.endpoints, endpoint{part: 0.1, stable: 0.01, canary: 0.01})
	}
	const runs = 200
	held, stuck := 0, 0
	for seed := range uint64(runs) {
		h, passed, _ := passes(s, policy, seed, 0)
		if h {
			held++
		}
		if !passed {
			stuck++
		}
	}
	t.Logf("of %d good runs %d were held, %d did not pass", runs, held, stuck)
	if held > runs/doubtful || stuck > 2 {
		t.Errorf("of %d good runs %d were held and %d did not pass; want at most %d and 2", runs, held, stuck, runs/doubtful)
	}
}
