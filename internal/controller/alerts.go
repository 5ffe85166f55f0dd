package controller

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/notify"
	"serin.dev/serin/internal/rollout"
)

// mostAlerts bounds those that wait for a chat system that does not answer; the
// oldest are given up. A run tells of a dozen things.
const mostAlerts = 64

// alerts tells chat systems what happens to one release, beside the loop: each
// of them one message at a time, in order. Nothing waits for it, and nothing is
// decided by it.
type alerts struct {
	// read finds an AlertProvider with its credentials.
	read func(ctx context.Context, namespace, name string) (notify.Config, error)

	mu    sync.Mutex
	boxes map[string]*outbox // by the alert's name in the spec
}

// outbox is what one chat system is still to be told.
type outbox struct {
	waiting []message
	busy    bool
	broken  bool // the last message was not taken, which was told
}

type message struct {
	to    v1alpha1.ObjectRef
	alert notify.Alert
	lost  func(error) // says that it could not be sent
}

// tell sends an alert to all who want to hear of its severity.
func (a *alerts) tell(ctx context.Context, r *v1alpha1.Release, alert notify.Alert, lost func(name string, err error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, want := range r.Spec.Alerts {
		least, err := notify.ParseSeverity(want.Severity)
		if err != nil || !alert.Severity.Reaches(least) { // the error: the API's schema refuses it
			continue
		}
		to := want.Provider
		if to.Namespace == "" {
			to.Namespace = r.Namespace
		}
		if a.boxes == nil {
			a.boxes = map[string]*outbox{}
		}
		box := a.boxes[want.Name]
		if box == nil {
			box = &outbox{}
			a.boxes[want.Name] = box
		}
		box.waiting = append(box.waiting, message{to, alert, func(err error) { lost(want.Name, err) }})
		box.waiting = box.waiting[max(0, len(box.waiting)-mostAlerts):]
		if !box.busy {
			box.busy = true
			go a.empty(ctx, box)
		}
	}
}

// idle reports whether nothing waits, nor is on its way.
func (a *alerts) idle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, box := range a.boxes {
		if box.busy {
			return false
		}
	}
	return true
}

// empty sends what waits, until nothing does.
func (a *alerts) empty(ctx context.Context, box *outbox) {
	for {
		a.mu.Lock()
		if len(box.waiting) == 0 || ctx.Err() != nil {
			box.busy = false
			a.mu.Unlock()
			return
		}
		m := box.waiting[0]
		box.waiting = box.waiting[1:]
		a.mu.Unlock()

		err := a.send(ctx, m)

		a.mu.Lock()
		news := err != nil && !box.broken && ctx.Err() == nil
		box.broken = err != nil
		a.mu.Unlock()
		if news {
			m.lost(err)
		}
	}
}

func (a *alerts) send(ctx context.Context, m message) error {
	config, err := a.read(ctx, m.to.Namespace, m.to.Name)
	if err != nil {
		return err
	}
	sender, err := notify.New(config)
	if err != nil {
		return fmt.Errorf("AlertProvider %s/%s: %w", m.to.Namespace, m.to.Name, err)
	}
	return sender.Send(ctx, m.alert)
}

// alert tells who wants to know of an event, unless its hook is muted.
func (d *Deliver) alert(ctx context.Context, rel *kube.Delivery, run *delivery, e rollout.Event) {
	if muted(rel.Release, &e) {
		return
	}
	run.alerts.tell(ctx, rel.Release, alertOf(rel.Release, run, e), d.untold(rel.Release.DeepCopy()))
}

// untold says, as an event, that an alert was lost.
func (d *Deliver) untold(r *v1alpha1.Release) func(name string, err error) {
	return func(name string, err error) {
		d.Log.Warn("alert was not sent", "namespace", r.Namespace, "release", r.Name, "alert", name, "err", err)
		d.API.Event(r, true, "AlertNotSent", fmt.Sprintf("alert %s: %v", name, err))
	}
}

