package experiment

import (
	"math/rand/v2"
	"testing"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

// TestUsersWhoAskOftenMakeNoWinner: three versions are alike and fail a twentieth
// of the users always, or let a twentieth wait. Whoever counts requests, of which
// each user has eight, finds a winner in two runs of five. One that is better for
// its users is found to be it.
func TestUsersWhoAskOftenMakeNoWinner(t *testing.T) {
	const runs = 60
	play := func(seed uint64, lasts time.Duration, m analysis.Metric, fails, slow [3]float64) string {
		r := rand.New(rand.NewPCG(seed, 3))
		p := Plan{
			Candidates: []Planned{{"a", 30 * rollout.Percent}, {"b", 30 * rollout.Percent}},
			Duration:   lasts, Deadline: time.Minute, Metric: m,
			Policy: analysis.Policy{FalseAlarm: 0.05, FailureLimit: 1, Interval: time.Second},
		}
		in := Input{Now: time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC), Target: "v1", Candidates: []Observed{{Ready: true}, {Ready: true}}}
		var s State
		for range 3 {
			in.Now = in.Now.Add(time.Second)
			s, _ = Step(p, s, in)
		}
		for s.Outcome == "" {
			in.Now = in.Now.Add(time.Second)
			in.Candidates[0].Samples, in.Candidates[1].Samples = usersOfLook(r, fails, slow)
			s, _ = Step(p, s, in)
		}
		return s.Winner
	}
	same := [3]float64{0.05, 0.05, 0.05}
	for _, story := range []struct {
		name        string
		lasts       time.Duration
		metric      analysis.Metric
		fails, slow [3]float64
		least, most int // winners
		winner      string
	}{
		{"alike in failures", 20 * time.Second, analysis.ErrorRate, same, same, 0, 8, ""}, // 5 %, and 3 standard deviations
		{"alike in durations", 20 * time.Second, analysis.DurationP90, same, same, 0, 8, ""},
		{"b fails nobody", 100 * time.Second, analysis.ErrorRate, [3]float64{0.1, 0.1, 0}, same, 54, runs, "b"},
		{"a is slow for nobody", 100 * time.Second, analysis.DurationP90, same, [3]float64{0.12, 0, 0.12}, 54, runs, "a"},
	} {
		won := 0
		for seed := range uint64(runs) {
			if w := play(seed, story.lasts, story.metric, story.fails, story.slow); w != "" {
				won++
				if story.winner != "" && w != story.winner {
					t.Errorf("%s: run %d was won by %s", story.name, seed, w)
				}
			}
		}
		if won < story.least || won > story.most {
			t.Errorf("%s: %d of %d runs have a winner; want %d to %d", story.name, won, runs, story.least, story.most)
		}
	}
}

// usersOfLook are ten new users, each of whom stays with a version and asks
// eight times: some fail always, and others wait ten times as long always.
func usersOfLook(r *rand.Rand, fails, slow [3]float64) (a, b analysis.Samples) {
	of := [2]*analysis.Samples{&a, &b}
	for _, s := range of {
		s.ByUser, s.Users = true, &analysis.Users{}
	}
	for range 10 {
		version := 0 // stable
		if x := r.Float64(); x < 0.6 {
			version = 1 + int(x/0.3)
		}
		const each = 8
		failed := r.Float64() < fails[version]
		took := 20 * time.Millisecond
		if r.Float64() < slow[version] {
			took = 200 * time.Millisecond
		}
		for i, s := range of {
			requests, failures, latency := &s.StableRequests, &s.StableFailures, &s.StableLatency
			u, ufailed, ulatency, sum := &s.Users.StableRequests, &s.Users.StableFailures, &s.Users.StableLatency, &s.Users.Stable
			switch version {
			case 0:
			case i + 1:
				requests, failures, latency = &s.CanaryRequests, &s.CanaryFailures, &s.CanaryLatency
				u, ufailed, ulatency, sum = &s.Users.CanaryRequests, &s.Users.CanaryFailures, &s.Users.CanaryLatency, &s.Users.Canary
			default:
				continue
			}
			*requests += each
			*u, sum.Users = *u+1, sum.Users+1
			if failed {
				*failures, *ufailed, sum.Failing = *failures+each, *ufailed+1, sum.Failing+1
				continue
			}
			for range each {
				latency.Observe(took)
			}
			ulatency.Observe(took)
		}
	}
	return a, b
}
