package rollout

import (
	"strings"
	"time"

	"serin.dev/serin/internal/analysis"
)

// Phase says where a release is.
type Phase string

// The phases. A release without a phase is Initializing.
const (
	// Initializing: the stable copy is made and takes over the traffic.
	Initializing Phase = "Initializing"
	// Idle: the stable copy serves all users; no run is on.
	Idle Phase = "Idle"
	// Starting: the canary's pods come up, without traffic.
	Starting Phase = "Starting"
	// Progressing: the canary has the share of the present step.
	Progressing Phase = "Progressing"
	// Promoting: the stable copy is rolled to the canary's revision while the
	// canary keeps its share, and is judged on.
	Promoting Phase = "Promoting"
	// Finalizing: the traffic goes to the new stable pods, and is seen there.
	Finalizing Phase = "Finalizing"
	// RollingBack: all traffic goes back to the old stable revision.
	RollingBack Phase = "RollingBack"
)

// Outcome says how a run ended.
type Outcome string

// The outcomes.
const (
	Promoted   Outcome = "promoted"
	RolledBack Outcome = "rolled-back" // failed by the judge, or by a deadline
	Aborted    Outcome = "aborted"     // by a person, or the target was taken back
	Superseded Outcome = "superseded"  // by a newer revision
)

// words says the outcome as part of a sentence.
func (o Outcome) words() string { return strings.ReplaceAll(string(o), "-", " ") }

// State is all that is remembered of one release: the journal. It is a plain
// value; storing it as JSON and reading it back changes nothing. The zero
// value is a release that was never looked at.
type State struct {
	// Phase, and since when it lasts.
	Phase Phase     `json:"phase,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Reason says in one line what the phase waits for, or why it is as it is.
	Reason string `json:"reason,omitempty"`
	// Deadline ends the present wait; zero while nothing is waited for that
	// a deadline could help with (see Plan.Deadline).
	Deadline time.Time `json:"deadline,omitzero"`

	// Stable is the revision that serves users. While it differs from the
	// world's StableRevision the caller must be able to restore its template.
	Stable Revision `json:"stable,omitempty"`
	// Canary is the revision under judgement; "" between runs.
	Canary Revision `json:"canary,omitempty"`
	// Rejected was rolled back or aborted and is not tried again as long as
	// the target has it.
	Rejected Revision `json:"rejected,omitempty"`

	// Step is the present step, from 1; it stays until the next run begins.
	Step int `json:"step,omitempty"`
	// Split: the stable copy takes part in the traffic. Share is the canary's
	// share that is asked for, Asked when that was.
	Split bool      `json:"split,omitempty"`
	Share Percent   `json:"share,omitempty"`
	Asked time.Time `json:"asked,omitzero"`
	// Acked is when every proxy had Share for the first time since; zero =
	// not yet.
	Acked time.Time `json:"acked,omitzero"`

	// Judge of the present run, and what it said last.
	Judge    analysis.Judge    `json:"judge,omitzero"`
	Evidence analysis.Evidence `json:"evidence,omitzero"`

	// Run is the present run, or the last one when no run is on: its Outcome
	// is set then. Run.Number tells runs apart, so that a caller adds each to
	// its history once.
	Run Run `json:"run,omitzero"`

	// Command is the ID of the last command that was obeyed.
	Command string `json:"command,omitempty"`

	// At is when the last input was observed; an older one is stale.
	At time.Time `json:"at,omitzero"`
	// Adopted: the stable copy was found, not made from the target.
	Adopted bool `json:"adopted,omitempty"`
	// Stalling: the last step waited on pods or proxies; Stalled is for how
	// long in all, in this phase and step.
	Stalling bool          `json:"stalling,omitempty"`
	Stalled  time.Duration `json:"stalled,omitempty"`
	// Touched: the stable copy was told to leave its revision in this run.
	Touched bool `json:"touched,omitempty"`
	// Served: the new stable pods were seen to serve. Quiet is since when no
	// request arrived. Both belong to Finalizing.
	Served bool      `json:"served,omitempty"`
	Quiet  time.Time `json:"quiet,omitzero"`
	// Next: between two runs, the canary's pods stay for the one that follows.
	Next bool `json:"next,omitempty"`
}

// Run is one run: what was released, how it went.
type Run struct {
	Number  int64     `json:"number,omitempty"` // from 1
	From    Revision  `json:"from,omitempty"`
	To      Revision  `json:"to,omitempty"`
	Started time.Time `json:"started,omitzero"`

	// Requests of both sides that were judged.
	Counts analysis.Counts `json:"counts,omitzero"`

	// FirstCanary is when the first request reached the canary, Decided when
	// the run's outcome was decided, Effective when every proxy had obeyed:
	// for a rollback share 0, for a promotion all traffic on the new stable.
	FirstCanary time.Time `json:"firstCanary,omitzero"`
	Decided     time.Time `json:"decided,omitzero"`
	Effective   time.Time `json:"effective,omitzero"`

	// Late counts requests that reached the canary after Effective.
	Late int64 `json:"late,omitempty"`

	// Outcome is decided before the run ends; Ended is zero until then.
	Outcome Outcome   `json:"outcome,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Ended   time.Time `json:"ended,omitzero"`

	// Failed says that the judge decided the run, with its evidence then.
	Failed   bool              `json:"failed,omitempty"`
	Evidence analysis.Evidence `json:"evidence,omitzero"`
}

// World is what the caller has to make true, and to keep true.
type World struct {
	// Split: the traffic goes through our split between the stable copy and
	// the target. False: leave it as the user made it.
	Split bool
	// CanaryPercent is the target's share of it.
	CanaryPercent Percent
	// CanaryScaled: the target runs as many pods as its user asks for;
	// false: none.
	CanaryScaled bool
	// StableRevision is the template that the stable copy has to run;
	// "" = leave the copy alone.
	StableRevision Revision
}

// Want returns the world that belongs to the state. It changes nothing in a
// release that was never looked at.
func (s State) Want() World {
	w := World{Split: s.Split, CanaryPercent: s.Share, CanaryScaled: true, StableRevision: s.Stable}
	switch s.Phase {
	case Idle:
		w.CanaryScaled = s.Next
	case Promoting, Finalizing:
		w.StableRevision = s.Canary
	case Initializing, Starting, Progressing, RollingBack:
	}
	return w
}

// MustWrite reports whether next has to be stored before the world is made to
// follow it. Otherwise it differs from s in nothing but counts and what people
// read, which may be stored at leisure: a crash then loses some evidence, never
// a decision.
func (s State) MustWrite(next State) bool {
	return s.Phase != next.Phase ||
		s.Step != next.Step ||
		s.Rejected != next.Rejected ||
		s.Command != next.Command ||
		s.Run.Number != next.Run.Number ||
		s.Run.Outcome != next.Run.Outcome ||
		s.Want() != next.Want()
}
