package analysis

import (
	"fmt"
	"time"
)

// Verdict is what the judge says about the canary.
type Verdict uint8

// The verdicts. The zero value is no success.
const (
	NoData     Verdict = iota // the canary answered no request yet
	Collecting                // neither shown to be worse nor to be good enough
	Pass                      // good enough for the share that was asked about
	Fail                      // worse than stable, or checks failed too often; final for the run
)

var verdictNames = [...]string{"NoData", "Collecting", "Pass", "Fail"}

func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// MarshalText writes the verdict's name.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads a verdict's name.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, name := range verdictNames {
		if name == string(text) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("verdict %q: want NoData, Collecting, Pass or Fail", text)
}

// Kind says which question a Fail answers.
type Kind string

// The kinds.
const (
	Failures Kind = "failures" // more requests fail than on stable
	Latency  Kind = "latency"  // requests take longer than on stable
	Budget   Kind = "budget"   // the canary caused as many failed requests as a run may cost
	Checked  Kind = "check"    // a check failed, or checks too often
	Hook     Kind = "hook"     // as Checked, and a hook failed last
)

// Evidence is a verdict with what it rests on. All rates and shares are 0 to 1.
type Evidence struct {
	Verdict Verdict `json:"verdict"`

	// Kind and Stratum of a Fail; "" for other verdicts, and for all
	// endpoints together.
	Kind    Kind   `json:"kind,omitempty"`
	Stratum string `json:"stratum,omitempty"`
	// AtOnce: a Fail that no gradual abort may prolong: it was shown, and not
	// by looks that may have been unlucky, or its check has severity Abort.
	AtOnce bool `json:"atOnce,omitempty"`

	// Counts of the run so far, on which the verdict rests.
	Counts Counts `json:"counts"`
	// Own is the part of own load in them.
	Own Counts `json:"own,omitzero"`
	// Spared is the part of Counts that users were spared: see Samples.
	Spared Counts `json:"spared,omitzero"`
	// Direct are the canary's direct requests of the run, which the verdict
	// rests on by the checks, and by the budget where they are users'.
	Direct       int64 `json:"direct,omitempty"`
	DirectFailed int64 `json:"directFailed,omitempty"`

	// LogE is the natural logarithm of the failure test's e-value for all
	// requests, at its highest in this run.
	LogE float64 `json:"logE"`
	// FalseAlarm is the policy's.
	FalseAlarm float64 `json:"falseAlarm"`
	// Questions are those that were asked: is the canary worse, is it slower,
	// over all requests and in the endpoint where most speaks for it.
	Questions []Question `json:"questions,omitempty"`

	// Delta is the regression (canary's failure rate minus stable's) that
	// must be excluded for the share asked about; 0 = none. Excluded is the
	// smallest of the run's regressions that is excluded; 0 = none yet.
	Delta    float64 `json:"delta,omitempty"`
	Excluded float64 `json:"excluded,omitempty"`

	// Needed is about how many canary requests the run needs in all to
	// exclude Delta, if the canary is as good as stable, or how many users of the
	// canary's where users stay on a side; 0 = not to be said.
	Needed int64 `json:"needed,omitempty"`
	// Left is about how long that takes at the present rate of requests;
	// 0 = not to be said.
	Left time.Duration `json:"left,omitempty"`

	// Overdue is set when the canary answered several times the requests
	// after which a version as good as stable would have passed: it is
	// neither good enough nor worse enough, and more waiting will hardly help.
	Overdue bool `json:"overdue,omitempty"`

	// Cost is the cost of the release: about how many failed requests of users
	// the canary caused, beyond those that would have failed on stable at the
	// same time. Never negative.
	Cost float64 `json:"cost,omitempty"`

	// FailedChecks of this run: looks that failed, of FailureLimit.
	FailedChecks int `json:"failedChecks,omitempty"`
	// Warnings of this run: looks that failed a check of severity Warn; and
	// what the last one saw.
	Warnings int    `json:"warnings,omitempty"`
	Warning  string `json:"warning,omitempty"`
	// Concerns are what people should know of the checks now, although it fails
	// nothing.
	Concerns []Concern `json:"concerns,omitempty"`
	// Checks are the latest looks, in the order of Policy.Checks.
	Checks []CheckResult `json:"checks,omitempty"`

	// Reason says the same in one line.
	Reason string `json:"reason,omitempty"`
}

// Users returns the part of Counts that users met.
func (e *Evidence) Users() Counts { return e.Counts.Less(e.Own).Less(e.Spared) }

// Question is one question that the judge asks, with its e-value.
type Question struct {
	Kind    Kind   `json:"kind"`              // Failures, Latency, or Budget: is its cost no chance
	Stratum string `json:"stratum,omitempty"` // "" = all endpoints
	// LogE is the natural logarithm of the e-value, at its highest in this
	// run; at Limit the canary fails.
	LogE  float64 `json:"logE"`
	Limit float64 `json:"limit"`
	// Counts that the e-value rests on. Of a question about latency,
	// failures are requests over Threshold (canary's over it and the
	// tolerance), which is the quantile where most speaks for a regression.
	Counts    Counts        `json:"counts"`
	Threshold time.Duration `json:"threshold,omitempty"`
}

// CheckResult is the latest look at one check.
type CheckResult struct {
	Metric   Metric   `json:"metric"`
	Severity Severity `json:"severity"`
	// Verdict of the look. NoData: there was no value, or Err.
	Verdict Verdict `json:"verdict"`
	// Canary's value, and stable's where it was needed and known. Success and
	// error rates are in percent, durations in milliseconds.
	Canary Value  `json:"canary"`
	Stable *Value `json:"stable,omitempty"`
	// Requests of the canary that a built-in metric rests on.
	Requests int64 `json:"requests,omitempty"`
	// Least and Most are the bounds that held in this look, of the absolute
	// and the relative ones the narrower.
	Least *Value    `json:"least,omitempty"`
	Most  *Value    `json:"most,omitempty"`
	Err   string    `json:"err,omitempty"`
	At    time.Time `json:"at,omitzero"`
}
