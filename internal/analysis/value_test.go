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

// lookAtValue judges one look at a metric that may be 5 at most, and 10 % more
// than stable's where that is given.
func lookAtValue(m Measured) (Judge, Evidence) {
	most, more := 5.0, 10.0
	policy := Policy{
		FalseAlarm: 0.001, FailureLimit: 1, Interval: time.Second,
		Checks: []Check{{Metric: "errors", External: true, Max: &most, ToStable: Margin{Max: &more, InPercent: true}}},
	}
	m.At = start
	seen := Samples{Counts: Counts{CanaryRequests: 10, StableRequests: 90}, Measured: []Measured{m}}
	j := Judge{}.NextStep(policy, 0.1, start).Observe(policy, seen, start.Add(time.Second))
	return j, j.Decide(policy, 0.2)
}

func TestAnInfiniteValueFailsTheCheckAndIsStored(t *testing.T) {
	inf, nan := Value(math.Inf(1)), Value(math.NaN())
	for _, c := range []struct {
		name   string
		value  Measured
		want   Verdict
		reason string
	}{
		{"over a bound", Measured{Canary: inf, HasCanary: true}, Fail, "errors is +Inf, at most 5 is allowed"},
		{"under it", Measured{Canary: -inf, HasCanary: true}, Pass, "the checks passed: errors -Inf"},
		{"stable's, too", Measured{Canary: inf, HasCanary: true, Stable: inf, HasStable: true}, Fail, "where stable has +Inf"},
		{"stable's alone", Measured{Canary: 4, HasCanary: true, Stable: inf, HasStable: true}, Pass, "errors 4"},
		{"far below stable's", Measured{Canary: 4, HasCanary: true, Stable: -inf, HasStable: true}, Fail, "at most -Inf is allowed"},
		{"no number", Measured{Canary: nan, HasCanary: true}, Collecting, "errors has no value yet"},
		{"stable's is no number", Measured{Canary: 4, HasCanary: true, Stable: nan, HasStable: true}, Pass, "errors 4"},
		{"no number, and why", Measured{Canary: nan, HasCanary: true, Err: "0/0"}, Collecting, "could not be read: 0/0"},
	} {
		j, e := lookAtValue(c.value)
		if e.Verdict != c.want || !strings.Contains(e.Reason, c.reason) {
			t.Errorf("%s: %v (%s), want %v (%s)", c.name, e.Verdict, e.Reason, c.want, c.reason)
		}
		survives(t, c.name, j)
		survives(t, c.name, e)
	}
}

// survives checks that a value can be written and is read back as it was.
func survives[T any](t *testing.T, when string, v T) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%s: %T cannot be stored: %v", when, v, err)
	}
	var back T
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatalf("%s: %T cannot be read: %v", when, v, err)
	}
	if !reflect.DeepEqual(v, back) {
		t.Fatalf("%s: a trip through JSON changed the %T (-was +is):\n%s", when, v, cmp.Diff(v, back))
	}
}

// TestWhateverIsSeenCanBeStored: policies and samples at the ends of what
// Validate lets through.
func TestWhateverIsSeenCanBeStored(t *testing.T) {
	for seed := range uint64(100) {
		w := anything{rand.New(rand.NewPCG(seed, 5))}
		policy := w.policy()
		j := Judge{}.NextStep(policy, w.share(), start)
		now := start
		for range 20 {
			now = now.Add(time.Duration(w.IntN(3000)) * time.Millisecond)
			if w.IntN(8) == 0 {
				j = j.NextStep(policy, w.share(), now)
			}
			seen := w.samples()
			if err := seen.Validate(); err != nil {
				t.Fatal(err)
			}
			j = j.Observe(policy, seen, now)
			survives(t, fmt.Sprintf("%d %+v", seed, policy), j)
			survives(t, "evidence", j.Decide(policy, w.share()))
		}
	}
}

// anything draws what is hardly ever seen.
type anything struct{ *rand.Rand }

func pick[T any](w anything, of ...T) T { return of[w.IntN(len(of))] }

func (w anything) share() float64 { return pick(w, 0, 1e-4, 0.1, 0.5, 0.9999, 1) }

func (w anything) policy() Policy {
	p := Policy{
		FalseAlarm: pick(w, 5e-324, 1e-300, 0.001, 0.5), Tolerance: pick(w, 0, 5e-324, 1e-9, 0.05, 1),
		Confidence: pick(w, 5e-324, 0.95, 1-1e-16), Shares: []float64{w.share(), w.share(), 1},
		LatencyTolerance: pick(w, 0, 5e-324, 0.05, 1e308), Budget: pick(w, int64(0), 1, math.MaxInt64), DirectUsers: w.IntN(2) == 0,
		FailureLimit: pick(w, 1, 1000), Interval: time.Second,
	}
	bound := func() *float64 {
		v := pick(w, -1e308, -1, 0, 5, 1e308)
		return &v
	}
	p.Checks = []Check{
		{Metric: "errors", External: true, Max: bound(), ToStable: Margin{Min: bound(), Max: bound(), InPercent: w.IntN(2) == 0}, Severity: Warn},
		{Metric: DurationP99, ToStable: Margin{Max: bound(), InPercent: true}, Severity: Warn},
		{Metric: ErrorRate, Max: bound(), Severity: Warn},
	}
	return p
}

func (w anything) counts() (c Counts) {
	c.CanaryRequests, c.StableRequests = pick(w, int64(0), 1, 40, 5000), pick(w, int64(0), 1, 40, 5000)
	c.CanaryFailures, c.StableFailures = pick(w, 0, c.CanaryRequests, c.CanaryRequests/7), pick(w, 0, c.StableRequests, c.StableRequests/7)
	return c
}

func (w anything) latency() (h Histogram) {
	for range w.IntN(3) {
		h.Observe(pick(w, 0, time.Nanosecond, time.Second, time.Duration(math.MaxInt64)))
	}
	return h
}

func (w anything) value() Value {
	return pick(w, 0, -1, 5, 1e308, -1e308, Value(math.Inf(1)), Value(math.Inf(-1)), Value(math.NaN()))
}

func (w anything) samples() Samples {
	s := Samples{
		Counts: w.counts(), CanaryLatency: w.latency(), StableLatency: w.latency(), ByUser: w.IntN(4) == 0,
		Strata:         []Stratum{{Name: "GET /", Counts: w.counts(), CanaryLatency: w.latency(), StableLatency: w.latency()}},
		DirectRequests: 9, DirectFailures: w.Int64N(9), DirectLatency: w.latency(),
		Own:      Own{Counts: w.counts(), CanaryLatency: w.latency(), StableLatency: w.latency()},
		Measured: []Measured{{Canary: w.value(), HasCanary: true, Stable: w.value(), HasStable: w.IntN(2) == 0}},
	}
	if s.ByUser {
		s.Users = &Users{Counts: w.counts(), CanaryLatency: w.latency()}
	}
	return s
}
