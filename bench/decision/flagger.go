package main

import (
	"fmt"
	"time"

	"serin.dev/serin/internal/traffic"
)

// Flagger's policy, as documented in "How it works" and "Metrics Analysis"
// (fluxcd.io/flagger/usage), with the builtin metrics at the values that its
// tutorials use: request-success-rate at least 99 %, request-duration (p99) at
// most 500 ms, both over the analysis interval.
//
//   - Once per interval the metrics are checked. A check without values is a
//     failed one.
//   - A failed check halts the advancement for this time and is counted; passed
//     ones take nothing back. At the check after the count reached the
//     threshold, the canary is rolled back.
//   - Each passed check advances the weight by stepWeight; one that passes at
//     maxWeight promotes. So a good canary takes interval·maxWeight/stepWeight,
//     here ten intervals. The weight that the scenario gives stays as it is.
//
// TestFlaggerPolicyIsFlaggers holds flaggerState against the program.

const (
	flaggerLeastSuccess = 99.0 // percent
	flaggerMostP99      = 500.0
	flaggerSteps        = 10
)

// flaggerState is what Flagger keeps in a Canary's status.
type flaggerState struct {
	phase  string
	weight int // in steps
	failed int
	steps  int // maxWeight / stepWeight
	limit  int // threshold
}

const (
	flaggerProgressing = "Progressing"
	flaggerPromoting   = "Promoting"
	flaggerFailed      = "Failed"
)

// tick is one pass of Flagger's loop over a canary that is progressing; ok says
// whether all checks pass. The first one gives the canary its first weight.
func (f *flaggerState) tick(ok bool) {
	switch {
	case f.phase != flaggerProgressing:
	case f.failed >= f.limit:
		f.phase, f.weight = flaggerFailed, 0
	case f.weight == 0:
		f.weight = 1
	case !ok:
		f.failed++
	case f.weight < f.steps:
		f.weight++
	default:
		f.phase = flaggerPromoting
	}
}

// flaggerPasses is the metric checks of one tick.
func flaggerPasses(success, p99 float64, values bool) bool {
	return values && success >= flaggerLeastSuccess && p99 <= flaggerMostP99
}

func flagger(name string, interval time.Duration, threshold int) policy {
	return policy{
		name: name,
		about: fmt.Sprintf("success rate >= 99 %% and p99 <= 500 ms each %v, rolled back after %d failed checks, passes after %d good ones",
			interval, threshold, flaggerSteps),
		begin: func(*scenario, uint64) watcher {
			return &flaggered{
				interval: interval,
				// The weight is set as the day begins.
				state: flaggerState{phase: flaggerProgressing, weight: 1, steps: flaggerSteps, limit: threshold},
			}
		},
	}
}

type flaggered struct {
	interval time.Duration
	state    flaggerState
	seen     window
}

func (w *flaggered) watch(s *traffic.Spell) decision {
	w.seen.add(s)
	if s.To%w.interval != 0 {
		return decision{}
	}
	success, values := w.seen.successRate()
	p99, _ := w.seen.p99()
	w.state.tick(flaggerPasses(100*success, p99, values))
	w.seen.reset()
	switch w.state.phase {
	case flaggerFailed:
		return decision{rolledBack, s.To}
	case flaggerPromoting:
		return decision{passed, s.To}
	}
	return decision{}
}
