package analysis

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// endpoint is one endpoint's part of the traffic.
type endpoint struct {
	part           float64 // of all requests
	stable, canary float64 // failure rates
	slower         float64 // the canary's factor, 0 = none
}

// site is a service with several endpoints.
type site struct {
	share     float64
	endpoints []endpoint
	outage    func(look int) float64 // adds to all failure rates
	timed     bool
	// buffer takes the strata of one look after the other.
	buffer *[]Stratum
}

// look draws n requests.
func (s site) look(r *rand.Rand, look int, n int64) Samples {
	var out Samples
	if s.buffer != nil {
		out.Strata = *s.buffer
	}
	strata := out.Strata[:0]
	more := 0.0
	if s.outage != nil {
		more = s.outage(look)
	}
	left, parts := n, 1.0
	for i, e := range s.endpoints {
		m := left
		if i < len(s.endpoints)-1 {
			m = binomial(r, left, min(1, e.part/parts))
		}
		left, parts = left-m, parts-e.part
		canary := binomial(r, m, s.share)
		if i == cap(strata) || strata[:i+1][i].Name == "" {
			strata = append(strata[:i], Stratum{Name: fmt.Sprintf("GET /%d", i)})
		}
		strata = strata[:i+1]
		st := &strata[i]
		st.Counts = Counts{
			CanaryRequests: canary, CanaryFailures: binomial(r, canary, min(1, e.canary+more)),
			StableRequests: m - canary, StableFailures: binomial(r, m-canary, min(1, e.stable+more)),
		}
		out.Counts = out.Counts.Add(st.Counts)
		if !s.timed {
			continue
		}
		st.CanaryLatency, st.StableLatency = Histogram{}, Histogram{}
		for k := range m {
			d := latencies["usual"](r)
			if k < canary {
				st.CanaryLatency.Observe(time.Duration(d * max(1, e.slower)))
			} else {
				st.StableLatency.Observe(time.Duration(d))
			}
		}
		out.CanaryLatency.Merge(&st.CanaryLatency)
		out.StableLatency.Merge(&st.StableLatency)
	}
	out.Strata = strata
	if s.buffer != nil {
		*s.buffer = strata
	}
	return out
}

func (s site) watch(policy Policy, seed uint64, perLook, requests int64) Judge {
	r := rand.New(rand.NewPCG(seed, 3))
	if s.buffer == nil {
		s.buffer = new([]Stratum)
	}
	j := Judge{}.NextStep(policy, s.share, start)
	for look := 0; j.Total.Requests() < requests && !failed(j); look++ {
		j = j.Observe(policy, s.look(r, look, perLook), start.Add(time.Duration(look)*time.Second))
	}
	return j
}

// TestAFaultInARareEndpointIsFoundAndNamed: one request of 200 meets it, and
// the others fail often enough to hide it in the total.
func TestAFaultInARareEndpointIsFoundAndNamed(t *testing.T) {
	const runs = 40
	policy := Policy{FalseAlarm: 0.001}
	for _, c := range []struct {
		name   string
		fault  endpoint
		policy Policy
		timed  bool
		kind   Kind
		within int64
	}{
		{"failures", endpoint{part: 0.005, canary: 0.5}, policy, false, Failures, 80000},
		{"latency", endpoint{part: 0.02, slower: 2}, Policy{FalseAlarm: 0.001, LatencyTolerance: 0.1}, true, Latency, 100000},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := site{share: 0.1, timed: c.timed}
			for range 9 {
				s.endpoints = append(s.endpoints, endpoint{part: (1 - c.fault.part) / 10, stable: 0.02, canary: 0.02})
			}
			s.endpoints = append(s.endpoints, c.fault, endpoint{stable: 0.02, canary: 0.02})
			runs := runs
			if c.timed {
				runs /= 10
			}
			named, alone := 0, 0
			var mean float64
			for seed := range uint64(runs) {
				j := s.watch(c.policy, seed, 100, c.within)
				if j.Failed.Kind == c.kind && j.Failed.Stratum == "GET /9" && strings.HasPrefix(j.Failed.Reason, "GET /9: ") {
					named++
				}
				mean += float64(j.Total.Requests()) / float64(runs)
				j = site{share: s.share, timed: c.timed, endpoints: s.endpoints}.watchTotal(c.policy, seed, 100, c.within)
				if failed(j) {
					alone++
				}
			}
			t.Logf("named in %d of %d runs, after %.0f requests; found without endpoints in %d", named, runs, mean, alone)
			if named < runs*9/10 {
				t.Errorf("found and named in %d of %d runs within %d requests; want nearly all", named, runs, c.within)
			}
			if alone > runs/2 {
				t.Errorf("found in %d of %d runs without looking at endpoints: the test is invalid", alone, runs)
			}
		})
	}
}

