package proxy

import (
	"math/bits"
	"sync/atomic"

	"serin.dev/serin/internal/mesh"
)

// draws is a stream of random numbers for many goroutines at once, without a
// lock: the state is a counter, and each draw hashes one value of it
// (SplitMix64; Steele, Lea & Flood, OOPSLA 2014). The same seed gives the same
// stream, so a test can replay a split. It is not for secrets.
type draws struct {
	state atomic.Uint64
}

func (d *draws) next() uint64 {
	z := d.state.Add(0x9e3779b97f4a7c15)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number in [0, n), each equally likely: a draw from the
// incomplete last interval is thrown away (Lemire 2019). n is not 0.
func (d *draws) below(n uint64) uint64 {
	hi, lo := bits.Mul64(d.next(), n)
	if lo < n {
		for threshold := -n % n; lo < threshold; {
			hi, lo = bits.Mul64(d.next(), n)
		}
	}
	return hi
}

// pick draws one share in proportion to the weights. The split is not empty.
func (s *split) pick(d *draws) *backend {
	if len(s.shares) == 1 {
		return s.shares[0].backend
	}
	at := d.below(s.shares[len(s.shares)-1].upTo)
	for i := range s.shares {
		if at < s.shares[i].upTo {
			return s.shares[i].backend
		}
	}
	panic("proxy: the draw is below the sum of the weights")
}

// pick chooses one endpoint, nil when there is none.
func (g *group) pick(d *draws) *upstream {
	n := uint64(len(g.upstreams))
	switch {
	case n == 0:
		return nil
	case n == 1:
		return g.upstreams[0]
	}
	switch g.balancer {
	case mesh.RoundRobin:
		return g.upstreams[g.turn.Add(1)%n]
	case mesh.Random:
		return g.upstreams[d.below(n)]
	case mesh.LeastRequest:
		// Two different ones, the less busy of them; a tie goes to the first
		// drawn, which is uniform (Mitzenmacher 2001).
		i := d.below(n)
		j := d.below(n - 1)
		if j >= i {
			j++
		}
		if g.upstreams[j].active.Load() < g.upstreams[i].active.Load() {
			i = j
		}
		return g.upstreams[i]
	}
	panic("proxy: a compiled group has a known balancer")
}
