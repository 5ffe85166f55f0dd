package rollout

import (
	"strings"
	"testing"
	"time"

	"serin.dev/serin/internal/analysis"
)

func TestAPlanSaysWhatItIsLikeAtARate(t *testing.T) {
	plan := func(edit func(*Plan)) Plan {
		p := Plan{
			Steps: []Share{1 * Percent, 50 * Percent}, Hold: time.Minute, Deadline: time.Minute,
			Policy: analysis.Policy{FalseAlarm: 0.001, Tolerance: 0.01, Confidence: 0.95, FailureLimit: 1},
		}
		if edit != nil {
			edit(&p)
		}
		return p
	}
	none := func(p *Plan) { p.Policy.Tolerance = 0 }
	within := func(d time.Duration) func(*Plan) { return func(p *Plan) { p.StepDeadline = d } }
	for _, story := range []struct {
		name             string
		rate             float64
		edit             func(*Plan)
		slow, impossible string // parts of what is said; "" = nothing is
	}{
		{"enough come", 1000, nil, "", ""},
		{"few come", 0.2, nil, "at the present 0.2 req/s step 1 (1 %) needs about ", ""},
		{"few come, and a larger share helps", 5, nil, "with a first share of 20 %, ", ""},
		{"none come", 0, nil, "at present no request arrives", ""},
		{"the deadline is over long before", 0.2, within(time.Hour), "at the present", "spec.stepDeadline: step 1 is given up after 60 min; at the present 0.2 req/s"},
		{"the deadline may be met at a better hour", 2, within(time.Hour), "at the present 2 req/s", ""},
		{"none come, which the deadline may outlast", 0, within(time.Hour), "at present no request arrives", ""},
		{"no evidence is asked for", 0.2, none, "", ""},
		{"none come, and own load fills in", 0, func(p *Plan) { p.Load.Rate = 10 }, "", ""},
		{"none come, and too little own load", 0, func(p *Plan) { p.Load = Load{Rate: 10, UpTo: 20} }, "of the canary: own load would bring them if spec.judge.load.upTo, 20, were ", ""},
		{"few come, and too little own load", 0.2, func(p *Plan) { p.Load = Load{Rate: 10, UpTo: 20} }, "own load would bring them if spec.judge.load.upTo, 20, were ", ""},
		{"nothing is judged", 0.2, func(p *Plan) { p.Skip = true }, "", ""},
		{"no shares are given", 0.2, func(p *Plan) { p.Strategy, p.Iterations = BlueGreen, 3 }, "", ""},
	} {
		t.Run(story.name, func(t *testing.T) {
			p := plan(story.edit)
			slow, err := p.AtRate(story.rate)
			impossible := ""
			if err != nil {
				impossible = err.Error()
			}
			for what, pair := range map[string][2]string{"slow": {slow, story.slow}, "impossible": {impossible, story.impossible}} {
				if got, want := pair[0], pair[1]; (got == "") != (want == "") || !strings.Contains(got, want) {
					t.Errorf("%s: %q; want %q", what, got, want)
				}
			}
		})
	}
}

// TestTheNeedIsWhatTheJudgeTakes holds the estimate against a run without
// failures.
func TestTheNeedIsWhatTheJudgeTakes(t *testing.T) {
	policy := analysis.Policy{FalseAlarm: 0.001, Tolerance: 0.02, Confidence: 0.95, FailureLimit: 1, Shares: []float64{0.1, 0.5, 1}}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	j := analysis.Judge{}.NextStep(policy, 0.1, now)
	var took int64
	for j.Decide(policy, 0.5).Verdict != analysis.Pass {
		if took++; took > 10_000 {
			t.Fatal("never passed")
		}
		now = now.Add(time.Second)
		j = j.Observe(policy, analysis.Samples{Counts: analysis.Counts{CanaryRequests: 1, StableRequests: 9}}, now)
	}
	if need := policy.Needs(0.1, 0.5, 0); float64(need) < 0.6*float64(took) || float64(need) > 1.6*float64(took) {
		t.Errorf("said to need about %d requests, took %d", need, took)
	}
}
