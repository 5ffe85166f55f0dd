package analysis

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checkTest is what the judge knows of the checks and hooks of the user.
type checkTest struct {
	// Windows collect what the built-in checks look at next, one for each of
	// their intervals.
	Windows []checkWindow `json:"windows,omitempty"`
	// Latest looks of the present step, in the order of Policy.Checks.
	Latest []CheckResult `json:"latest,omitempty"`

	// Failed looks and hooks of the run, and what failed last.
	Failed int    `json:"failed"`
	Last   string `json:"last,omitempty"`
	// Kind of what failed last: Checked or Hook.
	Kind Kind `json:"kind,omitempty"`
	// Aborted says which check of severity Abort failed; it stays.
	Aborted string `json:"aborted,omitempty"`
	// Warnings counts failed looks of severity Warn.
	Warnings int    `json:"warnings,omitempty"`
	Warning  string `json:"warning,omitempty"`
	// Concerns stand until a look ends them, over the steps.
	Concerns []Concern `json:"concerns,omitempty"`

	// A failed hook holds the step until Policy.Interval passed without one:
	// HookFailing in the interval that began at HookSince, HookBad after it.
	HookSince   time.Time `json:"hookSince,omitzero"` // at first, when the step began
	HookFailing bool      `json:"hookFailing,omitempty"`
	HookBad     bool      `json:"hookBad,omitempty"`
}

// checkWindow is the traffic of one interval.
type checkWindow struct {
	Interval time.Duration `json:"interval"`
	Since    time.Time     `json:"since"`
	Counts   Counts        `json:"counts"` // the canary's direct requests included
	Canary   Histogram     `json:"canary"`
	Stable   Histogram     `json:"stable"`
	Own      Own           `json:"own,omitzero"` // without strata
}

// nextStep forgets the looks of the step before; what failed still counts.
func (t checkTest) nextStep(now time.Time) checkTest {
	return checkTest{
		Failed: t.Failed, Last: t.Last, Kind: t.Kind, Aborted: t.Aborted,
		Warnings: t.Warnings, Warning: t.Warning, Concerns: t.Concerns, HookSince: now,
	}
}

// observe adds samples, and looks where an interval is over or a value came.
func (t checkTest) observe(policy Policy, seen *Samples, now time.Time) checkTest {
	if t.HookSince.IsZero() || now.Before(t.HookSince) { // the latter: the clock was set back
		t.HookSince = now
	}
	begin := t.HookSince
	if now.Sub(begin) >= policy.Interval {
		t.HookSince, t.HookBad, t.HookFailing = now, t.HookFailing, false
	}
	if len(policy.Checks) == 0 {
		return t
	}
	latest := make([]CheckResult, len(policy.Checks))
	if len(t.Latest) == len(latest) { // else the plan was changed: look anew
		copy(latest, t.Latest)
	}
	t.Latest = latest
	for i := range latest {
		latest[i].Metric, latest[i].Severity = policy.Checks[i].Metric, policy.Checks[i].Severity
	}
	t.Concerns = standing(t.Concerns, policy.Checks)
	failed := t.lookAtTraffic(policy, seen, begin, now)
	for _, m := range seen.Measured {
		if m.Check < 0 || m.Check >= len(latest) || !policy.Checks[m.Check].External {
			continue // measured for a plan that was changed meanwhile
		}
		failed = append(failed, t.lookAt(m.Check, policy.Checks[m.Check], m, 0))
	}
	return t.note(policy, failed)
}

// finding is a look that failed.
type finding struct {
	check int
	text  string // "" = it did not
}

// lookAtTraffic collects traffic and looks at the built-in checks whose
// interval is over. A window that is new began when the step did.
func (t *checkTest) lookAtTraffic(policy Policy, seen *Samples, begin, now time.Time) []finding {
	var windows []checkWindow
	var failed []finding
	for i, c := range policy.Checks {
		interval := c.every(policy)
		if c.External || windowOf(windows, interval) != nil {
			continue
		}
		windows = append(windows, checkWindow{Interval: interval, Since: begin})
		w := &windows[len(windows)-1]
		if before := windowOf(t.Windows, interval); before != nil {
			*w = *before
		}
		if now.Before(w.Since) {
			w.Since = now
		}
		w.add(seen)
		if now.Sub(w.Since) >= interval {
			for k, c := range policy.Checks[i:] {
				if !c.External && c.every(policy) == interval {
					of := w.of(&c)
					failed = append(failed, t.lookAt(i+k, c, of.measure(c, now), of.Counts.CanaryRequests))
				}
			}
			*w = checkWindow{Interval: interval, Since: now}
		}
	}
	t.Windows = windows
	return failed
}

