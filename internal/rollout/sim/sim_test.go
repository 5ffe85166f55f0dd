package sim

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

// tolerance of all scenarios.
const tolerance = 0.05

func plan() rollout.Plan {
	return rollout.Plan{
		Steps: []rollout.Share{10 * rollout.Percent, 25 * rollout.Percent, 50 * rollout.Percent}, Hold: 3 * time.Second, Deadline: 40 * time.Second,
		Policy: analysis.Policy{
			FalseAlarm: 0.001, Tolerance: tolerance, Confidence: 0.95, FailureLimit: 2, Interval: 5 * time.Second,
		},
	}
}

// release is the common beginning of the scenarios: v1 is taken over, then v2
// is deployed.
func release(stable, canary float64) Scenario {
	return Scenario{
		Plan: plan(), Rate: 30,
		Fails:   map[rollout.Revision]float64{"v1": stable, "v2": canary, "v3": stable},
		People:  []Act{{At: time.Second, Target: "v2"}},
		Horizon: 20 * time.Minute,
	}
}

func (sc Scenario) with(change func(*Scenario)) Scenario {
	sc.People = slices.Clone(sc.People)
	change(&sc)
	return sc
}

// rough is a bad day.
func rough(sc *Scenario) {
	sc.Faults = Faults{
		Crash: 0.004, StoreFail: 0.05, LostPush: 0.05, Scaling: 0.02, PodCrash: 0.002, ClockBack: 0.002,
	}
}

// hostile is a bad day on which somebody edits the route, too. While an edit
// is in force the canary's share is not ours.
func hostile(sc *Scenario) {
	rough(sc)
	sc.Faults.Foreign = 0.01
}

func act(acts ...Act) func(*Scenario) {
	return func(sc *Scenario) { sc.People = append(sc.People, acts...) }
}

// story is a scenario with what must come of it, in every seed.
type story struct {
	name     string
	scenario Scenario
	seeds    int
	// may are the outcomes that are right; "starved" is one.
	may []string
	// most of the runs end as the first of them: this share at least.
	most float64
	// calm worlds answer every request.
	calm bool
}

