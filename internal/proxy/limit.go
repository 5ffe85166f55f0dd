package proxy

import (
	"math"
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
	at := max(now.Sub(b.start), 0) // a loop's clock may be a little behind
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

// acquire takes one of a number of permits, if fewer than limit are taken.
func acquire(counter *atomic.Int64, limit int64) (permit, bool) {
	for {
		taken := counter.Load()
		if taken >= limit {
			return permit{}, false
		}
		if counter.CompareAndSwap(taken, taken+1) {
			return permit{counter}, true
		}
	}
}

// admitRequest asks whether another request may be under way to the group (UO
// if not).
func (g *group) admitRequest() (permit, bool) {
	limit := int64(g.policy.Pool.MaxRequests)
	switch {
	case limit > 0:
		return acquire(&g.load.requests, limit)
	case g.policy.Budget != nil:
		return acquire(&g.load.requests, math.MaxInt64)
	}
	return permit{}, true
}

// admitPending asks whether another request may wait for a connection.
func (g *group) admitPending() (permit, bool) {
	limit := int64(g.policy.Pool.MaxPending)
	switch {
	case limit > 0:
		return acquire(&g.load.pending, limit)
	case g.policy.Budget != nil:
		return acquire(&g.load.pending, math.MaxInt64)
	}
	return permit{}, true
}

// admitConnection asks whether another connection may be opened.
func (g *group) admitConnection() (permit, bool) {
	if limit := int64(g.policy.Pool.MaxConnections); limit > 0 {
		return acquire(&g.load.connections, limit)
	}
	return permit{}, true
}

// admitRetry asks whether another retry may be under way: as many as MaxRetries,
// or with a budget as its part of all requests that are.
func (g *group) admitRetry() (permit, bool) {
	if b := g.policy.Budget; b != nil {
		under := g.load.requests.Load() + g.load.pending.Load()
		part := under * int64(b.Percent) / int64(mesh.Everything)
		return acquire(&g.load.retries, max(part, int64(b.MinConcurrency)))
	}
	if limit := int64(g.policy.Pool.MaxRetries); limit > 0 {
		return acquire(&g.load.retries, limit)
	}
	return permit{}, true
}
