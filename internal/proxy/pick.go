package proxy

import (
	"math/bits"
	"sync/atomic"
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

// part returns a number in [0, 1).
func (d *draws) part() float64 { return float64(d.next()>>11) / (1 << 53) }
