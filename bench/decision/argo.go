package main

import (
	"fmt"
	"time"

	"serin.dev/serin/internal/traffic"
)

// The policy of Argo Rollouts, as documented in "Analysis & Progressive
// Delivery" (argo-rollouts.readthedocs.io/en/stable/features/analysis): an
// AnalysisRun measures the success rate of the canary from Prometheus, over
// the interval, once per interval.
//
//   - A measurement below the condition is Failed; when more than failureLimit
//     failed, in all, the run is Failed and the rollout aborted. The limit's
//     default is 0.
//   - Without a request the quotient is NaN, which does not meet the condition:
//     Failed.
//   - Otherwise the rollout is good when its steps are over: here after so many
//     measurements. The documentation's example has 40 minutes of steps, an
//     interval of 5 minutes, a limit of 3 and 95 %.
//
// There is no measurement of latency, as none is built in.

func argo(name string, interval time.Duration, failureLimit int, success float64, measurements int) policy {
	return policy{
		name: name,
		about: fmt.Sprintf("success rate >= %g %% each %v, rolled back when more than %d measurements failed, passes after %d",
			100*success, interval, failureLimit, measurements),
		begin: func(*scenario, uint64) watcher {
			return &argoRun{interval: interval, limit: failureLimit, success: success, left: measurements}
		},
	}
}

type argoRun struct {
	interval            time.Duration
	limit, failed, left int
	success             float64
	requests, failures  int64
}

func (w *argoRun) watch(s *traffic.Spell) decision {
	w.requests += s.Counts.CanaryRequests
	w.failures += s.Counts.CanaryFailures
	if s.To%w.interval != 0 {
		return decision{}
	}
	if w.requests == 0 || 1-float64(w.failures)/float64(w.requests) < w.success {
		w.failed++
	}
	w.left--
	w.requests, w.failures = 0, 0
	switch {
	case w.failed > w.limit:
		return decision{rolledBack, s.To}
	case w.left == 0:
		return decision{passed, s.To}
	}
	return decision{}
}
