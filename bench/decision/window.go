package main

import (
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/traffic"
)

// window is the traffic of one interval, as somebody sees it who asks a metrics
// server at its end.
type window struct {
	counts         analysis.Counts
	measured       bool // durations
	canary, stable analysis.Histogram
}

// add takes in a spell.
func (w *window) add(s *traffic.Spell) {
	w.counts = w.counts.Add(s.Counts)
	if canary, stable := s.Durations(); canary != nil {
		w.measured = true
		w.canary.Merge(canary)
		w.stable.Merge(stable)
	}
}

func (w *window) reset() {
	w.counts = analysis.Counts{}
	if w.measured {
		*w = window{}
	}
}

// p99 of both sides in milliseconds; 0 of no requests.
func (w *window) p99() (canary, stable float64) {
	if !w.measured {
		return 0, 0
	}
	return milliseconds(w.canary.Quantile(0.99)), milliseconds(w.stable.Quantile(0.99))
}

// successRate of the canary, 0 to 1; false without requests.
func (w *window) successRate() (float64, bool) {
	return 1 - w.counts.CanaryRate(), w.counts.CanaryRequests > 0
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
