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
