package record

import (
	"encoding/json"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/rollout"
)

// The newest formats that are known here, which this package writes; a reader
// refuses later ones. What Export tells of the same lines may change where the
// lines do not, so a document has a number of its own: raise it with any such
// change. Documents of an older one are not compared with what Export makes now.
const (
	lineFormat     = 1
	documentFormat = 1
)

// Kind is what a record is of.
type Kind string

// The kinds.
const (
	Release    Kind = "release"    // a run of it
	Experiment Kind = "experiment" // which has one run
)

// Header says what a record is of: its first line.
type Header struct {
	Format    int    `json:"format"` // of the lines
	Namespace string `json:"namespace"`
	// Release, or Experiment, is the object's name; the other one is "".
	Release    string `json:"release,omitempty"`
	Experiment string `json:"experiment,omitempty"`
	UID        string `json:"uid"` // of the object
	// Run is the number of a release's run, or says which of the experiments
	// of that name it was; from 1.
	Run int64 `json:"run"`
	// From and To are the versions of a release's run.
	From Version `json:"from,omitzero"`
	To   Version `json:"to,omitzero"`
}

// Kind returns what the record is of.
func (h Header) Kind() Kind {
	if h.Experiment != "" {
		return Experiment
	}
	return Release
}

// Name returns the name of the object.
func (h Header) Name() string { return h.Release + h.Experiment }

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
	// the looks before: at the beginning, and after a restart or a gap. Without
	// Unwritten or Cut before it, it was a restart.
	State json.RawMessage `json:"state,omitempty"`

	// Look is what was observed: fields of the machine's Input. A field that stands
	// for how things are is there when it changed since the look before, null
	// when it has its zero value again; one that counts since the look before
	// is there unless it is zero.
	Look json.RawMessage `json:"look,omitempty"`
	// Number of the look, from 1 behind each State: one that was taken out,
	// doubled or moved is found by it. 0 in records of an older Serin.
	Number   int       `json:"n,omitempty"`
	Decision *Decision `json:"decision,omitempty"`
	Acked    *Acked    `json:"acked,omitempty"`
	Seen     *Seen     `json:"seen,omitempty"` // with a decision

	// Unwritten is how many looks could not be written here.
	Unwritten int `json:"unwritten,omitempty"`
	// Lost is how many lines could not be read here. Export alone writes it.
	Lost int `json:"lost,omitempty"`

	// Cut says that the record has become too long: from here on it holds the
	// looks that decided something, or had an acknowledgement, alone, each with
	// the state before it.
	Cut string `json:"cut,omitempty"`
	// End is the last line of a run that ended.
	End *End `json:"end,omitempty"`
}

// Decision is what one look changed, apart from counts and from texts.
type Decision struct {
	Phase string `json:"phase"`
	// Of a release:
	Step    int               `json:"step,omitempty"`
	Part    int               `json:"part,omitempty"`
	Traffic rollout.Traffic   `json:"traffic,omitzero"`
	Verdict *analysis.Verdict `json:"verdict,omitempty"`
	Kind    analysis.Kind     `json:"kind,omitempty"`
	Stratum string            `json:"stratum,omitempty"`
	Hooks   []string          `json:"hooks,omitempty"` // IDs of the calls that were decided
	// Of an experiment:
	Candidates []Candidate          `json:"candidates,omitempty"`
	Showings   []experiment.Showing `json:"showings,omitempty"`
	Winner     string               `json:"winner,omitempty"`
	Promote    bool                 `json:"promote,omitempty"` // the winner

	Outcome string          `json:"outcome,omitempty"`
	Events  []rollout.Event `json:"events,omitempty"` // with the evidence of a release
	Reason  string          `json:"reason,omitempty"` // in one line, for people
}

// Candidate is one of an experiment's after a look.
type Candidate struct {
	Name string `json:"name"`
	// Share that is asked for, in hundredths of a percent.
	Share    rollout.Share     `json:"share"`
	Dropped  string            `json:"dropped,omitempty"` // why it was; "" = it was not
	Evidence analysis.Evidence `json:"evidence"`          // as the judge gave it last
}

// Shares of an experiment's candidates by their names; stable has the rest.
type Shares map[string]rollout.Share

// sharesOf are those of all candidates.
func sharesOf(all []Candidate) Shares {
	out := Shares{}
	for i := range all {
		out[all[i].Name] = all[i].Share
	}
	return out
}

// none reports whether stable has all.
func (s Shares) none() bool {
	for _, share := range s {
		if share > 0 {
			return false
		}
	}
	return true
}

// Acked says that all proxies have the traffic, or the shares of candidates,
// that was asked for.
type Acked struct {
	Traffic rollout.Traffic `json:"traffic,omitzero"`
	Shares  Shares          `json:"shares,omitempty"`
	Since   time.Time       `json:"since"`
}

// Seen is what the proxies measured until a look.
type Seen struct {
	// Requests of the run that reached the canary, judged or not, and the
	// failures among them; of an experiment, those of all candidates that were
	// judged.
	Requests int64 `json:"requests"`
	Failures int64 `json:"failures"`
	// Share is the canary's part, 0 to 1, of the requests since the proxies
	// have the present split; nil = there was none.
	Share *float64 `json:"share,omitempty"`
	// Versions of an experiment, stable first.
	Versions []VersionSeen `json:"versions,omitempty"`
}

// VersionSeen is what was measured of one version of an experiment.
type VersionSeen struct {
	Name     string  `json:"name"`
	Version  Version `json:"version,omitzero"` // what it runs
	Requests int64   `json:"requests"`
	Failures int64   `json:"failures"`
	// Share as that of Seen.
	Share *float64 `json:"share,omitempty"`
}

// End says how a run ended.
type End struct {
	At      time.Time `json:"at"`
	Outcome string    `json:"outcome"`
	Winner  string    `json:"winner,omitempty"` // of an experiment
	Reason  string    `json:"reason,omitempty"`
	// Cost is about how many failed requests of users the run caused.
	Cost float64 `json:"cost"`
	Seen Seen    `json:"seen"`
}
