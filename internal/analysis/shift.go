package analysis

import (
	"math"
	"slices"
)

// latencyScores are the means of a normal variable between its quantiles of
// latencyRanks: the scores of van der Waerden's rank test, grouped.
func latencyScores() [latencyQuantiles + 1]float64 {
	return [latencyQuantiles + 1]float64{-0.798, 0.396, 1.179, 1.910, 2.665}
}

// shiftMost bounds the work on one block, requests times those of the smaller
// side. A block that is larger is not scored; whether it is depends on numbers
// of requests alone.
const shiftMost = 4_000_000

// shiftRatios writes, for each of the shifts, the log likelihood ratio of one
// block against "no slower" when each of the canary's requests is heavier by
// e^(shift·score). It writes nothing when the block tells nothing.
//
// Given the block's requests of both sides, and how many are between which
// thresholds, the canary's are a random selection of them. Under the
// alternative a selection is likelier by the product of its weights; divided by
// the mean over all selections that has mean 1. It rises with each duration of
// the canary's and falls with each of stable's, so that its mean is at most 1 in
// stochastic order, too.
func shiftRatios(block *late, shifts, ratios []float64) {
	var all, canary bins
	beyond := Counts{CanaryFailures: block[0], StableFailures: block[1]}
	for i := range all {
		var next Counts
		if i < latencyQuantiles {
			next = block.at(i)
		}
		canary[i] = beyond.CanaryFailures - next.CanaryFailures
		all[i] = beyond.Failures() - next.Failures()
		beyond = next
	}
	n, few := block.requests(), min(block[0], block[1])
	if few == 0 || n*few > shiftMost {
		return
	}
	// The fewer are selected: choosing stable's is leaving the canary's.
	selected, sign := canary, 1.0
	if block[1] < block[0] {
		sign = -1
		for i := range selected {
			selected[i] = all[i] - canary[i]
		}
	}
	var room [3][selectionsRoom]float64
	ways := logChoose(n, few)
	for i, shift := range shifts {
		var weights [latencyQuantiles + 1]float64
		score := 0.0
		for i, of := range latencyScores() {
			theta := sign * shift * of
			weights[i] = math.Exp(theta)
			score += theta * float64(selected[i])
		}
		ratios[i] = score - (logSelections(&room, &all, &weights, few) - ways)
	}
}

// bins are numbers of requests between the thresholds of a block.
type bins [latencyQuantiles + 1]int64

// selectionsRoom is enough for the blocks of some thousand requests.
const selectionsRoom = 512

// logSelections is the logarithm of the sum, over all ways to select so many of
// all, of the product of the weights of what is selected: an elementary symmetric
// polynomial, which is the coefficient of x^few in Π (1 + weight·x)^all.
//
// For any x > 0, selecting each by itself with odds of weight·x selects few with
// a chance of that term divided by the whole product. The x that selects few on
// average makes this a likely number, so that of the binomial numbers of
// each bin the unlikely ones may be left out: some √n of n remain.
func logSelections(room *[3][selectionsRoom]float64, all *bins, weights *[latencyQuantiles + 1]float64, few int64) float64 {
	x := evenOdds(all, weights, few)
	product := -float64(few) * math.Log(x)
	// sums[j] is the chance that from+j are selected of the bins so far.
	sums, next, from := append(room[0][:0], 1), room[1][:0], int64(0)
	for i := latencyQuantiles; i > 0; i-- { // from the smallest bin, as a rule
		if all[i] == 0 {
			continue
		}
		product += float64(all[i]) * math.Log1p(weights[i]*x)
		least, chances := binomialChances(room[2][:0], all[i], weights[i]*x, few)
		next = convolve(next, sums, chances)
		sums, next = next, sums
		from += least
	}
	product += float64(all[0]) * math.Log1p(weights[0]*x)
	least, chances := binomialChances(room[2][:0], all[0], weights[0]*x, few)
	var chance float64
	for j, p := range sums {
		if k := few - from - int64(j) - least; k >= 0 && k < int64(len(chances)) {
			chance += p * chances[k]
		}
	}
	return product + math.Log(chance)
}

// evenOdds is about the x at which odds of weight·x select few of all on average.
func evenOdds(all *bins, weights *[latencyQuantiles + 1]float64, few int64) float64 {
	var n int64
	for _, of := range all {
		n += of
	}
	x := float64(few) / float64(n-few)
	for range 20 { // Newton's method in ln x; two do as a rule
		mean, variance := 0.0, 0.0
		for i, of := range all {
			p := weights[i] * x / (1 + weights[i]*x)
			mean += float64(of) * p
			variance += float64(of) * p * (1 - p)
		}
		off := float64(few) - mean
		if off*off < 0.01*variance { // a tenth of a standard deviation
			break
		}
		x *= math.Exp(off / variance)
	}
	return x
}

// binomialChances returns the chances of numbers of successes in n trials at the
// odds, from least on, in room if it is enough: those up to most that are not
// negligible.
func binomialChances(room []float64, n int64, odds float64, most int64) (least int64, chances []float64) {
	const negligible = 1e-18 // beside the likeliest number
	mode := min(n, int64(float64(n+1)*odds/(1+odds)))
	least, chances = mode, room
	sum, chance := 1.0, 1.0
	if mode <= most {
		chances = append(chances, 1)
	}
	for k := mode; k > 0; k-- {
		if chance *= float64(k) / (float64(n-k+1) * odds); chance < negligible {
			break
		}
		least, sum = k-1, sum+chance
		if least <= most {
			chances = append(chances, chance)
		}
	}
	slices.Reverse(chances)
	chance = 1
	for k := mode; k < n; k++ {
		if chance *= float64(n-k) / float64(k+1) * odds; chance < negligible {
			break
		}
		sum += chance
		if k < most {
			chances = append(chances, chance)
		}
	}
	for i := range chances {
		chances[i] /= sum
	}
	return least, chances
}

// convolve returns the chances of the sum of two numbers, in room if it is enough.
// Each of them adds up in the order of a. Four of a are taken at a time, as
// reading and writing sums takes longer than adding to them.
func convolve(room, a, b []float64) []float64 {
	n := len(a) + len(b) - 1
	out := slices.Grow(room[:0], n)[:n]
	clear(out)
	i := 0
	for ; i+4 <= len(a); i += 4 {
		p0, p1, p2, p3 := a[i], a[i+1], a[i+2], a[i+3]
		var q1, q2, q3 float64 // of b, before q0
		row, rest := out[i:][:len(b)], out[i+len(b):]
		for k, q0 := range b {
			row[k] = row[k] + p0*q0 + p1*q1 + p2*q2 + p3*q3
			q1, q2, q3 = q0, q1, q2
		}
		rest[0] = rest[0] + p1*q1 + p2*q2 + p3*q3
		rest[1] = rest[1] + p2*q1 + p3*q2
		rest[2] = rest[2] + p3*q1
	}
	for ; i < len(a); i++ {
		row := out[i:][:len(b)]
		for k, q := range b {
			row[k] += a[i] * q
		}
	}
	return out
}

// logChoose is the logarithm of the binomial coefficient.
func logChoose(n, k int64) float64 {
	of := func(n int64) float64 { l, _ := math.Lgamma(float64(n + 1)); return l }
	return of(n) - of(k) - of(n-k)
}
