package traffic

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"serin.dev/serin/internal/analysis"
)

// Durations is a distribution of how long requests take. It is drawn from in
// a few nanoseconds, as thousands of runs have millions of requests each. It
// is not changed by use, so many may draw at once.
type Durations struct {
	buckets [1 << quantileBits]uint16 // of analysis.Histogram, by equidistant quantiles
}

// quantileBits gives 4,096 quantiles: 41 of them lie beyond the 99th percentile.
const quantileBits = 12

// NewDurations makes a distribution from its quantile function: the duration
// below which the share u of the requests lie, 0 < u < 1.
func NewDurations(quantile func(u float64) time.Duration) *Durations {
	d := new(Durations)
	n := float64(len(d.buckets))
	for i := range d.buckets {
		var one analysis.Histogram
		one.Observe(quantile((float64(i) + 0.5) / n))
		d.buckets[i] = uint16(slices.Index(one[:], 1))
	}
	return d
}

// LogNormal is the usual shape of a service's durations: half of them above
// median, p95 at median·exp(1.645·sigma).
func LogNormal(median time.Duration, sigma float64) *Durations {
	return NewDurations(func(u float64) time.Duration { return logNormal(median, sigma, u) })
}

// Bimodal has the share hits of requests around fast, such as those that a
// cache answers, and the others around slow.
func Bimodal(hits float64, fast, slow time.Duration, sigma float64) *Durations {
	return NewDurations(func(u float64) time.Duration {
		if u < hits {
			return logNormal(fast, sigma, u/hits)
		}
		return logNormal(slow, sigma, (u-hits)/(1-hits))
	})
}

func logNormal(median time.Duration, sigma, u float64) time.Duration {
	return time.Duration(float64(median) * math.Exp(sigma*math.Sqrt2*math.Erfinv(2*u-1)))
}

// Draw counts n durations into h.
func (d *Durations) Draw(r *rand.Rand, n int64, h *analysis.Histogram) {
	const perWord = 64 / quantileBits
	for n > 0 {
		word := r.Uint64()
		for range min(n, perWord) {
			h[d.buckets[word&(1<<quantileBits-1)]]++
			word >>= quantileBits
		}
		n -= perWord
	}
}
