package controller

import (
	"math"
	"sync"
	"time"
)

const (
	// rateMemory is over how long a rate of requests is averaged: long enough
	// that one of 0.2 per second is told from none.
	rateMemory = 5 * time.Minute
	// rateKnown is how long requests have to be counted before their rate is
	// told.
	rateKnown = 30 * time.Second
	// rateNews is by which factor a rate has to change to be told again.
	rateNews = 1.5
)

// rate is how many requests come to one service.
type rate struct{ requests, seconds float64 }

// add counts what came in a time that ends now.
func (r rate) add(requests int64, in time.Duration) rate {
	fade := math.Exp(-in.Seconds() / rateMemory.Seconds())
	return rate{r.requests*fade + float64(requests), r.seconds*fade + in.Seconds()}
}

// perSecond is the rate; ok is false while it is not known.
func (r rate) perSecond() (v float64, ok bool) {
	if r.seconds < rateKnown.Seconds() {
		return 0, false
	}
	if r.requests < 1 { // the rest of what faded away
		return 0, true
	}
	return r.requests / r.seconds, true
}

// rates are those of all releases, for who judges one that is applied. The zero
// value knows none.
type rates struct {
	mu sync.Mutex
	of map[string]rate // by nameOfRelease
}

func (r *rates) set(release string, now rate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string]rate{}
	}
	r.of[release] = now
}

func (r *rates) forget(release string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, release)
}

func (r *rates) get(release string) rate {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[release]
}

// pace is what was told of a release's rate.
type pace struct {
	rate       rate
	counted    time.Time
	generation int64 // of the spec that it was told for; 0 = not yet
	told       float64
	slow       string // what the plan is like then; "" = the rate is enough
}

// count adds what arrived since the last look, once the service is ours: until
// then requests go past us.
func (p *pace) count(arrived int64, ours bool, now time.Time) {
	if ours && !p.counted.IsZero() && now.After(p.counted) {
		p.rate = p.rate.add(arrived, now.Sub(p.counted))
	}
	p.counted = now
	if !ours {
		p.counted = time.Time{}
	}
}

// news reports whether something else is to be told than before.
func (p *pace) news(generation int64) bool {
	now, known := p.rate.perSecond()
	switch {
	case !known:
		return false
	case p.generation != generation:
		return true
	}
	// Below one request in the memory there is none.
	few := 1 / rateMemory.Seconds()
	now, told := max(now, few), max(p.told, few)
	return now > told*rateNews || told > now*rateNews
}
