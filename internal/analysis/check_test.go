package analysis

import (
	"strings"
	"testing"
	"time"
)

func TestChecks(t *testing.T) {
	num := func(v float64) *float64 { return &v }
	requests := func(n, failures int64, d time.Duration) Samples {
		s := Samples{Counts: Counts{CanaryRequests: n, CanaryFailures: failures}}
		for range n {
			s.CanaryLatency.Observe(d)
		}
		return s
	}
	const ms = time.Millisecond
	for _, c := range []struct {
		name   string
		check  Check
		seen   []Samples // one per interval
		failed int
		last   string
	}{
		{"success rate is kept", Check{Metric: SuccessRate, Min: num(99)}, []Samples{requests(100, 1, ms), requests(200, 2, ms)}, 0, ""},
		{"success rate is missed", Check{Metric: SuccessRate, Min: num(99)}, []Samples{requests(100, 2, ms)}, 1, "success-rate is 98 %, at least 99 %"},
		{"success rate is too high", Check{Metric: SuccessRate, Max: num(50)}, []Samples{requests(10, 0, ms)}, 1, "success-rate is 100 %, at most 50 %"},
		{"duration is kept", Check{Metric: DurationP99, Max: num(500)}, []Samples{requests(100, 0, 450*ms)}, 0, ""},
		{"duration is missed", Check{Metric: DurationP99, Max: num(500)}, []Samples{requests(100, 0, 600*ms)}, 1, "duration-p99 is"},
		{"windows do not mix", Check{Metric: SuccessRate, Min: num(99)}, []Samples{requests(10, 1, ms), requests(10, 0, ms), requests(10, 1, ms)}, 2, "over 10 requests"},
		{"nothing seen is nothing failed", Check{Metric: SuccessRate, Min: num(99)}, []Samples{{}, {}, {}}, 0, ""},
		{"a request without answer has no duration", Check{Metric: DurationP99, Max: num(1)}, []Samples{{Counts: Counts{CanaryRequests: 5, CanaryFailures: 5}}}, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			policy := Policy{Checks: []Check{c.check}, FailureLimit: 100, Interval: time.Minute}
			j := Judge{}.NextStep(policy, 0.1, start)
			for i, s := range c.seen {
				begin := start.Add(time.Duration(i) * time.Minute)
				j = j.Observe(policy, s, begin.Add(30*time.Second))
				j = j.Observe(policy, Samples{}, begin.Add(time.Minute))
			}
			if j.Checks.Failed != c.failed || !strings.Contains(j.Checks.Last, c.last) {
				t.Errorf("%d failed looks, last %q; want %d, %q", j.Checks.Failed, j.Checks.Last, c.failed, c.last)
			}
		})
	}
}

// TestFailedChecksAddUpOverTheRun: Flagger's threshold, over all steps.
func TestFailedChecksAddUpOverTheRun(t *testing.T) {
	least := 99.0
	policy := Policy{Checks: []Check{{Metric: SuccessRate, Min: &least}}, FailureLimit: 3, Interval: time.Minute}
	bad := Samples{Counts: Counts{CanaryRequests: 10, CanaryFailures: 1}}
	now := start
	j := Judge{}
	for step := range 3 {
		j = j.NextStep(policy, 0.1, now)
		now = now.Add(time.Minute)
		if got := j.Decide(policy, 1).Verdict; got == Fail {
			t.Fatalf("failed after %d of 3 failed checks", step)
		}
		j = j.Observe(policy, bad, now)
	}
	e := j.Decide(policy, 1)
	if e.Verdict != Fail || !strings.Contains(e.Reason, "failed check 3 of 3") {
		t.Errorf("Decide = %v: %q; want Fail after 3 of 3", e.Verdict, e.Reason)
	}
}

