package live

import (
	"strconv"
	"strings"
	"time"

	"serin.dev/serin/api/v1alpha1"
)

// Phases of a Release, as its status names them.
const (
	PhaseInitializing = "Initializing"
	PhaseIdle         = "Idle"
	PhaseStarting     = "Starting"
	PhaseProgressing  = "Progressing"
	PhasePromoting    = "Promoting"
	PhaseFinalizing   = "Finalizing"
	PhaseRollingBack  = "RollingBack"
)

// Outcomes of a run.
const (
	Promoted   = "promoted"
	RolledBack = "rolled-back"
	Aborted    = "aborted"
)

// Event is something that happened to the Release.
type Event struct {
	Time    time.Time
	Warning bool
	Reason  string // one word
	Message string
}

// View is everything that one picture of a Release shows.
type View struct {
	Release *v1alpha1.Release
	Events  []Event // oldest first; the last MaxEvents are shown
	Notice  string  // why the picture may be old; "" usually

	Now   time.Time // its location is the one in which times are shown
	Width int       // columns at most; 0: as many as it takes
	Color bool
}

// MaxEvents is how many events a View shows: enough for the course of a run
// without pushing it off a small terminal.
const MaxEvents = 6

// labelWidth is the width of the column on the left.
const labelWidth = 10

// barWidth is the width of the progress bar in columns.
const barWidth = 24

// Running tells whether a run is going on.
func Running(r *v1alpha1.Release) bool { return r.Status.Canary.Revision != "" }

// Lines draws the view.
func (v View) Lines() []string {
	lines := []line{v.title(), nil}
	if Running(v.Release) {
		lines = append(lines, v.run()...)
	} else {
		lines = append(lines, v.rest()...)
	}
	lines = append(lines, v.events()...)
	if v.Notice != "" {
		lines = append(lines, nil, line{painted(yellow, v.Notice)})
	}
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = l.render(v.Width, v.Color)
	}
	return out
}

// title names the release and its versions, the phase at the right.
func (v View) title() line {
	s := v.Release.Status
	stable, canary := VersionNames(s.Stable, s.Canary)
	l := line{painted(bold, v.Release.Name)}
	switch {
	case canary != "" && stable != "":
		l = l.with(text("  "+stable+" → "), painted(bold, canary))
	case stable != "":
		l = l.with(text("  " + stable))
	}
	phase := s.Phase
	if phase == "" {
		phase = "Unknown"
	}
	if v.Release.Spec.Suspend {
		phase += " (suspended)"
	}
	gap := 3
	if v.Width > 0 {
		gap = max(3, min(v.Width, 80)-l.cells()-cells(phase))
	}
	return l.with(text(strings.Repeat(" ", gap)), painted(phasePaint(s.Phase), phase))
}

func phasePaint(phase string) paint {
	switch phase {
	case PhaseRollingBack:
		return red
	case PhasePromoting, PhaseFinalizing:
		return green
	case PhaseStarting, PhaseProgressing, PhaseInitializing:
		return cyan
	default:
		return dim
	}
}

func labelled(label string, rest ...span) line {
	return line{text("  "), painted(dim, pad(label, labelWidth))}.with(rest...)
}

// run draws a run that is going on.
func (v View) run() []line {
	s := v.Release.Status
	stable, canary := VersionNames(s.Stable, s.Canary)
	lines := []line{
		v.steps(),
		labelled("split", split(s.Split)...),
		samples("canary", canary, s.Samples.Canary, s.Samples.Stable),
		samples("stable", stable, s.Samples.Stable, v1alpha1.Count{}),
	}
	verdict := s.Verdict
	if verdict == "" {
		verdict = "NoData"
	}
	l := labelled("verdict", painted(verdictPaint(verdict), verdict))
	if s.Evidence != "" {
		l = l.with(text("  " + s.Evidence))
	}
	return append(append(lines, l), v.waiting()...)
}

func verdictPaint(verdict string) paint {
	switch verdict {
	case "Pass":
		return green
	case "Fail":
		return red
	case "Collecting":
		return yellow
	default:
		return dim
	}
}

// steps draws the way from the first step to promotion: what is done, what is
// under judgement, what is to come.
func (v View) steps() line {
	steps, at := v.Release.Spec.Steps, int(v.Release.Status.Step)
	n := len(steps)
	if n == 0 {
		return labelled("step", text(v.Release.Status.StepText))
	}
	done, current := at-1, at
	switch v.Release.Status.Phase {
	case PhasePromoting, PhaseFinalizing:
		done, current = n, n
	case PhaseRollingBack:
		done, current = 0, 0
	}
	cell := func(step int) int { return barWidth * max(0, min(step, n)) / n }
	position := "-"
	if at > 0 {
		position = strconv.Itoa(at) + "/" + strconv.Itoa(n)
	}
	l := labelled("step",
		text(pad(position, 6)),
		painted(green, strings.Repeat("█", cell(done))),
		painted(cyan, strings.Repeat("▒", cell(current)-cell(done))),
		painted(dim, strings.Repeat("░", barWidth-cell(current))),
		text("  "))
	for i, share := range steps {
		if i > 0 {
			l = l.with(painted(dim, " → "))
		}
		if i+1 == at && current == at {
			l = l.with(painted(bold, "["+Percent(share)+"]"))
		} else {
			l = l.with(painted(dim, Percent(share)))
		}
	}
	return l
}

