package proxy

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strconv"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"serin.dev/serin/internal/mesh"
)

// hashTable finds the endpoint of a hash: a ring (Karger 1997) or a table of
// Maglev (Eisenbud 2016). Both are made as Envoy makes them, point by point, so
// that a key meets the same endpoint in both data planes. An endpoint's name in
// it is the address to which this machine connects.
type hashTable struct {
	of hashInput
	// filled is made by the first pick: of the ports and subsets for which a
	// policy holds, few are ever called.
	filled atomic.Pointer[slots]
}

// slots are a table's content.
type slots struct {
	points []uint64 // of the ring, sorted; nil for Maglev
	owners []uint32 // of the points, or of the places in Maglev's table
}

// hashInput is all that a table depends upon.
type hashInput struct {
	balancer mesh.Balancer
	size     uint32
	names    []string
	weights  []float64 // parts of all; together at most 1
}

func (in *hashInput) equal(other *hashInput) bool {
	return in.balancer == other.balancer && in.size == other.size &&
		slices.Equal(in.names, other.names) && slices.Equal(in.weights, other.weights)
}

// hashTable makes the table of a level, or finds that the one before is still
// right. keyed are the members as it numbers them.
func (g *group) hashTable(sets []placeSet, before *hashTable) (keyed []*member, t *hashTable) {
	in := hashInput{balancer: g.policy.Balancer, size: g.policy.RingSize}
	if in.balancer == mesh.Maglev {
		in.size = g.policy.TableSize
	}
	// Places have their whole weight here, however many of their members fail:
	// else a failure would move the keys of all others.
	var places float64
	for _, p := range g.places {
		places += p.weight
	}
	for _, s := range sets {
		part := 1.0
		if g.places != nil {
			part = g.weightOf(s.members[0].place) / places
		}
		var sum float64
		for _, m := range s.members {
			sum += float64(m.weight)
		}
		for _, m := range s.members {
			keyed = append(keyed, m)
			in.names = append(in.names, m.dial)
			in.weights = append(in.weights, float64(m.weight)*part/sum)
		}
	}
	if before != nil && before.of.equal(&in) {
		return keyed, before
	}
	return keyed, &hashTable{of: in}
}

// find returns the number of the endpoint of a hash. At a further attempt it is
// most likely another one.
func (t *hashTable) find(hash, attempt uint64) uint32 {
	s := t.filled.Load()
	if s == nil {
		// Two loops may both fill it, with the same.
		s = t.of.fill()
		t.filled.Store(s)
	}
	if s.points == nil {
		if attempt > 0 {
			hash ^= -attempt
		}
		return s.owners[hash%uint64(len(s.owners))]
	}
	at := sort.Search(len(s.points), func(i int) bool { return hash <= s.points[i] })
	return s.owners[(uint64(at)+attempt)%uint64(len(s.points))]
}

func (in *hashInput) fill() *slots {
	if in.balancer == mesh.Maglev {
		return in.maglev()
	}
	return in.ring()
}

// ring gives each endpoint points in proportion to its weight, such that the
// lightest gets a whole number and all together at least size.
func (in *hashInput) ring() *slots {
	const defaultSize = 1024
	least := slices.Min(in.weights)
	size := float64(cmp.Or(in.size, defaultSize))
	points := min(math.Ceil(least*size)/least, mesh.MaxRingSize)
	type point struct {
		hash  uint64
		owner uint32
	}
	ring := make([]point, 0, int(math.Ceil(points)))
	var key []byte
	var want float64
	for owner, name := range in.names {
		key = append(append(key[:0], name...), '_')
		prefix := len(key)
		want += points * in.weights[owner]
		for i := int64(0); float64(len(ring)) < want; i++ {
			key = strconv.AppendInt(key[:prefix], i, 10)
			ring = append(ring, point{xxhash.Sum64(key), uint32(owner)})
		}
	}
	slices.SortFunc(ring, func(a, b point) int { return cmp.Compare(a.hash, b.hash) })
	out := &slots{points: make([]uint64, len(ring)), owners: make([]uint32, len(ring))}
	for i, p := range ring {
		out.points[i], out.owners[i] = p.hash, p.owner
	}
	return out
}

// maglev lets the endpoints take turns, the heaviest at every turn and others
// less often, to claim the next free place of their own permutation.
func (in *hashInput) maglev() *slots {
	const defaultSize, free = 65537, math.MaxUint32
	size := uint64(cmp.Or(in.size, defaultSize))
	type claimer struct {
		owner      uint32
		place      uint64 // of the permutation, the next one to claim
		skip       uint64
		weight, to float64
	}
	claimers := make([]claimer, len(in.names))
	for i, name := range in.names {
		second := xxhash.NewWithSeed(1)
		second.WriteString(name)
		claimers[i] = claimer{
			owner: uint32(i), weight: in.weights[i],
			place: xxhash.Sum64String(name) % size, skip: second.Sum64()%(size-1) + 1,
		}
	}
	slices.SortFunc(claimers, func(a, b claimer) int { return cmp.Compare(in.names[a.owner], in.names[b.owner]) })
	heaviest := slices.Max(in.weights)
	owners := make([]uint32, size)
	for i := range owners {
		owners[i] = free
	}
	left := size
	for turn := 1.0; left > 0; turn++ {
		for i := range claimers {
			c := &claimers[i]
			if turn*c.weight < c.to || left == 0 {
				continue
			}
			c.to += heaviest
			for owners[c.place] != free {
				c.place = (c.place + c.skip) % size
			}
			owners[c.place] = c.owner
			left--
		}
	}
	return &slots{owners: owners}
}