// watchTotal is watch for a judge who is not told of endpoints.
func (s site) watchTotal(policy Policy, seed uint64, perLook, requests int64) Judge {
	r := rand.New(rand.NewPCG(seed, 3))
	if s.buffer == nil {
		s.buffer = new([]Stratum)
	}
	j := Judge{}.NextStep(policy, s.share, start)
	for look := 0; j.Total.Requests() < requests && !failed(j); look++ {
		seen := s.look(r, look, perLook)
		seen.Strata = nil
		j = j.Observe(policy, seen, start.Add(time.Duration(look)*time.Second))
	}
	return j
}

// TestFalseAlarmsOverEndpoints: equal versions are failed in at most one run of
// a thousand, though the judge looks at eight endpoints and the total after
// every few requests. The e-value of the total is held to its promise at a
// level where more runs reach it, too.
func TestFalseAlarmsOverEndpoints(t *testing.T) {
	const alpha = 0.001
	requests, fewer := int64(400), 4
	if *study {
		requests, fewer = 6000, 1
	}
	flapping := func(look int) float64 {
		if look%7 < 2 {
			return 0.5
		}
		return 0
	}
	for name, s := range map[string]site{
		"equal":          {share: 0.1},
		"shared outages": {share: 0.1, outage: flapping},
		"an even split":  {share: 0.5},
		"a small share":  {share: 0.02},
	} {
		for i := range 8 {
			rate := 0.01 * float64(i)
			s.endpoints = append(s.endpoints, endpoint{part: 0.125, stable: rate, canary: rate})
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policy, runs := Policy{FalseAlarm: alpha}, 20000
			if s.outage == nil {
				runs /= fewer
			}
			alarms, tens := 0, 0
			s.buffer = new([]Stratum)
			for seed := range uint64(runs) {
				j := s.watch(policy, seed, 40, requests)
				if failed(j) {
					alarms++
				}
				if float64(j.Failure.Max) >= math.Log(100) {
					tens++
				}
			}
			t.Logf("%d of %d equal versions failed; the e-value of the total reached 100 in %d", alarms, runs, tens)
			if most := alpha*float64(runs) + 4*math.Sqrt(alpha*float64(runs)); float64(alarms) > most {
				t.Errorf("%d of %d equal versions failed; want at most %.0f", alarms, runs, most)
			}
			if most := 0.01*float64(runs) + 4*math.Sqrt(0.01*float64(runs)); float64(tens) > most {
				t.Errorf("the e-value reached 100 in %d of %d runs; want at most %.0f", tens, runs, most)
			}
		})
	}
}

// TestPartsOfTheFalseAlarmAddUp: no more than the policy allows is given away.
func TestPartsOfTheFalseAlarmAddUp(t *testing.T) {
	var strata float64
	for k := range MaxStrata + 1 {
		strata += stratumPart(k)
	}
	if strata > 1 || strata < 0.999 {
		t.Errorf("the parts of all strata add up to %v; want 1", strata)
	}
	if all := failuresPart + strataFailuresPart + latencyPart + strataLatencyPart; math.Abs(all-1) > 1e-9 {
		t.Errorf("the parts of the questions add up to %v; want 1", all)
	}
	for name, odds := range map[string][]alternative{"failures": failureOdds(), "latency": latencyOdds()} {
		var all float64
		for _, a := range odds {
			all += a.part
		}
		if math.Abs(all-1) > 1e-9 {
			t.Errorf("%s: the parts of the alternatives add up to %v; want 1", name, all)
		}
	}
}

// TestTheStateStaysSmall: it is kept in an object's status.
func TestTheStateStaysSmall(t *testing.T) {
	most := 500.0
	policy := Policy{
		FalseAlarm: 0.001, LatencyTolerance: 0.1, Tolerance: 0.02, Confidence: 0.95, Shares: []float64{0.25, 0.5, 1},
		Checks: []Check{{Metric: DurationP99, Max: &most}, {Metric: SuccessRate, Min: new(float64)}}, Interval: time.Hour,
	}
	s := site{share: 0.1, timed: true}
	for range MaxStrata + 1 {
		s.endpoints = append(s.endpoints, endpoint{part: 1. / (MaxStrata + 1), stable: 0.01, canary: 0.01})
	}
	j := s.watch(policy, 1, 2000, 60000)
	if len(j.Strata) != MaxStrata+1 {
		t.Fatalf("%d strata; want %d", len(j.Strata), MaxStrata+1)
	}
	data, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes with %d strata", len(data), len(j.Strata))
	if len(data) > 30_000 {
		t.Errorf("the state takes %d bytes with %d endpoints; want at most 30,000", len(data), len(j.Strata))
	}
}
