package main

import (
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/traffic"
)

// falseAlarm is the highest rate of false rollbacks that our judge promises.
const falseAlarm = 0.001

// hold is how long a good canary is held before it may pass, as long as
// Flagger's ten looks of a minute.
const hold = 10 * time.Minute

// defaults are those of a Release, of which the present share is the last step:
// TestDefaultsAreThoseOfARelease compares.
func defaults() analysis.Policy {
	return analysis.Policy{
		FalseAlarm: falseAlarm, Tolerance: 0.01, Confidence: 0.95,
		LatencyTolerance: 0.05, Warmup: 30 * time.Second, WarmupRequests: 50,
		FailureLimit: 1, Interval: 10 * time.Second,
		Shares: []float64{1},
	}
}

// look is how often the controller looks when nothing wakes it, and lookNull how
// often it is played where nothing is wrong, in many more runs: what decides
// there are failures, at which it looks anyway.
const (
	look     = 250 * time.Millisecond
	lookNull = time.Second
)

func serin() policy {
	return policy{
		name:  ours,
		about: "sequential comparison with stable, looked at every 250 ms and at every failure; passes with evidence after 10 min",
		begin: func(s *scenario, _ uint64) watcher {
			w := &judged{policy: defaults(), tick: look, began: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
			if !s.harm.real() {
				w.tick = lookNull
			}
			if s.day.StableTakes == nil {
				w.policy.LatencyTolerance = 0 // nobody measures: the same decisions, sooner
			}
			w.judge = w.judge.NextStep(w.policy, s.share, w.began)
			return w
		},
	}
}

// judged is a canary under our judge.
type judged struct {
	policy analysis.Policy
	tick   time.Duration
	judge  analysis.Judge
	began  time.Time
}

func (w *judged) watch(s *traffic.Spell) decision {
	for at, seen := range s.Looks(w.tick) {
		w.judge = w.judge.Observe(w.policy, *seen, w.began.Add(at))
		if w.judge.Failed.Kind != "" {
			return decision{rolledBack, at}
		}
	}
	if s.To < hold || s.To%time.Minute != 0 {
		return decision{}
	}
	if w.judge.Decide(w.policy, 1).Verdict == analysis.Pass {
		return decision{passed, s.To}
	}
	return decision{}
}
