package main

import (
	"slices"
	"time"

	"serin.dev/serin/internal/traffic"
)

// scenario is one day, with the share that the canary has all along.
type scenario struct {
	name, about string
	share       float64
	day         traffic.Day
	// lasts ends it, whatever was decided.
	lasts time.Duration
	// harm says what a rollback spares users; none: nothing is wrong.
	harm harm
}

type harm uint8

const (
	none  harm = iota
	fails      // requests fail
	slows      // requests take longer: all that the canary answers are counted
)

// real reports whether something is wrong with the canary.
func (h harm) real() bool { return h == fails || h == slows }

// usual is how long a scenario lasts: until the last policy had its say.
const usual = 3 * time.Hour

// seldom is for so few requests that everything takes longer.
const seldom = 24 * time.Hour

// takes is the durations of an ordinary service: median 40 ms, p95 77 ms, p99
// 102 ms.
func takes(factor float64) *traffic.Durations {
	return traffic.LogNormal(time.Duration(factor*float64(40*time.Millisecond)), 0.4)
}

// scenarios are all of them, in the order of the table.
func scenarios() []scenario {
	return slices.Concat(regressions(), troubled(), slower(), equal())
}

// plain is a steady day.
func plain(rate, stable, canary float64) traffic.Day {
	return traffic.Day{Rate: rate, Stable: stable, Canary: canary}
}

// regressions fail more, on days without anything else.
func regressions() []scenario {
	of := func(name, about string, share, rate, stable, canary float64) scenario {
		return scenario{name: name, about: about, share: share, day: plain(rate, stable, canary), lasts: usual, harm: fails}
	}
	few := of("half-fails-rarely-called", "0 → 50 %, 0.1 req/s, half of it", 0.5, 0.1, 0, 0.5)
	few.lasts = seldom
	return []scenario{
		of("half-fails", "0 → 50 %, 5 req/s, 10 %", 0.1, 5, 0, 0.5),
		few,
		of("fifth-fails-1rps", "0 → 20 %, 1 req/s, 10 %", 0.1, 1, 0, 0.2),
		of("tenth-fails-small-share", "0 → 10 %, 50 req/s, 1 %", 0.01, 50, 0, 0.1),
		of("all-fail-small-share", "0 → 100 %, 200 req/s, 1 %", 0.01, 200, 0, 1),
		of("half-fails-fast", "0 → 50 %, 2,000 req/s, 1 %", 0.01, 2000, 0, 0.5),
		of("one-percent", "0 → 1 %, 50 req/s, 10 %", 0.1, 50, 0, 0.01),
		of("one-in-a-thousand", "0 → 0.1 %, 2,000 req/s, 10 %", 0.1, 2000, 0, 0.001),
		of("tenfold", "0.1 → 1 %, 200 req/s, 10 %", 0.1, 200, 0.001, 0.01),
		of("tenfold-5-percent-share", "0.5 → 5 %, 50 req/s, 5 %", 0.05, 50, 0.005, 0.05),
		of("fiftyfold", "0.01 → 0.5 %, 1,000 req/s, 5 %", 0.05, 1000, 0.0001, 0.005),
		of("threefold", "1 → 3 %, 200 req/s, 10 %", 0.1, 200, 0.01, 0.03),
		of("double-half-share", "1 → 2 %, 50 req/s, 50 %", 0.5, 50, 0.01, 0.02),
		of("double-high", "5 → 10 %, 100 req/s, 10 %", 0.1, 100, 0.05, 0.1),
		of("half-more", "1 → 1.5 %, 2,000 req/s, 10 %", 0.1, 2000, 0.01, 0.015),
	}
}

