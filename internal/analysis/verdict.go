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

// Evidence is a verdict with what it rests on. All rates and shares are 0 to 1.
type Evidence struct {
	Verdict Verdict `json:"verdict"`

	// Counts of the run so far, on which the verdict rests.
	Counts Counts `json:"counts"`

	// LogE is the natural logarithm of the failure test's e-value, at its
	// highest in this run; the canary is failed when it reaches
	// ln(1/FalseAlarm).
	LogE       float64 `json:"logE"`
	FalseAlarm float64 `json:"falseAlarm"`

	// Delta is the regression (canary's failure rate minus stable's) that
	// must be excluded for the share asked about; 0 = none. Excluded is the
	// smallest of the run's regressions that is excluded; 0 = none yet.
	Delta    float64 `json:"delta,omitempty"`
	Excluded float64 `json:"excluded,omitempty"`

	// Needed is about how many canary requests the run needs in all to
	// exclude Delta, if the canary is as good as stable; 0 = not to be said.
	Needed int64 `json:"needed,omitempty"`
	// Left is about how long that takes at the present rate of requests;
	// 0 = not to be said.
	Left time.Duration `json:"left,omitempty"`

	// Overdue is set when the canary answered several times the requests
	// after which a version as good as stable would have passed: it is
	// neither good enough nor worse enough, and more waiting will hardly help.
	Overdue bool `json:"overdue,omitempty"`

	// FailedChecks of this run, and how many of them fail it.
	FailedChecks int `json:"failedChecks,omitempty"`

	// Reason says the same in one line.
	Reason string `json:"reason,omitempty"`
}
