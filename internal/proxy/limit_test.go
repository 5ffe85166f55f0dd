package proxy

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
)

func TestABucketHoldsItsRate(t *testing.T) {
	for _, tt := range []struct {
		limit mesh.RateLimit
		every time.Duration // a request
		total time.Duration
		want  int
	}{
		{mesh.RateLimit{Burst: 10, Fill: 10, Per: time.Second}, 0, 0, 10},                                     // all at once
		{mesh.RateLimit{Burst: 10, Fill: 10, Per: time.Second}, time.Millisecond, 10 * time.Second, 109},      // the burst, and 10 a second but the last
		{mesh.RateLimit{Burst: 1, Fill: 10, Per: time.Second}, 100 * time.Millisecond, 10 * time.Second, 100}, // just so
		{mesh.RateLimit{Burst: 1, Fill: 3, Per: time.Second}, time.Millisecond, 10 * time.Second, 30},
		{mesh.RateLimit{Burst: 100, Fill: 1, Per: time.Hour}, time.Second, 2 * time.Hour, 101},
		{mesh.RateLimit{Burst: 5, Fill: 1, Per: time.Second}, 2 * time.Second, time.Minute, 30}, // never empty, never more than full
	} {
		b, got := newBucket(tt.limit, epoch), 0
		n := 100
		if tt.every > 0 {
			n = int(tt.total / tt.every)
		}
		for i := range n {
			if b.take(epoch.Add(time.Duration(i) * tt.every)) {
				got++
			}
		}
		if got != tt.want {
			t.Errorf("%+v, a request each %v: %d pass, want %d", tt.limit, tt.every, got, tt.want)
		}
	}
	b := newBucket(mesh.RateLimit{Burst: 3, Fill: 1, Per: time.Second}, epoch)
	for range 3 {
		b.take(epoch)
	}
	after := epoch.Add(24 * time.Hour)
	for i := range 4 {
		if got := b.take(after); got != (i < 3) {
			t.Errorf("request %d after a day: %t; a bucket holds no more than its burst", i+1, got)
		}
	}
}

// TestABucketIsExactUnderContention: as many callers as there are get the burst
// and not one more.
func TestABucketIsExactUnderContention(t *testing.T) {
	const burst, callers, each = 5000, 8, 2000
	b := newBucket(mesh.RateLimit{Burst: burst, Fill: 1, Per: time.Hour}, epoch)
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				if b.take(epoch) {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n != burst {
		t.Errorf("%d of %d requests passed, want %d", n, callers*each, burst)
	}
}

// TestABucketGoesOnUnderTheNextSnapshot, as long as its route has it.
func TestABucketGoesOnUnderTheNextSnapshot(t *testing.T) {
	r := newRig(t, Config{})
	vh := func(limit mesh.RateLimit) mesh.VirtualHost {
		return mesh.VirtualHost{Hosts: []string{"music.default"}, Routes: []mesh.Route{{
			RateLimit: &limit, Direct: &mesh.DirectAnswer{Status: 200},
		}}}
	}
	status := func() int {
		c := newCall("GET", "/")
		return r.table.Load().inMesh("default", "music").decide(c, new(draws)).reply.status
	}
	limit := mesh.RateLimit{Burst: 2, Fill: 1, Per: time.Hour}
	var got []int
	for range 3 {
		r.apply(vh(limit))
		got = append(got, status())
	}
	limit.Burst = 3
	r.apply(vh(limit))
	got = append(got, status())
	if got[0] != 200 || got[1] != 200 || got[2] != 429 || got[3] != 200 {
		t.Errorf("statuses = %v, want two to pass, one to be refused, and a changed limit to begin anew", got)
	}
}

func TestLimitsOfAGroup(t *testing.T) {
	type admit func(*group) (permit, bool)
	for name, tt := range map[string]struct {
		policy mesh.Policy
		admit  admit
		want   int // permits at once; -1 = any number
	}{
		"requests":            {mesh.Policy{Pool: mesh.Pool{MaxRequests: 3}}, (*group).admitRequest, 3},
		"pending":             {mesh.Policy{Pool: mesh.Pool{MaxPending: 2}}, (*group).admitPending, 2},
		"connections":         {mesh.Policy{Pool: mesh.Pool{MaxConnections: 4}}, (*group).admitConnection, 4},
		"retries":             {mesh.Policy{Pool: mesh.Pool{MaxRetries: 1}}, (*group).admitRetry, 1},
		"requests, no limit":  {mesh.Policy{}, (*group).admitRequest, -1},
		"pending, no limit":   {mesh.Policy{}, (*group).admitPending, -1},
		"connects, no limit":  {mesh.Policy{}, (*group).admitConnection, -1},
		"retries, no limit":   {mesh.Policy{}, (*group).admitRetry, -1},
		"budget alone":        {mesh.Policy{Budget: &mesh.RetryBudget{MinConcurrency: 5}}, (*group).admitRetry, 5},
		"budget before limit": {mesh.Policy{Budget: &mesh.RetryBudget{MinConcurrency: 5}, Pool: mesh.Pool{MaxRetries: 1}}, (*group).admitRetry, 5},
	} {
		w := newWorld(t, &tt.policy)
		g := w.apply(0, endpointsOf("a")...)
		var held []permit
		for range 50 {
			p, ok := tt.admit(g)
			if !ok {
				break
			}
			held = append(held, p)
			g = w.apply(0, endpointsOf("a")...) // the next snapshot counts on
		}
		if n := len(held); n != tt.want && (tt.want >= 0 || n < 50) {
			t.Errorf("%s: %d at once, want %d", name, n, tt.want)
		}
		if tt.want < 0 {
			continue
		}
		held[0].release()
		held[0].release() // again is harmless
		if _, ok := tt.admit(g); !ok {
			t.Errorf("%s: none is free after a release", name)
		}
		if _, ok := tt.admit(g); ok {
			t.Errorf("%s: two are free after one release", name)
		}
	}
}

// TestARetryBudgetIsAPartOfWhatIsUnderWay, with Envoy's arithmetic.
func TestARetryBudgetIsAPartOfWhatIsUnderWay(t *testing.T) {
	w := newWorld(t, &mesh.Policy{Budget: &mesh.RetryBudget{Percent: 200_000, MinConcurrency: 3}})
	g := w.apply(0, endpointsOf("a")...)
	for _, tt := range []struct{ requests, pending, want int }{{0, 0, 3}, {14, 0, 3}, {20, 0, 4}, {20, 10, 6}, {99, 0, 19}} {
		g.load = load{}
		for range tt.requests {
			g.admitRequest()
		}
		for range tt.pending {
			g.admitPending()
		}
		n := 0
		for {
			if _, ok := g.admitRetry(); !ok {
				break
			}
			n++
		}
		if n != tt.want {
			t.Errorf("%d requests and %d pending: %d retries, want %d", tt.requests, tt.pending, n, tt.want)
		}
	}
}

// TestLimitsAreExactUnderContention: never more than the limit at once, and
// whoever comes while one is free gets it.
func TestLimitsAreExactUnderContention(t *testing.T) {
	const limit, callers, each = 3, 8, 3000
	var counter, now, most atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				p, ok := acquire(&counter, limit)
				if !ok {
					continue
				}
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				now.Add(-1)
				p.release()
			}
		})
	}
	wg.Wait()
	if most.Load() > limit || counter.Load() != 0 {
		t.Errorf("%d at once with a limit of %d; %d are left", most.Load(), limit, counter.Load())
	}
}
