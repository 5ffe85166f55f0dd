// Package forecast plays a release's plan on imagined traffic before anybody
// releases anything: how soon a bad version would be found, what it would cost,
// how often a good one would be rolled back, and which part of the plan waits
// for nothing.
//
// The plan is played by the engine itself, rollout.Step, in a calm world: pods
// are ready and proxies obey at once, gates open and hooks succeed when they
// are asked. It must never decide by rules of its own: a forecast that knew
// better than the engine would be of no use.
//
// Read next: play.go, one run; runs.go, many of them; advice.go, what is said about
// the plan.
package forecast