// windowOf is the window of an interval; nil without one. Windows are large, and
// so not passed by value.
func windowOf(windows []checkWindow, interval time.Duration) *checkWindow {
	for i := range windows {
		if windows[i].Interval == interval {
			return &windows[i]
		}
	}
	return nil
}

func (w *checkWindow) add(seen *Samples) {
	w.Counts = w.Counts.Add(seen.Counts)
	w.Counts.CanaryRequests += seen.DirectRequests
	w.Counts.CanaryFailures += seen.DirectFailures
	w.Canary.Merge(&seen.CanaryLatency)
	w.Canary.Merge(&seen.DirectLatency)
	w.Stable.Merge(&seen.StableLatency)
	w.Own.Counts = w.Own.Counts.Add(seen.Own.Counts)
	w.Own.CanaryLatency.Merge(&seen.Own.CanaryLatency)
	w.Own.StableLatency.Merge(&seen.Own.StableLatency)
}

// of is the traffic that a check is about. Limits of the canary alone hold for
// all that it answers. A comparison with stable takes requests that both sides
// got alike: users', and own load where there are none.
func (w *checkWindow) of(c *Check) *checkWindow {
	out := *w
	switch own := &w.Own; {
	case own.Requests() == 0:
	case c.ToStable == Margin{}:
		out.Counts.CanaryRequests += own.CanaryRequests
		out.Counts.CanaryFailures += own.CanaryFailures
		out.Canary.Merge(&own.CanaryLatency)
	case w.Counts.CanaryRequests == 0 || w.Counts.StableRequests == 0:
		out.Counts, out.Canary, out.Stable = own.Counts, own.CanaryLatency, own.StableLatency
	}
	return &out
}

// lookAt notes one look. Without a value an earlier look stays as it was: it
// neither passes nor fails. An error takes a pass back.
func (t *checkTest) lookAt(i int, c Check, m Measured, requests int64) finding {
	m.HasCanary, m.HasStable = m.HasCanary && !m.Canary.none(), m.HasStable && !m.Stable.none()
	r := CheckResult{
		Metric: c.Metric, Severity: c.Severity, Requests: requests,
		Err: m.Err, At: m.At,
	}
	if m.HasCanary {
		r.Canary = m.Canary
	}
	r.Least, r.Most = c.bounds(m)
	switch {
	case m.Err != "":
	case !m.HasCanary || (r.Least == nil && r.Most == nil):
		return finding{}
	default:
		r.Verdict = Pass
	}
	if m.HasStable {
		r.Stable = &m.Stable
	}
	f := finding{check: i}
	if r.Verdict == Pass {
		if f.text = r.violation(); f.text != "" {
			r.Verdict = Fail
		}
	}
	t.Latest[i] = r
	t.concern(i, c, &r, f.text)
	return f
}

// note counts the failed looks of one moment, as one.
func (t checkTest) note(policy Policy, failed []finding) checkTest {
	counted := false
	for _, f := range failed {
		if f.text == "" {
			continue
		}
		switch policy.Checks[f.check].Severity {
		case Warn:
			t.Warnings++
			t.Warning = f.text
		case Abort:
			if t.Aborted == "" {
				t.Aborted = f.text
			}
		case Count:
			if !counted {
				counted = true
				t.Failed++
				t.Last, t.Kind = f.text, Checked
			}
		}
	}
	return t
}

// hookFailed counts a hook as one failed look.
func (t checkTest) hookFailed(what string) checkTest {
	t.Failed++
	t.HookBad, t.HookFailing = true, true
	t.Last, t.Kind = what, Hook
	return t
}

// verdict fails the canary when the checks are reason enough.
func (t *checkTest) verdict(policy Policy) failure {
	switch {
	case t.Aborted != "":
		return failure{Kind: Checked, AtOnce: true, Reason: t.Aborted + " (aborts at once)"}
	case t.Failed >= max(1, policy.FailureLimit):
		return failure{Kind: t.Kind, Reason: t.lastFailed(policy)}
	}
	return failure{}
}

func (t *checkTest) lastFailed(policy Policy) string {
	return fmt.Sprintf("%s (failed check %d of %d)", t.Last, t.Failed, max(1, policy.FailureLimit))
}

// bad reports whether the latest look at something that counts failed.
func (t *checkTest) bad() bool {
	return t.HookBad || slices.ContainsFunc(t.Latest, func(r CheckResult) bool {
		return r.Severity != Warn && r.Verdict == Fail
	})
}