// troubled are regressions on days on which something else goes on.
func troubled() []scenario {
	of := func(name, about string, change func(*traffic.Day)) scenario {
		s := scenario{name: name, about: about, share: 0.1, day: plain(50, 0.001, 0.02), lasts: usual, harm: fails}
		change(&s.day)
		return s
	}
	return []scenario{
		of("diurnal-regression", "0.1 → 2 %, 50 req/s in waves, 10 %", func(d *traffic.Day) { d.Arrivals = traffic.Diurnal }),
		of("bursty-regression", "0.1 → 2 %, 50 req/s in bursts, 10 %", func(d *traffic.Day) { d.Arrivals = traffic.Bursty }),
		of("outage-regression", "0.1 → 2 % while half of all fails for 2 min, 50 req/s, 10 %", func(d *traffic.Day) { outage(d, 0.5) }),
		of("flapping-regression", "0.1 → 2 % while 30 % of all fail now and then, 50 req/s, 10 %", flapping),
		of("drift-regression", "0.1 → 2 %, both up to ten times that in 3 h, 50 req/s, 10 %", drifting),
		of("retries-regression", "1 → 4 %, failures come in bundles of 5, 50 req/s, 10 %", func(d *traffic.Day) {
			d.Stable, d.Canary, d.Tries = 0.01, 0.04, 5
		}),
		of("sticky-retries-regression", "1 → 4 %, failures come in bundles of 5 that stay on a side, 50 req/s, 10 %", func(d *traffic.Day) {
			d.Stable, d.Canary, d.Tries, d.Sticky = 0.01, 0.04, 5, true
		}),
		of("dependency-regression", "0.1 → 2 % while what every eighth request needs is down for both, 50 req/s, 10 %", func(d *traffic.Day) {
			d.Endpoints = dependent(0.001, 0.02)
		}),
		of("rare-endpoint-fails", "an endpoint of 1 % of the requests fails always, 50 req/s, 10 %", func(d *traffic.Day) {
			d.Endpoints = endpoints(20, 0.01, 0.001, 1)
		}),
		of("rarer-endpoint-fails", "an endpoint of 0.2 % of the requests fails always, 50 req/s, 10 %", func(d *traffic.Day) {
			d.Endpoints = endpoints(20, 0.002, 0.001, 1)
		}),
	}
}

// slower takes longer and does not fail.
func slower() []scenario {
	of := func(name, about string, stable, canary *traffic.Durations) scenario {
		s := scenario{name: name, about: about, share: 0.1, day: plain(50, 0.001, 0.001), lasts: usual, harm: slows}
		s.day.StableTakes, s.day.CanaryTakes = stable, canary
		return s
	}
	cached := func(hits float64) *traffic.Durations {
		return traffic.Bimodal(hits, 5*time.Millisecond, 80*time.Millisecond, 0.3)
	}
	tail := traffic.Bimodal(0.95, 40*time.Millisecond, 400*time.Millisecond, 0.4)
	return []scenario{
		of("slower-20-percent", "all durations × 1.2, 50 req/s, 10 %", takes(1), takes(1.2)),
		of("slower-50-percent", "all durations × 1.5, 50 req/s, 10 %", takes(1), takes(1.5)),
		of("slower-twice", "all durations × 2, 50 req/s, 10 %", takes(1), takes(2)),
		of("slower-beyond-500ms", "all durations × 10: p99 at 1 s, 50 req/s, 10 %", takes(1), takes(10)),
		of("slower-tail", "every 20th request takes ten times as long, 50 req/s, 10 %", takes(1), tail),
		of("slower-cache", "cache hits 90 → 70 %, 50 req/s, 10 %", cached(0.9), cached(0.7)),
	}
}

