// Package sim plays whole rollouts in a simulated world: an API that stores
// objects, proxies that apply routes late or only when told twice, pods that
// start slowly or never, users' requests that fail by chance, people who edit
// what is not theirs, and an engine around rollout.Step that may be killed
// between any two of its instructions and then has nothing but what it stored.
//
// Everything follows from a scenario and a seed: a failure found once can be
// played again. The package reads no clock and starts no goroutine. It is here
// for tests; nothing else may import it.
//
// Read next: sim_test.go for what must hold, world.go for the faults.
package sim
