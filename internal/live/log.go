package live

import (
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/rollout"
)

// quiet is how long a Log leaves counts alone: at a request rate of one per
// millisecond every look at them would be another line.
const quiet = 10 * time.Second

// Log shows a Release where there is no terminal: a line for every change
// that matters, none for a mere count unless nothing was said for a while.
// The zero value is ready.
type Log struct {
	last   *v1alpha1.Release
	notice string
	said   time.Time
}

// Lines says what changed since the last call. The view's events, width and
// color are not looked at.
func (l *Log) Lines(v View) []string {
	v.Width, v.Color = 0, false
	last, notice := l.last, l.notice
	l.last, l.notice = v.Release, v.Notice

	ended := EndedSince(last, v.Release)
	var say bool
	switch now := &v.Release.Status; {
	case last == nil, notice != "" && v.Notice == "":
		say = true
		if !Running(v.Release) && len(now.History) > 0 {
			ended = &now.History[0]
		}
	case ended != nil:
		say = Running(v.Release) // the next one
	case changed(&last.Status, now):
		say = true
	default:
		say = v.Now.Sub(l.said) >= quiet && last.Status.Samples != now.Samples
	}

	var out []string
	if last == nil && say {
		out = append(out, v.prefix()+v.summary())
		say = false
	}
	if ended != nil {
		for _, l := range v.told(ended) {
			out = append(out, v.prefix()+l)
		}
	}
	if say {
		out = append(out, v.prefix()+v.summary())
	}
	if v.Notice != notice && v.Notice != "" {
		out = append(out, v.prefix()+Plain(v.Notice))
	}
	if len(out) > 0 {
		l.said = v.Now
	}
	return out
}

// Event says one event.
func (l *Log) Event(v View, e Event) string {
	kind := "event "
	if e.Warning {
		kind = "warning "
	}
	return v.clock(e.Time) + "  " + Plain(v.Release.Name+"  "+kind+e.Reason+": "+e.Message)
}

// changed tells whether something other than a count did. The reason is
// compared only between waits of different kinds: it may quote counts.
func changed(a, b *v1alpha1.ReleaseStatus) bool {
	return a.Phase != b.Phase || a.Step != b.Step || a.Verdict != b.Verdict ||
		a.Split.Asked != b.Split.Asked || a.Split.Acked != b.Split.Acked ||
		a.Stable != b.Stable || a.Canary != b.Canary || asksPeople(a) != asksPeople(b)
}

// asksPeople tells whether a person, or somebody else's system, has to act.
func asksPeople(s *v1alpha1.ReleaseStatus) bool {
	return s.Wait == string(rollout.WaitGate) || s.Wait == string(rollout.WaitPerson)
}

// EndedSince is the run that ended between two states of a Release, the
// latest one if there were several, nil if none. It points into now.
func EndedSince(before, now *v1alpha1.Release) *v1alpha1.Run {
	if before == nil || len(now.Status.History) == 0 {
		return nil
	}
	run := &now.Status.History[0]
	if len(before.Status.History) > 0 && before.Status.History[0].Number >= run.Number {
		return nil
	}
	return run
}

// prefix begins each line, so that it can be found among those of others.
func (v View) prefix() string { return v.clock(v.Now) + "  " + Plain(v.Release.Name) + "  " }

// summary is the whole state in one line.
func (v View) summary() string {
	s := v.Release.Status
	phase := s.Phase
	if phase == "" {
		phase = "Unknown"
	}
	stable, canary := VersionNames(s.Stable, s.Canary)
	out := phase
	switch {
	case Running(v.Release):
		out += " " + stable + " → " + canary
		if s.StepText != "" {
			out += " step " + s.StepText
		}
		out += ": asked " + Percent(s.Split.Asked) + ", acked " + Percent(s.Split.Acked)
		if m := measured(s.Split); m != "" {
			out += ", measured " + m
		}
		out += "; failed " + number(s.Samples.Canary.Failures) + " of " + number(s.Samples.Canary.Requests) + " canary, " +
			number(s.Samples.Stable.Failures) + " of " + number(s.Samples.Stable.Requests) + " stable"
		if s.Verdict != "" {
			out += "; " + s.Verdict
			if e := evidence(&s); e != "" {
				out += ": " + e
			}
		}
	case stable != "":
		out += " at " + stable
	}
	if r := reason(&s); r != "" {
		out += "; " + r
	}
	return Plain(out)
}