// TestAFailedLookHoldsTheStep until a later one is good.
func TestAFailedLookHoldsTheStep(t *testing.T) {
	least := 50.0
	policy := Policy{Checks: []Check{{Metric: SuccessRate, Min: &least}}, FailureLimit: 3, Interval: time.Minute}
	j := Judge{}.NextStep(policy, 0.1, start)
	look := func(minute int, failures int64) Verdict {
		j = j.Observe(policy, Samples{Counts: Counts{CanaryRequests: 10, CanaryFailures: failures}}, start.Add(time.Duration(minute)*time.Minute))
		return j.Decide(policy, 1).Verdict
	}
	for minute, want := range []Verdict{Pass, Collecting, Pass} {
		if got := look(minute+1, []int64{0, 9, 0}[minute]); got != want {
			t.Errorf("minute %d: %v; want %v", minute+1, got, want)
		}
	}
}

func TestAFailedHookHoldsTheStepForOneInterval(t *testing.T) {
	policy := Policy{FailureLimit: 3, Interval: time.Minute}
	one := Samples{Counts: Counts{CanaryRequests: 1}}
	j := Judge{}.NextStep(policy, 0.1, start).Observe(policy, one, start)
	j = j.HookFailed(policy, "webhook load-test failed")
	for minute, want := range []Verdict{Collecting, Collecting, Pass} {
		j = j.Observe(policy, one, start.Add(time.Duration(minute)*time.Minute))
		if got := j.Decide(policy, 1).Verdict; got != want {
			t.Errorf("minute %d: %v; want %v", minute, got, want)
		}
	}
}

// A load test that calls the canary's own service compares nothing, but it is
// what Flagger's checks look at where users send too little.
func TestDirectRequestsCountForTheChecksAlone(t *testing.T) {
	least := 99.0
	policy := Policy{FalseAlarm: 0.01, Confidence: 0.95, FailureLimit: 1, Interval: time.Minute, Checks: []Check{{Metric: SuccessRate, Min: &least}}}
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	judge := func(failures int64) Evidence {
		j := Judge{}.NextStep(policy, 0.1, start)
		j = j.Observe(policy, Samples{DirectRequests: 1000, DirectFailures: failures}, start.Add(time.Minute))
		return j.Decide(policy, 0.2)
	}
	if e := judge(0); e.Verdict != Pass || e.Counts.Requests() != 0 {
		t.Errorf("without a failure: %v with counts %+v, want Pass and nothing to compare", e.Verdict, e.Counts)
	}
	if e := judge(50); e.Verdict != Fail || !strings.Contains(e.Reason, "95 %") {
		t.Errorf("with 5 %% failures: %v (%s), want Fail by the check", e.Verdict, e.Reason)
	}
	if e := judge(1000); e.LogE != 0 {
		t.Errorf("direct failures moved the comparison to %v", e.LogE)
	}
}

