package controller

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

// Check reports what makes a Release impossible to work with, for the moment
// at which it is applied: each line names a field and what to change. Other
// objects are not looked at, because they may be applied later.
func Check(r *v1alpha1.Release) error {
	_, err := planOf(&r.Spec)
	return withoutEchoes(err, kube.CheckNames(r), checkReferences(r), checkRoutes(r))
}

// PlanOf reads how a Release wants its runs to go. The Release must have its
// defaults. Errors name the field and what to change, one line each.
func PlanOf(r *v1alpha1.Release) (rollout.Plan, error) { return planOf(&r.Spec) }

// Plan is how a Release wants its runs to go, for those who predict one. Unset
// fields must have the defaults that the API gives them.
func Plan(spec *v1alpha1.ReleaseSpec) (rollout.Plan, error) { return planOf(spec) }

// planOf reads the plan of a Release. Errors name the field and what to
// change, one line each; the API's own schema has refused what it can before.
func planOf(spec *v1alpha1.ReleaseSpec) (rollout.Plan, error) {
	r := &specReader{spec: spec}
	p := rollout.Plan{
		Strategy:       rollout.Strategy(spec.Strategy),
		Worker:         spec.Worker(),
		Steps:          r.shares("spec.steps", v1alpha1.Texts(spec.Steps)),
		Hold:           spec.Hold.Duration,
		Iterations:     int(spec.Iterations),
		PromotionSteps: r.shares("spec.promotionSteps", v1alpha1.Texts(spec.PromotionSteps)),
		AbortSteps:     r.shares("spec.abortSteps", v1alpha1.Texts(spec.AbortSteps)),
		AbortHold:      spec.AbortHold.Duration,
		Gates:          r.gates(),
		Skip:           spec.Judge.Skip,
		KeepWarm:       spec.KeepWarm.Duration,
		Deadline:       spec.ProgressDeadline.Duration,
		StepDeadline:   spec.StepDeadline.Duration,
		Policy:         r.policy(),
		Load:           r.load(),
	}
	if spec.Mirror != nil {
		p.Mirror = r.share("spec.mirror.share", spec.Mirror.Share.String())
	} else if p.Strategy == rollout.Mirror {
		p.Mirror = rollout.All
	}
	for _, w := range spec.Webhooks {
		p.Hooks = append(p.Hooks, rollout.Hook{Name: w.Name, Type: rollout.HookType(w.Type), Expires: w.Expires.Duration})
	}
	r.users()
	r.autoscaler()
	r.gateways()
	r.texts()
	if err := withoutEchoes(errors.Join(r.errs...), p.Validate()); err != nil {
		return rollout.Plan{}, err
	}
	return p, nil
}

// autoscaler checks what the API's schema cannot.
func (r *specReader) autoscaler() {
	a := r.spec.Autoscaler
	if a == nil {
		return
	}
	if r.spec.Strategy == string(rollout.Replicas) {
		r.wrong("spec.autoscaler", "with strategy Replicas the pods are the shares, and nobody else may set their number: choose another strategy, or remove it")
	}
	if a.MinReplicas != nil && a.MaxReplicas != nil && *a.MinReplicas > *a.MaxReplicas {
		r.wrong("spec.autoscaler.maxReplicas", "%d is less than minReplicas, %d", *a.MaxReplicas, *a.MinReplicas)
	}
	if a.Kind != v1alpha1.KindScaledObject && len(a.Queries) > 0 {
		r.wrong("spec.autoscaler.queries", "are for a ScaledObject: a %s has none", a.Kind)
	}
}

// specReader reads what a spec says in text, and collects what it cannot read.
type specReader struct {
	spec *v1alpha1.ReleaseSpec
	errs []error
}

func (r *specReader) wrong(field, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(field+": "+format, args...))
}

// number reads a number that counts in units of per; 0 without text.
func (r *specReader) number(field, text string, per float64) float64 {
	if text == "" {
		return 0
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		r.wrong(field, "%q is not a number", text)
	}
	return v / per
}

// bound reads a limit; nil without one.
func (r *specReader) bound(field, text string) *float64 {
	if text == "" {
		return nil
	}
	v := r.number(field, text, 1)
	return &v
}

func (r *specReader) share(field, text string) rollout.Share {
	s, err := rollout.ParseShare(text)
	if err != nil {
		r.wrong(field, "%v", err)
	}
	return s
}

func (r *specReader) shares(field string, texts []string) []rollout.Share {
	var out []rollout.Share
	for i, text := range texts {
		out = append(out, r.share(fmt.Sprintf("%s[%d]", field, i), text))
	}
	return out
}

// warmupRequests are how many requests the canary has to have answered, too,
// before its durations are compared: where few come, caches stay cold longer.
const warmupRequests = 50

