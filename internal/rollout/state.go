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
	// Testing: the canary answers no user. It gets copies of requests, or
	// none but those that are sent to it directly, and is judged by them.
	Testing Phase = "Testing"
	// Progressing: the canary has the share of the present step.
	Progressing Phase = "Progressing"
	// Promoting: the stable copy is rolled to the canary's revision while the
	// canary keeps its share; then it gets the traffic back in the plan's
	// PromotionSteps. The canary is judged on.
	Promoting Phase = "Promoting"
	// Finalizing: the traffic goes to the new stable pods, and is seen there.
	Finalizing Phase = "Finalizing"
	// RollingBack: all traffic goes back to the old stable revision, at once
	// or in the plan's AbortSteps.
	RollingBack Phase = "RollingBack"
)

// Cost is about how many failed requests of users the present or last run
// caused: the judge's estimate, without the failures of copies.
func (s State) Cost() float64 { return max(0, s.Evidence.Cost-s.Run.CopiesCost) }

// Told is the evidence as others are told of it: with Cost for what it cost.
func (s State) Told() analysis.Evidence {
	e := s.Evidence
	e.Cost = s.Cost()
	return e
}

// Wait is what kind of thing a release waits for.
type Wait string

// The kinds. "" = for a new revision, or for nothing.
const (
	// WaitOthers: pods, proxies, the answer of a hook. Plan.Deadline ends it.
	WaitOthers Wait = "others"
	// WaitEvidence: requests, looks at the checks. Plan.StepDeadline ends it.
	WaitEvidence Wait = "evidence"
	// WaitTime: a hold, the last requests under way, an expiry. It ends at the
	// state's Deadline.
	WaitTime Wait = "time"
	// WaitGate: a gate, or a hook that has to confirm. It ends when one of
	// them expires, if any does.
	WaitGate Wait = "gate"
	// WaitPerson: a suspension or a freeze, whose end a person decides, or
	// another release or the others of the set.
	WaitPerson Wait = "person"
)

// Outcome says how a run ended.
type Outcome string

// The outcomes.
const (
	Promoted   Outcome = "promoted"
	RolledBack Outcome = "rolled-back" // failed by the judge, or by a deadline
	Aborted    Outcome = "aborted"     // by a person, or the target was taken back
	Superseded Outcome = "superseded"  // by a newer revision
	Reverted   Outcome = "reverted"    // a person went back to the version before
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
	// Wait is for whom or what, and Deadline ends it; zero = nothing but what
	// Reason says does.
	Wait     Wait      `json:"wait,omitempty"`
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
	// Part counts the PromotionSteps or AbortSteps that were taken.
	Part int `json:"part,omitempty"`
	// Looks counts the good ones of the present step, Looked is when the
	// last of them was: see Plan.Iterations.
	Looks  int       `json:"looks,omitempty"`
	Looked time.Time `json:"looked,omitzero"`

	// Skipped: a person did not want to wait for the present step's evidence.
	Skipped bool `json:"skipped,omitempty"`
	// Passed: the run waits for the others of its set, and for nothing else.
	Passed bool `json:"passed,omitempty"`
	// Cleared: the gates at Start were passed in this run. Prepared: the
	// pre-rollout hooks succeeded.
	Cleared  bool `json:"cleared,omitempty"`
	Prepared bool `json:"prepared,omitempty"`
	// Gradual: the canary's share falls in the plan's AbortSteps.
	Gradual bool `json:"gradual,omitempty"`

	// Split: the stable copy takes part in the traffic. Traffic is what the
	// canary is asked to get, Asked when that was.
	Split   bool      `json:"split,omitempty"`
	Traffic Traffic   `json:"traffic,omitzero"`
	Asked   time.Time `json:"asked,omitzero"`
	// Acked is when every proxy had Traffic for the first time since; zero =
	// not yet.
	Acked time.Time `json:"acked,omitzero"`

	// StableDown: at the last look no pod of stable was there to answer.
	StableDown bool `json:"stableDown,omitempty"`
	// Filling: own load is sent, because users' requests are too few.
	Filling bool `json:"filling,omitempty"`

	// Judge of the present run, and what it said last.
	Judge    analysis.Judge    `json:"judge,omitzero"`
	Evidence analysis.Evidence `json:"evidence,omitzero"`

	// Run is the present run, or the last one when no run is on: its Outcome
	// is set then. Run.Number tells runs apart, so that a caller adds each to
	// its history once.
	Run Run `json:"run,omitzero"`

	// ByPods: the release is without a route, and has Pods in all. Otherwise
	// CanaryPods and StablePods are the least that the present share, or the
	// one that is waited for, needs.
	ByPods     bool  `json:"byPods,omitempty"`
	Pods       int32 `json:"pods,omitempty"`
	CanaryPods int32 `json:"canaryPods,omitempty"`
	StablePods int32 `json:"stablePods,omitempty"`

	// Gates that were asked at the present point of the run.
	Gates []Asked `json:"gates,omitempty"`
	// Approvals are the IDs of those that were used, or are of no use, as
	// long as the input repeats them.
	Approvals []string `json:"approvals,omitempty"`
	// Calls are hooks whose results are not known yet, Called is how many
	// were decided in all.
	Calls  []HookCall `json:"calls,omitempty"`
	Called int64      `json:"called,omitempty"`
	// Hooks is what is remembered of the plan's hooks at the present point.
	Hooks []Answer `json:"hooks,omitempty"`

	// Previous is the revision that was stable before Stable, "" = none. The
	// caller must be able to restore its template.
	Previous Revision `json:"previous,omitempty"`
	// Warm is the revision whose pods are kept beside, until WarmUntil; zero
	// = as long as the run lasts.
	Warm      Revision  `json:"warm,omitempty"`
	WarmUntil time.Time `json:"warmUntil,omitzero"`

	// Command is the ID of the last command that was obeyed.
	Command string `json:"command,omitempty"`

	// At is when the last input was observed; an older one is stale.
	At time.Time `json:"at,omitzero"`
	// Adopted: the stable copy was found, not made from the target.
	Adopted bool `json:"adopted,omitempty"`
	// Stalled is how long, in all of this phase and step, others were waited
	// for (WaitOthers), and Collected how long evidence was.
	Stalled   time.Duration `json:"stalled,omitempty"`
	Collected time.Duration `json:"collected,omitempty"`
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

	// Mirrored sums up the comparison of the answers to copies.
	Mirrored Mirrored `json:"mirrored,omitzero"`

	// CopiesCost is what failures of copies add to Evidence.Cost: they reached
	// no user. Its name in the journal is the older one.
	CopiesCost float64 `json:"spared,omitempty"`

	// Commands of persons that the run obeyed, the latest at most.
	Commands []Obeyed `json:"commands,omitempty"`

	// Outcome is decided before the run ends; Ended is zero until then.
	Outcome Outcome   `json:"outcome,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Ended   time.Time `json:"ended,omitzero"`

	// BySet is the member of the set with which the version was taken back;
	// "" = it was not, or on its own account.
	BySet string `json:"bySet,omitempty"`

	// Failed says that the judge decided the run, with its evidence then.
	Failed   bool              `json:"failed,omitempty"`
	Evidence analysis.Evidence `json:"evidence,omitzero"`
}

// Obeyed is a command or an approval in the records of a run.
type Obeyed struct {
	ID     string    `json:"id"`
	Verb   Verb      `json:"verb"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Gate   string    `json:"gate,omitempty"`
	At     time.Time `json:"at,omitzero"`
	Phase  Phase     `json:"phase"`
	Step   int       `json:"step,omitempty"`
}
