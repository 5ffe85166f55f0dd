package proxy

import (
	"slices"
	"time"

	"serin.dev/serin/internal/mesh"
)

// pick chooses one endpoint for a try that begins now; nil when there is none
// (UH). Endpoints that were tried before are avoided where there is another.
func (out *decision) pick(now time.Time, d *draws, tried []*upstream) *member {
	return out.group.pick(out.hash, out.hashed, now, d, tried)
}

// pickFor chooses an endpoint for a copy of the call.
func (g *group) pickFor(c *call, d *draws) *member {
	var hash uint64
	var hashed bool
	if g.hashes() {
		hash, hashed, _ = hashCall(g.policy.Hash, c)
	}
	return g.pick(hash, hashed, c.now, d, nil)
}

// repicks is how often a retry draws again when it meets an endpoint that was
// tried, as with Istio, before it takes any that was not.
const repicks = 5

func (g *group) pick(hash uint64, hashed bool, now time.Time, d *draws, tried []*upstream) *member {
	at := g.clock(now)
	if end := g.nextEnd.Load(); end != 0 && int64(at) >= end {
		g.endEjections(at)
	}
	p := picking{g, g.roster.Load(), at, d}
	if len(p.roster.levels) == 0 {
		return nil
	}
	if !hashed && g.hashes() {
		hash = d.next()
	}
	if len(tried) == 0 {
		return p.once(hash, 0)
	}
	var m *member
	for attempt := range uint64(1 + repicks) {
		if m = p.once(hash, attempt); !slices.Contains(tried, m.upstream) {
			return m
		}
	}
	if other := p.roster.untried(tried, d); other != nil {
		return other
	}
	return m
}

// picking is one pick under way.
type picking struct {
	*group
	roster *roster
	at     time.Duration // by the group's clock
	draws  *draws
}

func (p *picking) once(hash, attempt uint64) *member {
	l := p.roster.level(hash, p.hashes(), p.draws)
	if l.table != nil {
		return l.keyed[l.table.find(hash, attempt)]
	}
	s := l.set(p.draws)
	switch p.policy.Balancer {
	case mesh.Random:
		// Whatever the weights, as with Envoy.
		return s.members[p.draws.below(uint64(len(s.members)))]
	case mesh.RoundRobin:
		return p.inTurn(s)
	case mesh.LeastRequest:
		if s.sums == nil && !p.roster.warming(p.at) {
			return lessBusy(s.members, p.draws)
		}
		return lessBusyByWeight(p.drawn(s), p.drawn(s))
	case mesh.RingHash, mesh.Maglev:
	}
	panic("proxy: a compiled group has a known balancer, and a table if it hashes")
}

// maxDraws bounds how often a member that has not warmed up is put back: with
// the least percentage, 1, nine of ten groups need fewer.
const maxDraws = 200

// inTurn takes the next turn of a round robin.
func (p *picking) inTurn(s *placeSet) *member {
	m := s.inTurn(p.turn.Add(1))
	for range maxDraws {
		if !p.roster.warming(p.at) || p.roster.accepts(m, p.at, p.draws) {
			break
		}
		m = s.inTurn(p.turn.Add(1))
	}
	return m
}

// drawn draws a member by its present weight.
func (p *picking) drawn(s *placeSet) *member {
	m := s.draw(p.draws)
	for range maxDraws {
		if !p.roster.warming(p.at) || p.roster.accepts(m, p.at, p.draws) {
			break
		}
		m = s.draw(p.draws)
	}
	return m
}

// lessBusy draws two different members and returns the less busy of them; a
// tie goes to the first drawn, which is uniform (Mitzenmacher 2001).
func lessBusy(members []*member, d *draws) *member {
	n := uint64(len(members))
	if n == 1 {
		return members[0]
	}
	i := d.below(n)
	j := d.below(n - 1)
	if j >= i {
		j++
	}
	if members[j].active.Load() < members[i].active.Load() {
		i = j
	}
	return members[i]
}

// lessBusyByWeight compares what two members, drawn by weight, have to do for
// each unit of weight. Idle ones so get calls in proportion to their weights.
func lessBusyByWeight(a, b *member) *member {
	if b.active.Load()*int64(a.weight) < a.active.Load()*int64(b.weight) {
		return b
	}
	return a
}
