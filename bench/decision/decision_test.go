package main

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/apiserver/crds"
	"serin.dev/serin/internal/controller"
	"serin.dev/serin/internal/traffic"
)

// TestNumbersToReach holds ours to what it promises, on those scenarios that
// are played quickly and with so few runs that only what is far off is seen;
// `make bench-decision` looks closely.
func TestNumbersToReach(t *testing.T) {
	r := &report{policies: policies()}
	for _, s := range scenarios() {
		runs := 0
		switch s.name {
		case "half-fails", "fifth-fails-1rps", "one-percent", "tenfold-5-percent-share", "diurnal-regression", "outage-regression",
			"flapping-regression", "slower-50-percent", "slower-cache":
			runs = 40
		case "equal-flawless", "equal-1rps", "equal-bursty", "equal-outage", "equal-half-outage", "equal-drift", "equal-retries":
			runs = 200
		default:
			continue
		}
		results := s.playAll(r.policies, runs)
		for k, p := range r.policies {
			r.page.Rows = append(r.page.Rows, s.sum(p, k, results))
		}
		r.scenarios = append(r.scenarios, s)
	}
	if len(r.scenarios) != 16 {
		t.Errorf("%d scenarios were played; want 16: one has another name", len(r.scenarios))
	}
	for _, line := range r.shortfalls() {
		t.Error(line)
	}
}

func TestDefaultsAreThoseOfARelease(t *testing.T) {
	object := map[string]any{"spec": map[string]any{
		"target": map[string]any{"name": "music"}, "service": map[string]any{"port": int64(80)}, "steps": []any{int64(10)},
	}}
	if err := crds.SetDefaults("releases.serin.dev", object); err != nil {
		t.Fatal(err)
	}
	var release v1alpha1.Release
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object, &release); err != nil {
		t.Fatal(err)
	}
	plan, err := controller.Plan(&release.Spec)
	if err != nil {
		t.Fatal(err)
	}
	want := plan.Policy
	want.Shares = []float64{1} // the engine sets them
	if diff := cmp.Diff(want, defaults()); diff != "" {
		t.Errorf("a Release (-) and the benchmark (+) differ:\n%s", diff)
	}
}

func TestScenariosAreWhatTheySay(t *testing.T) {
	all := scenarios()
	if len(all) < 30 {
		t.Errorf("%d scenarios; want at least 30", len(all))
	}
	seen := map[string]bool{}
	for _, s := range all {
		if seen[s.name] {
			t.Errorf("two scenarios are named %s", s.name)
		}
		seen[s.name] = true
		d := s.day
		worse := d.Canary > d.Stable || d.CanaryTakes != d.StableTakes ||
			slices.ContainsFunc(d.Endpoints, func(e traffic.Endpoint) bool { return e.Canary > e.Stable })
		if worse != s.harm.real() {
			t.Errorf("%s: worse is %v, and its harm is %v", s.name, worse, s.harm)
		}
		if s.lasts%spell != 0 || s.share <= 0 || s.share >= 1 || d.Rate < 0 {
			t.Errorf("%s: lasts %v at a share of %v of %v req/s", s.name, s.lasts, s.share, d.Rate)
		}
	}
}

// The table depends on the seeds alone, not on how many runs are played beside
// one, nor on which policies watch.
func TestTheSeedDecides(t *testing.T) {
	all := policies()
	for _, s := range choose(scenarios(), "outage-regression,slower-cache,rare-endpoint", func(s scenario) string { return s.name }) {
		a, b := s.playAll(all, 3), s.playAll(all, 5)
		one := s.playAll(all[1:2], 3)
		for i := range a {
			if !slices.Equal(a[i], b[i]) {
				t.Errorf("%s, seed %d: %+v, and among more runs %+v", s.name, i+1, a[i], b[i])
			}
			if a[i][1] != one[i][0] {
				t.Errorf("%s, seed %d: %+v, and alone %+v", s.name, i+1, a[i][1], one[i][0])
			}
		}
	}
}

// The peers' policies, by what their documentation says of simple cases.
func TestPeersDecideAsDocumented(t *testing.T) {
	perfect, dead := traffic.Day{Rate: 100}, traffic.Day{Rate: 100, Canary: 1}
	silent := traffic.Day{Rate: 1e-9}
	edge := traffic.Day{Rate: 100, Canary: 0.03, Stable: 0.03}
	for _, story := range []struct {
		policy string
		day    traffic.Day
		want   decision
	}{
		{"flagger 60s/5", perfect, decision{passed, 10 * time.Minute}},
		{"flagger 60s/5", dead, decision{rolledBack, 6 * time.Minute}}, // the check after the fifth failed one
		{"flagger 60s/5", silent, decision{rolledBack, 6 * time.Minute}},
		{"flagger 10s/2", dead, decision{rolledBack, 30 * time.Second}},
		{"argo 5m/3 95 %", perfect, decision{passed, 40 * time.Minute}},
		{"argo 5m/3 95 %", dead, decision{rolledBack, 20 * time.Minute}}, // the fourth measurement that failed
		{"argo 5m/3 95 %", edge, decision{passed, 40 * time.Minute}},
		{"argo 1m/0 99 %", edge, decision{rolledBack, time.Minute}},
		{"argo 1m/0 99 %", silent, decision{rolledBack, time.Minute}},
		{"kayenta", perfect, decision{passed, 3 * time.Hour}},
		{"kayenta", dead, decision{rolledBack, time.Hour}},
		{"kayenta", silent, decision{passed, 3 * time.Hour}}, // no data is no failure
	} {
		s := scenario{name: story.policy, share: 0.5, day: story.day, lasts: usual}
		p := choose(policies(), story.policy, func(p policy) string { return p.name })
		out := make([]outcome, 1)
		s.play(p, 1, out)
		if got := (decision{out[0].kind, out[0].at}); got != story.want {
			t.Errorf("%s at %+v: %+v; want %+v", story.policy, story.day, got, story.want)
		}
	}
}

// A shift of few values is told from chance by their ranks.
func TestMannWhitney(t *testing.T) {
	series := func(from, step float64, n int) (out []float64) {
		for i := range n {
			out = append(out, from+step*float64(i%7))
		}
		return out
	}
	for _, story := range []struct {
		name             string
		canary, baseline []float64
		want             bool
	}{
		{"the same", series(1, 1, 60), series(1, 1, 60), false},
		{"far above", series(10, 1, 60), series(1, 1, 60), true},
		{"far below", series(1, 1, 60), series(10, 1, 60), false},
		{"too few", series(10, 1, 3), series(1, 1, 3), false},
		{"nothing", nil, series(1, 1, 60), false},
		{"mostly zeros", append(make([]float64, 50), series(1, 1, 10)...), make([]float64, 60), false}, // a known weakness
	} {
		p := pairOfSeries{story.canary, story.baseline}
		if got := p.higher(); got != story.want {
			t.Errorf("%s: higher is %v; want %v", story.name, got, story.want)
		}
	}
}
