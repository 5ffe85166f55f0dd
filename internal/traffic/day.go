package traffic

import (
	"math"
	"math/rand/v2"
	"time"
)

// Arrivals is how the rate of requests changes.
type Arrivals uint8

// The arrivals.
const (
	// Steady: a Poisson process.
	Steady Arrivals = iota
	// Diurnal: between a tenth and 1.9 times the rate, in waves of an hour that
	// begin anywhere; a real day would only be slower.
	Diurnal
	// Bursty: the rate of each spell is the mean times a gamma variable of
	// shape 1/4, so that some have almost no requests and some ten times as
	// many.
	Bursty
)

const (
	wave       = time.Hour
	burstShape = 0.25
)

// Day is what requests to one service are like while a canary gets a share of
// them. Rates of failure are 0 to 1.
type Day struct {
	Rate           float64 // requests per second, on average
	Arrivals       Arrivals
	Stable, Canary float64 // how much of each side's requests fails

	// Outage of what both sides depend on: so many of all requests fail for
	// Lasts, once, beginning anywhere in the first Within.
	Outage struct {
		Fails         float64
		Lasts, Within time.Duration
	}
	// Flaps: in that share of the spells so many of all requests fail, on both
	// sides.
	Flaps struct{ Chance, Fails float64 }
	// Drift multiplies both sides' rates of failure, growing steadily up to
	// this in Length; 0 = they stay.
	Drift  float64
	Length time.Duration

	// Tries makes failures come together: what fails on Stable's account fails
	// however often it is tried again, and is, so many times in all on
	// average. Each try is sent to either side, unless Sticky sends it
	// where the first one went, as it does all requests of a user: the samples
	// tell users apart, of whom everybody else asks once. 0 = failures come
	// alone.
	Tries  float64
	Sticky bool

	// StableTakes and CanaryTakes are the durations; both nil = nobody measures
	// them. ColdTakes are the canary's in the first ColdFor.
	StableTakes, CanaryTakes *Durations
	ColdTakes                *Durations
	ColdFor                  time.Duration

	// Endpoints share the requests; their rates of failure are in the place
	// of Stable and Canary. Empty = one endpoint.
	Endpoints []Endpoint
}

// Endpoint is one part of the requests. The parts of all add up to 1.
type Endpoint struct {
	Name           string
	Part           float64
	Stable, Canary float64
}

// Run is one day that is under way.
type Run struct {
	day  *Day
	at   time.Duration
	seed uint64

	counts *rand.Rand // how much; see Spell for the others
	outage time.Duration
	phase  float64
	spell  Spell
}

// Begin starts the day of a seed. The day must not change meanwhile; many runs
// may share it.
func (d *Day) Begin(seed uint64) *Run {
	r := &Run{day: d, seed: seed, counts: rand.New(rand.NewPCG(seed, 0xda1))}
	r.outage = time.Duration(r.counts.Float64() * float64(d.Outage.Within))
	r.phase = 2 * math.Pi * r.counts.Float64()
	return r
}

// Next draws the requests of the next spell, in which the canary has the share
// (0 to 1). What it returns is overwritten by the next call.
func (r *Run) Next(length time.Duration, share float64) *Spell {
	d, s := r.day, &r.spell
	s.begin(r, length)
	requests := Poisson(r.counts, d.Rate*r.pace()*length.Seconds())
	canary := Binomial(r.counts, requests, share)
	common := r.common()
	drift := 1.0
	if d.Drift > 0 && d.Length > 0 {
		drift += (d.Drift - 1) * min(1, r.at.Seconds()/d.Length.Seconds())
	}
	fails := func(rate float64) float64 { return 1 - (1-common)*(1-min(1, rate*drift)) }
	if len(d.Endpoints) == 0 {
		stableRate, canaryRate := d.Stable, d.Canary
		if d.Tries > 0 { // what is tried again is added below
			stableRate, canaryRate = 0, max(0, d.Canary-d.Stable)
		}
		s.add(r.counts, 0, canary, requests-canary, fails(canaryRate), fails(stableRate))
		r.tryAgain(requests, share, drift)
	}
	left := 1.0
	nc, ns := canary, requests-canary
	for i, e := range d.Endpoints {
		part := min(1, e.Part/left)
		c, o := Binomial(r.counts, nc, part), Binomial(r.counts, ns, part)
		if i == len(d.Endpoints)-1 {
			c, o = nc, ns
		}
		s.add(r.counts, i, c, o, fails(e.Canary), fails(e.Stable))
		nc, ns, left = nc-c, ns-o, left-e.Part
	}
	r.at += length
	return s
}

// pace is the rate of requests now, in mean rates.
func (r *Run) pace() float64 {
	switch r.day.Arrivals {
	case Diurnal:
		return 1 + 0.9*math.Sin(r.phase+2*math.Pi*r.at.Seconds()/wave.Seconds())
	case Bursty:
		return Gamma(r.counts, burstShape) / burstShape
	case Steady:
	}
	return 1
}

// common is the rate at which requests fail now, whoever answers them.
func (r *Run) common() float64 {
	o, f := r.day.Outage, r.day.Flaps
	rate := 0.0
	if o.Lasts > 0 && r.at >= r.outage && r.at < r.outage+o.Lasts {
		rate = o.Fails
	}
	if f.Chance > 0 && r.counts.Float64() < f.Chance {
		rate = 1 - (1-rate)*(1-f.Fails)
	}
	return rate
}

// tryAgain adds the requests of callers who try the same again in vain.
func (r *Run) tryAgain(requests int64, share, drift float64) {
	d, s := r.day, &r.spell
	if d.Tries <= 0 {
		return
	}
	callers := Poisson(r.counts, float64(requests)*d.Stable*drift/d.Tries)
	for range callers {
		at := r.counts.Float64()
		toCanary := r.counts.Float64() < share
		for again := false; ; again = true {
			if toCanary {
				s.Counts.CanaryRequests++
				s.Counts.CanaryFailures++
			} else {
				s.Counts.StableRequests++
				s.Counts.StableFailures++
			}
			s.failures = append(s.failures, failure{at: at, canary: toCanary, again: again})
			if r.counts.Float64() < 1/d.Tries {
				break
			}
			if !d.Sticky {
				toCanary = r.counts.Float64() < share
			}
		}
	}
}

// takes are the distributions of durations now; nil = nobody measures.
func (r *Run) takes(at time.Duration) (canary, stable *Durations) {
	canary = r.day.CanaryTakes
	if at < r.day.ColdFor {
		canary = r.day.ColdTakes
	}
	return canary, r.day.StableTakes
}

// Limit returns N*, about how many requests of both sides together any test
// needs on average until it has shown, with a chance of error of falseAlarm,
// that the canary fails more, when it has the share: Wald's bound for the most
// favourable odds. 0 = there is none, because nothing is worse or not all
// requests are alike.
func (d *Day) Limit(share, falseAlarm float64) float64 {
	if d.Canary <= d.Stable || len(d.Endpoints) > 0 || d.Outage.Lasts > 0 || d.Flaps.Chance > 0 || d.Drift > 0 || d.Tries > 0 {
		return 0
	}
	q := share*d.Canary + (1-share)*d.Stable
	return -math.Log(falseAlarm) / (share*kl(d.Canary, q) + (1-share)*kl(d.Stable, q))
}

func kl(p, q float64) float64 {
	sum := 0.0
	if p > 0 {
		sum += p * math.Log(p/q)
	}
	if p < 1 {
		sum += (1 - p) * math.Log((1-p)/(1-q))
	}
	return sum
}