func stories() []story {
	const worse = 5 * tolerance
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	return []story{
		{name: "good", scenario: release(0, 0), seeds: 400, may: []string{"promoted"}, most: 1, calm: true},
		{name: "good, both fail 1 %", scenario: release(0.01, 0.01), seeds: 400,
			may: []string{"promoted", "rolled-back"}, most: 0.99, calm: true},
		{name: "good, rough day", scenario: release(0.01, 0.01).with(rough), seeds: 500,
			may: []string{"promoted", "rolled-back", "starved"}, most: 0.95},
		{name: "bad: 25 %", scenario: release(0, worse), seeds: 500, may: []string{"rolled-back"}, most: 1, calm: true},
		{name: "bad: 25 %, rough day", scenario: release(0.01, 0.01+worse).with(rough), seeds: 1000,
			may: []string{"rolled-back", "starved"}, most: 0.99},
		{name: "bad: 25 %, hostile edits", scenario: release(0.01, 0.01+worse).with(hostile), seeds: 500,
			may: []string{"rolled-back", "starved"}, most: 0.99},
		{name: "bad: all", scenario: release(0.05, 1).with(rough), seeds: 200, may: []string{"rolled-back", "starved"}, most: 0.99},
		{name: "good, hostile edits", scenario: release(0, 0).with(hostile), seeds: 200,
			may: []string{"promoted", "rolled-back", "starved"}, most: 0.95},
		{name: "pods never ready", scenario: release(0, 0).with(func(sc *Scenario) { rough(sc); sc.Broken = "v2" }), seeds: 100,
			may: []string{"rolled-back"}, most: 1},
		{name: "no traffic", scenario: release(0, 0).with(func(sc *Scenario) { sc.Rate = 0; sc.Horizon = time.Hour }), seeds: 20,
			may: []string{"starved"}, most: 1},
		{name: "traffic stops half-way", seeds: 50, may: []string{"starved"}, most: 1,
			scenario: release(0, 0).with(func(sc *Scenario) {
				sc.NoTraffic = Span{seconds(11), time.Hour}
				sc.Plan.Hold = 4 * time.Second
			})},
		{name: "traffic pauses", seeds: 100, may: []string{"promoted"}, most: 1,
			scenario: release(0, 0).with(func(sc *Scenario) { sc.NoTraffic = Span{seconds(8), seconds(200)} })},
		{name: "traffic stops after promotion began", seeds: 50, may: []string{"promoted", "starved"}, most: 0,
			scenario: release(0, 0).with(func(sc *Scenario) { sc.NoTraffic = Span{seconds(24), time.Hour} })},
		{name: "shared outage", seeds: 200, may: []string{"promoted", "rolled-back"}, most: 0.99,
			scenario: release(0.001, 0.001).with(func(sc *Scenario) { sc.Outage, sc.OutageFails = Span{seconds(6), seconds(48)}, 0.7 })},
		{name: "shared total outage for good", seeds: 50, may: []string{"starved", "rolled-back"}, most: 0.9,
			scenario: release(0, 0).with(func(sc *Scenario) { sc.Outage, sc.OutageFails = Span{seconds(4), time.Hour}, 1 })},
		{name: "stable is broken, canary repairs it", seeds: 100, may: []string{"promoted"}, most: 1,
			scenario: release(0.9, 0)},
		{name: "bad, shared outage", seeds: 200, may: []string{"rolled-back", "starved"}, most: 0.95,
			scenario: release(0.001, worse).with(func(sc *Scenario) { sc.Outage, sc.OutageFails = Span{seconds(4), seconds(18)}, 0.5 })},
		{name: "bad, then repaired in the run", seeds: 200, may: []string{"promoted", "rolled-back"}, most: 0.95,
			scenario: release(0, worse).with(func(sc *Scenario) { rough(sc); act(Act{At: seconds(7), Target: "v3"})(sc) })},
		{name: "good, then bad in the run", seeds: 300, may: []string{"rolled-back", "starved"}, most: 0.95,
			scenario: release(0, 0).with(func(sc *Scenario) {
				rough(sc)
				sc.Fails["v4"] = worse
				act(Act{At: seconds(10), Target: "v4"})(sc)
			})},
		{name: "taken back by the user", seeds: 100, may: []string{"aborted", "promoted"}, most: 0.9,
			scenario: release(0, 0).with(act(Act{At: seconds(8), Target: "v1"}))},
		{name: "target deleted by somebody", seeds: 200, may: []string{"aborted"}, most: 1,
			scenario: release(0, 0).with(act(Act{At: seconds(8), Delete: true}))},
		{name: "target deleted, rough day", seeds: 200, may: []string{"aborted", "promoted", ""}, most: 0.9, // "": it was down meanwhile
			scenario: release(0, 0).with(func(sc *Scenario) { rough(sc); act(Act{At: seconds(14), Delete: true})(sc) })},
		{name: "stable copy scaled to 0", seeds: 200, may: []string{"promoted", "rolled-back"}, most: 0.95,
			scenario: release(0, 0).with(func(sc *Scenario) { sc.Pods = 3; act(Act{At: seconds(7), Strand: true})(sc) })},
		{name: "abort", seeds: 200, may: []string{"aborted", "", "promoted"}, most: 0.7,
			scenario: release(0, 0).with(func(sc *Scenario) { rough(sc); act(Act{At: seconds(6), Command: rollout.Abort})(sc) })},
		{name: "promote by hand", seeds: 200, may: []string{"promoted", "rolled-back"}, most: 0.95,
			scenario: release(0, 0).with(func(sc *Scenario) { rough(sc); act(Act{At: seconds(6), Command: rollout.Promote})(sc) })},
		{name: "bad while suspended", seeds: 200, may: []string{"rolled-back"}, most: 1,
			scenario: release(0, worse).with(act(Act{At: seconds(7), Suspend: "on"}, Act{At: seconds(300), Suspend: "off"}))},
		{name: "checks alone, bad", seeds: 200, may: []string{"rolled-back"}, most: 1,
			scenario: release(0, worse).with(func(sc *Scenario) {
				least := 99.0
				sc.Plan.Policy.Tolerance = 0
				sc.Plan.Policy.Checks = []analysis.Check{{Metric: analysis.SuccessRate, Min: &least}}
			})},
	}
}

