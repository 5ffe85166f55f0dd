package record

import (
	"fmt"
	"math"
	"slices"
	"time"

	"serin.dev/serin/internal/rollout"
)

// StepFunc decides as rollout.Step does.
type StepFunc func(rollout.Plan, rollout.State, rollout.Input) (rollout.State, []rollout.Event)

// Replayed is what became of a record when its looks were decided again.
type Replayed struct {
	Looks     int
	Decisions int // that were the same
	// Lost as in Record.
	Lost int
	// First is where the two part; nil = nowhere. The rest is not looked at:
	// it follows from another state.
	First *Difference
	// End says what of the record's end is not what its looks come to; "" =
	// nothing, or the run had not ended.
	End string
	// State after the last look.
	State rollout.State
}

// Difference is a look on which something else was decided.
type Difference struct {
	At time.Time
	// What differs, in the order of Decision's fields.
	What []string
	// Recorded and Now are the two decisions; nil = none.
	Recorded, Now *Decision
}

// Replay decides all looks of a record again, by step, and compares. A decision
// is the same when the same was done; with which words it was explained does not
// count.
func Replay(r *Record, step StepFunc) (*Replayed, error) {
	out := &Replayed{Lost: r.Lost}
	var seen *Seen
	for look, err := range r.Steps() {
		if err != nil {
			return nil, err
		}
		if look.State != nil {
			out.State = *look.State
		}
		was := out.State
		next, events, err := decide(step, look, was)
		if err != nil {
			return nil, err
		}
		d := decisionOf(&was, &next, events)
		out.State = next
		out.Looks++
		if what := differ(look.Decision, d); len(what) > 0 {
			out.First = &Difference{look.Input.Now, what, look.Decision, d}
			return out, nil
		}
		if d != nil {
			out.Decisions++
			seen = look.Seen
		}
	}
	out.End = r.End.differs(&out.State, seen)
	return out, nil
}

// differs says how the recorded end, nil for none, differs from the state after
// the last look, and from what had been measured until then.
func (e *End) differs(s *rollout.State, seen *Seen) string {
	switch {
	case e == nil && on(s):
		return ""
	case e == nil:
		return fmt.Sprintf("the record has no end, and its looks come to one: %s", s.Run.Outcome)
	case on(s):
		return fmt.Sprintf("the record ends with %s, and its looks do not come to an end", e.Outcome)
	case e.Outcome != s.Run.Outcome:
		return fmt.Sprintf("the record ends with %s, and its looks with %s", e.Outcome, s.Run.Outcome)
	case !e.At.Equal(s.Run.Ended):
		return fmt.Sprintf("the record ends at %v, and its looks at %v", e.At, s.Run.Ended)
	case math.Abs(e.Cost-s.Cost()) > 1e-6*max(1, s.Cost()): // processors round differently
		return fmt.Sprintf("the record ends with a cost of %.3g failed requests, and its looks with %.3g", e.Cost, s.Cost())
	case seen != nil && (e.Seen.Requests != seen.Requests || e.Seen.Failures != seen.Failures):
		return fmt.Sprintf("the record ends with %d requests to the canary, %d of which failed, and its last look with %d, %d",
			e.Seen.Requests, e.Seen.Failures, seen.Requests, seen.Failures)
	}
	return ""
}

// decide lets step decide on a look. A state that no run was ever in, in a file
// that somebody else wrote, may be more than step can take.
func decide(step StepFunc, look *Step, s rollout.State) (next rollout.State, events []rollout.Event, err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("the look of %v cannot be decided on: the record is damaged", look.Input.Now)
		}
	}()
	next, events = step(*look.Plan, s, look.Input)
	return next, events, nil
}

// differ names what is not the same in two decisions.
func differ(a, b *Decision) []string {
	if a == nil && b == nil {
		return nil
	}
	if a == nil || b == nil {
		return []string{"decision"}
	}
	var out []string
	check := func(name string, same bool) {
		if !same {
			out = append(out, name)
		}
	}
	check("phase", a.Phase == b.Phase)
	check("step", a.Step == b.Step && a.Part == b.Part)
	check("traffic", a.Traffic == b.Traffic)
	check("outcome", a.Outcome == b.Outcome)
	check("verdict", a.Verdict == b.Verdict && a.Kind == b.Kind && a.Stratum == b.Stratum)
	check("hooks", slices.Equal(a.Hooks, b.Hooks))
	check("events", slices.EqualFunc(a.Events, b.Events, func(x, y rollout.Event) bool {
		return x.Reason == y.Reason && x.Warning == y.Warning
	}))
	return out
}

// String says in one line what was decided.
func (d *Decision) String() string {
	if d == nil {
		return "nothing"
	}
	out := string(d.Phase)
	if d.Step > 0 {
		out += fmt.Sprintf(", step %d", d.Step)
	}
	out += fmt.Sprintf(", canary %v", d.Traffic.Share)
	if d.Traffic.Mirror > 0 {
		out += fmt.Sprintf(", copies of %v", d.Traffic.Mirror)
	}
	if d.Outcome != "" {
		out += ", " + string(d.Outcome)
	}
	out += ", verdict " + d.Verdict.String()
	if d.Kind != "" {
		out += " by " + string(d.Kind)
	}
	if d.Stratum != "" {
		out += " in " + d.Stratum
	}
	for _, e := range d.Events {
		out += ", " + e.Reason
	}
	if d.Reason != "" {
		out += ": " + d.Reason
	}
	return out
}
