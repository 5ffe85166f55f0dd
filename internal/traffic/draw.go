package traffic

import (
	"math"
	"math/rand/v2"
)

// Poisson draws the number of events of which mean are expected; 0 for a mean
// of 0 or less.
func Poisson(r *rand.Rand, mean float64) int64 {
	switch {
	case mean <= 0:
		return 0
	case mean < 12:
		limit, product := math.Exp(-mean), r.Float64()
		var n int64
		for product > limit {
			product *= r.Float64()
			n++
		}
		return n
	}
	// A gamma variable tells when the m-th event came; before it, the other
	// m-1 are uniform. (Ahrens & Dieter, "Computer methods for sampling from
	// gamma, beta, Poisson and binomial distributions", 1974.)
	m := int64(mean * 7 / 8)
	at := Gamma(r, float64(m))
	if at > mean {
		return Binomial(r, m-1, mean/at)
	}
	return m + Poisson(r, mean-at)
}

// Gamma draws from the gamma distribution with that shape (more than 0) and a
// scale of 1. (Marsaglia & Tsang, "A simple method for generating gamma
// variables", 2000.)
func Gamma(r *rand.Rand, shape float64) float64 {
	if shape < 1 {
		return Gamma(r, shape+1) * math.Pow(1-r.Float64(), 1/shape)
	}
	d := shape - 1./3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(1-r.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

// Binomial draws how many of n trials succeed, each with probability p.
func Binomial(r *rand.Rand, n int64, p float64) int64 {
	switch {
	case n <= 0 || p <= 0:
		return 0
	case p >= 1:
		return n
	case p > 0.5:
		return n - Binomial(r, n, 1-p)
	case float64(n)*p < 12:
		return binomialByGaps(r, n, p)
	}
	return binomialByRejection(r, n, p)
}

// binomialByGaps jumps from success to success.
func binomialByGaps(r *rand.Rand, n int64, p float64) int64 {
	per := math.Log1p(-p)
	var successes, at int64
	for {
		gap := math.Log(1-r.Float64()) / per
		if gap >= float64(n-at) {
			return successes
		}
		if at += int64(gap) + 1; at > n {
			return successes
		}
		successes++
	}
}

// binomialByRejection needs n·p >= 10 and p <= 1/2. (Hörmann, "The generation
// of binomial random variates", 1993: algorithm BTRS.)
func binomialByRejection(r *rand.Rand, n int64, p float64) int64 {
	nf := float64(n)
	spread := math.Sqrt(nf * p * (1 - p))
	b := 1.15 + 2.53*spread
	a := -0.0873 + 0.0248*b + 0.01*p
	c := nf*p + 0.5
	v0 := 0.92 - 4.2/b
	alpha := (2.83 + 5.1/b) * spread
	mode := math.Floor((nf + 1) * p)
	odds := math.Log(p / (1 - p))
	top := logFactorial(mode) + logFactorial(nf-mode)
	for {
		u, v := r.Float64()-0.5, 1-r.Float64()
		us := 0.5 - math.Abs(u)
		k := math.Floor((2*a/us+b)*u + c)
		if k < 0 || k > nf {
			continue
		}
		if us >= 0.07 && v <= v0 {
			return int64(k)
		}
		v = math.Log(v * alpha / (a/(us*us) + b))
		if v <= top-logFactorial(k)-logFactorial(nf-k)+(k-mode)*odds {
			return int64(k)
		}
	}
}

func logFactorial(k float64) float64 {
	v, _ := math.Lgamma(k + 1)
	return v
}