// muted reports whether an event tells of nothing but the failure of a webhook
// with muteAlert.
func muted(r *v1alpha1.Release, e *rollout.Event) bool {
	switch e.Reason {
	case "CheckFailed", "HookFailed", "EventNotDelivered", "GateClosed":
	default:
		return false // the end of a run is told, whatever led to it
	}
	for _, w := range r.Spec.Webhooks {
		about := "webhook " + w.Name
		if w.MuteAlert && (strings.Contains(e.Message, about+" failed") || strings.Contains(e.Message, about+" says no")) {
			return true
		}
	}
	return false
}

// severityOf says how much an event matters to people.
func severityOf(e *rollout.Event) notify.Severity {
	switch {
	case e.Warning && (e.Reason == "RollingBack" || e.Reason == "RunEnded" || e.Reason == "DeadlineExceeded"):
		return notify.Error
	case e.Warning, e.Reason == "GateAsked", e.Reason == "GateClosed": // these wait for somebody
		return notify.Warn
	}
	return notify.Info
}

// alertOf makes an alert of an event, in the wording of people, with the
// evidence that there was.
func alertOf(r *v1alpha1.Release, run *delivery, e rollout.Event) notify.Alert {
	a := notify.Alert{Release: r.Name, Namespace: r.Namespace, Severity: severityOf(&e), Title: e.Message}
	field := func(name, format string, args ...any) {
		a.Fields = append(a.Fields, notify.Field{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	if e.Canary == "" {
		return a // between runs
	}
	field("Version", "%s → %s", nameOf(run.journal.From), nameOf(run.journal.To))
	if e.Step > 0 {
		field("Step", "%d of %d", e.Step, e.Steps)
	}
	switch t := e.Traffic; {
	case t.Match:
		field("Traffic", "%v of the matched users", t.Share)
	case t.Mirror > 0:
		field("Traffic", "copies of %v", t.Mirror)
	default:
		field("Traffic", "%v", t.Share)
	}
	v := &e.Evidence
	if v.Counts.Requests() > 0 {
		field("Verdict", "%v", v.Verdict)
		field("Requests", "canary: %d of %d failed (%s), stable: %d of %d (%s)",
			v.Counts.CanaryFailures, v.Counts.CanaryRequests, percent(v.Counts.CanaryRate()),
			v.Counts.StableFailures, v.Counts.StableRequests, percent(v.Counts.StableRate()))
		field("Evidence", "%s", evidenceText(v))
		field("Cost", "about %.0f failed requests", v.Cost)
	}
	for _, c := range v.Checks {
		field(string(c.Metric), "%s", checkText(&c))
	}
	return a
}

func percent(part float64) string { return strconv.FormatFloat(100*part, 'g', 3, 64) + " %" }

// evidenceText is the e-value beside the limit at which the canary fails.
func evidenceText(v *analysis.Evidence) string {
	out := "e-value " + fromLog(v.LogE)
	if v.FalseAlarm > 0 {
		out += ", fails at " + fromLog(-math.Log(v.FalseAlarm))
	}
	return out
}

// fromLog writes a number of which the natural logarithm is given.
func fromLog(l float64) string {
	if l > 300 { // beyond what a float64 holds, and what anybody reads
		return fmt.Sprintf("10^%.0f", l/math.Ln10)
	}
	return strconv.FormatFloat(math.Exp(l), 'g', 4, 64)
}

// checkText is a check's value with the bounds that held for it.
func checkText(c *analysis.CheckResult) string {
	if c.Err != "" {
		return c.Err
	}
	if c.Verdict == analysis.NoData {
		return "no value"
	}
	out := number(c.Canary)
	if c.Stable != nil {
		out += ", stable " + number(*c.Stable)
	}
	if c.Least != nil {
		out += ", at least " + number(*c.Least)
	}
	if c.Most != nil {
		out += ", at most " + number(*c.Most)
	}
	return out + ": " + c.Verdict.String()
}

func number(v analysis.Value) string { return strconv.FormatFloat(float64(v), 'g', 4, 64) }
