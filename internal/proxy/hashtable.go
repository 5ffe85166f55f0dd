package proxy

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"serin.dev/serin/internal/mesh"
)

// hashTable finds the endpoint of a hash: a ring (Karger 1997) or a table of
// Maglev (Eisenbud 2016). Both are made as Envoy makes them, point by point, so
// that a key meets the same endpoint in both data planes. An endpoint's name in
// it is the address to which this machine connects.
type hashTable struct {
	made   hashInput
	points []uint64 // of the ring, sorted
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
	if before != nil && before.made.equal(&in) {
		return keyed, before
	}
	return keyed, newHashTable(in)
}

func newHashTable(in hashInput) *hashTable {
	t := &hashTable{made: in}
	if in.balancer == mesh.Maglev {
		t.fillMaglev()
	} else {
		t.fillRing()
	}
	return t
}

// fillRing gives each endpoint points in proportion to its weight, such that
// the lightest gets a whole number and all together at least size.
func (t *hashTable) fillRing() {
	const defaultSize = 1024
	least := slices.Min(t.made.weights)
	size := float64(cmp.Or(t.made.size, defaultSize))
	points := min(math.Ceil(least*size)/least, mesh.MaxRingSize)
	type point struct {
		hash  uint64
		owner uint32
	}
	ring := make([]point, 0, int(math.Ceil(points)))
	var key []byte
	var want float64
	for owner, name := range t.made.names {
		key = append(append(key[:0], name...), '_')
		prefix := len(key)
		want += points * t.made.weights[owner]
		for i := int64(0); float64(len(ring)) < want; i++ {
			key = strconv.AppendInt(key[:prefix], i, 10)
			ring = append(ring, point{xxhash.Sum64(key), uint32(owner)})
		}
	}
	slices.SortStableFunc(ring, func(a, b point) int { return cmp.Compare(a.hash, b.hash) })
	t.points, t.owners = make([]uint64, len(ring)), make([]uint32, len(ring))
	for i, p := range ring {
		t.points[i], t.owners[i] = p.hash, p.owner
	}
}

// fillMaglev lets the endpoints take turns, the heaviest at every turn and
// others less often, to claim the next free place of their own permutation.
func (t *hashTable) fillMaglev() {
	const defaultSize, free = 65537, math.MaxUint32
	size := uint64(cmp.Or(t.made.size, defaultSize))
	type claimer struct {
		owner      uint32
		place      uint64 // of the permutation, the next one to claim
		skip       uint64
		weight, to float64
	}
	claimers := make([]claimer, len(t.made.names))
	for i, name := range t.made.names {
		second := xxhash.NewWithSeed(1)
		second.WriteString(name)
		claimers[i] = claimer{
			owner: uint32(i), weight: t.made.weights[i],
			place: xxhash.Sum64String(name) % size, skip: second.Sum64()%(size-1) + 1,
		}
	}
	slices.SortStableFunc(claimers, func(a, b claimer) int { return cmp.Compare(t.made.names[a.owner], t.made.names[b.owner]) })
	heaviest := slices.Max(t.made.weights)
	t.owners = make([]uint32, size)
	for i := range t.owners {
		t.owners[i] = free
	}
	left := size
	for turn := 1.0; left > 0; turn++ {
		for i := range claimers {
			c := &claimers[i]
			if turn*c.weight < c.to || left == 0 {
				continue
			}
			c.to += heaviest
			for t.owners[c.place] != free {
				c.place = (c.place + c.skip) % size
			}
			t.owners[c.place] = c.owner
			left--
		}
	}
}

// find returns the number of the endpoint of a hash. At a further attempt it is
// most likely another one.
func (t *hashTable) find(hash, attempt uint64) uint32 {
	if t.points == nil {
		if attempt > 0 {
			hash ^= -attempt
		}
		return t.owners[hash%uint64(len(t.owners))]
	}
	n := uint64(len(t.points))
	at := uint64(sort.Search(len(t.points), func(i int) bool { return hash <= t.points[i] }))
	return t.owners[(at+attempt)%n]
}
