package analysis

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

// warming judges traffic of 20 requests a second that is looked at four times
// a second, until done says so.
func (c race) warming(policy Policy, seed uint64, done func(Judge, time.Time) bool) Judge {
	c.rate = 20
	r := rand.New(rand.NewPCG(seed, 13))
	const every = 0.25
	j := Judge{}.NextStep(policy, c.share, start)
	for s := 0.0; s < 3600; s += every {
		now := start.Add(time.Duration(s * float64(time.Second)))
		if j = j.Observe(policy, c.look(r, s, every), now); done(j, now) {
			break
		}
	}
	return j
}

func times(factor float64) func(float64) float64 {
	return func(d float64) float64 { return factor * d }
}

// TestAFirstLook: of versions that are much slower, how many are doubted by the
// time that latency counts as looked at; and of equal ones.
func TestAFirstLook(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, LatencyTolerance: defaultLatencyTolerance, Warmup: time.Hour}
	const runs = 100
	for _, c := range []struct {
		latency       string
		share, slower float64
		least, most   int // doubted
	}{
		{"narrow", 0.1, 1, 0, 2}, {"usual", 0.02, 1, 0, 2}, {"wide", 0.5, 1, 0, 2},
		{"usual", 0.1, 2, 40, 100}, {"usual", 0.1, 3, 95, 100}, {"usual", 0.5, 3, 40, 100},
		{"usual", 0.1, 5, 98, 100}, {"usual", 0.5, 5, 85, 100}, {"wide", 0.1, 5, 85, 100},
		{"narrow", 0.5, 600, 95, 100}, {"usual", 0.5, 600, 95, 100}, {"wide", 0.5, 600, 90, 100},
	} {
		traffic := race{share: c.share, latency: latencies[c.latency], slower: times(c.slower)}
		doubted := 0
		for seed := range uint64(runs) {
			j := traffic.warming(policy, seed, func(j Judge, _ time.Time) bool {
				return j.early(policy) != "" || j.unseen(policy, 1) == ""
			})
			if j.early(policy) != "" {
				doubted++
			}
		}
		t.Logf("%s, %v %%, %v times as long: %d of %d doubted", c.latency, 100*c.share, c.slower, doubted, runs)
		if doubted < c.least || doubted > c.most {
			t.Errorf("%s, %v %%, %v times as long: %d of %d doubted; want %d to %d", c.latency, 100*c.share, c.slower, doubted, runs, c.least, c.most)
		}
	}
}

// TestAWarmUpExcusesNoAdvance: one that stays slow is held until it may be failed,
// and is; one that is slow at first is held, and then passes.
func TestAWarmUpExcusesNoAdvance(t *testing.T) {
	policy := Policy{
		FalseAlarm: 0.001, Tolerance: 0.05, Confidence: 0.95, Shares: []float64{0.25, 1},
		LatencyTolerance: defaultLatencyTolerance, Warmup: 30 * time.Second, WarmupRequests: 50,
	}
	cold := func(d float64) float64 { return 600 * d }
	for _, c := range []struct {
		name   string
		slower func(second float64) func(float64) float64
		want   Verdict
		least  time.Duration // no sooner
		most   time.Duration
	}{
		{"fast", func(float64) func(float64) float64 { return times(1) }, Pass, 0, 20 * time.Second},
		{"slow", func(float64) func(float64) float64 { return cold }, Fail, 30 * time.Second, 50 * time.Second},
		{"slow at first", func(second float64) func(float64) float64 {
			if second < 10 {
				return cold
			}
			return times(1)
		}, Pass, 10 * time.Second, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(50) {
				r := rand.New(rand.NewPCG(seed, 3))
				j := Judge{}.NextStep(policy, 0.1, start)
				var e Evidence
				var reasons []string
				second := 0.0
				for ; e.Verdict != Pass && e.Verdict != Fail && second < 100; second += 0.25 {
					tr := race{rate: 20, share: 0.1, latency: latencies["usual"], slower: c.slower(second)}
					j = j.Observe(policy, tr.look(r, second, 0.25), start.Add(time.Duration(second*float64(time.Second))))
					e = j.Decide(policy, 0.25)
					reasons = append(reasons, e.Reason)
				}
				took := time.Duration(second * float64(time.Second))
				if e.Verdict != c.want || took < c.least || took > c.most {
					t.Errorf("seed %d: %v after %v: %s; want %v after %v to %v", seed, e.Verdict, took, e.Reason, c.want, c.least, c.most)
				}
				if held := strings.Contains(strings.Join(reasons, "\n"), "latency is judged from 30s and 50 canary requests on, "); held != (c.slower(0)(1) > 1) {
					t.Errorf("seed %d: reasons say that the canary looks slow: %v:\n%s", seed, held, strings.Join(reasons, "\n"))
				}
			}
		})
	}
}

// TestAPassNeedsALook at latency, unless the next share costs no more than is
// tolerated, or there is nothing to compare with.
func TestAPassNeedsALook(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, LatencyTolerance: 0.05, Warmup: time.Hour}
	tolerant := policy
	tolerant.Tolerance, tolerant.Confidence = 0.25, 0.95
	unjudged := policy
	unjudged.LatencyTolerance = 0
	split := Counts{CanaryRequests: 30, StableRequests: 300}
	outage := split
	outage.StableFailures = outage.StableRequests
	for _, c := range []struct {
		name   string
		policy Policy
		share  float64
		seen   Counts
		want   string // "" = Pass
	}{
		{"nothing was compared", policy, 0.1, split, "latency is compared on 20 canary requests at least, 0 so far"},
		{"within the tolerance", tolerant, 0.1, split, ""},
		{"not judged", unjudged, 0.1, split, ""},
		{"all traffic", policy, 1, Counts{CanaryRequests: 30}, ""},
		{"stable fails all", policy, 0.1, outage, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := Judge{}.NextStep(c.policy, c.share, start).Observe(c.policy, Samples{Counts: c.seen}, start)
			e := j.Decide(c.policy, 0.25)
			if (e.Verdict == Pass) != (c.want == "") || !strings.Contains(e.Reason, c.want) {
				t.Errorf("%v: %s; want %q", e.Verdict, e.Reason, c.want)
			}
		})
	}
}

// TestTheEarlyTestIsForgotten when latency is judged, and stored until then.
func TestTheEarlyTestIsForgotten(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, LatencyTolerance: 0.05, Warmup: 20 * time.Second}
	stored := 0
	j := race{share: 0.1, latency: latencies["usual"]}.warming(policy, 1, func(j Judge, now time.Time) bool {
		data, err := json.Marshal(j)
		if err != nil {
			t.Fatal(err)
		}
		var back Judge
		if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(j, back) {
			t.Fatalf("stored as %s, it comes back as %+v (%v)", data, back, err)
		}
		if strings.Contains(string(data), `"early"`) {
			stored++
		}
		return now.Sub(start) > time.Minute
	})
	if stored < 80 || stored > 160 || j.Early.Learned != 0 || j.Latency.Learned < 1000 {
		t.Errorf("early in %d of 240 looks, then %+v; latency learned from %d", stored, j.Early, j.Latency.Learned)
	}
}