// TestExternalAndRelativeChecks tells what one look says, and what it does to
// the run.
func TestExternalAndRelativeChecks(t *testing.T) {
	num := func(v float64) *float64 { return &v }
	value := func(canary Value) []Measured { return []Measured{{Canary: canary, HasCanary: true}} }
	both := func(canary, stable Value) []Measured {
		return []Measured{{Canary: canary, HasCanary: true, Stable: stable, HasStable: true}}
	}
	external := func(edit func(*Check)) Check {
		c := Check{Metric: "queue-length", External: true}
		edit(&c)
		return c
	}
	most100 := external(func(c *Check) { c.Max = num(100) })
	traffic := func(canaryFailures, stableFailures int64) Samples {
		return Samples{Counts: Counts{CanaryRequests: 100, CanaryFailures: canaryFailures, StableRequests: 1000, StableFailures: stableFailures}}
	}
	for _, c := range []struct {
		name   string
		check  Check
		seen   Samples
		want   Verdict
		reason string
	}{
		{"a good value", most100, Samples{Measured: value(100)}, Pass, "queue-length 100"},
		{"too much", most100, Samples{Measured: value(101)}, Collecting, "queue-length is 101, at most 100 is allowed (failed check 1 of 2)"},
		{"too little", external(func(c *Check) { c.Min = num(-5) }), Samples{Measured: value(-6)}, Collecting, "queue-length is -6, at least -5 is asked for"},
		{"not asked yet", most100, Samples{}, Collecting, "queue-length has no value yet"},
		{"no value is neither", most100, Samples{Measured: []Measured{{}}}, Collecting, "queue-length has no value yet"},
		{"an error is neither", most100, Samples{Measured: []Measured{{Err: "connection refused"}}}, Collecting, "queue-length could not be read: connection refused"},
		{"an error takes a pass back", most100, Samples{Measured: append(value(1), Measured{Err: "timeout"})}, Collecting, "could not be read: timeout"},
		{"no value leaves a pass", most100, Samples{Measured: append(value(1), Measured{})}, Pass, "queue-length 1"},
		{"a value after an error", most100, Samples{Measured: append([]Measured{{Err: "timeout"}}, value(1)...)}, Pass, "queue-length 1"},
		{"a plan that was changed", most100, Samples{Measured: []Measured{{Check: 3, Canary: 1e9, HasCanary: true}}}, Collecting, "no value yet"},
		{"aborts", external(func(c *Check) { c.Max, c.Severity = num(100), Abort }), Samples{Measured: value(101)}, Fail, "queue-length is 101, at most 100 is allowed (aborts at once)"},
		{"only warns", external(func(c *Check) { c.Max, c.Severity = num(100), Warn }), Samples{Measured: value(101)}, Pass, "no further evidence"},
		{"warns of nothing it could not read", external(func(c *Check) { c.Max, c.Severity = num(100), Warn }), Samples{Measured: []Measured{{Err: "x"}}}, Pass, ""},

		{"as stable allows", external(func(c *Check) { c.ToStable = Margin{Max: num(2)} }), Samples{Measured: both(52, 50)}, Pass, "queue-length 52"},
		{"more than stable allows", external(func(c *Check) { c.ToStable = Margin{Max: num(2)} }), Samples{Measured: both(53, 50)}, Collecting, "queue-length is 53, at most 52 is allowed where stable has 50"},
		{"less than stable allows", external(func(c *Check) { c.ToStable = Margin{Min: num(-10), InPercent: true} }), Samples{Measured: both(44, 50)}, Collecting, "at least 45 is asked for where stable has 50"},
		{"in percent", external(func(c *Check) { c.ToStable = Margin{Max: num(10), InPercent: true} }), Samples{Measured: both(55, 50)}, Pass, ""},
		{"absolute beside relative", external(func(c *Check) { c.Max, c.ToStable = num(51), Margin{Max: num(2)} }), Samples{Measured: both(52, 50)}, Collecting, "at most 51"},
		{"relative beside absolute", external(func(c *Check) { c.Max, c.ToStable = num(60), Margin{Max: num(2)} }), Samples{Measured: both(53, 50)}, Collecting, "at most 52"},
		{"without stable's value", external(func(c *Check) { c.ToStable = Margin{Max: num(2)} }), Samples{Measured: value(1e9)}, Collecting, "no value yet"},

		{"error rate", Check{Metric: ErrorRate, Max: num(1)}, traffic(2, 0), Collecting, "error-rate is 2 %, at most 1 % is allowed over 100 requests"},
		{"an outage of both", Check{Metric: ErrorRate, ToStable: Margin{Max: num(2)}}, traffic(51, 500), Pass, "error-rate 51 %"},
		{"worse than stable", Check{Metric: SuccessRate, ToStable: Margin{Min: num(-2)}}, traffic(5, 10), Collecting, "success-rate is 95 %, at least 97 % is asked for where stable has 99 % over 100 requests"},
	} {
		t.Run(c.name, func(t *testing.T) {
			policy := Policy{Checks: []Check{c.check}, FailureLimit: 2, Interval: time.Minute}
			j := Judge{}.NextStep(policy, 0.1, start)
			if c.seen.CanaryRequests == 0 {
				c.seen.CanaryRequests = 1
			}
			j = j.Observe(policy, c.seen, start.Add(time.Minute))
			e := j.Decide(policy, 1)
			if e.Verdict != c.want || !strings.Contains(e.Reason, c.reason) {
				t.Errorf("Decide = %v: %q; want %v: %q", e.Verdict, e.Reason, c.want, c.reason)
			}
			if e.Verdict == Fail && (e.Kind != Checked || !e.AtOnce) {
				t.Errorf("a Fail of kind %q, at once: %v; want a check that aborts", e.Kind, e.AtOnce)
			}
			if warns := c.check.Severity == Warn && strings.HasPrefix(c.name, "only"); warns != (e.Warnings > 0) || warns != (e.Warning != "") {
				t.Errorf("%d warnings, %q", e.Warnings, e.Warning)
			}
		})
	}
}

