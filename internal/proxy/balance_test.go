package proxy

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
)

// epoch is when the tests' groups begin.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world plays snapshots of one service and hands the state of one on to the
// next, as a Proxy does.
type world struct {
	tb        testing.TB
	policy    *mesh.Policy
	place     mesh.Place
	table     *table
	upstreams map[string]*upstream
	draws     draws
}

func newWorld(tb testing.TB, p *mesh.Policy) *world {
	return &world{tb: tb, policy: p, table: &table{}, upstreams: map[string]*upstream{}}
}

// apply makes a snapshot with the endpoints in force, and returns their group.
func (w *world) apply(at time.Duration, endpoints ...mesh.Endpoint) *group {
	w.tb.Helper()
	svc := &mesh.Service{
		Name: "music.default", Ports: []mesh.Port{{Number: 80}}, Endpoints: endpoints,
		Policies: map[mesh.PolicyScope]*mesh.Policy{{}: w.policy},
	}
	s := snapshot(w.table.version+1, svc)
	if err := s.Validate(); err != nil {
		w.tb.Fatal(err)
	}
	c := compiler{
		snapshot: s, old: w.table, now: epoch.Add(at), place: w.place, turn: w.draws.next,
		upstream: func(e *mesh.Endpoint) *upstream {
			u := w.upstreams[e.Dial]
			if u == nil {
				u = &upstream{upstreamID: idOf(e)}
				w.upstreams[e.Dial] = u
			}
			return u
		},
	}
	t, err := c.compile()
	if err != nil {
		w.tb.Fatal(err)
	}
	w.table = t
	return t.groups[groupKey{"music.default", 80, ""}]
}

// endpointsOf makes endpoints of names such as "a", "b*3" (weight), "c@eu/west"
// (place) and "d!1" (priority).
func endpointsOf(names string) []mesh.Endpoint {
	var out []mesh.Endpoint
	for _, name := range strings.Fields(names) {
		e := mesh.Endpoint{Port: 80}
		if rest, priority, ok := strings.Cut(name, "!"); ok {
			fmt.Sscan(priority, &e.Priority)
			name = rest
		}
		if rest, weight, ok := strings.Cut(name, "*"); ok {
			fmt.Sscan(weight, &e.Weight)
			name = rest
		}
		if rest, place, ok := strings.Cut(name, "@"); ok {
			e.Place = placeOf(place)
			name = rest
		}
		e.Dial = name + ":80"
		out = append(out, e)
	}
	return out
}

func placeOf(s string) mesh.Place {
	parts := append(strings.Split(s, "/"), "", "")
	return mesh.Place{Region: parts[0], Zone: parts[1], Subzone: parts[2]}
}

func (g *group) member(name string) *member {
	return g.members[slices.IndexFunc(g.members, func(m *member) bool { return m.dial == name+":80" })]
}

// shares counts n picks at a time, by name.
func (w *world) shares(g *group, n int, at time.Duration) map[string]int {
	got := map[string]int{}
	for range n {
		m := g.pick(0, false, epoch.Add(at), &w.draws, nil)
		if m == nil {
			got["none"]++
			continue
		}
		got[strings.TrimSuffix(m.dial, ":80")]++
	}
	return got
}

// wantShares compares counts with parts of n, within five standard deviations.
func wantShares(t *testing.T, about string, got map[string]int, want map[string]float64) {
	t.Helper()
	n := 0
	for _, c := range got {
		n += c
	}
	var sum float64
	for _, part := range want {
		sum += part
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		part := want[name] / sum
		mean := part * float64(n)
		if tolerance := 5 * math.Sqrt(mean*(1-part)); math.Abs(float64(got[name])-mean) > tolerance {
			t.Errorf("%s: %s got %d of %d, want %.0f ± %.0f", about, name, got[name], n, mean, tolerance)
		}
	}
	for name, c := range got {
		if want[name] == 0 {
			t.Errorf("%s: %s got %d of %d, want none", about, name, c, n)
		}
	}
}

