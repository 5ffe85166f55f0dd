package analysis

import (
	"fmt"
	"math"
)

// The evidence to advance, where users stay on a side.
//
// Requests of one user fail together, so a hundred of them prove little more than
// one. What is bounded there is p1 - p0, where p is the mean over a version's
// users of the part of each one's requests that failed so far. A user is one
// observation between 0 and 1, however often they ask, and it changes as they
// go on: one who was served well and then is not counts against the canary.
//
// The evidence against p1 >= p0 + δ is the likelihood of all users under a
// mixture of guesses (q1, q0) divided by the largest under the nearest
// regression, as if each were one request. For a guess and a regression that
// are fixed the ratio of one user is a function of their part x,
// exp(x·ln(q1/p1) + (1-x)·ln((1-q1)/(1-p1))), which is convex, so that its mean
// is at most that of a request that fails with p1, which is 1; it is enough that
// the rates are p1 and p0 on average over the users, as the product of different
// means is at most the power of their average. A mixture of them has mean 1 at
// most, too, and the largest likelihood is no less than that of the truth
// (universal inference: Wasserman, Ramdas & Balakrishnan, 2020; bounded
// observations: Waudby-Smith & Ramdas, "Estimating means of bounded random
// variables by betting", 2024). So it stands at 1/β with a chance of at most β
// whenever one looks, as new users come.
//
// The approximation is that users fail independently, and that those who came
// late are served as the others will be: what a user is going to meet is in
// nobody's counts.

// UserSum is how many users were seen for the first time in the run on a side,
// and how much the sum over all its users grew of the part of each one's
// requests that failed, 0 to 1. It grows by less than nothing when those who
// failed before are served.
type UserSum struct {
	Users   int64   `json:"users"`
	Failing float64 `json:"failing"`
}

func (s UserSum) add(o UserSum) UserSum {
	return UserSum{s.Users + o.Users, s.Failing + o.Failing}
}

// rate is the mean part that failed, 0 to 1; 0 without users.
func (s UserSum) rate() float64 {
	if s.Users == 0 {
		return 0
	}
	return min(max(0, s.Failing/float64(s.Users)), 1)
}

// sumOf takes each request for one of a user of its own.
func sumOf(requests, failures int64) UserSum { return UserSum{requests, float64(failures)} }

// userTest is the evidence that users give of a run.
type userTest struct {
	Canary UserSum `json:"canary,omitzero"`
	Stable UserSum `json:"stable,omitzero"`
}

func (t userTest) add(u *Users) userTest {
	return userTest{t.Canary.add(u.Canary), t.Stable.add(u.Stable)}
}

// userGuesses are the alternatives to a regression of delta: that neither version
// ever fails, as most are, which gets half of what is bet; that both fail alike,
// from seldom to boundPause; or the canary a quarter of that.
func userGuesses(delta float64, each func(q1, q0, part float64)) {
	const never, better = 0.5, 0.25
	each(0, 0, never)
	lowest := boundFloor * delta
	n := math.Ceil(math.Log2(boundPause/lowest)) + 1
	for i := range int(n) {
		q, part := math.Ldexp(lowest, i), (1-never)/n
		each(q, q, 0.75*part)
		each(better*q, q, 0.25*part)
	}
}

// logE is the evidence against a regression of delta, none while so many fail on
// both sides that nothing is shown: see boundPause.
func (t userTest) logE(delta float64) float64 {
	if t.Canary.Users == 0 {
		return 0
	}
	nc, ns := float64(t.Canary.Users), float64(t.Stable.Users)
	p1, p0 := t.Canary.rate(), t.Stable.rate()
	r := nearest(nc, ns, p1, p0, delta)
	null := nc*klRates(p1, r+delta) + ns*klRates(p0, r)
	guessed := math.Inf(-1) // a guess of 0 is, once something failed
	userGuesses(delta, func(q1, q0, part float64) {
		if g := math.Log(part) - nc*klRates(p1, q1) - ns*klRates(p0, q0); !math.IsInf(g, 0) {
			guessed = logAddExp(guessed, g)
		}
	})
	if t.paused() {
		return min(0, null+guessed)
	}
	return null + guessed
}

func (t userTest) paused() bool {
	return t.Canary.rate() > boundPause && (t.Stable.Users == 0 || t.Stable.rate() > boundPause)
}

// klRates is the divergence of rates of which p may be 0 or 1.
func klRates(p, q float64) float64 {
	var sum float64
	if p > 0 {
		sum += p * math.Log(p/q)
	}
	if p < 1 {
		sum += (1 - p) * (math.Log1p(-p) - math.Log1p(-q))
	}
	return sum
}

// text writes "failed 5 % of the requests of 40 users, stable 0 % of those of 360",
// in which each user weighs the same.
func (t userTest) text() string {
	return fmt.Sprintf("failed %s of the requests of %d users, stable %s of those of %d",
		percentText(t.Canary.rate()), t.Canary.Users, percentText(t.Stable.rate()), t.Stable.Users)
}
