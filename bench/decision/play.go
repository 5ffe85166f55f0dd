package main

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// outcome is one run of one scenario under one policy.
type outcome struct {
	kind     kind
	at       time.Duration
	failed   int64 // requests, until it was rolled back
	requests int64 // of both sides, until it was decided
}

// play runs one seed of a scenario. All policies watch the same requests.
func (s *scenario) play(all []policy, seed uint64, out []outcome) {
	run := s.day.Begin(seed)
	watchers := make([]watcher, len(all))
	for i, p := range all {
		watchers[i] = p.begin(s, seed)
		out[i] = outcome{}
	}
	undecided, exposed := len(all), len(all)
	// Without harm nobody asks how many failed after a decision.
	for undecided > 0 || exposed > 0 && s.harm.real() {
		now := run.Next(spell, s.share)
		for i := range out {
			o := &out[i]
			if o.kind == rolledBack {
				continue
			}
			part := 1.0 // of the spell that passed before it was rolled back
			if o.kind == watching {
				d := watchers[i].watch(now)
				if d.kind != watching {
					o.kind, o.at = d.kind, d.at
					undecided--
				}
				if d.kind == rolledBack {
					exposed--
					part = float64(d.at-now.From) / float64(spell)
				}
				o.requests += int64(part*float64(now.Counts.Requests()) + 0.5)
			}
			harmed := now.Counts.CanaryFailures
			if s.harm == slows {
				harmed = now.Counts.CanaryRequests
			}
			o.failed += int64(part*float64(harmed) + 0.5)
		}
		if now.To >= s.lasts {
			break
		}
	}
}

// playAll runs all seeds, spread over the cores. The result does not depend on
// how many there are.
func (s *scenario) playAll(all []policy, runs int) [][]outcome {
	return s.playCounted(all, runs, new(atomic.Int64))
}

// playCounted is playAll that counts the runs that are done.
func (s *scenario) playCounted(all []policy, runs int, done *atomic.Int64) [][]outcome {
	results := make([][]outcome, runs)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= runs {
					return
				}
				results[i] = make([]outcome, len(all))
				s.play(all, uint64(i)+1, results[i])
				done.Add(1)
			}
		})
	}
	workers.Wait()
	return results
}

// row is a line of the table.
type row struct {
	Scenario          string  `json:"scenario"`
	Policy            string  `json:"policy"`
	Runs              int     `json:"runs"`
	FalseRollbackRate float64 `json:"falseRollbackRate"`
	MissedRate        float64 `json:"missedRate"`
	FailedMean        float64 `json:"failedMean"`
	FailedP90         float64 `json:"failedP90"`
	SecondsP50        float64 `json:"secondsP50"`
	RequestsMean      float64 `json:"requestsMean"`
	RatioToLimit      float64 `json:"ratioToLimit,omitempty"`

	// Standard errors of the means.
	FailedError   float64 `json:"failedError"`
	RequestsError float64 `json:"requestsError"`
}

// sum makes the row of one policy, which is the i-th.
func (s *scenario) sum(p policy, i int, results [][]outcome) row {
	r := row{Scenario: s.name, Policy: p.name, Runs: len(results)}
	n := float64(len(results))
	var failed, requests, seconds []float64
	var falsely, missed, sumFailed, sumRequests int64
	for _, run := range results {
		o := run[i]
		back := o.kind == rolledBack
		switch {
		case back && !s.harm.real():
			falsely++
		case !back && s.harm.real():
			missed++
		}
		failed, requests = append(failed, float64(o.failed)), append(requests, float64(o.requests))
		sumFailed += o.failed
		sumRequests += o.requests
		if o.kind != watching {
			seconds = append(seconds, o.at.Seconds())
		} else {
			seconds = append(seconds, s.lasts.Seconds())
		}
	}
	r.FalseRollbackRate, r.MissedRate = float64(falsely)/n, float64(missed)/n
	r.FailedMean, r.RequestsMean = float64(sumFailed)/n, float64(sumRequests)/n
	r.FailedError, r.RequestsError = standardError(failed), standardError(requests)
	r.FailedP90, r.SecondsP50 = quantile(failed, 0.9), quantile(seconds, 0.5)
	if limit := s.day.Limit(s.share, falseAlarm); limit > 0 && s.harm == fails {
		r.RatioToLimit = r.RequestsMean / limit
	}
	return r
}

// standardError of the mean.
func standardError(all []float64) float64 {
	n := float64(len(all))
	var sum, squares float64
	for _, x := range all {
		sum += x
	}
	for _, x := range all {
		squares += (x - sum/n) * (x - sum/n)
	}
	return math.Sqrt(squares) / n
}

// quantile by the nearest rank.
func quantile(all []float64, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return all[min(len(all)-1, int(q*float64(len(all))))]
}
