package traffic

import (
	"cmp"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"serin.dev/serin/internal/analysis"
)

// Spell is what happened in a short time: totals at once, and the order of it
// for who asks.
type Spell struct {
	// From and To since the day began.
	From, To time.Duration
	Counts   analysis.Counts

	run      *Run
	streams  [3]stream
	parts    []analysis.Counts // by endpoint
	failures []failure
	drawn    bool // the durations are
	canary   analysis.Histogram
	stable   analysis.Histogram

	// For Looks alone.
	looks   []float64
	left    []analysis.Counts // that are still to come, of those without failure
	seen    []analysis.Counts // since the last look
	samples analysis.Samples
	users   analysis.Users // of the samples, on a sticky day
}

// failure is one failed request: when in the spell (0 to 1), where and of which
// endpoint.
type failure struct {
	at       float64
	canary   bool
	again    bool // by a user who failed before
	endpoint int
}

func (s *Spell) begin(r *Run, length time.Duration) {
	s.run, s.From, s.To = r, r.at, r.at+length
	s.Counts = analysis.Counts{}
	if s.parts == nil {
		n := max(1, len(r.day.Endpoints))
		s.parts, s.seen = make([]analysis.Counts, n), make([]analysis.Counts, n)
	}
	clear(s.parts)
	s.failures, s.drawn = s.failures[:0], false
}

// add draws the failures among an endpoint's requests, and when they happened.
func (s *Spell) add(r *rand.Rand, endpoint int, canary, stable int64, canaryRate, stableRate float64) {
	c := analysis.Counts{
		CanaryRequests: canary, CanaryFailures: Binomial(r, canary, canaryRate),
		StableRequests: stable, StableFailures: Binomial(r, stable, stableRate),
	}
	s.parts[endpoint] = c
	s.Counts = s.Counts.Add(c)
	for range c.CanaryFailures {
		s.failures = append(s.failures, failure{at: r.Float64(), canary: true, endpoint: endpoint})
	}
	for range c.StableFailures {
		s.failures = append(s.failures, failure{at: r.Float64(), endpoint: endpoint})
	}
}

// stream is a source of numbers of its own for one purpose, so that what one
// reader of a spell asks for changes nothing for another.
type stream struct {
	source rand.PCG
	rand   *rand.Rand
}

func (p *stream) of(s *Spell, purpose uint64) *rand.Rand {
	if p.rand == nil {
		p.rand = rand.New(&p.source)
	}
	p.source.Seed(s.run.seed, purpose<<56|uint64(s.From))
	return p.rand
}

func (s *Spell) random(purpose uint64) *rand.Rand { return s.streams[purpose-1].of(s, purpose) }

// The purposes.
const (
	forOrder uint64 = iota + 1
	forCanary
	forStable
)

// Durations of the spell's requests that did not fail; nil when nobody measures them. They are
// overwritten by the next spell.
func (s *Spell) Durations() (canary, stable *analysis.Histogram) {
	if s.run.day.StableTakes == nil {
		return nil, nil
	}
	if !s.drawn {
		s.drawn = true
		s.canary, s.stable = analysis.Histogram{}, analysis.Histogram{}
		s.take(s.random(forCanary), s.random(forStable), s.Counts, &s.canary, &s.stable)
	}
	return &s.canary, &s.stable
}

// take draws the durations of requests that did not fail.
func (s *Spell) take(ofCanary, ofStable *rand.Rand, n analysis.Counts, canary, stable *analysis.Histogram) {
	c, o := s.run.takes(s.From)
	c.Draw(ofCanary, n.CanaryRequests-n.CanaryFailures, canary)
	o.Draw(ofStable, n.StableRequests-n.StableFailures, stable)
}

// mostWoken bounds the looks per tick, as each one takes a while.
const mostWoken = 16

