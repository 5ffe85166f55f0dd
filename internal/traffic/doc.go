// Package traffic draws simulated requests: how many arrive, on which side of a
// split, how many fail and how long they take. Programs that try a decision on
// thousands of imagined days share it: bench/decision and internal/forecast.
//
// Everything is drawn from a seed, in an order that depends on nothing else:
// the same seed gives the same day, on every machine. The package must never
// decide anything, nor know a release.
//
// Read next: day.go, what a day may be like.
package traffic
