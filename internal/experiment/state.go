package experiment

import (
	"slices"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

// Phase says what an experiment is at.
type Phase string

// The phases, in their order. The zero value has not been looked at.
const (
	Waiting   Phase = "Waiting"   // something else has the target
	Starting  Phase = "Starting"  // the candidates' pods are made
	Running   Phase = "Running"   // the candidates have traffic
	Restoring Phase = "Restoring" // traffic goes back to stable
	Promoting Phase = "Promoting" // the target gets the winner's template
	Removing  Phase = "Removing"  // the candidates' pods go
	Finished  Phase = "Finished"  // nothing of it is left
)

// Outcome says how an experiment ended.
type Outcome string

// The outcomes.
const (
	Chosen       Outcome = "chosen"        // one version is better than all others
	NoDifference Outcome = "no-difference" // none is
	Compared     Outcome = "compared"      // nothing was to be chosen
	AllDropped   Outcome = "all-dropped"   // no candidate was left
	Cancelled    Outcome = "cancelled"     // somebody ended it, or changed the target
	Failed       Outcome = "failed"        // the proxies did not follow
	NotStarted   Outcome = "not-started"   // something else had the target for too long
)

// State is the memory of one experiment. It is a plain value that survives a
// trip through JSON. The zero value is one that was never looked at.
type State struct {
	Phase    Phase     `json:"phase"`
	Since    time.Time `json:"since,omitzero"`    // of the phase
	Deadline time.Time `json:"deadline,omitzero"` // of what is waited for; zero = nothing is, or time alone
	Reason   string    `json:"reason"`            // one line for people

	// Target is the revision of the target when the experiment began.
	Target string `json:"target,omitempty"`
	// Began is when every proxy had the shares for the first time.
	Began time.Time `json:"began,omitzero"`
	// Ends is when the candidates' time is over. It moves on while the shares
	// are not in effect, and while nobody looks.
	Ends time.Time `json:"ends,omitzero"`
	// At is when the last input was observed, until Finished.
	At    time.Time `json:"at,omitzero"`
	Ended time.Time `json:"ended,omitzero"` // when Finished began

	Candidates []Candidate `json:"candidates,omitempty"` // in the order of Plan.Candidates
	// Stable is what the running version did meanwhile.
	Stable analysis.Side `json:"stable"`
	// ByUser: the routes keep users with a version. Then the versions are
	// compared by users: see Candidate.Users. StableUsers are those of Stable.
	ByUser      bool          `json:"byUser,omitempty"`
	StableUsers analysis.Side `json:"stableUsers,omitzero"`
	// Contests of stable and the candidates, each with each: see pair.
	Contests []analysis.Contest `json:"contests,omitempty"`

	// Outcome, and why, once they are known. The state goes on to Finished.
	Outcome Outcome `json:"outcome,omitempty"`
	Why     string  `json:"why,omitempty"`
	// Winner is a candidate's name, or Stable; "" = there is none.
	Winner string `json:"winner,omitempty"`
	// Promote the winner.
	Promote bool `json:"promote,omitempty"`
}

// Candidate is one candidate of an experiment, and what became of it.
type Candidate struct {
	Name string `json:"name"`
	// Share that is asked for now.
	Share rollout.Share `json:"share"`
	// Dropped says why the candidate lost its share for good; "" = it did not.
	Dropped string `json:"dropped,omitempty"`
	// Gone: no proxy sends to it any more, so its pods are not needed.
	Gone bool `json:"gone,omitempty"`

	Judge    analysis.Judge    `json:"judge"`
	Evidence analysis.Evidence `json:"evidence"`
	// Seen is what it did with its share.
	Seen analysis.Side `json:"seen"`
	// Users who stay with it: how many there are, how many of them met a failure,
	// and one duration of each.
	Users analysis.Side `json:"users,omitzero"`
}

// World is what has to be true while a state lasts.
type World struct {
	// Held: nobody else may touch the target and its routes.
	Held bool
	// Pods says which candidates are to have pods.
	Pods []bool
	// Shares of the candidates; nil: the routes are as without an experiment.
	Shares []rollout.Share
	// Promote names the candidate whose template the target is to get; "" = none.
	Promote string
}

// Want is the world of a state.
func (s State) Want() World {
	w := World{Pods: make([]bool, len(s.Candidates))}
	switch s.Phase {
	case Starting, Running, Restoring, Promoting:
		w.Held = true
		for i, c := range s.Candidates {
			w.Pods[i] = !c.Gone
		}
	case Removing:
		w.Held = true
	case "", Waiting, Finished:
	}
	if s.Phase == Running {
		w.Shares = s.shares()
	}
	if s.Phase == Promoting {
		w.Promote = s.Winner
	}
	return w
}

// Names are those of the candidates that the experiment began with.
func (s State) Names() []string {
	var out []string
	for _, c := range s.Candidates {
		out = append(out, c.Name)
	}
	return out
}

func (s State) shares() []rollout.Share {
	out := make([]rollout.Share, len(s.Candidates))
	for i, c := range s.Candidates {
		out[i] = c.Share
	}
	return out
}

// MustWrite reports whether next holds a decision that must be stored before
// the world is made to follow it. Counts alone can be lost.
func (s State) MustWrite(next State) bool {
	return s.Phase != next.Phase || s.Outcome != next.Outcome || !s.Began.Equal(next.Began) ||
		!slices.EqualFunc(s.Candidates, next.Candidates, func(a, b Candidate) bool { return a.Share == b.Share && a.Dropped == b.Dropped })
}

// Input is what was observed at one moment.
type Input struct {
	Now time.Time
	// Resumed: this is the first look of a process at what another one left.
	Resumed bool
	// Blocked says what has the target, so that the experiment cannot begin.
	Blocked string
	// Cancel says why the experiment has to end.
	Cancel string
	// Target is the present revision of the target; "" = there is none.
	Target string
	// Candidates in the order of the plan.
	Candidates []Observed
	// Unacked says why the routes of the stored state are not in effect in every
	// proxy; "" = they are.
	Unacked string
	// Promoted: the target has the winner's template.
	Promoted bool
	// Removed: nothing of the experiment is left.
	Removed bool
}

// Observed is what was seen of one candidate.
type Observed struct {
	// Ready: its pods run, and every proxy knows them. Message says why not.
	Ready   bool
	Message string
	// Samples since the last look, with stable's beside it.
	Samples analysis.Samples
}

// Event tells people what happened.
type Event struct {
	Warning bool
	Reason  string // CamelCase
	Message string // one line
}