// Looks plays the spell to somebody who looks at every tick and whenever a
// request failed: the time since the day began, and what was seen since the
// last look. Looks that would see nothing are left out. The samples are
// overwritten by the next look.
func (s *Spell) Looks(tick time.Duration) iter.Seq2[time.Duration, *analysis.Samples] {
	return func(yield func(time.Duration, *analysis.Samples) bool) {
		if s.Counts.Requests() == 0 {
			return
		}
		length := s.To - s.From
		s.prepare(max(1, int(length/tick)))
		order, ofCanary, ofStable := s.random(forOrder), s.random(forCanary), s.random(forStable)
		from, next := 0.0, 0
		for _, to := range s.looks {
			seen := s.between(order, from, to, &next)
			from = to
			if seen.Requests() == 0 {
				continue
			}
			if s.run.day.StableTakes != nil {
				s.samples.CanaryLatency, s.samples.StableLatency = analysis.Histogram{}, analysis.Histogram{}
				s.take(ofCanary, ofStable, seen, &s.samples.CanaryLatency, &s.samples.StableLatency)
			}
			if !yield(s.From+time.Duration(to*float64(length)), &s.samples) {
				return
			}
		}
	}
}

// prepare finds the times of the looks, as parts of the spell.
func (s *Spell) prepare(ticks int) {
	slices.SortFunc(s.failures, func(a, b failure) int { return cmp.Compare(a.at, b.at) })
	s.looks = s.looks[:0]
	stride := (len(s.failures) + ticks*mostWoken - 1) / (ticks * mostWoken)
	next := 0
	for i := range ticks {
		end := float64(i+1) / float64(ticks)
		for ; next < len(s.failures) && s.failures[next].at < end; next++ {
			at := s.failures[next].at
			if (next+1)%stride == 0 && (len(s.looks) == 0 || s.looks[len(s.looks)-1] < at) {
				s.looks = append(s.looks, at)
			}
		}
		s.looks = append(s.looks, end)
	}
	s.left = append(s.left[:0], s.parts...)
}

// between takes the requests of a part of the spell into s.samples, and returns
// their sum. Those that did not fail come at any time.
func (s *Spell) between(r *rand.Rand, from, to float64, next *int) analysis.Counts {
	part := 1.0
	if to < 1 {
		part = (to - from) / (1 - from)
	}
	clear(s.seen)
	for i := range s.left {
		left := &s.left[i]
		c := Binomial(r, left.CanaryRequests-left.CanaryFailures, part)
		o := Binomial(r, left.StableRequests-left.StableFailures, part)
		left.CanaryRequests -= c
		left.StableRequests -= o
		s.seen[i] = analysis.Counts{CanaryRequests: c, StableRequests: o}
	}
	var again analysis.Counts
	for ; *next < len(s.failures) && (s.failures[*next].at <= to || to >= 1); *next++ {
		f := s.failures[*next]
		one := analysis.Counts{StableRequests: 1, StableFailures: 1}
		if f.canary {
			one = analysis.Counts{CanaryRequests: 1, CanaryFailures: 1}
		}
		s.seen[f.endpoint] = s.seen[f.endpoint].Add(one)
		if f.again {
			again = again.Add(one)
		}
	}
	if s.run.day.Sticky {
		u := s.seen[0].Less(again)
		s.users.Counts = u
		s.users.Canary = analysis.UserSum{Users: u.CanaryRequests, Failing: float64(u.CanaryFailures)}
		s.users.Stable = analysis.UserSum{Users: u.StableRequests, Failing: float64(u.StableFailures)}
		s.samples.ByUser, s.samples.Users = true, &s.users
	}
	if len(s.seen) == 1 {
		s.samples.Counts = s.seen[0]
		return s.seen[0]
	}
	s.samples.Counts, s.samples.Strata = analysis.Counts{}, s.samples.Strata[:0]
	for i, c := range s.seen {
		if c.Requests() > 0 {
			s.samples.Counts = s.samples.Counts.Add(c)
			s.samples.Strata = append(s.samples.Strata, analysis.Stratum{Name: s.run.day.Endpoints[i].Name, Counts: c})
		}
	}
	return s.samples.Counts
}
