package analysis

import (
	"math"
	"slices"
)

// The strata: each endpoint is asked the same questions as the whole, so that
// a fault in a rare one is found and named. Asking more must not fail good
// versions more often, so the false alarms that the policy allows are shared
// out once for all (Bonferroni, with unequal parts; the e-processes need not be
// independent):
//
//	failures of all requests   80 %
//	failures by endpoint        8 %
//	latency of all requests    10 %
//	latency by endpoint         2 %
//
// Where there is a budget, that has a tenth of them (cost.go), and the failures
// of all requests 70 %.
//
// An endpoint's part falls with 1/k in order of appearance: endpoints that much
// is asked of appear first, and k is bounded by MaxStrata+1. A part of p costs
// ln(1/p) more evidence than asking one question would: 0.2 for the failures of
// all requests, 6.4 for those of the tenth of 20 endpoints, which is two or
// three failed requests where stable never fails.
const (
	failuresPart        = 0.80
	strataFailuresPart  = 0.08
	latencyPart         = 0.10
	strataLatencyPart   = 0.02
	harmonicStrata      = 4.7596 // at least Σ 1/k for k up to MaxStrata+1
	strataWorthNaming   = 2. / 3 // of the canary's failures, to be named beside a Fail of all
	strataWorthAskingOf = 2      // strata; with one, it is the whole
)

// failures is the part of the failures of all requests.
func (p *Policy) failures() float64 {
	if p.Budget > 0 {
		return failuresPart - excessPart - historyPart
	}
	return failuresPart
}

// limit is the log e-value at which a question with that part of the false
// alarms fails the canary.
func (p *Policy) limit(part float64) float64 {
	if p.FalseAlarm <= 0 {
		return math.Inf(1)
	}
	return -math.Log(p.FalseAlarm) - math.Log(part) // whose product may be too small for a float64
}

// stratumPart is the part of the k-th stratum, from 0, of what strata get.
func stratumPart(k int) float64 { return 1 / (harmonicStrata * float64(k+1)) }

// stratumTest is what the judge knows of one endpoint. Its names are short
// because a run may keep 65 of it in an object's status.
type stratumTest struct {
	Name    string      `json:"name"`
	Total   quad        `json:"t"`
	Failure failureTest `json:"f"`
	Latency latencyTest `json:"l"`
}

// quad is Counts that take little room: requests and failures of the canary,
// then of stable.
type quad [4]int64

func quadOf(c Counts) quad {
	return quad{c.CanaryRequests, c.CanaryFailures, c.StableRequests, c.StableFailures}
}

func (q quad) counts() Counts {
	return Counts{CanaryRequests: q[0], CanaryFailures: q[1], StableRequests: q[2], StableFailures: q[3]}
}

func (q quad) add(o quad) quad {
	for i, n := range o {
		q[i] += n
	}
	return q
}

// observeStrata asks about each endpoint that was asked for, by requests, or
// users, of which the canary got a share; kind comes before their names.
func (j *Judge) observeStrata(policy Policy, kind string, seen []Stratum, share float64, byUser, latency bool) {
	if len(seen) == 0 {
		return
	}
	j.Strata = slices.Clone(j.Strata)
	for i := range seen {
		s := &seen[i]
		name := kind + s.Name
		k := j.stratum(name)
		if k < 0 {
			if len(j.Strata) > MaxStrata {
				continue // more than were promised: the total has them
			}
			k = len(j.Strata)
			j.Strata = append(j.Strata, stratumTest{Name: name})
		}
		t := &j.Strata[k]
		canary, stable := &s.CanaryLatency, &s.StableLatency
		if byUser {
			users := s.Users.news()
			canary, stable = &users.CanaryLatency, &users.StableLatency
			t.Failure = t.Failure.observeUsers(users.Counts)
		} else {
			t.Failure = t.Failure.observe(s.Counts, t.seen().Requests(), share)
		}
		t.Total = t.Total.add(quadOf(s.Counts))
		if latency {
			t.Latency = t.Latency.observe(canary, stable, policy.LatencyTolerance, share)
		}
	}
}

// stratum is the index of the endpoint of that name; -1 without one.
func (j *Judge) stratum(name string) int {
	for k := range j.Strata { // not by value: they are large
		if j.Strata[k].Name == name {
			return k
		}
	}
	return -1
}

// seen is what the endpoint did so far.
func (t *stratumTest) seen() Counts { return t.Total.counts() }

// worst is the index of the stratum with the highest value; -1 without any.
func (j *Judge) worst(value func(k int, t *stratumTest) float64) int {
	worst, most := -1, math.Inf(-1)
	for k := range j.Strata {
		if v := value(k, &j.Strata[k]); v > most {
			worst, most = k, v
		}
	}
	return worst
}

// mostFailures is the endpoint in which most of the canary's failures are, when
// there are several endpoints and one that stands out; otherwise nil.
func (j *Judge) mostFailures() *stratumTest {
	if len(j.Strata) < strataWorthAskingOf {
		return nil
	}
	k := j.worst(func(_ int, t *stratumTest) float64 { return float64(t.seen().CanaryFailures) })
	if t := &j.Strata[k]; float64(t.seen().CanaryFailures) >= strataWorthNaming*float64(j.Total.CanaryFailures) {
		return t
	}
	return nil
}