func TestBalancersSpreadByWeight(t *testing.T) {
	const picks = 60_000
	equal, weighted := map[string]float64{"a": 1, "b": 1, "c": 1}, map[string]float64{"a": 1, "b": 2, "c": 7}
	for _, tt := range []struct {
		balancer mesh.Balancer
		names    string
		want     map[string]float64
	}{
		{mesh.LeastRequest, "a b c", equal},
		{mesh.LeastRequest, "a b*2 c*7", weighted},
		{mesh.RoundRobin, "a b c", equal},
		{mesh.RoundRobin, "a b*2 c*7", weighted},
		{mesh.Random, "a b c", equal},
		{mesh.Random, "a b*2 c*7", equal}, // as with Envoy
		{mesh.LeastRequest, "a", map[string]float64{"a": 1}},
		{mesh.LeastRequest, "a a b b c", equal}, // listed twice
		{mesh.LeastRequest, "", map[string]float64{"none": 1}},
		{mesh.Maglev, "", map[string]float64{"none": 1}},
		// Without a key, hashing balancers draw.
		{mesh.Maglev, "a b c", equal},
		{mesh.Maglev, "a b*2 c*7", weighted},
	} {
		w := newWorld(t, &mesh.Policy{Balancer: tt.balancer})
		g := w.apply(0, endpointsOf(tt.names)...)
		wantShares(t, fmt.Sprintf("%s of %q", tt.balancer, tt.names), w.shares(g, picks, 0), tt.want)
	}
}

// TestRoundRobinTakesTurns: nobody waits longer than his share says, however
// short the look.
func TestRoundRobinTakesTurns(t *testing.T) {
	for names, most := range map[string]map[string]int{
		"a b c":     {"a": 2, "b": 2, "c": 2},
		"a b*2 c*7": {"a": 13, "b": 7, "c": 2}, // turns between two of its own
	} {
		w := newWorld(t, &mesh.Policy{Balancer: mesh.RoundRobin})
		g := w.apply(0, endpointsOf(names)...)
		last := map[string]int{}
		for i := range 10_000 {
			m := g.pick(0, false, epoch, &w.draws, nil)
			name := strings.TrimSuffix(m.dial, ":80")
			if before, seen := last[name]; seen && i-before-1 > most[name] {
				t.Fatalf("%q: %s waited for %d turns, want at most %d", names, name, i-before-1, most[name])
			}
			last[name] = i
		}
	}
}

func TestLeastRequestSparesTheBusy(t *testing.T) {
	w := newWorld(t, &mesh.Policy{})
	g := w.apply(0, endpointsOf("a b c d")...)
	g.member("c").active.Store(5)
	// It would have to be drawn twice, which cannot be.
	wantShares(t, "one is busy", w.shares(g, 30_000, 0), map[string]float64{"a": 1, "b": 1, "d": 1})

	// Under load, each has work in proportion to its weight.
	g = w.apply(0, endpointsOf("a b*3")...)
	for range 4000 {
		g.pick(0, false, epoch, &w.draws, nil).active.Add(1)
	}
	a, b := g.member("a").active.Load(), g.member("b").active.Load()
	if ratio := float64(b) / float64(a); math.Abs(ratio-3) > 0.1 {
		t.Errorf("a has %d, b*3 has %d: ratio %.2f, want 3", a, b, ratio)
	}
}

func TestRetriesAvoidWhatWasTried(t *testing.T) {
	for _, b := range []mesh.Balancer{mesh.LeastRequest, mesh.RoundRobin, mesh.Random, mesh.RingHash, mesh.Maglev} {
		w := newWorld(t, &mesh.Policy{Balancer: b})
		g := w.apply(0, endpointsOf("a*1000 b c d!1")...)
		a, bb, c := g.member("a"), g.member("b"), g.member("c")
		for hash := range uint64(200) {
			if m := g.pick(hash, true, epoch, &w.draws, []*upstream{a.upstream}); m == a {
				t.Fatalf("%s: the one that was tried is tried again, with two others there", b)
			}
			if m := g.pick(hash, true, epoch, &w.draws, []*upstream{a.upstream, bb.upstream}); m != c {
				t.Fatalf("%s: with one left untried, it picks %s", b, m.dial)
			}
			if m := g.pick(hash, true, epoch, &w.draws, []*upstream{a.upstream, bb.upstream, c.upstream}); m == nil {
				t.Fatalf("%s: where all were tried, it picks none", b)
			}
		}
	}
}

