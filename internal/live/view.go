package live

import (
	"strconv"
	"strings"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/rollout"
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
func Running(r *v1alpha1.Release) bool {
	switch rollout.Phase(r.Status.Phase) {
	case rollout.Starting, rollout.Testing, rollout.Progressing, rollout.Promoting, rollout.Finalizing, rollout.RollingBack:
		return true
	case rollout.Initializing, rollout.Idle:
	}
	return false // also for a phase of a later version
}

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
		lines = append(lines, nil)
		lines = append(lines, wrap(nil, v.Notice, v.Width)...)
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
	switch {
	case s.Frozen != "":
		phase += " (frozen)"
	case v.Release.Spec.Suspend:
		phase += " (suspended)"
	}
	gap := 3
	if v.Width > 0 {
		gap = max(3, min(v.Width, 80)-l.cells()-cells(phase))
	}
	return l.with(text(strings.Repeat(" ", gap)), painted(phasePaint(s.Phase), phase))
}

func phasePaint(phase string) paint {
	switch rollout.Phase(phase) {
	case rollout.RollingBack:
		return red
	case rollout.Promoting, rollout.Finalizing:
		return green
	case rollout.Starting, rollout.Testing, rollout.Progressing, rollout.Initializing:
		return cyan
	case rollout.Idle:
	}
	return dim // also for a phase of a later version
}

func labelled(label string, rest ...span) line {
	return line{text("  "), painted(dim, pad(label, labelWidth))}.with(rest...)
}

// run draws a run that is going on.
func (v View) run() []line {
	s := v.Release.Status
	stable, canary := VersionNames(s.Stable, s.Canary)
	lines := []line{v.steps(), labelled("split", split(s.Split)...)}
	if v.Release.Spec.Strategy == string(rollout.ABTest) {
		lines[1] = lines[1].with(text("   of the matched users"))
	}
	lines = append(lines, sides([2]string{"canary", "stable"}, canary, stable, s.Samples.Canary, s.Samples.Stable)...)
	if own := s.Samples.Own; own != (v1alpha1.OwnSamples{}) {
		lines = append(lines, labelled("own load", text(number(own.Canary.Requests)+" of those to "+canary+", "+number(own.Stable.Requests)+" of those to "+stable)))
	}
	verdict := s.Verdict
	if verdict == "" {
		verdict = "NoData"
	}
	lines = append(lines, wrap(labelled("verdict", painted(verdictPaint(verdict), verdict), text("  ")), evidence(&s), v.Width)...)
	for _, warning := range s.Warnings {
		if !strings.Contains(s.Evidence, warning) {
			lines = append(lines, wrap(labelled("warning"), warning, v.Width)...)
		}
	}
	lines = append(lines, v.strategy()...)
	lines = append(lines, v.waiting()...)
	lines = append(lines, v.set()...)
	return append(lines, v.asked()...)
}

// evidence is what the verdict rests on, without the verdict's own word.
func evidence(s *v1alpha1.ReleaseStatus) string {
	return strings.TrimPrefix(s.Evidence, "collecting evidence: ")
}

// ReasonAtStep is the reason for where the step is told beside it: without it.
func ReasonAtStep(s *v1alpha1.ReleaseStatus) string {
	step, rest, ok := strings.Cut(s.Reason, ": ")
	if ok && (strings.HasPrefix(step, "step ") && s.Step > 0 || strings.HasPrefix(step, "test (")) {
		return rest
	}
	return s.Reason
}

