package analysis

import (
	"fmt"
	"slices"
)

// Concern is what people should know of a check although it does not count
// against the canary: that a look of severity Warn failed, or that the metric
// cannot be measured. It stands until a look with the other result.
type Concern struct {
	// Check is the index in Policy.Checks, and Metric what that one measures.
	Check  int    `json:"check"`
	Metric Metric `json:"metric"`
	// Unmeasured: the provider gave an error. Otherwise a look failed.
	Unmeasured bool `json:"unmeasured,omitempty"`
	// Text says what the latest look saw, in one line.
	Text string `json:"text"`
}

// Same reports whether two concerns are the same one, whatever the looks saw.
func (c Concern) Same(d Concern) bool {
	return c.Check == d.Check && c.Metric == d.Metric && c.Unmeasured == d.Unmeasured
}

// standing are the concerns about checks that a plan still has.
func standing(concerns []Concern, checks []Check) []Concern {
	gone := func(c Concern) bool {
		return c.Check < 0 || c.Check >= len(checks) || checks[c.Check].Metric != c.Metric ||
			!c.Unmeasured && checks[c.Check].Severity != Warn
	}
	if !slices.ContainsFunc(concerns, gone) {
		return concerns
	}
	return orNil(slices.DeleteFunc(slices.Clone(concerns), gone))
}

// orNil makes an empty list equal to itself after a trip through JSON.
func orNil(concerns []Concern) []Concern {
	if len(concerns) == 0 {
		return nil
	}
	return concerns
}

// concern notes what a look means for the concerns; violation is what it found
// wrong. A look that could not be taken does not say that the last one, which
// failed, would be good now.
func (t *checkTest) concern(i int, c Check, r *CheckResult, violation string) {
	about := Concern{Check: i, Metric: c.Metric, Unmeasured: true}
	if r.Err != "" {
		about.Text = fmt.Sprintf("%s could not be read: %s", c.Metric, r.Err)
		t.Concerns = noted(t.Concerns, about)
		return
	}
	t.Concerns = noted(t.Concerns, about)
	if c.Severity == Warn {
		t.Concerns = noted(t.Concerns, Concern{Check: i, Metric: c.Metric, Text: violation})
	}
}

// noted returns the concerns with c in the place of the same one; without it when
// there is nothing to say. It leaves the list as it is.
func noted(concerns []Concern, c Concern) []Concern {
	at := slices.IndexFunc(concerns, c.Same)
	switch {
	case at < 0 && c.Text == "":
		return concerns
	case at < 0:
		return append(slices.Clip(concerns), c)
	}
	out := slices.Clone(concerns)
	if c.Text == "" {
		return orNil(slices.Delete(out, at, at+1))
	}
	out[at] = c
	return out
}