// TestWarmupFollowsEnvoysFormula: the part of a newcomer beside one that is
// there since long.
func TestWarmupFollowsEnvoysFormula(t *testing.T) {
	const picks = 40_000
	for _, b := range []mesh.Balancer{mesh.LeastRequest, mesh.RoundRobin} {
		for _, tt := range []struct {
			warmup mesh.Warmup
			age    time.Duration
			factor float64
		}{
			{mesh.Warmup{Duration: 100 * time.Second}, 0, 0.1},
			{mesh.Warmup{Duration: 100 * time.Second}, 5 * time.Second, 0.1},
			{mesh.Warmup{Duration: 100 * time.Second}, 40 * time.Second, 0.4},
			{mesh.Warmup{Duration: 100 * time.Second}, 100 * time.Second, 1},
			{mesh.Warmup{Duration: 100 * time.Second, MinPercent: 50}, 40 * time.Second, 0.5},
			{mesh.Warmup{Duration: 100 * time.Second, Aggression: 2}, 25 * time.Second, 0.5},
			{mesh.Warmup{Duration: 100 * time.Second, Aggression: 0.5}, 50 * time.Second, 0.25},
			{mesh.Warmup{Duration: 100 * time.Second, MinPercent: 1}, 0, 0.01},
		} {
			w := newWorld(t, &mesh.Policy{Balancer: b, Warmup: &tt.warmup})
			w.apply(0, endpointsOf("old*3")...)
			g := w.apply(time.Hour, endpointsOf("old*3 new*2")...)
			about := fmt.Sprintf("%s, %+v, %v old", b, tt.warmup, tt.age)
			wantShares(t, about, w.shares(g, picks, time.Hour+tt.age), map[string]float64{"old": 3, "new": 2 * tt.factor})
		}
		w := newWorld(t, &mesh.Policy{Balancer: b, Warmup: &mesh.Warmup{Duration: time.Hour, MinPercent: 1}})
		g := w.apply(0, endpointsOf("a b*2")...)
		wantShares(t, "all begin together", w.shares(g, picks, 0), map[string]float64{"a": 1, "b": 2})
	}
}

func TestPrioritiesTakeOverAsEndpointsFail(t *testing.T) {
	const picks = 50_000
	for _, tt := range []struct {
		about, names, failed string
		want                 map[string]float64
	}{
		{"all is well", "a b c!1", "", map[string]float64{"a": 1, "b": 1}},
		{"72 % suffice", "a b c d e!1", "a", map[string]float64{"b": 1, "c": 1, "d": 1}},
		{"one of two: 70 %", "a b c!1", "a", map[string]float64{"b": 70, "c": 30}},
		{"one of three: 46 %", "a b c d!1", "a b", map[string]float64{"c": 46, "d": 54}},
		{"a level is gone", "a b!1 c!2", "a", map[string]float64{"b": 1}},
		{"levels need not be next to each other", "a!3 b!7", "a", map[string]float64{"b": 1}},
		{"together too few: scaled up", "a b c d e f!1 g!1 h!1 i!1 j!1", "a b c d f g h i",
			map[string]float64{"e": 50, "j": 50}},
		{"nobody", "a b!1", "a b", map[string]float64{"none": 1}},
	} {
		w := newWorld(t, &mesh.Policy{Health: &mesh.HealthCheck{Interval: 1, Timeout: 1, UnhealthyAfter: 1, HealthyAfter: 1}})
		g := w.apply(0, endpointsOf(tt.names)...)
		for _, name := range strings.Fields(tt.failed) {
			g.member(name).checked(false, epoch)
		}
		wantShares(t, tt.about, w.shares(g, picks, 0), tt.want)
	}
}

func TestPanicUsesAll(t *testing.T) {
	policy := &mesh.Policy{
		Health:  &mesh.HealthCheck{Interval: 1, Timeout: 1, UnhealthyAfter: 1, HealthyAfter: 1},
		Outlier: &mesh.Outlier{MinHealthPercent: 50},
	}
	for _, tt := range []struct {
		about, names, failed string
		want                 map[string]float64
	}{
		{"half are well", "a b c d", "a b", map[string]float64{"c": 1, "d": 1}},
		{"fewer than half", "a b c d", "a b c", map[string]float64{"a": 1, "b": 1, "c": 1, "d": 1}},
		{"none", "a b", "a b", map[string]float64{"a": 1, "b": 1}},
		{"a higher level can carry all", "a b c d!1", "a b", map[string]float64{"c": 46, "d": 54}},
		{"both levels: by their numbers", "a b c d!1", "a b c d", map[string]float64{"a": 1, "b": 1, "c": 1, "d": 1}},
	} {
		w := newWorld(t, policy)
		g := w.apply(0, endpointsOf(tt.names)...)
		for _, name := range strings.Fields(tt.failed) {
			g.member(name).checked(false, epoch)
		}
		wantShares(t, tt.about, w.shares(g, 40_000, 0), tt.want)
	}
}

