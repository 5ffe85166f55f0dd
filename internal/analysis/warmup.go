package analysis

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Warm-up. The first requests of a process are slow, so for a while latency
// does not fail the canary. It does not speak for it either: a version may be
// slow in earnest, and a short plan would be over before anybody asked. So what
// a warm-up excuses is a rollback, never an advance. Until it is over a second
// test of latency, Judge.Early, counts for doubt alone: while the canary looks
// slower it gets no more users, and none but few before it was looked at.
//
// The false alarms that Policy.FalseAlarm promises are of Judge.Latency, which
// sees nothing of the warm-up but what stable's durations are like. Of the
// doubts that a good version meets, Early adds the part that Latency has, once
// for users' requests and once for own load.

// latencyLook is how many of the canary's answers must have been compared before
// its latency counts as looked at. Twenty show what must not be given to all
// users unseen: where durations spread as usual, a version that takes three times
// as long is doubted in them by nearly all runs of 10 % and by half of those of
// 50 %, one that takes five times as long by all. Less shows in thousands alone,
// for which later steps and holds are. See TestAFirstLook.
const latencyLook = 20

// muteFactor: stable must have failed so many times the requests that its
// durations are learned from, nearly all of them, to be past comparing with.
const muteFactor = 10

// observeLatency compares what the canary's and stable's answers took. Own load
// is no part of users' requests, and judged by endpoint alone: see strata.go.
// Canary and stable are what the judge goes by: requests, or users where these
// stay on a side. Doubt goes by requests always, of which there are more.
func (j *Judge) observeLatency(policy Policy, seen *Samples, canary, stable *Histogram, warm bool) {
	tolerance := policy.LatencyTolerance
	switch {
	case tolerance <= 0:
	case !warm:
		j.Early = j.Early.observe(&seen.CanaryLatency, &seen.StableLatency, tolerance, j.Share)
		if own := &seen.Own; own.Requests() > 0 {
			j.Own.Early = j.Own.Early.observe(&own.CanaryLatency, &own.StableLatency, tolerance, ownShare)
		}
	default:
		if j.Latency.Learned == 0 {
			j.Latency = j.Early.anew()
		}
		j.Latency = j.Latency.observe(canary, stable, tolerance, j.Share)
		if j.judged() >= latencyLook {
			j.Early, j.Own.Early = latencyTest{}, latencyTest{}
		}
	}
}

// judged counts the canary's durations that the judge itself has compared.
func (j *Judge) judged() int64 {
	n := j.Latency.compared()
	for k := range j.Strata {
		if t := &j.Strata[k]; strings.HasPrefix(t.Name, ownStratum) {
			n += t.Latency.compared()
		}
	}
	return n
}

// compared counts the canary's durations that were compared and scored.
func (t *latencyTest) compared() int64 { return t.Total[0] }

// anew is a test that has seen nothing but what stable's durations are like.
func (t latencyTest) anew() latencyTest {
	return latencyTest{Learned: t.Learned, Quantiles: t.Quantiles, At: t.At}
}

// early says that the canary looks slower while it warms up, "" = it does not.
func (j *Judge) early(policy Policy) string {
	test := &j.Early
	if limit := math.Log(doubtful / latencyPart); !j.Early.atLeast(limit) && !j.Own.Early.atLeast(limit) {
		return ""
	}
	if j.Own.Early.logE() > test.logE() {
		test = &j.Own.Early
	}
	text := fmt.Sprintf("looks %s; latency is judged from %v and %d canary requests on",
		test.text(policy.LatencyTolerance), policy.Warmup, policy.WarmupRequests)
	if left := policy.Warmup - j.Pace.At.Sub(j.Began); left > 0 {
		text += fmt.Sprintf(", %v left", (left + time.Second - 1).Truncate(time.Second))
	}
	if left := policy.WarmupRequests - j.Total.CanaryRequests; left > 0 {
		text += fmt.Sprintf(", %d requests to go", left)
	}
	return text
}

// unseen says that latency was not looked at yet, as it must be before the
// canary gets more users than the tolerance lets it fail; "" = it was, or cannot be.
func (j *Judge) unseen(policy Policy, nextShare float64) string {
	if policy.FalseAlarm <= 0 || policy.LatencyTolerance <= 0 || nextShare <= policy.Tolerance || j.mute() {
		return ""
	}
	n := j.Early.compared() + j.Own.Early.compared() + j.judged()
	if n >= latencyLook {
		return ""
	}
	return fmt.Sprintf("latency is compared on %d canary requests at least, %d so far", latencyLook, n)
}

// mute reports whether there are no durations of stable to compare with: it gets
// no requests, or fails them all, which the next version may be meant to mend.
func (j *Judge) mute() bool {
	if j.Share >= 1 && j.Own.Total.Requests() == 0 {
		return true
	}
	c := j.Total
	return c.StableRequests >= muteFactor*latencyLearn && c.StableRequests-c.StableFailures < latencyLearn
}