// equal versions: every rollback is false.
func equal() []scenario {
	of := func(name, about string, rate, fail float64, change func(*traffic.Day)) scenario {
		s := scenario{name: name, about: about, share: 0.1, day: plain(rate, fail, fail), lasts: usual}
		if change != nil {
			change(&s.day)
		}
		return s
	}
	measured := func(both *traffic.Durations) func(*traffic.Day) {
		return func(d *traffic.Day) { d.StableTakes, d.CanaryTakes = both, both }
	}
	cached := traffic.Bimodal(0.9, 5*time.Millisecond, 80*time.Millisecond, 0.3)
	few := of("equal-rarely-called", "0.5 % both, 0.1 req/s, 10 %", 0.1, 0.005, nil)
	few.lasts = 8 * time.Hour
	half := of("equal-half-share", "2 % both, 20 req/s, 50 %", 20, 0.02, nil)
	half.share = 0.5
	return []scenario{
		of("equal-silent", "nobody calls, 0 req/s, 10 %", 0, 0, nil),
		of("equal-flawless", "0 both, 50 req/s, 10 %", 50, 0, nil),
		of("equal-one-percent", "1 % both, 50 req/s, 10 %", 50, 0.01, nil),
		of("equal-one-in-a-thousand", "0.1 % both, 100 req/s, 10 %", 100, 0.001, nil),
		half,
		of("equal-1rps", "0.5 % both, 1 req/s, 10 %", 1, 0.005, nil),
		few,
		of("equal-diurnal", "0.5 % both, 5 req/s in waves, 10 %, with durations", 5, 0.005, func(d *traffic.Day) {
			d.Arrivals = traffic.Diurnal
			measured(takes(1))(d)
		}),
		of("equal-bursty", "0.5 % both, 20 req/s in bursts, 10 %", 20, 0.005, func(d *traffic.Day) { d.Arrivals = traffic.Bursty }),
		of("equal-outage", "all fails on both for 2 min, 20 req/s, 10 %", 20, 0.001, func(d *traffic.Day) { outage(d, 1) }),
		of("equal-half-outage", "half of all fails on both for 2 min, 20 req/s, 10 %", 20, 0.001, func(d *traffic.Day) { outage(d, 0.5) }),
		of("equal-flapping", "30 % of all fail on both now and then, 10 req/s, 10 %", 10, 0.001, flapping),
		of("equal-drift", "0.2 % both, up to 2 % in 3 h, 20 req/s, 10 %", 20, 0.002, drifting),
		of("equal-retries", "1 % both, failures in bundles of 5, 20 req/s, 10 %", 20, 0.01, func(d *traffic.Day) { d.Tries = 5 }),
		of("equal-sticky-retries", "1 % both, failures in bundles of 5 that stay on a side, 20 req/s, 10 %", 20, 0.01, func(d *traffic.Day) {
			d.Tries, d.Sticky = 5, true
		}),
		of("equal-dependency", "0.1 % both, and what every eighth request needs is down, 2 req/s, 10 %", 2, 0.001, func(d *traffic.Day) {
			d.Endpoints = dependent(0.001, 0.001)
		}),
		of("equal-endpoints", "0.5 % both, 8 endpoints, 10 req/s, 10 %", 10, 0.005, func(d *traffic.Day) { d.Endpoints = endpoints(8, 0.01, 0.005, 0.005) }),
		of("equal-bimodal", "0.1 % both, cache hits 90 %, 10 req/s, 10 %", 10, 0.001, measured(cached)),
		of("equal-slow-start", "0.1 % both, canary three times as slow for 30 s, 20 req/s, 10 %", 20, 0.001, func(d *traffic.Day) {
			measured(takes(1))(d)
			d.ColdTakes, d.ColdFor = takes(3), 30*time.Second
		}),
	}
}

// dependent are eight endpoints, one of which needs what is down: nine of ten
// requests to it fail, whoever answers them.
func dependent(stable, canary float64) []traffic.Endpoint {
	out := endpoints(8, 1./8, stable, 0.9)
	for i := range out {
		out[i].Canary = max(canary, out[i].Canary)
	}
	out[len(out)-1].Stable = 0.9
	return out
}

// outage begins within ten minutes and lasts two.
func outage(d *traffic.Day, fails float64) {
	d.Outage.Fails, d.Outage.Lasts, d.Outage.Within = fails, 2*time.Minute, 8*time.Minute
}

func flapping(d *traffic.Day) { d.Flaps.Chance, d.Flaps.Fails = 0.05, 0.3 }

func drifting(d *traffic.Day) { d.Drift, d.Length = 10, usual }

// endpoints are n, of which the last has the given part of the requests and the
// canary's rate of failure; the others share the rest alike.
func endpoints(n int, part, usual, canary float64) []traffic.Endpoint {
	var out []traffic.Endpoint
	for i := range n - 1 {
		out = append(out, traffic.Endpoint{
			Name: "GET /api/" + string(rune('a'+i)), Part: (1 - part) / float64(n-1), Stable: usual, Canary: usual,
		})
	}
	return append(out, traffic.Endpoint{Name: "POST /api/rare", Part: part, Stable: usual, Canary: canary})
}