// reason is what the release waits for, without what the lines about its step
// and its verdict say already.
func reason(s *v1alpha1.ReleaseStatus) string {
	r := ReasonAtStep(s)
	told := s.Evidence
	if told == "" && len(s.History) > 0 {
		told = s.History[0].Reason
	}
	before, after, found := strings.Cut(r, told)
	if told == "" || !found {
		return r
	}
	before, after = strings.TrimSuffix(before, ": "), strings.TrimPrefix(after, ": ")
	if before == "not enough evidence" {
		before = ""
	}
	if before == "" {
		after = strings.TrimLeft(after, ",; ") // what it was joined to is not here
	}
	return strings.TrimSuffix(before+after, "; ")
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
	stops, at := v.stops()
	n := len(stops)
	if n == 0 {
		return labelled("step", text(v.Release.Status.StepText))
	}
	done, current := at-1, at
	switch rollout.Phase(v.Release.Status.Phase) {
	case rollout.Promoting, rollout.Finalizing:
		done, current = n, n
	case rollout.RollingBack:
		done, current = 0, 0
	case rollout.Initializing, rollout.Idle, rollout.Starting, rollout.Testing, rollout.Progressing:
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
	for i, stop := range stops {
		if i > 0 {
			l = l.with(painted(dim, " → "))
		}
		if i+1 == at && current == at {
			l = l.with(painted(bold, "["+stop+"]"))
		} else {
			l = l.with(painted(dim, stop))
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

// sides draws the counts of the canary and of stable. The canary's failures
// are red when they are a larger share than those of stable.
func sides(labels [2]string, canary, stable string, c, s v1alpha1.Count) []line {
	worse := plain
	if c.Failures > 0 && (s.Requests == 0 || float64(c.Failures)/float64(c.Requests) > float64(s.Failures)/float64(s.Requests)) {
		worse = red
	}
	columns := func(version string, n v1alpha1.Count) [4]string {
		return [4]string{version, count(n.Requests, "request"), number(n.Failures) + " failed", Rate(n)}
	}
	rows := [2][4]string{columns(canary, c), columns(stable, s)}
	side := func(which int, p paint) line {
		own, other := rows[which], rows[1-which]
		fit := func(column int) string { return padLeft(own[column], max(cells(own[column]), cells(other[column]))) }
		return labelled(labels[which],
			text(pad(own[0], max(cells(own[0]), cells(other[0])))+"   "+fit(1)+"   "),
			painted(p, fit(2)+"   "+fit(3)))
	}
	return []line{side(0, worse), side(1, plain)}
}

// waiting says what the engine waits for and how long it will at most.
func (v View) waiting() []line {
	s := v.Release.Status
	var lines []line
	if r := reason(&s); r != "" {
		lines = append(lines, wrap(labelled("now"), r, v.Width)...)
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
	if r := reason(&s); r != "" {
		lines = append(lines, wrap(labelled("now"), r, v.Width)...)
	}
	lines = append(lines, v.set()...)
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
	how, what := v.outcome(run)
	lines := append(wrap(line{how, text(" ")}, what, v.Width), wrap(line{text("  ")}, run.Reason, v.Width)...)
	for i := range run.Commands {
		lines = append(lines, wrap(labelled("ordered"), v.ordered(&run.Commands[i]), v.Width)...)
	}
	if c := run.Cause; c != nil && c.Endpoint != "" {
		lines = append(lines, wrap(labelled("endpoint"), c.Endpoint+", in the whole run", v.Width)...)
		lines = append(lines, sides([2]string{}, to, from, c.Canary, c.Stable)...)
	}
	if c := run.Cause; c != nil && c.Example != nil {
		lines = append(lines, wrap(labelled("example"), v.example(c.Example), v.Width)...)
	}
	return append(lines, wrap(labelled("cost"), cost(run), v.Width)...)
}

// told is ended for a log: no columns.
func (v View) told(run *v1alpha1.Run) []string {
	how, what := v.outcome(run)
	out := []string{how.text + " " + Plain(what)}
	if run.Reason != "" {
		out = append(out, "  why: "+Plain(run.Reason))
	}
	if run.Cause != nil && run.Cause.Example != nil {
		out = append(out, "  example: "+Plain(v.example(run.Cause.Example)))
	}
	for i := range run.Commands {
		out = append(out, "  ordered: "+Plain(v.ordered(&run.Commands[i])))
	}
	return append(out, "  cost: "+Plain(cost(run)))
}

// cost says what the run cost users, and how fast it was.
func cost(run *v1alpha1.Run) string {
	_, to := VersionNames(run.From, run.To)
	out := number(run.Canary.Failures) + " of " + count(run.Canary.Requests, "request") + " to " + to + " failed"
	if run.Canary.Requests == 0 {
		out = "no request to " + to
	}
	if own := run.Own.Canary; own.Requests > 0 {
		out += ", and of own load " + number(own.Failures) + " of " + number(own.Requests)
	}
	switch n := run.Cost.FailedRequests; {
	case n > 0:
		out += ", about " + number(n) + " because of the release"
	case run.Canary.Failures > 0:
		out += ", none because of the release: those of tests or outside of its steps do not count, nor those that stable fails, too"
	}
	if run.DecisionMillis > 0 {
		out += "; decided " + Span(millis(run.DecisionMillis)) + " after the first request"
	}
	if run.EffectMillis > 0 {
		out += "; every proxy followed within " + Span(millis(run.EffectMillis))
	}
	if rollout.Outcome(run.Outcome) != rollout.Promoted {
		out += "; " + count(run.CanaryRequestsAfterEffect, "request") + " after that"
	}
	return out
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// outcome says how a run ended, and in words what came of it.
func (v View) outcome(run *v1alpha1.Run) (how span, what string) {
	from, to := VersionNames(run.From, run.To)
	when := "at " + v.clock(run.Ended.Time) + " after " + Span(run.Ended.Sub(run.Started.Time)) + ": "
	switch rollout.Outcome(run.Outcome) {
	case rollout.Promoted:
		return painted(green, "✓ promoted"), when + to + " serves users"
	case rollout.RolledBack:
		return painted(red, "✗ rolled back"), when + to + " is out, " + from + " serves users"
	case rollout.Aborted:
		return painted(yellow, "✗ aborted"), when + to + " is out, " + from + " serves users"
	case rollout.Reverted:
		return painted(yellow, "✗ went back"), when + from + " is out, " + to + " serves users"
	case rollout.Superseded:
	}
	return text("• " + run.Outcome), when + from + " → " + to // also for an outcome of a later version
}

func (v View) example(e *v1alpha1.Example) string {
	var b strings.Builder
	b.WriteString(e.Time.In(v.Now.Location()).Format("15:04:05.000") + " " + e.Method + " " + e.Path)
	if e.Code > 0 {
		b.WriteString(" → " + strconv.Itoa(int(e.Code)))
	} else {
		b.WriteString(" → no answer")
	}
	if e.Masked {
		b.WriteString(" after a failed try")
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
		lines = append(lines, v.event(e)...)
	}
	return lines
}

func (v View) event(e Event) []line {
	p := dim
	if e.Warning {
		p = yellow
	}
	return wrap(line{painted(dim, v.clock(e.Time)+"  "), painted(p, pad(e.Reason, 14)), text("  ")}, e.Message, v.Width)
}

// clock writes the time of day, and the date where it is another day's.
func (v View) clock(t time.Time) string {
	t = t.In(v.Now.Location())
	if t.Format(time.DateOnly) != v.Now.Format(time.DateOnly) {
		return t.Format("Jan 2 15:04:05")
	}
	return t.Format(time.TimeOnly)
}
