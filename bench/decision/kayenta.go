package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"time"

	"serin.dev/serin/internal/traffic"
)

// The policy of Kayenta, as documented in Spinnaker's "How canary judgment
// works" and "Best practices for configuring canary"
// (spinnaker.io/guides/user/canary).
//
//   - The canary is compared with a baseline: fresh pods of the stable version
//     that get as much traffic. Here it gets so many of stable's requests.
//   - Each metric is a series of one value per minute and side; a minute
//     without requests has none. Here: the share of failed requests, and the
//     p99 of the durations.
//   - A metric fails when the Mann-Whitney U test finds the canary's values
//     higher: when the 98 % confidence interval of the shift lies above a
//     quarter of the shift that is estimated (Hodges-Lehmann). A metric
//     without values does not fail.
//   - The score is the percentage of metrics that passed. Below 75 (marginal)
//     the canary is failed at once, and below 95 (pass) at the end.
//   - At least 50 values are asked for, and hours: a judgment each hour over all
//     values so far, for three hours.

const (
	kayentaStep      = time.Minute
	kayentaInterval  = time.Hour
	kayentaJudgments = 3
	kayentaPass      = 95.0
	kayentaMarginal  = 75.0
	kayentaFraction  = 0.25
	// kayentaZ: a two-sided interval of 98 %.
	kayentaZ = 2.3263
)

func kayenta() policy {
	return policy{
		name:  "kayenta",
		about: "Mann-Whitney on minutes against an equal baseline, pass 95, marginal 75, judged each hour for three",
		begin: func(s *scenario, seed uint64) watcher {
			part := 1.0
			if s.share < 0.5 {
				part = s.share / (1 - s.share)
			}
			return &kayentaRun{part: part, rand: rand.New(rand.NewPCG(seed, 0x6a))}
		},
	}
}

type kayentaRun struct {
	part     float64 // of stable's requests that the baseline gets
	rand     *rand.Rand
	minute   window
	errors   pairOfSeries
	latency  pairOfSeries
	judgment int
}

// pairOfSeries is one metric of canary and baseline.
type pairOfSeries struct{ canary, baseline []float64 }

func (w *kayentaRun) watch(s *traffic.Spell) decision {
	w.minute.add(s)
	if s.To%kayentaStep != 0 {
		return decision{}
	}
	w.note()
	if s.To%kayentaInterval != 0 {
		return decision{}
	}
	w.judgment++
	score := w.score()
	last := w.judgment == kayentaJudgments
	switch {
	case score < kayentaMarginal, last && score < kayentaPass:
		return decision{rolledBack, s.To}
	case last:
		return decision{passed, s.To}
	}
	return decision{}
}

// note ends a minute.
func (w *kayentaRun) note() {
	c := w.minute.counts
	failed := traffic.Binomial(w.rand, c.StableFailures, w.part)
	good := traffic.Binomial(w.rand, c.StableRequests-c.StableFailures, w.part)
	canary99, stable99 := w.minute.p99()
	if c.CanaryRequests > 0 {
		w.errors.canary = append(w.errors.canary, c.CanaryRate())
		w.latency.canary = append(w.latency.canary, canary99)
	}
	if failed+good > 0 {
		w.errors.baseline = append(w.errors.baseline, float64(failed)/float64(failed+good))
		w.latency.baseline = append(w.latency.baseline, stable99)
	}
	w.minute.reset()
}

// score is the percentage of metrics that pass.
func (w *kayentaRun) score() float64 {
	good := 0.0
	for _, m := range []*pairOfSeries{&w.errors, &w.latency} {
		if !m.higher() {
			good++
		}
	}
	return 100 * good / 2
}

// higher classifies the canary's values.
func (p *pairOfSeries) higher() bool {
	nx, ny := len(p.canary), len(p.baseline)
	if nx == 0 || ny == 0 {
		return false
	}
	x, y := slices.Sorted(slices.Values(p.canary)), slices.Sorted(slices.Values(p.baseline))
	n := float64(nx * ny)
	// The interval's lower end is the k-th smallest of all differences.
	k := int(math.Floor(n/2 - kayentaZ*math.Sqrt(n*float64(nx+ny+1)/12)))
	if k < 1 {
		return false // too few values to say anything
	}
	// If that is not above 0, its size is of no interest.
	below := 0
	for _, v := range x {
		below += ny - sort.SearchFloat64s(y, v) // baselines of v or more
		if below >= k {
			return false
		}
	}
	differences := make([]float64, 0, nx*ny)
	for _, v := range x {
		for _, u := range y {
			differences = append(differences, v-u)
		}
	}
	slices.Sort(differences)
	lowest, shift := differences[k-1], differences[len(differences)/2]
	return lowest > kayentaFraction*math.Abs(shift)
}
