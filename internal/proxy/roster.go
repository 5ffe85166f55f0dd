package proxy

import (
	"math/bits"
	"slices"
	"sort"
	"time"
)

// roster is whom of a group a balancer may pick now, and how picks are spread
// over priorities and places, as Envoy spreads them. It is never changed: when
// the health of an endpoint does, the group gets another.
type roster struct {
	levels []level       // that get a part of the picks
	warm   time.Duration // after the group's start, when nobody warms up any more
	oldest time.Duration // since when the first member is there; -1 without warm-up
}

// level is the endpoints of one priority and distance.
type level struct {
	upTo  uint64 // sum of the parts so far, of 100
	sets  []placeSet
	table *hashTable // of a hashing balancer
	keyed []*member  // as table numbers them
}

// placeSet is endpoints among which the weights are their own.
type placeSet struct {
	upTo    float64 // sum of the parts so far
	members []*member
	sums    []uint64 // of the members' weights so far; nil when all are equal
}

// overprovisioning is how many endpoints more than it needs a level is thought
// to have, in percent of all: with 72 % of them healthy it still gets all calls.
// Envoy's default.
const overprovisioning = 140

// look makes the roster of the group's present health. old is the one before, nil
// if none. Under mu.
func (g *group) look(old *roster) *roster {
	r, byLevel := &roster{oldest: -1}, g.byLevel()
	if len(byLevel) == 0 {
		return r
	}
	healthy := make([][]*member, len(byLevel))
	available, total := make([]int, len(byLevel)), 0
	for i, all := range byLevel {
		healthy[i] = filter(all, (*member).healthy)
		available[i] = min(100, overprovisioning*len(healthy[i])/len(all))
		total += available[i]
	}
	loads, panics := spread(available), make([]bool, len(byLevel))
	if o := g.policy.Outlier; o != nil && o.MinHealthPercent > 0 && total < 100 {
		for i, all := range byLevel {
			panics[i] = 100*len(healthy[i]) < int(o.MinHealthPercent)*len(all)
		}
		if !slices.Contains(panics, false) {
			loads = spreadBlind(byLevel)
		}
	}
	var upTo uint64
	for i, all := range byLevel {
		if loads[i] == 0 {
			continue
		}
		upTo += uint64(loads[i])
		l := level{upTo: upTo}
		if panics[i] {
			l.sets = []placeSet{newPlaceSet(all, 1)}
		} else {
			l.sets = g.sets(all, healthy[i])
		}
		if g.hashes() {
			var before *hashTable
			if old != nil && len(r.levels) < len(old.levels) {
				before = old.levels[len(r.levels)].table
			}
			l.keyed, l.table = g.hashTable(l.sets, before)
		}
		for _, s := range l.sets {
			for _, m := range s.members {
				r.noteWarmup(m)
			}
		}
		r.levels = append(r.levels, l)
	}
	return r
}

// byLevel sorts the members that can be called from here.
func (g *group) byLevel() [][]*member {
	if len(g.members) > 0 && !slices.ContainsFunc(g.members, func(m *member) bool { return m.level != 0 }) {
		return [][]*member{g.members}
	}
	n := 0
	for _, m := range g.members {
		n = max(n, m.level+1)
	}
	out := make([][]*member, n)
	for _, m := range g.members {
		if m.level >= 0 {
			out[m.level] = append(out[m.level], m)
		}
	}
	return out
}

// spread divides 100 % of the calls: each level gets as much as it can take,
// the first levels first, and what rounding leaves goes to the first that can
// take any. Nothing available gets nothing.
func spread(available []int) []int {
	out, total, left, first := make([]int, len(available)), 0, 100, -1
	for _, a := range available {
		total += a
	}
	if total = min(total, 100); total == 0 {
		return out
	}
	for i, a := range available {
		if first < 0 && a > 0 {
			first = i
		}
		out[i] = min(left, a*100/total)
		left -= out[i]
	}
	out[first] += left
	return out
}

