package proxy

import (
	"slices"
	"sync/atomic"
	"time"

	"serin.dev/serin/internal/mesh"
)

// group is the endpoints of a service behind one port and subset: what Envoy
// calls a cluster.
type group struct {
	groupKey
	protocol mesh.Protocol
	policy   *mesh.Policy
	members  []*member
	turn     atomic.Uint64 // of round robin
}

// groupKey tells groups apart across snapshots.
type groupKey struct {
	service mesh.ServiceName
	port    uint16
	subset  string
}

// member is an endpoint in a group.
type member struct {
	*upstream
}

// hashes reports whether the balancer looks at the request.
func (g *group) hashes() bool {
	return g.policy.Balancer == mesh.RingHash || g.policy.Balancer == mesh.Maglev
}

// pick chooses one endpoint for a try that begins now; nil when there is none.
// Endpoints that were tried before are avoided where there is another.
func (out *decision) pick(now time.Time, d *draws, tried []*upstream) *member {
	return out.group.pick(out.hash, out.hashed, now, d, tried)
}

func (g *group) pick(hash uint64, hashed bool, now time.Time, d *draws, tried []*upstream) *member {
	n := uint64(len(g.members))
	switch {
	case n == 0:
		return nil
	case n == 1:
		return g.members[0]
	}
	switch g.policy.Balancer {
	case mesh.RoundRobin:
		return g.members[g.turn.Add(1)%n]
	case mesh.Random, mesh.RingHash, mesh.Maglev:
		return g.members[d.below(n)]
	case mesh.LeastRequest:
		// Two different ones, the less busy of them; a tie goes to the first
		// drawn, which is uniform (Mitzenmacher 2001).
		i := d.below(n)
		j := d.below(n - 1)
		if j >= i {
			j++
		}
		if g.members[j].active.Load() < g.members[i].active.Load() {
			i = j
		}
		return g.members[i]
	}
	panic("proxy: a compiled group has a known balancer")
}

func (g *group) holds(u *upstream) bool {
	return slices.ContainsFunc(g.members, func(m *member) bool { return m.upstream == u })
}
