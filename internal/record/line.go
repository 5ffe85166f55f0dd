package record

import (
	"encoding/json"
	"slices"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

// format is that of the lines. A reader refuses a record of a later one.
const format = 1

// Header says what a record is of: its first line.
type Header struct {
	Format    int     `json:"format"`
	Namespace string  `json:"namespace"`
	Release   string  `json:"release"`
	UID       string  `json:"uid"` // of the Release object
	Run       int64   `json:"run"` // its number, from 1
	From      Version `json:"from"`
	To        Version `json:"to"`
}

// Version is a revision with the name that people gave it.
type Version struct {
	Revision rollout.Revision `json:"revision"`
	Label    string           `json:"label,omitempty"`
}

// line is one line of a record: one of the fields, or a look with what belongs
// to it.
type line struct {
	Record *Header `json:"record,omitempty"`
	// Plan holds from here on.
	Plan json.RawMessage `json:"plan,omitempty"`
	// State is the one before the next look, where that does not follow from
	// the looks before: at the beginning, and after a restart or a gap.
	State json.RawMessage `json:"state,omitempty"`

	// Look is what was observed: fields of rollout.Input. A field that stands
	// for how things are is there when it changed since the look before, null
	// when it has its zero value again; one that counts since the look before
	// is there unless it is zero.
	Look     json.RawMessage `json:"look,omitempty"`
	Decision *Decision       `json:"decision,omitempty"`
	Acked    *Acked          `json:"acked,omitempty"`
	Seen     *Seen           `json:"seen,omitempty"` // with a decision

	// Lost is how many lines could not be read here. Export alone writes it.
	Lost int `json:"lost,omitempty"`

	// Cut says that the record has become too long: from here on it holds the
	// looks that decided something alone, each with the state before it.
	Cut string `json:"cut,omitempty"`
	// End is the last line of a run that ended.
	End *End `json:"end,omitempty"`
}

// Decision is what one look changed, apart from counts and from texts.
type Decision struct {
	Phase   rollout.Phase    `json:"phase"`
	Step    int              `json:"step,omitempty"`
	Part    int              `json:"part,omitempty"`
	Traffic rollout.Traffic  `json:"traffic,omitzero"`
	Outcome rollout.Outcome  `json:"outcome,omitempty"`
	Verdict analysis.Verdict `json:"verdict"`
	Kind    analysis.Kind    `json:"kind,omitempty"`
	Stratum string           `json:"stratum,omitempty"`
	Hooks   []string         `json:"hooks,omitempty"`  // IDs of the calls that were decided
	Events  []rollout.Event  `json:"events,omitempty"` // with the evidence
	Reason  string           `json:"reason,omitempty"` // in one line, for people
}

// decisionOf is what a step decided; nil when it changed nothing but counts.
func decisionOf(was, next *rollout.State, events []rollout.Event) *Decision {
	if !was.MustWrite(*next) && len(events) == 0 {
		return nil
	}
	d := &Decision{
		Phase: next.Phase, Step: next.Step, Part: next.Part, Traffic: next.Traffic, Outcome: next.Run.Outcome,
		Verdict: next.Evidence.Verdict, Kind: next.Evidence.Kind, Stratum: next.Evidence.Stratum,
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

// Acked says that all proxies have the traffic that was asked for.
type Acked struct {
	Traffic rollout.Traffic `json:"traffic,omitzero"`
	Since   time.Time       `json:"since"`
}

func ackedBy(was, next *rollout.State) *Acked {
	if next.Acked.IsZero() || next.Acked.Equal(was.Acked) {
		return nil
	}
	return &Acked{next.Traffic, next.Acked}
}

// Seen is what the proxies measured until a look.
type Seen struct {
	// Requests of the run that reached the canary, judged or not, and the
	// failures among them.
	Requests int64 `json:"requests"`
	Failures int64 `json:"failures"`
	// Share is the canary's part, 0 to 1, of the requests since the proxies
	// have the present split; nil = there was none.
	Share *float64 `json:"share,omitempty"`
}

// End says how a run ended.
type End struct {
	At      time.Time       `json:"at"`
	Outcome rollout.Outcome `json:"outcome"`
	Reason  string          `json:"reason,omitempty"`
	// Cost is about how many failed requests of users the run caused.
	Cost float64 `json:"cost"`
	Seen Seen    `json:"seen"`
}

// on reports whether a run is on.
func on(s *rollout.State) bool { return s.Run.Number > 0 && s.Run.Ended.IsZero() }