// spreadBlind divides 100 % of the calls by the number of endpoints.
func spreadBlind(levels [][]*member) []int {
	out, all, left := make([]int, len(levels)), 0, 100
	for _, members := range levels {
		all += len(members)
	}
	for i, members := range levels {
		out[i] = 100 * len(members) / all
		left -= out[i]
	}
	out[0] += left
	return out
}

// sets divides the healthy members of a level by places, where the policy
// distributes over places: each gets its weight, less as its members fail.
func (g *group) sets(all, healthy []*member) []placeSet {
	if g.places == nil {
		return []placeSet{newPlaceSet(healthy, 1)}
	}
	var out []placeSet
	var upTo float64
	for _, p := range g.places {
		here := func(m *member) bool { return m.place == p.place }
		members := filter(healthy, here)
		if len(members) == 0 || p.weight == 0 {
			continue
		}
		upTo += p.weight * min(1, overprovisioning/100.0*float64(len(members))/float64(len(filter(all, here))))
		out = append(out, newPlaceSet(members, upTo))
	}
	return out
}

func filter(members []*member, keep func(*member) bool) []*member {
	if !slices.ContainsFunc(members, func(m *member) bool { return !keep(m) }) {
		return members
	}
	var out []*member
	for _, m := range members {
		if keep(m) {
			out = append(out, m)
		}
	}
	return out
}

func newPlaceSet(members []*member, upTo float64) placeSet {
	s := placeSet{upTo: upTo, members: members}
	equal := func(m *member) bool { return m.weight == members[0].weight }
	if len(filter(members, equal)) == len(members) {
		return s
	}
	var sum uint64
	for _, m := range members {
		sum += uint64(m.weight)
		s.sums = append(s.sums, sum)
	}
	return s
}

// level draws the level for a pick, or finds that of a hash.
func (r *roster) level(hash uint64, hashing bool, d *draws) *level {
	if len(r.levels) == 1 {
		return &r.levels[0]
	}
	at := hash % 100
	if !hashing {
		at = d.below(100)
	}
	for i := range r.levels {
		if at < r.levels[i].upTo {
			return &r.levels[i]
		}
	}
	panic("proxy: the levels of a roster get 100 percent")
}

// set draws the set for a pick.
func (l *level) set(d *draws) *placeSet {
	last := len(l.sets) - 1
	if last == 0 {
		return &l.sets[0]
	}
	at := d.part() * l.sets[last].upTo
	for i := range l.sets[:last] {
		if at < l.sets[i].upTo {
			return &l.sets[i]
		}
	}
	return &l.sets[last]
}

// draw draws a member by weight.
func (s *placeSet) draw(d *draws) *member {
	if s.sums == nil {
		return s.members[d.below(uint64(len(s.members)))]
	}
	return s.at(d.below(s.sums[len(s.sums)-1]))
}

// inTurn returns the member of a turn. By weight, turns are the fractions of the
// multiples of the golden ratio: they fall evenly on the members, however many
// of them were taken (Weyl; Knuth, TAOCP 3, section 6.4).
func (s *placeSet) inTurn(turn uint64) *member {
	if s.sums == nil {
		return s.members[turn%uint64(len(s.members))]
	}
	const golden = 0x9e3779b97f4a7c15 // 2^64 divided by it
	at, _ := bits.Mul64(turn*golden, s.sums[len(s.sums)-1])
	return s.at(at)
}

func (s *placeSet) at(weight uint64) *member {
	return s.members[sort.Search(len(s.sums), func(i int) bool { return weight < s.sums[i] })]
}

// untried finds a member that was not tried, from a random one on.
func (r *roster) untried(tried []*upstream, d *draws) *member {
	for _, l := range r.levels {
		for _, s := range l.sets {
			n := uint64(len(s.members))
			start := d.below(n)
			for i := range n {
				if m := s.members[(start+i)%n]; !slices.Contains(tried, m.upstream) {
					return m
				}
			}
		}
	}
	return nil
}
