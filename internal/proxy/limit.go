package proxy

import (
	"sync/atomic"
	"time"

	"serin.dev/serin/internal/mesh"
)

// bucket is a token bucket for all loops at once, without a lock: the state is
// one number, the instant at which the bucket will be full again (the "virtual
// scheduling" form of the generic cell rate algorithm, ITU-T I.371). A request
// moves it on by the time in which one token is added; what would move it
// further ahead than the whole bucket takes to fill is refused. Tokens so come
// one by one, as in Envoy's bucket, and not Fill of them at once.
type bucket struct {
	start time.Time     // of counting
	token time.Duration // until one token is added
	depth time.Duration // until an empty bucket is full
	full  atomic.Int64  // nanoseconds after start
}

// limitKey tells a route's bucket apart across snapshots.
type limitKey struct {
	gateway uint16 // 0 = between services
	host    string // the first of the virtual host
	route   int    // its place in the virtual host
	limit   mesh.RateLimit
}

func newBucket(of mesh.RateLimit, now time.Time) *bucket {
	token := max(of.Per/time.Duration(max(of.Fill, 1)), 1)
	return &bucket{start: now, token: token, depth: token * time.Duration(of.Burst)}
}

// take takes a token, if there is one.
func (b *bucket) take(now time.Time) bool {
	at := now.Sub(b.start)
	for {
		was := b.full.Load()
		next := max(time.Duration(was), at) + b.token
		if next-at > b.depth {
			return false
		}
		if b.full.CompareAndSwap(was, int64(next)) {
			return true
		}
	}
}

// load counts what is under way to a group, in all loops. It stays with the
// group's identity across snapshots.
type load struct {
	requests, pending, connections, retries atomic.Int64
}

// permit is one of a limited number. The zero value is one of an unlimited
// number.
type permit struct{ counted *atomic.Int64 }

// release gives the permit back; again is harmless.
func (p *permit) release() {
	if p.counted != nil {
		p.counted.Add(-1)
		p.counted = nil
	}
}

// acquire takes one of a number of permits. None is given when limit are taken.
func acquire(counter *atomic.Int64, limit int64) (permit, bool) {
	if counter.Add(1) > limit {
		counter.Add(-1)
		return permit{}, false
	}
	return permit{counter}, true
}