func split(s v1alpha1.Split) []span {
	m := measured(s)
	if m == "" {
		m = "-"
	}
	acked := plain
	if s.Acked != s.Asked {
		acked = yellow
	}
	return []span{
		text("asked " + Percent(s.Asked)),
		painted(acked, "   acked "+Percent(s.Acked)),
		text("   measured " + m),
	}
}

// samples draws one side; its failures are red when they are a larger share
// than the other side's.
func samples(side, version string, c, other v1alpha1.Count) line {
	p := plain
	if c.Failures > 0 && c.Failures*max(1, other.Requests) > other.Failures*c.Requests && side == "canary" {
		p = red
	}
	return labelled(side,
		text(pad(version, 10)),
		text(padLeft(count(c.Requests, "request"), 16)),
		painted(p, padLeft(number(c.Failures)+" failed", 16)+padLeft(Rate(c), 9)))
}

// waiting says what the engine waits for and how long it will at most.
func (v View) waiting() []line {
	s := v.Release.Status
	var lines []line
	if s.Reason != "" {
		lines = append(lines, labelled("now", text(s.Reason)))
	}
	if s.Deadline != nil && !s.Deadline.IsZero() {
		left := "overdue"
		if d := s.Deadline.Sub(v.Now); d > 0 {
			left = Span(d) + " left"
		}
		lines = append(lines, labelled("until", text(v.clock(s.Deadline.Time)+"  "+left)))
	}
	return lines
}

// rest draws a Release without a run: how the last one ended.
func (v View) rest() []line {
	s := v.Release.Status
	var lines []line
	if s.Reason != "" {
		lines = append(lines, labelled("now", text(s.Reason)))
	}
	if len(s.History) == 0 {
		return lines
	}
	if len(lines) > 0 {
		lines = append(lines, nil)
	}
	return append(lines, v.ended(&s.History[0])...)
}

// ended draws how a run ended and why.
func (v View) ended(run *v1alpha1.Run) []line {
	from, to := VersionNames(run.From, run.To)
	took := run.Ended.Sub(run.Started.Time)
	lines := []line{outcome(run).with(text(" in " + Span(took) + " at " + v.clock(run.Ended.Time)))}
	if c := run.Cause; c != nil {
		lines = append(lines, line{text("  " + c.Summary)})
		if c.Endpoint != "" {
			lines = append(lines,
				labelled("endpoint", text(c.Endpoint)),
				samples("", to, c.Canary, v1alpha1.Count{}),
				samples("", from, c.Stable, v1alpha1.Count{}))
		}
		if c.Example != nil {
			lines = append(lines, labelled("example", text(v.example(c.Example))))
		}
	} else if run.Reason != "" {
		lines = append(lines, line{text("  " + run.Reason)})
	}
	lines = append(lines, labelled("canary", text(count(run.Canary.Requests, "request")+", "+number(run.Canary.Failures)+" failed ("+Rate(run.Canary)+")")))
	if run.DecisionMillis > 0 {
		lines = append(lines, labelled("decided", text(Span(millis(run.DecisionMillis))+" after the first request to "+to)))
	}
	if run.EffectMillis > 0 {
		lines = append(lines, labelled("effect", text(Span(millis(run.EffectMillis))+" later on every proxy; "+
			count(run.CanaryRequestsAfterEffect, "request")+" to "+to+" after that")))
	}
	return lines
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// outcome says in words how a run ended.
func outcome(run *v1alpha1.Run) line {
	from, to := VersionNames(run.From, run.To)
	switch run.Outcome {
	case Promoted:
		return line{painted(green, "✓ promoted"), text(": " + to + " serves users")}
	case RolledBack:
		return line{painted(red, "✗ rolled back"), text(": " + to + " is out, " + from + " serves users")}
	case Aborted:
		return line{painted(yellow, "✗ aborted"), text(": " + to + " is out, " + from + " serves users")}
	default:
		return line{text(run.Outcome + ": " + from + " → " + to)}
	}
}

func (v View) example(e *v1alpha1.Example) string {
	var b strings.Builder
	b.WriteString(e.Time.In(v.Now.Location()).Format("15:04:05.000") + "  " + e.Method + " " + e.Path)
	if e.Code > 0 {
		b.WriteString(" → " + strconv.Itoa(int(e.Code)))
	} else {
		b.WriteString(" → no answer")
	}
	add := func(before, what, after string) {
		if what != "" {
			b.WriteString(before + what + after)
		}
	}
	add(" (", e.Flags, ")")
	add(" in ", e.DurationMS, " ms")
	add(", from ", e.Source, "")
	add(" to ", e.Pod, "")
	add(", request ", e.RequestID, "")
	return b.String()
}

// events draws the latest events, oldest first.
func (v View) events() []line {
	events := v.Events[max(0, len(v.Events)-MaxEvents):]
	if len(events) == 0 {
		return nil
	}
	lines := []line{nil}
	for _, e := range events {
		lines = append(lines, v.event(e))
	}
	return lines
}

func (v View) event(e Event) line {
	p := dim
	if e.Warning {
		p = yellow
	}
	return line{painted(dim, v.clock(e.Time)+"  "), painted(p, pad(e.Reason, 14)), text("  " + e.Message)}
}

// clock writes the time of day, and the date where it is another day's.
func (v View) clock(t time.Time) string {
	t = t.In(v.Now.Location())
	if t.Format(time.DateOnly) != v.Now.Format(time.DateOnly) {
		return t.Format("Jan 2 15:04:05")
	}
	return t.Format(time.TimeOnly)
}
