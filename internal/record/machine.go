package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/rollout"
)

// machine is one of the two state machines whose looks are recorded, with its
// plans P, states S, inputs I and events V. All else is the same for both.
type machine[P, S, I, V any] struct {
	kind Kind
	// plan reads a plan, and refuses one that no run has.
	plan func(json.RawMessage) (*P, error)
	// check refuses a state that no run was ever in.
	check func(*S) error
	// at says when an input was observed, and refuses one that nobody
	// observed.
	at func(*I) (time.Time, error)
	// decided is what a step decided; nil when it changed nothing but counts.
	decided func(p *P, was, next *S, in *I, events []V) *Decision
	// ended is how a run ended, of which that was seen last; nil = it has not.
	ended func(next *S, seen *Seen) *End
}

// runs are the runs of releases.
func runs() machine[rollout.Plan, rollout.State, rollout.Input, rollout.Event] {
	return machine[rollout.Plan, rollout.State, rollout.Input, rollout.Event]{
		kind:  Release,
		plan:  planOf,
		check: func(s *rollout.State) error { return s.Judge.Validate() },
		at:    func(in *rollout.Input) (time.Time, error) { return observed(in.Now, &in.Samples) },
		decided: func(_ *rollout.Plan, was, next *rollout.State, _ *rollout.Input, events []rollout.Event) *Decision {
			return decisionOf(was, next, events)
		},
		ended: endOf,
	}
}

func observed(at time.Time, samples ...*analysis.Samples) (time.Time, error) {
	if at.IsZero() {
		return at, errors.New("the look does not say when it was")
	}
	for _, s := range samples {
		if err := s.Validate(); err != nil {
			return at, err
		}
	}
	return at, nil
}

// decisionOf is what a step of a release decided.
func decisionOf(was, next *rollout.State, events []rollout.Event) *Decision {
	if !was.MustWrite(*next) && len(events) == 0 {
		return nil
	}
	d := &Decision{
		Phase: string(next.Phase), Step: next.Step, Part: next.Part, Traffic: next.Traffic, Outcome: string(next.Run.Outcome),
		Verdict: &next.Evidence.Verdict, Kind: next.Evidence.Kind, Stratum: next.Evidence.Stratum,
		Events: events, Reason: next.Reason,
	}
	if next.Run.Outcome != was.Run.Outcome && next.Run.Reason != "" {
		d.Reason = next.Run.Reason
	}
	for _, c := range next.Calls {
		if !slices.ContainsFunc(was.Calls, func(b rollout.HookCall) bool { return b.ID == c.ID }) {
			d.Hooks = append(d.Hooks, c.ID)
		}
	}
	return d
}

func ackedBy(was, next *rollout.State) *Acked {
	if next.Acked.IsZero() || next.Acked.Equal(was.Acked) {
		return nil
	}
	return &Acked{Traffic: next.Traffic, Since: next.Acked}
}

// on reports whether a run is on.
func on(s *rollout.State) bool { return s.Run.Number > 0 && s.Run.Ended.IsZero() }

func endOf(next *rollout.State, seen *Seen) *End {
	if on(next) {
		return nil
	}
	end := &End{At: next.Run.Ended, Outcome: string(next.Run.Outcome), Reason: next.Run.Reason, Cost: next.Cost()}
	if seen != nil {
		end.Seen = *seen
	}
	return end
}

// experiments are the runs of experiments, one of each.
func experiments() machine[experiment.Plan, experiment.State, experiment.Input, experiment.Event] {
	return machine[experiment.Plan, experiment.State, experiment.Input, experiment.Event]{
		kind: Experiment,
		plan: func(data json.RawMessage) (*experiment.Plan, error) {
			p := &experiment.Plan{}
			if err := json.Unmarshal(data, p); err != nil {
				return nil, err
			}
			if len(p.Candidates) == 0 { // it was deleted, and ends without its plan
				return p, nil
			}
			return p, p.Validate()
		},
		check: checkExperiment,
		at: func(in *experiment.Input) (time.Time, error) {
			var samples []*analysis.Samples
			for i := range in.Candidates {
				samples = append(samples, &in.Candidates[i].Samples)
			}
			return observed(in.Now, samples...)
		},
		decided: experimentDecision,
		ended:   endOfExperiment,
	}
}

func checkExperiment(s *experiment.State) error {
	var errs []error
	if k, n := len(s.Candidates)+1, len(s.Contests); n > 0 && n != k*(k-1)/2 {
		errs = append(errs, fmt.Errorf("%d contests of %d versions: want one for each pair", n, k))
	}
	for i := range s.Candidates {
		errs = append(errs, s.Candidates[i].Judge.Validate())
	}
	for i := range s.Contests {
		errs = append(errs, s.Contests[i].Validate())
	}
	return errors.Join(errs...)
}

// experimentDecision is what a step of an experiment decided.
func experimentDecision(p *experiment.Plan, was, next *experiment.State, in *experiment.Input, events []experiment.Event) *Decision {
	if !was.MustWrite(*next) && len(events) == 0 {
		return nil
	}
	d := &Decision{
		Phase: string(next.Phase), Showings: next.Showings(p), Winner: next.Winner, Promote: next.Promote,
		Candidates: candidatesOf(next),
		Outcome:    string(next.Outcome), Reason: next.Reason,
	}
	if next.Outcome != was.Outcome {
		d.Reason = next.Why
	}
	for _, e := range events { // of which an experiment tells less
		d.Events = append(d.Events, rollout.Event{
			Warning: e.Warning, Reason: e.Reason, Message: e.Message, At: in.Now, Phase: rollout.Phase(next.Phase),
		})
	}
	return d
}

// seenOf is what an experiment's state counted of each version.
func seenOf(s *experiment.State) Seen {
	var out Seen
	if len(s.Candidates) == 0 {
		return out // it did not begin
	}
	side := func(name string, seen *analysis.Side) {
		out.Versions = append(out.Versions, VersionSeen{Name: name, Requests: seen.Requests, Failures: seen.Failures})
	}
	side(experiment.Stable, &s.Stable)
	for i := range s.Candidates {
		c := &s.Candidates[i]
		side(c.Name, &c.Seen)
		out.Requests += c.Seen.Requests
		out.Failures += c.Seen.Failures
	}
	return out
}

// measured adds what the state of an experiment does not know of its versions.
func (s *Seen) measured(versions []VersionSeen) {
	for i := range min(len(s.Versions), len(versions)) {
		s.Versions[i].Version, s.Versions[i].Share = versions[i].Version, versions[i].Share
	}
}

// candidatesOf are those of an experiment that is in a state.
func candidatesOf(s *experiment.State) []Candidate {
	var out []Candidate
	for i := range s.Candidates {
		c := &s.Candidates[i]
		out = append(out, Candidate{c.Name, c.Share, c.Dropped, c.Evidence})
	}
	return out
}

// endOfExperiment is how an experiment ended. What it counted is the state's;
// seen has the rest.
func endOfExperiment(next *experiment.State, seen *Seen) *End {
	if next.Phase != experiment.Finished {
		return nil
	}
	end := &End{At: next.Ended, Outcome: string(next.Outcome), Winner: next.Winner, Reason: next.Why, Seen: seenOf(next)}
	if seen != nil {
		end.Seen.measured(seen.Versions)
	}
	for i := range next.Candidates {
		end.Cost += next.Candidates[i].Evidence.Cost
	}
	return end
}