func TestFailoverPrefersTheNear(t *testing.T) {
	const names = "a@eu/west/1 b@eu/west/2 c@eu/east/1 d@us/x/1 e@asia/y/1"
	for _, tt := range []struct {
		about, here, failed string
		to                  map[string]string
		want                map[string]float64
	}{
		{"same subzone", "eu/west/1", "", nil, map[string]float64{"a": 1}},
		{"then the zone", "eu/west/1", "a", nil, map[string]float64{"b": 1}},
		{"then the region", "eu/west/1", "a b", nil, map[string]float64{"c": 1}},
		{"then all others", "eu/west/1", "a b c", nil, map[string]float64{"d": 1, "e": 1}},
		{"or the region to fail over to", "eu/west/1", "a b c", map[string]string{"eu": "asia"}, map[string]float64{"e": 1}},
		{"and then all others", "eu/west/1", "a b c e", map[string]string{"eu": "asia"}, map[string]float64{"d": 1}},
		{"another zone", "eu/east/9", "", nil, map[string]float64{"c": 1}},
		{"somewhere else", "africa/z/1", "", nil, map[string]float64{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}},
		{"nobody knows where", "", "", nil, map[string]float64{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}},
	} {
		w := newWorld(t, &mesh.Policy{
			Locality: &mesh.Locality{Failover: true, FailoverTo: tt.to},
			Health:   &mesh.HealthCheck{Interval: 1, Timeout: 1, UnhealthyAfter: 1, HealthyAfter: 1},
		})
		w.place = placeOf(tt.here)
		g := w.apply(0, endpointsOf(names)...)
		for _, name := range strings.Fields(tt.failed) {
			g.member(name).checked(false, epoch)
		}
		wantShares(t, tt.about, w.shares(g, 40_000, 0), tt.want)
	}
}

func TestDistributionFollowsPlaces(t *testing.T) {
	const names = "a@eu/west/1 b@eu/west/2 c@eu/east/1 d@us/x/1 e@asia/y/1"
	rules := []mesh.Distribution{
		{From: "eu/west/*", To: map[string]uint32{"eu/west/*": 80, "us/*": 20}},
		{From: "eu/*", To: map[string]uint32{"eu/*": 70, "us/x/1": 30, "asia/y/1": 0}},
		{From: "*", To: map[string]uint32{"*": 40, "asia/*": 60}},
	}
	for _, b := range []mesh.Balancer{mesh.LeastRequest, mesh.Maglev} {
		for _, tt := range []struct {
			about, here, failed string
			want                map[string]float64
		}{
			{"the first rule that covers the place", "eu/west/1", "", map[string]float64{"a": 40, "b": 40, "d": 20}},
			{"another", "eu/east/1", "", map[string]float64{"a": 70. / 3, "b": 70. / 3, "c": 70. / 3, "d": 30}},
			{"the more specific pattern has the place", "us/x/1", "", map[string]float64{"a": 10, "b": 10, "c": 10, "d": 10, "e": 60}},
			{"nobody knows where", "", "", map[string]float64{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}},
			{"what fails leaves its part to all", "eu/west/1", "a", map[string]float64{"b": 40, "d": 20}},
		} {
			w := newWorld(t, &mesh.Policy{
				Balancer: b, Locality: &mesh.Locality{Distribute: rules},
				Health: &mesh.HealthCheck{Interval: 1, Timeout: 1, UnhealthyAfter: 1, HealthyAfter: 1},
			})
			w.place = placeOf(tt.here)
			g := w.apply(0, endpointsOf(names)...)
			for _, name := range strings.Fields(tt.failed) {
				g.member(name).checked(false, epoch)
			}
			wantShares(t, fmt.Sprintf("%s, %s", b, tt.about), w.shares(g, 40_000, 0), tt.want)
		}
	}
}
