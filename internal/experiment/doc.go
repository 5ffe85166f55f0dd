// Package experiment compares several versions of a service on live traffic: a
// pure state machine from observations to decisions, beside package rollout,
// which knows one candidate and makes it the stable version.
//
// As there, Step takes the state and what was observed and returns the next
// state; the caller stores it (see State.MustWrite), and then makes the world
// equal to State.Want, again and again. A crash between any two of these is
// harmless. The package reads no clock, does no I/O and draws no random numbers.
//
// Two things can go wrong by chance, and each has a bound of its own, the false
// alarm rate α of the plan, however often one looks:
//
//   - A candidate that is no worse than stable loses its traffic. Each of n is
//     judged with α/n, so that this happens to any of them with α at most.
//   - A version is told as the winner that is not better than all the others.
//     The winner has to be shown to be better than each of them, at α/k with k
//     versions, stable included. For any version that is not the best, one of
//     these showings is false: that with the one which is better, or as good.
//     So k of them can be, with α at most together, and not k·(k-1).
//
// Both hold where each request is drawn, and where users stay with a version and
// are known: they are what is compared then, see State.ByUser. They do not hold
// where users stay and nobody says who asked.
//
// Whoever gave no evidence of being better is no winner: that no difference was
// found is an answer.
//
// Nothing waits without saying for what and until when. Whatever ends an
// experiment, its traffic goes back to stable before its pods go.
//
// Read next: step.go, then choose.go; testdata for what users see.
package experiment
