package record

import (
	"fmt"
	"math"
	"slices"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/rollout"
)

// StepFunc decides as rollout.Step does, ExperimentStepFunc as experiment.Step.
type (
	StepFunc           func(rollout.Plan, rollout.State, rollout.Input) (rollout.State, []rollout.Event)
	ExperimentStepFunc func(experiment.Plan, experiment.State, experiment.Input) (experiment.State, []experiment.Event)
)

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
}

// Difference is a look on which something else was decided.
type Difference struct {
	At time.Time
	// What differs, in the order of Decision's fields.
	What []string
	// Recorded and Now are the two decisions; nil = none.
	Recorded, Now *Decision
}

// Replay decides all looks of a release's record again, by step, and compares. A
// decision is the same when the same was done; with which words it was explained
// does not count.
func Replay(r *Record, step StepFunc) (*Replayed, error) {
	out, _, err := replay(r, runs(), step)
	return out, err
}

// ReplayExperiment is Replay for an experiment's record.
func ReplayExperiment(r *Record, step ExperimentStepFunc) (*Replayed, error) {
	out, _, err := replay(r, experiments(), step)
	return out, err
}

// replay returns the state after the last look, too.
func replay[P, S, I, V any](r *Record, m machine[P, S, I, V], step func(P, S, I) (S, []V)) (out *Replayed, state S, err error) {
	out = &Replayed{Lost: r.Lost}
	var seen *Seen
	for look, err := range looks(r, m) {
		if err != nil {
			return nil, state, err
		}
		if look.State != nil {
			state = *look.State
		}
		was := state
		next, events, err := decide(step, look, was)
		if err != nil {
			return nil, state, err
		}
		d := m.decided(look.Plan, &was, &next, &look.Input, events)
		state = next
		out.Looks++
		if what := differ(look.Decision, d); len(what) > 0 {
			out.First = &Difference{look.At, what, look.Decision, d}
			return out, state, nil
		}
		if d != nil {
			out.Decisions++
			seen = look.Seen
		}
	}
	out.End = r.End.differs(m.ended(&state, seen))
	return out, state, nil
}

// differs says how the recorded end differs from that which the looks come to;
// nil stands for none.
func (e *End) differs(now *End) string {
	switch {
	case e == nil && now == nil:
		return ""
	case e == nil:
		return fmt.Sprintf("the record has no end, and its looks come to one: %s", now.Outcome)
	case now == nil:
		return fmt.Sprintf("the record ends with %s, and its looks do not come to an end", e.Outcome)
	case e.Outcome != now.Outcome:
		return fmt.Sprintf("the record ends with %s, and its looks with %s", e.Outcome, now.Outcome)
	case e.Winner != now.Winner:
		return fmt.Sprintf("the record ends with the winner %q, and its looks with %q", e.Winner, now.Winner)
	case !e.At.Equal(now.At):
		return fmt.Sprintf("the record ends at %v, and its looks at %v", e.At, now.At)
	case math.Abs(e.Cost-now.Cost) > 1e-6*max(1, now.Cost): // processors round differently
		return fmt.Sprintf("the record ends with a cost of %.3g failed requests, and its looks with %.3g", e.Cost, now.Cost)
	case e.Seen.Requests != now.Seen.Requests || e.Seen.Failures != now.Seen.Failures:
		return fmt.Sprintf("the record ends with %d requests to what was tried, %d of which failed, and its last look with %d, %d",
			e.Seen.Requests, e.Seen.Failures, now.Seen.Requests, now.Seen.Failures)
	case !slices.EqualFunc(e.Seen.Versions, now.Seen.Versions, sameCounts):
		return "the record ends with other requests of each version than its looks"
	}
	return ""
}

func sameCounts(a, b VersionSeen) bool {
	return a.Name == b.Name && a.Requests == b.Requests && a.Failures == b.Failures
}

// decide lets step decide on a look. A state that no run was ever in, in a file
// that somebody else wrote, may be more than step can take.
func decide[P, S, I, V any](step func(P, S, I) (S, []V), look *lookOf[P, S, I], s S) (next S, events []V, err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("the look of %v cannot be decided on: the record is damaged", look.At)
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
	check("candidates", slices.EqualFunc(a.Candidates, b.Candidates, sameCandidate))
	check("winner", a.Winner == b.Winner && a.Promote == b.Promote)
	check("outcome", a.Outcome == b.Outcome)
	check("verdict", a.verdict() == b.verdict() && a.Kind == b.Kind && a.Stratum == b.Stratum)
	check("hooks", slices.Equal(a.Hooks, b.Hooks))
	check("events", slices.EqualFunc(a.Events, b.Events, func(x, y rollout.Event) bool {
		return x.Reason == y.Reason && x.Warning == y.Warning
	}))
	return out
}

// sameCandidate reports whether the same became of a candidate.
func sameCandidate(a, b Candidate) bool {
	return a.Name == b.Name && a.Share == b.Share && (a.Dropped == "") == (b.Dropped == "") &&
		a.Evidence.Verdict == b.Evidence.Verdict && a.Evidence.Kind == b.Evidence.Kind && a.Evidence.Stratum == b.Evidence.Stratum
}

// verdict is the judge's on a release.
func (d *Decision) verdict() analysis.Verdict {
	if d.Verdict == nil {
		return analysis.NoData
	}
	return *d.Verdict
}

// String says in one line what was decided.
func (d *Decision) String() string {
	if d == nil {
		return "nothing"
	}
	out := d.Phase
	if d.Step > 0 {
		out += fmt.Sprintf(", step %d", d.Step)
	}
	if d.Verdict != nil {
		out += fmt.Sprintf(", canary %v", d.Traffic.Share)
	}
	if d.Traffic.Mirror > 0 {
		out += fmt.Sprintf(", copies of %v", d.Traffic.Mirror)
	}
	for _, c := range d.Candidates {
		out += fmt.Sprintf(", %s %v", c.Name, c.Share)
		if c.Dropped != "" {
			out += " (dropped)"
		}
		out += judged(c.Evidence.Verdict, c.Evidence.Kind, c.Evidence.Stratum)
	}
	if d.Outcome != "" {
		out += ", " + d.Outcome
	}
	if d.Winner != "" {
		out += " " + d.Winner
	}
	if d.Verdict != nil {
		out += "," + judged(*d.Verdict, d.Kind, d.Stratum)
	}
	for _, e := range d.Events {
		out += ", " + e.Reason
	}
	if d.Reason != "" {
		out += ": " + d.Reason
	}
	return out
}

func judged(v analysis.Verdict, k analysis.Kind, stratum string) string {
	out := " verdict " + v.String()
	if k != "" {
		out += " by " + string(k)
	}
	if stratum != "" {
		out += " in " + stratum
	}
	return out
}
