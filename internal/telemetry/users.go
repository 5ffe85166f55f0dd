package telemetry

import (
	"math"

	"serin.dev/serin/internal/analysis"
)

// users tells which users of a sticky split say something new, for the whole
// and for each endpoint: see analysis.Users. The zero value knows none. It
// takes 900 KiB, however many users there are.
type users struct {
	seen   userSet // since the present baseline
	failed userSet // in the run, on whichever side
	timed  userSet // in the run: their duration was counted
	parts  [2]userParts
}

// add counts a request of a user at a place, 0 for all, and returns what it adds
// to. A request of nobody that is known was drawn, and is as good as a user.
func (u *users) add(to *analysis.Users, r *Request, place uint64, side Side, failed, warm bool) *analysis.Users {
	if to == nil {
		to = &analysis.Users{}
	}
	requests, failures, latency := &to.StableRequests, &to.StableFailures, &to.StableLatency
	if side == CanarySide {
		requests, failures, latency = &to.CanaryRequests, &to.CanaryFailures, &to.CanaryLatency
	}
	key := mix(r.User ^ mix(place))
	fresh := func(s *userSet) bool { return r.User == 0 || s.add(key) }
	count(requests, fresh(&u.seen))
	count(failures, failed && fresh(&u.failed))
	if warm && !failed && fresh(&u.timed) {
		latency.Observe(r.Duration)
	}
	return to
}

// sum adds what the request changes in the sum of its side.
func (u *users) sum(to *analysis.Users, r *Request, side Side, failed bool) {
	sum := &to.Stable
	if side == CanarySide {
		sum = &to.Canary
	}
	one := userPart{}
	part := &one // of nobody that is known
	if r.User != 0 {
		part = &u.parts[side][mix(r.User)%uint64(len(u.parts[side]))]
	}
	count(&sum.Users, part.requests == 0)
	before := part.failing()
	part.add(failed)
	sum.Failing += part.failing() - before
}

// userParts are the requests of each user on one side, in the run. It may take
// two users for one, who then weigh as much as one: with some ten thousands of
// them there is less evidence than there might be, and none that is wrong.
type userParts [1 << 16]userPart

// userPart is what one user asked for, and what failed of that.
type userPart struct{ requests, failures uint16 }

// add counts a request. Of one who asks again and again the older half is
// forgotten at times.
func (p *userPart) add(failed bool) {
	if p.requests == math.MaxUint16 {
		p.requests /= 2
		p.failures /= 2
	}
	p.requests++
	if failed {
		p.failures++
	}
}

// failing is the part of the requests that failed, 0 to 1.
func (p *userPart) failing() float64 {
	if p.requests == 0 {
		return 0
	}
	return float64(p.failures) / float64(p.requests)
}

// userSet is a set of keys as a bitmap of their hashes. It may take one key for
// another, seldom before it has some ten thousands, and then says that it is
// known: that user counts for nothing. It happens on both sides alike, as the
// bits are not those by which sides are chosen.
type userSet [1 << 14]uint64

// add reports whether the key was not there, and adds it.
func (s *userSet) add(key uint64) bool {
	word, bit := &s[key>>6%uint64(len(s))], uint64(1)<<(key&63)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

// mix spreads what distinguishes two numbers over all bits: the finalizer of
// MurmurHash3 (Appleby 2011), after which neighbours, and users of one side, have
// nothing in common.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
