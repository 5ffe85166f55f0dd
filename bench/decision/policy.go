package main

import (
	"time"

	"serin.dev/serin/internal/traffic"
)

// decision is what became of a canary under a policy.
type decision struct {
	kind kind
	at   time.Duration // since the canary got its share
}

type kind uint8

const (
	watching kind = iota
	rolledBack
	passed
)

// policy is one way to decide.
type policy struct {
	name, about string
	// begin starts to watch a canary. The seed is for a policy that draws
	// random numbers itself.
	begin func(s *scenario, seed uint64) watcher
}

// watcher watches one canary.
type watcher interface {
	// watch takes in the next spell and decides at most once: after it
	// decided it is not asked again.
	watch(s *traffic.Spell) decision
}

// spell is the grain of the simulated time: all policies look at whole
// multiples of it, but for ours, which looks within.
const spell = 10 * time.Second

// policies in the order of the table.
func policies() []policy {
	return []policy{
		serin(),
		flagger("flagger 60s/5", time.Minute, 5),
		flagger("flagger 10s/2", 10*time.Second, 2),
		argo("argo 5m/3 95 %", 5*time.Minute, 3, 0.95, 8),
		argo("argo 1m/0 99 %", time.Minute, 0, 0.99, 10),
		kayenta(),
	}
}
