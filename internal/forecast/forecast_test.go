package forecast

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

// plain is a plan as a Release has it by default.
func plain(hold time.Duration, percents ...int) rollout.Plan {
	p := rollout.Plan{
		Hold: hold, Deadline: 10 * time.Minute,
		Policy: analysis.Policy{
			FalseAlarm: 0.001, Tolerance: 0.01, Confidence: 0.95, LatencyTolerance: 0.1,
			FailureLimit: 1, Interval: 10 * time.Second,
		},
	}
	for _, n := range percents {
		p.Steps = append(p.Steps, rollout.Share(n)*rollout.Percent)
	}
	return p
}

func play(t *testing.T, c Case) *Forecast {
	t.Helper()
	if c.Runs == 0 {
		c.Runs = 100
	}
	f, err := c.Play(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestABadVersionIsFoundAndAGoodOnePromoted(t *testing.T) {
	c := Case{Plan: plain(time.Minute, 10, 50), Rate: 50, Errors: 0.001, Regression: 0.05}
	f := play(t, c)
	if f.Bad.RolledBack < 0.99 || f.Bad.Why != string(analysis.Failures) {
		t.Errorf("bad: %+v; want all rolled back by failures", f.Bad)
	}
	// About four to ten failures decide: of 5 canary requests a second, one in
	// twenty fails.
	if p := f.Bad.RollbackTook; p.P50 < 5*time.Second || p.P50 > time.Minute || p.P90 < p.P50 {
		t.Errorf("bad: rolled back after %v; want some tens of seconds", p)
	}
	if f.Bad.Failed.Mean < 3 || f.Bad.Failed.Mean > 15 || f.Bad.Failed.P90 < f.Bad.Failed.Mean {
		t.Errorf("bad: %+v failed requests; want about 3 to 10", f.Bad.Failed)
	}
	if f.Good.Promoted < 0.99 || f.Good.PromotionTook.P50 != 2*time.Minute {
		t.Errorf("good: %+v; want all promoted after two steps of a minute", f.Good)
	}
	if len(f.Steps) != 2 || f.Steps[0].Took != time.Minute || f.Steps[0].Evidence <= 0 || f.Steps[0].Requests == 0 {
		t.Errorf("steps: %+v; want two, with the times of the first", f.Steps)
	}
	if len(f.Advice) > 0 {
		t.Errorf("advice: %q; want none", f.Advice)
	}
}

func TestASlowerVersionIsFound(t *testing.T) {
	f := play(t, Case{Plan: plain(time.Minute, 20), Rate: 100, Errors: 0.001, Slower: 1})
	if f.Bad.RolledBack < 0.99 || f.Bad.Why != string(analysis.Latency) {
		t.Errorf("bad: %+v; want all rolled back by latency", f.Bad)
	}
	if f.Good.RolledBack > 0.02 {
		t.Errorf("good: %+v; want none rolled back", f.Good)
	}
}

// TestAPlanShorterThanTheWarmUp: latency fails nobody before it is over, but a
// version that looks slower waits for that, and one that does not goes on.
func TestAPlanShorterThanTheWarmUp(t *testing.T) {
	plan := plain(5*time.Second, 10, 25, 50)
	plan.Policy.Tolerance = 0.05
	plan.Policy.Warmup, plan.Policy.WarmupRequests = 30*time.Second, 50
	for _, slower := range []float64{1, 5, 600} {
		f := play(t, Case{Plan: plan, Rate: 20, Slower: slower})
		if f.Bad.RolledBack < 0.98 || f.Bad.Why != string(analysis.Latency) {
			t.Errorf("%v times as slow: %+v; want all rolled back by latency", 1+slower, f.Bad)
		}
		if f.Good.Promoted < 0.99 || f.Good.PromotionTook.P50 > 30*time.Second {
			t.Errorf("good: %+v; want all promoted before the warm-up is over", f.Good)
		}
	}
}

// TestWhatCannotBeImaginedIsRefused at once, with the flag that asks for it.
func TestWhatCannotBeImaginedIsRefused(t *testing.T) {
	for flag, c := range map[string]Case{
		"--rps: NaN":               {Rate: math.NaN(), Runs: 1},
		"--rps: 1e+09":             {Rate: 1e9, Runs: 1},
		"--rps: 0":                 {Runs: 1},
		"--runs: 100000000":        {Rate: 1, Runs: 1e8},
		"--runs: 0":                {Rate: 1},
		"--baseline-errors: 200 %": {Rate: 1, Runs: 1, Errors: 2},
		"--regression: ":           {Rate: 1, Runs: 1, Errors: 0.5, Regression: 0.6},
		"--latency: -100 %":        {Rate: 1, Runs: 1, Slower: -1},
	} {
		c.Plan = plain(time.Minute, 10)
		if _, err := c.Play(t.Context(), nil); err == nil || !strings.HasPrefix(err.Error(), flag) {
			t.Errorf("%+v is refused with %v; want %s", c, err, flag)
		}
	}
}

func TestTheSeedDecides(t *testing.T) {
	c := Case{Plan: plain(time.Minute, 10), Rate: 20, Errors: 0.01, Regression: 0.05, Runs: 50, Seed: 3}
	if diff := cmp.Diff(play(t, c), play(t, c)); diff != "" {
		t.Errorf("the same seed, another forecast:\n%s", diff)
	}
	d := c
	d.Seed = 1000
	if cmp.Equal(play(t, c), play(t, d)) {
		t.Error("another seed, the same forecast")
	}
}

func TestAdvice(t *testing.T) {
	strict := 99.99
	checked := plain(time.Minute, 10)
	checked.Policy.Checks = []analysis.Check{{Metric: analysis.SuccessRate, Min: &strict}}
	short := plain(0, 1)
	short.StepDeadline = 10 * time.Minute
	for _, story := range []struct {
		name string
		c    Case
		want string
	}{
		{"a hold that gathers nothing", Case{Plan: plain(10*time.Minute, 10, 50), Rate: 100, Regression: 0.1, Runs: 20},
			"step 1 (10 %) holds 10 min but evidence is complete after"},
		{"a first step that takes hours", Case{Plan: plain(time.Minute, 1), Rate: 0.5, Regression: 0.5, Runs: 20},
			"at 0.5 req/s step 1 of 1 % needs about"},
		{"checks that good versions fail", Case{Plan: checked, Rate: 50, Errors: 0.02, Regression: 0.1, Runs: 20},
			"the checks roll 100 % of the good versions back"},
		{"a deadline before the evidence", Case{Plan: short, Rate: 1, Regression: 0.5, Runs: 20},
			"spec.stepDeadline of 10 min rolls"},
	} {
		t.Run(story.name, func(t *testing.T) {
			f := play(t, story.c)
			if text := strings.Join(f.Advice, "\n"); !strings.Contains(text, story.want) {
				t.Errorf("advice:\n%s\nwant %q; steps %+v, good %+v", text, story.want, f.Steps, f.Good)
			}
		})
	}
}

func TestWhatIsNotPlayedIsTold(t *testing.T) {
	p := plain(time.Minute, 10)
	p.Gates = []rollout.Gate{{Name: "qa", At: rollout.AtPromotion, Manual: true}}
	p.Hooks = []rollout.Hook{{Name: "load", Type: rollout.HookRollout}}
	p.Mirror = rollout.All
	f := play(t, Case{Plan: p, Rate: 50, Regression: 0.5, Runs: 20})
	if len(f.Omitted) != 3 || f.Good.Promoted < 1 {
		t.Errorf("left out: %q, good: %+v; want three things, and promotion", f.Omitted, f.Good)
	}
}

// TestOtherStrategiesArePlayed: each is judged by what it has, and takes as long
// as its looks.
func TestOtherStrategiesArePlayed(t *testing.T) {
	least := 99.0
	for strategy, points := range map[rollout.Strategy]string{
		rollout.ABTest: "matched users", rollout.BlueGreen: "test, 100 %", rollout.Mirror: "copies of 50 %",
	} {
		t.Run(string(strategy), func(t *testing.T) {
			p := plain(time.Minute, 10)
			p.Strategy, p.Iterations, p.Policy.FailureLimit = strategy, 6, 2
			p.Policy.Checks = []analysis.Check{{Metric: analysis.SuccessRate, Min: &least}}
			if strategy == rollout.Mirror {
				p.Mirror = 50 * rollout.Percent
			}
			f := play(t, Case{Plan: p, Rate: 50, Matched: 0.2, Tests: 10, Regression: 0.2})
			if f.Bad.RolledBack < 0.99 || f.Bad.RollbackTook.P90 > time.Minute {
				t.Errorf("bad: %+v; want all rolled back within a minute", f.Bad)
			}
			if users := strategy == rollout.ABTest; (f.Bad.Failed.Mean > 0) != users {
				t.Errorf("bad: %+v requests of users failed; are there users: %v", f.Bad.Failed, users)
			}
			least, most := time.Minute, 3*time.Minute
			if f.Good.Promoted < 0.99 || f.Good.PromotionTook.P50 < least || f.Good.PromotionTook.P90 > most {
				t.Errorf("good: %+v; want all promoted after six looks, one in 10 s", f.Good)
			}
			var names []string
			for _, s := range f.Steps {
				names = append(names, s.Name)
			}
			if got := strings.Join(names, ", "); got != points || f.Steps[0].Requests == 0 {
				t.Errorf("steps %+v; want %s, and requests at the first", f.Steps, points)
			}
		})
	}
}

func TestCasesThatCannotBePlayed(t *testing.T) {
	skip, blueGreen, abTest := plain(0, 10), plain(0, 10), plain(0, 10)
	skip.Skip = true
	blueGreen.Strategy, blueGreen.Iterations = rollout.BlueGreen, 1
	abTest.Strategy, abTest.Iterations = rollout.ABTest, 1
	all := plain(0, 50, 100)
	for want, c := range map[string]Case{
		"--rps: 0 is not above 0":                     {Plan: plain(0, 10), Runs: 1},
		"nothing to predict":                          {Plan: skip, Rate: 1, Runs: 1},
		"more than 0 per second":                      {Plan: blueGreen, Rate: 1, Runs: 1},
		"at most 100 % of the requests":               {Plan: abTest, Rate: 1, Runs: 1, Matched: 1.5},
		"spec.steps: at least one":                    {Plan: plain(0), Rate: 1, Runs: 1},
		"spec.steps[1]: at 100 % there is no stable":  {Plan: all, Rate: 1, Runs: 1},
		"--regression: with --baseline-errors, 120 %": {Plan: plain(0, 10), Rate: 1, Runs: 1, Errors: 0.6, Regression: 0.6},
		"--latency: -100 % is negative":               {Plan: plain(0, 10), Rate: 1, Runs: 1, Slower: -1},
		"--rps: -1 is not above 0":                    {Plan: plain(0, 10), Rate: -1, Runs: 1},
	} {
		if _, err := c.Play(t.Context(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v; want %q", c.Rate, err, want)
		}
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 1234 * time.Millisecond: "1.2 s", 38*time.Second + 400*time.Millisecond: "38 s", 99 * time.Second: "99 s",
		2 * time.Minute: "2 min", 3*time.Hour + 6*time.Minute: "3.1 h", Longest: "7 days",
	} {
		if got := Words(d); got != want {
			t.Errorf("Words(%v) = %q; want %q", d, got, want)
		}
	}
}
