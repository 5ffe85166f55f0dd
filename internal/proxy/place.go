package proxy

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"serin.dev/serin/internal/mesh"
)

// placeWeight is how much of the calls from here goes to a place.
type placeWeight struct {
	place  mesh.Place
	weight float64
}

// arrange sorts the group's members into levels by priority and, where the
// policy says so, by distance from here, or finds out which part of the calls
// each place gets.
func (g *group) arrange(here mesh.Place) {
	l := g.policy.Locality
	if l == nil || here == (mesh.Place{}) {
		l = &mesh.Locality{}
	}
	type rank struct {
		priority uint32
		distance int
	}
	rankOf := func(m *member) rank {
		if l.Failover {
			return rank{m.priority, distance(here, m.place, l.FailoverTo)}
		}
		return rank{m.priority, 0}
	}
	if to := distribution(l.Distribute, here); to != nil {
		g.distribute(to)
	}
	if !l.Failover && !slices.ContainsFunc(g.members, func(m *member) bool { return m.priority > 0 }) {
		return // one level
	}
	ranks := map[rank]int{}
	for _, m := range g.members {
		if m.level >= 0 {
			ranks[rankOf(m)] = 0
		}
	}
	inOrder := slices.SortedFunc(maps.Keys(ranks), func(a, b rank) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.distance, b.distance))
	})
	for i, r := range inOrder {
		ranks[r] = i
	}
	for _, m := range g.members {
		if m.level >= 0 {
			m.level = ranks[rankOf(m)]
		}
	}
}

// distance is 0 for the same subzone, then 1 the zone, 2 the region, 3 the
// region to fail over to, and 4 all others.
func distance(from, to mesh.Place, failover map[string]string) int {
	switch {
	case from == to:
		return 0
	case from.Region == to.Region && from.Zone == to.Zone:
		return 1
	case from.Region == to.Region:
		return 2
	case failover[from.Region] == to.Region || failover[from.Region] == "":
		return 3
	}
	return 4
}

// distribution returns where calls from a place go; nil = to all.
func distribution(rules []mesh.Distribution, from mesh.Place) map[string]uint32 {
	for i := range rules {
		if covers(rules[i].From, from) {
			return rules[i].To
		}
	}
	return nil
}

// covers reports whether a pattern such as "eu/west/*" covers a place.
func covers(pattern string, p mesh.Place) bool {
	for _, part := range [...]string{p.Region, p.Zone, p.Subzone} {
		want, rest, more := strings.Cut(pattern, "/")
		if want == "*" {
			return true
		}
		if want != part {
			return false
		}
		if !more {
			return true
		}
		pattern = rest
	}
	return true
}

// distribute gives the places of each pattern its weight, divided by the
// weights of their members. The members of other places are not called.
func (g *group) distribute(to map[string]uint32) {
	own := map[mesh.Place]float64{}
	var places []mesh.Place // in the order of the members
	for _, m := range g.members {
		if _, known := own[m.place]; !known {
			places = append(places, m.place)
		}
		own[m.place] += float64(m.weight)
	}
	// A place belongs to the most specific pattern, the one with more parts.
	patterns := slices.SortedFunc(maps.Keys(to), func(a, b string) int {
		return cmp.Or(-cmp.Compare(specific(a), specific(b)), cmp.Compare(a, b))
	})
	of, sums := map[mesh.Place]string{}, map[string]float64{}
	for _, p := range places {
		if i := slices.IndexFunc(patterns, func(pattern string) bool { return covers(pattern, p) }); i >= 0 {
			of[p] = patterns[i]
			sums[patterns[i]] += own[p]
		}
	}
	g.places = []placeWeight{}
	for _, p := range places {
		if pattern, ok := of[p]; ok && to[pattern] > 0 {
			g.places = append(g.places, placeWeight{p, float64(to[pattern]) * own[p] / sums[pattern]})
		}
	}
	for _, m := range g.members {
		if g.weightOf(m.place) == 0 {
			m.level = -1
		}
	}
}

// specific is the number of parts that a pattern names.
func specific(pattern string) int {
	return strings.Count(strings.TrimSuffix("/"+pattern, "/*"), "/")
}

func (g *group) weightOf(p mesh.Place) float64 {
	if i := slices.IndexFunc(g.places, func(w placeWeight) bool { return w.place == p }); i >= 0 {
		return g.places[i].weight
	}
	return 0
}
