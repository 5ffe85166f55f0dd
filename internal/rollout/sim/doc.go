// Package sim plays whole rollouts in a simulated world: an API that stores
// objects, proxies that apply routes late or only when told twice, pods that
// start slowly or never, autoscalers, users' requests that fail by chance, hooks
// that fail or are silent, people who answer late or edit what is not theirs,
// and two engines around rollout.Step, of which one leads. Each may be killed
// between any two of its instructions and then has nothing but what was stored,
// or may go on for a while after it lost the lead.
//
// Everything follows from a scenario and a seed: a failure found once can be
// played again. The package reads no clock and starts no goroutine. It is here
// for tests; nothing else may import it.
//
// Read next: engine.go for what must hold at every moment, sim_test.go for told
// stories, random.go for the others, world.go for the faults.
package sim
