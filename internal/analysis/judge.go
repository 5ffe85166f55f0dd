package analysis

import "time"

// Policy sets how sure the judge must be, and of what.
type Policy struct {
	// FalseAlarm is the highest chance of failing a version that is no worse
	// than stable, over a whole run: 0 < FalseAlarm <= 0.5.
	FalseAlarm float64
	// Tolerance is the share of all user requests that the next step may
	// cost at most, 0 to 1. 0 asks for no evidence beyond the checks.
	Tolerance float64
	// Confidence with which Tolerance must hold, 0 < Confidence < 1.
	Confidence float64
	// Shares are the canary's shares, 0 to 1, that will be asked about in
	// the run: evidence is kept for each from the run's beginning.
	Shares []float64
	// Checks are absolute limits, looked at once per Interval.
	Checks []Check
	// FailureLimit is the number of failed checks that fails the run; at
	// least 1.
	FailureLimit int
	// Interval between two looks at the checks.
	Interval time.Duration
}

// Metric names what a Check measures on the canary.
type Metric string

// The metrics.
const (
	SuccessRate Metric = "success-rate" // answers without failure, in percent
	DurationP99 Metric = "duration-p99" // 99th percentile of the duration, in milliseconds
)

// Check is one absolute limit. A nil bound does not limit.
type Check struct {
	Metric   Metric
	Min, Max *float64
}

// Judge is the judge's memory of one run. It is a plain value that survives a
// trip through JSON; its fields are for this package and for storage alone.
// The zero value has seen nothing.
type Judge struct {
	// Step is what was seen since NextStep, Total since the run began.
	Step  Counts `json:"step"`
	Total Counts `json:"total"`
}

// NextStep tells the judge that from now on the canary's share is asked to be
// share (0 to 1). Evidence of earlier steps stays; a Pass needs at least one
// canary request of the new step. The share tunes the size of blocks; no
// verdict relies on traffic following it.
func (j Judge) NextStep(policy Policy, share float64, now time.Time) Judge {
	return j
}

// Observe returns the judge after a look. It is called without samples too, as
// time alone ends a check's window.
func (j Judge) Observe(policy Policy, seen Samples, now time.Time) Judge {
	return j
}

// HookFailed counts a failed hook of the user's as one failed check.
func (j Judge) HookFailed(policy Policy, name string) Judge {
	return j
}

// Decide says whether the canary may be given nextShare (0 to 1) of the
// traffic. A Fail is final, whatever the share.
func (j Judge) Decide(policy Policy, nextShare float64, now time.Time) Evidence {
	return Evidence{}
}
