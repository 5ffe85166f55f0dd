package proxy

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
)

// compiled makes the table of a snapshot.
func compiled(t testing.TB, s *mesh.Snapshot) *table {
	t.Helper()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	p := New(Config{})
	if err := p.Apply(s); err != nil {
		t.Fatal(err)
	}
	return p.table.Load()
}

// TestSplitsFollowTheirWeights: over a seeded run, each destination gets its
// share within 5 standard deviations, and a weight of zero gets nothing.
func TestSplitsFollowTheirWeights(t *testing.T) {
	const requests = 200_000
	for _, weights := range [][]uint32{{90, 10}, {99, 1}, {50, 50}, {100, 0}, {0, 100}, {1, 2, 3, 4}, {33, 33, 34}, {2_000_000_000, 2_000_000_000}} {
		addresses := make([]string, len(weights))
		var sum float64
		for i, w := range weights {
			addresses[i] = fmt.Sprintf("127.0.0.1:%d", i+1)
			sum += float64(w)
		}
		table := compiled(t, snapshot(1, service("music.default", addresses...), weighted("music.default", weights...)))
		var d draws
		d.state.Store(7)
		got := map[string]int{}
		found := table.inMesh("default", "music")
		for range requests {
			dec := found.decide(&call{head: &wire.Head{}, port: 80}, &d)
			if !dec.several {
				t.Fatalf("split %v: a choice among several destinations is not marked", weights)
			}
			got[dec.backend.subset]++
		}
		for i, w := range weights {
			share := float64(w) / sum
			want := requests * share
			tolerance := 5 * math.Sqrt(want*(1-share))
			if n := float64(got[fmt.Sprintf("v%d", i+1)]); math.Abs(n-want) > tolerance {
				t.Errorf("split %v: v%d got %.0f of %d; want %.0f ± %.0f", weights, i+1, n, requests, want, tolerance)
			}
		}
	}
}

// TestDrawsAreUniform: below(n) is unbiased also where 2^64 is no multiple of
// n. With n = 3·2^62, four draws fall on three numbers, so that without
// rejection every third number would come up half of the time.
func TestDrawsAreUniform(t *testing.T) {
	const n, total = 3 << 62, 30_000
	var d draws
	thirds := 0
	for range total {
		if d.below(n)%3 == 0 {
			thirds++
		}
	}
	if want := total / 3.0; math.Abs(float64(thirds)-want) > 5*math.Sqrt(want*2/3) {
		t.Errorf("below(3·2^62) was a multiple of 3 %d times of %d; want %.0f", thirds, total, want)
	}
}

// TestDecidingAllocatesNothing holds the request path's budget.
func TestDecidingAllocatesNothing(t *testing.T) {
	vh := weighted("music.default", 90, 10)
	vh.Routes = slices.Insert(vh.Routes, 0, mesh.Route{
		Matches: []mesh.Match{{
			URI:     mesh.StringMatch{Kind: mesh.Prefix, Value: "/api"},
			Method:  mesh.StringMatch{Kind: mesh.Exact, Value: "GET"},
			Headers: map[string]mesh.StringMatch{"end-user": {Kind: mesh.Regex, Value: "ja.*n"}, "x-none": {Kind: mesh.Present}},
		}},
		Split: []mesh.Destination{{Service: "music.default"}},
	})
	p := New(Config{})
	if err := p.Apply(snapshot(1, service("music.default", "127.0.0.1:1", "127.0.0.1:2"), vh)); err != nil {
		t.Fatal(err)
	}
	head := &wire.Head{Method: "GET", Path: "/api/songs?x=1", Fields: []wire.Field{{Name: "accept", Value: "*/*"}, {Name: "end-user", Value: "jason"}}}
	var d draws
	for _, authority := range []string{"music:80", "music.default.svc.cluster.local", "music.default"} {
		allocs := testing.AllocsPerRun(1000, func() {
			host, port, _ := parseAuthority(authority)
			c := call{head: head, host: host, port: port, path: "/api/songs", query: "x=1"}
			p.release(p.acquire(func(t *table) *upstream {
				dec := t.inMesh("default", host).decide(&c, &d)
				return dec.pick(c.now, &d, nil).upstream
			}))
		})
		if allocs != 0 {
			t.Errorf("a decision for %s allocates %v times, want 0", authority, allocs)
		}
	}
}