// TestNoWrongPromotionAndNothingStuck plays thousands of releases. In each one
// every moment keeps the rules that engine.violate names; the outcome is one
// that the story allows, and the whole table is printed with -v.
func TestNoWrongPromotionAndNothingStuck(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "%-38s %6s %9s %12s %8s %8s %6s %8s %9s\n",
		"story", "seeds", "promoted", "rolled-back", "other", "starved", "stuck", "crashes", "time p50")
	for _, st := range stories() {
		switch {
		case testing.Short():
			st.seeds = max(20, st.seeds/10)
		case !thorough():
			st.seeds = max(20, st.seeds/3)
		}
		results := playAll(st.scenario, st.seeds)
		count := map[string]int{}
		crashes := 0
		var took []time.Duration
		for seed, r := range results {
			what := string(r.Last())
			switch {
			case r.Starved:
				what = "starved"
			case !r.Settled:
				what = "stuck"
			}
			count[what]++
			crashes += r.Crashes
			took = append(took, r.Took)
			if !slices.Contains(st.may, what) {
				t.Errorf("%s, seed %d: %s; want %s\n%s", st.name, seed, what, strings.Join(st.may, " or "), r.String())
			}
			for _, v := range r.Violations {
				t.Errorf("%s, seed %d: %s", st.name, seed, v)
			}
			if st.calm && r.Unserved > 0 {
				t.Errorf("%s, seed %d: %d requests found no ready pod", st.name, seed, r.Unserved)
			}
		}
		if got := float64(count[st.may[0]]) / float64(st.seeds); got < st.most {
			t.Errorf("%s: %.3f are %s; want at least %.3f", st.name, got, st.may[0], st.most)
		}
		slices.Sort(took)
		other := count["aborted"] + count["superseded"] + count[""]
		fmt.Fprintf(&table, "%-38s %6d %9d %12d %8d %8d %6d %8d %9v\n", st.name, st.seeds,
			count["promoted"], count["rolled-back"], other, count["starved"], count["stuck"], crashes, took[len(took)/2].Round(time.Second))
	}
	t.Logf("\n%s", table.String())
}

// TestFalseRollbacksStayWithinAlpha: of many equal releases in which the canary
// is as good as stable, no more than α are rolled back.
func TestFalseRollbacksStayWithinAlpha(t *testing.T) {
	if testing.Short() {
		t.Skip("a rate of 1 % needs thousands of runs")
	}
	const alpha = 0.01
	seeds := 2000
	if thorough() {
		seeds = 20000
	}
	sc := release(0.05, 0.05).with(func(sc *Scenario) {
		sc.Plan.Policy.FalseAlarm = alpha
		sc.Plan.Steps = []rollout.Share{10 * rollout.Percent, 50 * rollout.Percent}
		sc.Outage, sc.OutageFails = Span{8 * time.Second, 11 * time.Second}, 0.4
	})
	failed := 0
	for seed, r := range playAll(sc, seeds) {
		if !r.Settled || len(r.Runs) != 1 {
			t.Errorf("seed %d did not end\n%s", seed, r.String())
			continue
		}
		if r.Runs[0].Outcome == rollout.RolledBack {
			failed++
		}
	}
	// Five standard deviations of a binomial with the promised rate: a right
	// judge crosses this in less than one of a million tests.
	n := float64(seeds)
	limit := alpha*n + 5*math.Sqrt(alpha*(1-alpha)*n)
	t.Logf("%d of %d good releases were rolled back (%.2f %%), promised are at most %.0f %%", failed, seeds, 100*float64(failed)/n, 100*alpha)
	if float64(failed) > limit {
		t.Errorf("%d of %d good releases were rolled back; want at most %.0f", failed, seeds, limit)
	}
}

// TestSameSeedSameRun: a failure that was found can be played again.
func TestSameSeedSameRun(t *testing.T) {
	sc := release(0.01, 0.3).with(hostile)
	for seed := range uint64(20) {
		a, b := Play(sc, seed), Play(sc, seed)
		if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) {
			t.Errorf("seed %d: two runs differ:\n%+v\n%+v", seed, a, b)
		}
	}
}

// playAll plays seeds 0 to n-1 on all processors.
func playAll(sc Scenario, n int) []Result {
	results := make([]Result, n)
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		wg.Go(func() {
			for seed := worker; seed < n; seed += workers {
				results[seed] = Play(sc, uint64(seed))
			}
		})
	}
	wg.Wait()
	return results
}