func (r *specReader) policy() analysis.Policy {
	j := &r.spec.Judge
	p := analysis.Policy{
		FalseAlarm:       r.number("spec.judge.falseAlarm", j.FalseAlarm, 1),
		Tolerance:        r.number("spec.judge.tolerance", j.Tolerance, 100),
		Confidence:       r.number("spec.judge.confidence", j.Confidence, 100),
		LatencyTolerance: r.number("spec.judge.latency.tolerance", strings.TrimSuffix(j.Latency.Tolerance, "%"), 100),
		Warmup:           j.Latency.WarmUp.Duration,
		WarmupRequests:   warmupRequests,
		FailureLimit:     int(j.FailureLimit),
		Interval:         j.Interval.Duration,
	}
	if j.Budget != nil {
		p.Budget = j.Budget.FailedRequests
	}
	for i, c := range j.Checks {
		p.Checks = append(p.Checks, r.check(fmt.Sprintf("spec.judge.checks[%d]", i), &c))
	}
	return p
}

func (r *specReader) check(field string, c *v1alpha1.Check) analysis.Check {
	out := analysis.Check{
		Metric:   analysis.Metric(c.Metric),
		External: measuredBy(c) != "",
		Min:      r.bound(field+".min", c.Min),
		Max:      r.bound(field+".max", c.Max),
		Interval: c.Interval.Duration,
	}
	if c.Template != nil && c.Scrape != nil {
		r.wrong(field, "template and scrape both say how it is measured: remove one of them")
	}
	if c.Severity != "" {
		if err := out.Severity.UnmarshalText([]byte(c.Severity)); err != nil {
			r.wrong(field+".severity", "%v", err)
		}
	}
	if t := c.ToStable; t != nil {
		at := field + ".toStable"
		out.ToStable = analysis.Margin{
			Min:       r.bound(at+".min", strings.TrimSuffix(t.Min, "%")),
			Max:       r.bound(at+".max", strings.TrimSuffix(t.Max, "%")),
			InPercent: strings.HasSuffix(t.Min+t.Max, "%"),
		}
		if t.Min != "" && t.Max != "" && strings.HasSuffix(t.Min, "%") != strings.HasSuffix(t.Max, "%") {
			r.wrong(at, "min and max must both be percent of stable's value, or both be in the metric's unit")
		}
	}
	return out
}

func (r *specReader) gates() []rollout.Gate {
	var out []rollout.Gate
	for i, g := range r.spec.Gates {
		gate := rollout.Gate{Name: g.Name, At: rollout.Point(g.At), Step: int(g.Step)}
		if g.Manual != nil {
			gate.Manual, gate.Approvers, gate.Expires = true, g.Manual.Approvers, g.Manual.Expires.Duration
		}
		if g.Window != nil {
			gate.Window = r.window(fmt.Sprintf("spec.gates[%d].window", i), g.Window)
		}
		out = append(out, gate)
	}
	return out
}

var weekdays = map[string]time.Weekday{
	"Sun": time.Sunday, "Mon": time.Monday, "Tue": time.Tuesday, "Wed": time.Wednesday,
	"Thu": time.Thursday, "Fri": time.Friday, "Sat": time.Saturday,
}

func (r *specReader) window(field string, w *v1alpha1.Window) *rollout.Window {
	out := &rollout.Window{From: r.clock(field+".from", w.From), To: r.clock(field+".to", w.To), Zone: w.Zone}
	var err error
	if out.Location, err = time.LoadLocation(w.Zone); err != nil {
		r.wrong(field+".zone", "%q is no time zone of the IANA database: use one such as Europe/Berlin", w.Zone)
	}
	for i, name := range w.Days {
		d, ok := weekdays[name]
		if !ok {
			r.wrong(fmt.Sprintf("%s.days[%d]", field, i), "%q is no day: use Mon, Tue, Wed, Thu, Fri, Sat or Sun", name)
		}
		out.Days = append(out.Days, d)
	}
	return out
}

// clock reads a time of the day.
func (r *specReader) clock(field, text string) time.Duration {
	t, err := time.Parse("15:04", text)
	if err != nil {
		r.wrong(field, "%q is no time: use one such as 09:00", text)
		return 0
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
}

// users checks the fields that say which users meet the canary.
func (r *specReader) users() {
	s := r.spec
	if s.Worker() && (len(s.Preview) > 0 || s.Cohort != nil || s.SessionAffinity != nil) {
		r.wrong("spec.service", "is missing, and without it nobody's requests are routed: remove spec.preview, spec.cohort and spec.sessionAffinity")
	}
	byMatch := s.Strategy == string(rollout.ABTest)
	if byMatch && len(s.Match) == 0 {
		r.wrong("spec.match", "is missing: say whose requests get the canary, such as [{headers: {x-canary: {exact: insider}}}]")
	}
	if !byMatch && len(s.Match) > 0 {
		r.wrong("spec.match", "is for strategy: ABTest alone: for testers use spec.preview")
	}
	if c := s.Cohort; c != nil {
		if (c.Header == "") == (c.Cookie == "") {
			r.wrong("spec.cohort", "set header or cookie, one of them")
		}
		if s.SessionAffinity != nil {
			r.wrong("spec.sessionAffinity", "spec.cohort keeps users on their version already: remove one of the two")
		}
	}
}

// tick is how often a run is looked at without being woken: people read "12 s
// left", and evidence is complete on time. Failures wake the loop at once.
const tick = 250 * time.Millisecond