// text says what the checks still wait for, or what they saw that passed.
func (t *checkTest) text(policy Policy) (wait, passed string) {
	if t.bad() {
		return t.lastFailed(policy), ""
	}
	var seen []string
	var requests int64
	for i, c := range policy.Checks {
		var r CheckResult
		if i < len(t.Latest) {
			r = t.Latest[i]
		}
		switch {
		case r.Verdict == Pass:
			seen = append(seen, string(r.Metric)+" "+short(r.Canary)+r.Metric.unit())
			requests = max(requests, r.Requests)
		case c.Severity == Warn: // nothing waits for it
		case r.Err != "":
			return fmt.Sprintf("%s could not be read: %s", c.Metric, r.Err), ""
		case c.External:
			return fmt.Sprintf("%s has no value yet at this share", c.Metric), ""
		default:
			return fmt.Sprintf("the checks are looked at every %v, and were not yet at this share", c.every(policy)), ""
		}
	}
	passed = strings.Join(seen, ", ")
	if requests > 0 {
		passed += fmt.Sprintf(" over %d requests", requests)
	}
	return "", passed
}

// results are the latest looks, for others to keep.
func (t *checkTest) results() []CheckResult { return slices.Clone(t.Latest) }

// every is the time between two looks.
func (c *Check) every(policy Policy) time.Duration {
	if c.Interval > 0 {
		return c.Interval
	}
	return policy.Interval
}

// measure is a look at what the window collected.
func (w *checkWindow) measure(c Check, now time.Time) Measured {
	m := Measured{At: now}
	quantile := func(q float64) {
		m.HasCanary, m.HasStable = w.Canary.Count() > 0, w.Stable.Count() > 0
		m.Canary = Value(w.Canary.Quantile(q)) / Value(time.Millisecond)
		m.Stable = Value(w.Stable.Quantile(q)) / Value(time.Millisecond)
	}
	rate := func(of func(float64) float64) {
		m.HasCanary, m.HasStable = w.Counts.CanaryRequests > 0, w.Counts.StableRequests > 0
		m.Canary, m.Stable = Value(of(w.Counts.CanaryRate())), Value(of(w.Counts.StableRate()))
	}
	switch c.Metric {
	case SuccessRate:
		rate(func(failed float64) float64 { return 100 * (1 - failed) })
	case ErrorRate:
		rate(func(failed float64) float64 { return 100 * failed })
	case DurationP50:
		quantile(0.50)
	case DurationP90:
		quantile(0.90)
	case DurationP95:
		quantile(0.95)
	case DurationP99:
		quantile(0.99)
	}
	m.HasStable = m.HasStable && c.ToStable != Margin{}
	return m
}

// bounds are the narrower of the absolute and the relative ones. Without
// stable's value the relative ones do not limit; an infinite one is the bound
// itself, whatever the margin.
func (c *Check) bounds(m Measured) (least, most *Value) {
	least, most = (*Value)(c.Min), (*Value)(c.Max)
	if !m.HasStable {
		return least, most
	}
	relative := func(margin float64) Value {
		switch {
		case math.IsInf(float64(m.Stable), 0):
			return m.Stable
		case c.ToStable.InPercent:
			return m.Stable + Value(margin)*(m.Stable/100)
		}
		return m.Stable + Value(margin)
	}
	if c.ToStable.Min != nil {
		if v := relative(*c.ToStable.Min); least == nil || v > *least {
			least = &v
		}
	}
	if c.ToStable.Max != nil {
		if v := relative(*c.ToStable.Max); most == nil || v < *most {
			most = &v
		}
	}
	return least, most
}

// violation says what is wrong with the value; "" when nothing is.
func (r *CheckResult) violation() string {
	var text string
	unit := r.Metric.unit()
	switch {
	case r.Least != nil && r.Canary < *r.Least:
		text = fmt.Sprintf("%s is %s%s, at least %s%s is asked for", r.Metric, short(r.Canary), unit, short(*r.Least), unit)
	case r.Most != nil && r.Canary > *r.Most:
		text = fmt.Sprintf("%s is %s%s, at most %s%s is allowed", r.Metric, short(r.Canary), unit, short(*r.Most), unit)
	default:
		return ""
	}
	if r.Stable != nil {
		text += fmt.Sprintf(" where stable has %s%s", short(*r.Stable), unit)
	}
	if r.Requests > 0 {
		text += fmt.Sprintf(" over %d requests", r.Requests)
	}
	return text
}

func (m Metric) unit() string {
	switch m {
	case SuccessRate, ErrorRate:
		return " %"
	case DurationP50, DurationP90, DurationP95, DurationP99:
		return " ms"
	}
	return ""
}

// short writes a number for people: three significant digits.
func short[F ~float64](v F) string {
	if v >= 100 || v <= -100 {
		return strconv.FormatFloat(float64(v), 'f', 0, 64)
	}
	return strconv.FormatFloat(float64(v), 'g', 3, 64)
}
