// Decision compares how releases are judged: our judge beside the policies of
// Flagger, Argo Rollouts and Kayenta, on the same simulated traffic.
//
//	make bench-decision
//	go run ./bench/decision -scenarios outage,equal -policies serin,flagger -runs 200 -null-runs 2000
//
// Rows are written as they come; -continue plays what is not there yet.
//
// A scenario (scenarios.go) is a day of requests to one service while the
// canary has a fixed share of them. In each of its seeded runs every policy
// watches the same requests until it rolls the canary back or lets it pass.
// Where nothing is wrong a rollback is false; where something is, passing, or
// no answer until the scenario's end, is a miss. Failed requests are those that
// the canary answered with a failure until it was rolled back; a miss goes on
// failing at the same share until the end, which flatters it, as it would get
// all users.
//
// Ours is analysis.Judge with the defaults of a Release, given what the
// controller gives it at the moments at which the controller looks; the rest of
// the engine is left out, as thousands of runs would take hours. The peers'
// policies are written from their documentation, each in a file of its own with
// its source; Flagger's is held against the real program in flagger_test.go.
//
// The program must never turn a figure into a verdict, give one policy another
// traffic than the others, or draw anything without a seed.
package main
