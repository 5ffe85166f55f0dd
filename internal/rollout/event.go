package rollout

import (
	"time"

	"serin.dev/serin/internal/analysis"
)

// Event tells what happened, to people by Message and to machines by the rest.
// It is to be stored with the state that it came with until it is told, so that
// a crash may let it be told twice, but not never.
type Event struct {
	Warning bool   `json:"warning,omitempty"`
	Reason  string `json:"reason"`  // CamelCase: RunStarted, StepReached, ...
	Message string `json:"message"` // one line

	// What the release was at when it happened.
	At      time.Time `json:"at"`
	Run     int64     `json:"run,omitempty"`     // Run.Number
	Phase   Phase     `json:"phase"`             // after the look in which it happened
	Outcome Outcome   `json:"outcome,omitempty"` // of the run, when it has ended
	Stable  Revision  `json:"stable,omitempty"`
	Canary  Revision  `json:"canary,omitempty"`
	Step    int       `json:"step,omitempty"`
	Steps   int       `json:"steps,omitempty"` // of the plan
	Traffic Traffic   `json:"traffic,omitzero"`
	// Evidence as the judge gave it last: counts, e-value, bounds, verdict.
	Evidence analysis.Evidence `json:"evidence,omitzero"`
}