// TestChecksOfOneMomentCountOnce, as Flagger counts failed looks, not metrics.
func TestChecksOfOneMomentCountOnce(t *testing.T) {
	none := 0.0
	policy := Policy{FailureLimit: 3, Interval: time.Minute, Checks: []Check{
		{Metric: "a", External: true, Max: &none}, {Metric: "b", External: true, Max: &none},
		{Metric: ErrorRate, Max: &none},
	}}
	j := Judge{}.NextStep(policy, 0.1, start)
	j = j.Observe(policy, Samples{
		Counts:   Counts{CanaryRequests: 1, CanaryFailures: 1},
		Measured: []Measured{{Check: 0, Canary: 1, HasCanary: true}, {Check: 1, Canary: 1, HasCanary: true}},
	}, start.Add(time.Minute))
	e := j.Decide(policy, 1)
	if e.FailedChecks != 1 || len(e.Checks) != 3 {
		t.Fatalf("%d failed checks, %d results; want 1 and 3", e.FailedChecks, len(e.Checks))
	}
	if got := e.Checks[2]; got.Verdict != Fail || got.Canary != 100 || got.Most == nil || *got.Most != 0 || got.Requests != 1 {
		t.Errorf("result %+v; want 100 %% of one request, at most 0", got)
	}
}

// TestChecksHaveTheirOwnIntervals: each is looked at on its own time.
func TestChecksHaveTheirOwnIntervals(t *testing.T) {
	none := 0.0
	policy := Policy{FailureLimit: 100, Interval: time.Minute, Checks: []Check{
		{Metric: ErrorRate, Max: &none, Interval: 20 * time.Second},
		{Metric: DurationP50, Max: &none},
	}}
	j := Judge{}.NextStep(policy, 0.1, start)
	for second := 10; second <= 60; second += 10 {
		seen := Samples{Counts: Counts{CanaryRequests: 1, CanaryFailures: 1}}
		seen.CanaryLatency.Observe(time.Second)
		j = j.Observe(policy, seen, start.Add(time.Duration(second)*time.Second))
		if want := second / 20; j.Checks.Failed != want {
			t.Fatalf("after %d s: %d failed looks; want %d", second, j.Checks.Failed, want)
		}
	}
	results := j.Decide(policy, 1).Checks
	if results[0].Requests != 2 || results[1].Requests != 6 {
		t.Errorf("looks over %d and %d requests; want those of 20 s and of 60 s", results[0].Requests, results[1].Requests)
	}
}

func TestSeverityText(t *testing.T) {
	for _, want := range []Severity{Count, Abort, Warn} {
		text, err := want.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var got Severity
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%s became %v: %v", text, got, err)
		}
	}
	var s Severity
	if err := s.UnmarshalText([]byte("fatal")); err == nil {
		t.Error("an unknown severity was read")
	}
}
