package analysis

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Policy sets how sure the judge must be, and of what.
type Policy struct {
	// FalseAlarm is the highest chance of failing a version that is neither
	// worse than stable nor slower than LatencyTolerance allows, over a whole
	// run and all its endpoints: 0 < FalseAlarm <= 0.5.
	FalseAlarm float64
	// Tolerance is the share of all user requests that the next step may
	// cost at most, 0 to 1; where users stay on a side, each of them weighs the
	// same. 0 asks for no evidence beyond the checks and a
	// first look at latency.
	Tolerance float64
	// Confidence with which Tolerance must hold, 0 < Confidence < 1.
	Confidence float64
	// Shares are the canary's shares, 0 to 1, that will be asked about in
	// the run: evidence is kept for each from the run's beginning.
	Shares []float64

	// LatencyTolerance is how much slower than stable the canary may be: 0.1
	// = its requests may take 10 % longer. 0 or less: latency is not compared.
	LatencyTolerance float64
	// Warmup delays failing the canary for its latency, as fresh processes are
	// slow; meanwhile latency can delay a Pass alone, see warmup.go. It is over
	// when the canary has answered the requests, and the time since the run's
	// first sample has passed, whichever is later. Processes that are
	// added at later steps are few among warm ones, and not excused.
	Warmup         time.Duration
	WarmupRequests int64

	// Budget is how many failed requests the canary may cause in a run (see
	// Evidence.Cost), whatever else is known of it: see cost.go. 0 = no limit.
	Budget int64
	// DirectUsers: the canary's direct requests are those of users. As there is
	// nothing to compare them with, each that a user saw fail counts as caused
	// by it.
	DirectUsers bool

	// ChecksAlone: there are no requests, so that none is waited for, and the
	// checks and hooks decide.
	ChecksAlone bool

	// Checks are limits in Flagger's manner, looked at once per Interval.
	Checks []Check
	// FailureLimit is the number of failed looks that fails the run; at
	// least 1.
	FailureLimit int
	// Interval between two looks at the checks.
	Interval time.Duration
}

// Metric names what a Check measures on the canary.
type Metric string

// The metrics that the judge measures itself. The rest is external.
const (
	SuccessRate Metric = "success-rate" // answers without failure, in percent
	ErrorRate   Metric = "error-rate"   // failed requests, in percent
	DurationP50 Metric = "duration-p50" // quantiles of the answers' duration, failures left out, in milliseconds
	DurationP90 Metric = "duration-p90"
	DurationP95 Metric = "duration-p95"
	DurationP99 Metric = "duration-p99"
)

// Check is one limit, absolute or relative to stable's value at the same time,
// or both. A nil bound does not limit.
type Check struct {
	Metric Metric
	// External: the value comes from a provider, as Samples.Measured, whatever
	// the metric's name.
	External bool
	Min, Max *float64
	// ToStable limits canary's value minus stable's.
	ToStable Margin
	Severity Severity
	// Interval between two looks; 0 = the policy's. A Measured is a look
	// whenever it comes.
	Interval time.Duration
}

// Margin is how far the canary's value may lie below and above stable's.
// Bounds have a sign: a Min of -2 allows two less, a Max of 2 two more.
type Margin struct {
	Min, Max *float64
	// InPercent: bounds are percent of stable's value, not of the metric's unit.
	InPercent bool
}

// Severity says what a failed check means for the run.
type Severity uint8

// The severities.
const (
	Count Severity = iota // it counts towards Policy.FailureLimit
	Abort                 // the run fails at once
	Warn                  // people are told, and nothing else
)

var severityNames = [...]string{"count", "abort", "warn"}

func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return fmt.Sprintf("Severity(%d)", uint8(s))
}

// MarshalText writes the severity's name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a severity's name.
func (s *Severity) UnmarshalText(text []byte) error {
	i := slices.Index(severityNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("severity %q: want count, abort or warn", text)
	}
	*s = Severity(i)
	return nil
}

// deltas are the regressions that the run has to exclude.
func (p *Policy) deltas() []float64 {
	var out []float64
	for _, share := range p.Shares {
		if d := p.delta(share); d > 0 && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}

// delta is the regression that must be excluded before the share is given:
// 0 when none can cost more than the tolerance.
func (p *Policy) delta(share float64) float64 {
	if p.Tolerance <= 0 || p.Tolerance >= share {
		return 0
	}
	return p.Tolerance / share
}

// Needs is about how many requests of the canary, with its share of the
// traffic, are needed until it may be given the next one (both 0 to 1), when so
// much of both sides' requests fails; 0 = no evidence is asked for, or none can
// be had.
func (p *Policy) Needs(share, next, failing float64) int64 {
	delta := p.delta(next)
	if delta == 0 || math.IsInf(p.enough(), 1) {
		return 0
	}
	perRequest := growth(failing, share, delta)
	if perRequest <= 0 {
		return 0
	}
	return whole(math.Ceil(p.enough() / perRequest))
}

// whole is a number of requests, at most so many that none is ever to come.
func whole(n float64) int64 { return int64(min(n, 1e15)) }

// enough is the evidence, as a log e-value, that excludes a regression.
func (p *Policy) enough() float64 {
	if p.Confidence <= 0 || p.Confidence >= 1 {
		return math.Inf(1)
	}
	return -math.Log(1 - p.Confidence)
}
