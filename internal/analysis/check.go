package analysis

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// checkWindow collects what the checks look at next, and remembers their looks.
type checkWindow struct {
	Since   time.Time `json:"since,omitzero"`
	Counts  Counts    `json:"counts"`
	Latency Histogram `json:"latency"`

	// Looks of the present step that had data.
	Looks int `json:"looks"`
	// Bad: something failed in the latest window that is over, or in this
	// one (Failing). A window without data changes nothing.
	Bad     bool `json:"bad"`
	Failing bool `json:"failing"`
	// Failed looks and hooks of the run, and what failed last.
	Failed int    `json:"failed"`
	Last   string `json:"last,omitempty"`
	// Passed is what the latest look of the present step saw that passed.
	Passed string `json:"passed,omitempty"`
}

// observe adds samples, and looks when the interval is over. A window without
// requests of the canary is no look: it neither passes nor fails.
func (w checkWindow) observe(policy Policy, seen Samples, now time.Time) checkWindow {
	if w.Since.IsZero() || now.Before(w.Since) { // the latter: the clock was set back
		w.Since = now
	}
	if len(policy.Checks) > 0 {
		w.Counts = w.Counts.Add(seen.Counts)
		w.Counts.CanaryRequests += seen.DirectRequests
		w.Counts.CanaryFailures += seen.DirectFailures
		w.Latency.Merge(&seen.CanaryLatency)
		w.Latency.Merge(&seen.DirectLatency)
	}
	if now.Sub(w.Since) < policy.Interval {
		return w
	}
	values, failed := w.look(policy.Checks)
	data := values != ""
	if data {
		w.Looks++
		w.Passed = values
	}
	if failed != "" {
		w = w.fail(failed)
		w.Passed = ""
	}
	if data || len(policy.Checks) == 0 {
		w.Bad = w.Failing
	}
	w.Since, w.Counts, w.Latency, w.Failing = now, Counts{}, Histogram{}, false
	return w
}

// look says what there was to see, "" for nothing, and the first violation.
func (w *checkWindow) look(checks []Check) (values, failed string) {
	var seen []string
	over := fmt.Sprintf(" over %d requests", w.Counts.CanaryRequests)
	for _, c := range checks {
		value, ok := w.measure(c.Metric)
		if !ok {
			continue
		}
		seen = append(seen, fmt.Sprintf("%s %s%s", c.Metric, short(value), c.unit()))
		if msg := c.violation(value); msg != "" && failed == "" {
			failed = msg + over
		}
	}
	if len(seen) == 0 {
		return "", ""
	}
	return strings.Join(seen, ", ") + over, failed
}

// fail counts one failed look or hook.
func (w checkWindow) fail(what string) checkWindow {
	w.Failed++
	w.Bad, w.Failing = true, true
	w.Last = what
	return w
}

// measure returns the canary's value; false = no data.
func (w *checkWindow) measure(m Metric) (float64, bool) {
	switch m {
	case SuccessRate:
		return 100 * (1 - w.Counts.CanaryRate()), w.Counts.CanaryRequests > 0
	case DurationP99:
		ms := float64(w.Latency.Quantile(0.99)) / float64(time.Millisecond)
		return ms, w.Latency.Count() > 0
	}
	return 0, false
}

// violation says what is wrong with the value; "" when nothing is.
func (c Check) violation(value float64) string {
	unit := c.unit()
	switch {
	case c.Min != nil && value < *c.Min:
		return fmt.Sprintf("%s is %s%s, at least %s%s is asked for", c.Metric, short(value), unit, short(*c.Min), unit)
	case c.Max != nil && value > *c.Max:
		return fmt.Sprintf("%s is %s%s, at most %s%s is allowed", c.Metric, short(value), unit, short(*c.Max), unit)
	}
	return ""
}

func (c Check) unit() string {
	if c.Metric == DurationP99 {
		return " ms"
	}
	return " %"
}

// short writes a number for people: three significant digits.
func short(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
