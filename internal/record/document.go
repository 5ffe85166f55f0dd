package record

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"time"

	"serin.dev/serin/internal/rollout"
)

// Document is a record as one JSON value: what happened, in order, with the
// evidence of each decision, and the lines of the record, of which Parse makes
// the same record again.
type Document struct {
	Format int `json:"format"` // of the document; the lines begin with theirs
	Header
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	// Outcome of the run, and why; "" = it had not ended.
	Outcome string `json:"outcome,omitempty"`
	Winner  string `json:"winner,omitempty"` // of an experiment
	Reason  string `json:"reason,omitempty"`
	// Cost is about how many failed requests of users the run caused, beyond
	// those that would have failed on the stable version; until it has ended, by
	// its last decision. Requests are all that
	// reached the canary or the candidates, Failures those among them that
	// failed.
	Cost     float64 `json:"cost"`
	Requests int64   `json:"requests"`
	Failures int64   `json:"failures"`
	// Versions of an experiment, stable first.
	Versions []VersionSeen `json:"versions,omitempty"`

	// Gaps says what the record lacks; empty = it is whole.
	Gaps []string `json:"gaps,omitempty"`
	// Plan of the run when it began.
	Plan json.RawMessage `json:"plan"`
	// Splits are what the canary or the candidates were asked to get, one after
	// the other.
	Splits   []Split `json:"splits"`
	Timeline []Entry `json:"timeline"`

	Lines []json.RawMessage `json:"lines"`
}

// Split is a change of the canary's traffic, or of the candidates' shares, and
// what became of it.
type Split struct {
	Asked   time.Time        `json:"asked"`
	Step    int              `json:"step,omitempty"`
	Traffic *rollout.Traffic `json:"traffic,omitempty"` // of a release
	Shares  Shares           `json:"shares,omitempty"`  // of an experiment
	// Acked is when every proxy had it; zero = not before the next one.
	Acked time.Time `json:"acked,omitzero"`
	// Measured is the canary's part, 0 to 1, of the requests since then, and
	// MeasuredShares that of each version; nil = there was none.
	Measured       *float64           `json:"measured,omitempty"`
	MeasuredShares map[string]float64 `json:"measuredShares,omitempty"`
}

// is reports whether the split is one of the same parts.
func (s *Split) is(traffic rollout.Traffic, shares Shares) bool {
	if s.Traffic == nil {
		return maps.Equal(s.Shares, shares)
	}
	return *s.Traffic == traffic
}

// measured notes what was measured of the split.
func (s *Split) measured(seen *Seen) {
	if s.Acked.IsZero() {
		return
	}
	if seen.Share != nil {
		s.Measured = seen.Share
	}
	for _, v := range seen.Versions {
		if v.Share == nil {
			continue
		}
		if s.MeasuredShares == nil {
			s.MeasuredShares = map[string]float64{}
		}
		s.MeasuredShares[v.Name] = *v.Share
	}
}

// Entry is something that happened in a run; one of the fields after At is set.
type Entry struct {
	At time.Time `json:"at"`
	// Decision of the engine, with events and their evidence.
	Decision *Decision `json:"decision,omitempty"`
	Acked    *Acked    `json:"acked,omitempty"`
	// Command and Approval of a person, when they were first seen, obeyed or
	// not.
	Command  *rollout.Command    `json:"command,omitempty"`
	Approval *rollout.Approval   `json:"approval,omitempty"`
	Hook     *rollout.HookResult `json:"hook,omitempty"`
	// Note says what the reader should know, such as a restart.
	Note string `json:"note,omitempty"`
}

// Export makes one document of a record.
func Export(r *Record) (*Document, error) {
	e := exporter{doc: &Document{Format: documentFormat, Header: r.Header, Splits: []Split{}, Timeline: []Entry{}}, seen: map[string]bool{}}
	head, err := json.Marshal(line{Record: &r.Header})
	if err != nil {
		return nil, err
	}
	e.doc.Lines = append(e.doc.Lines, head)
	for i := range r.lines {
		if e.doc.Plan == nil {
			e.doc.Plan = r.lines[i].Plan
		}
		data, err := json.Marshal(r.lines[i])
		if err != nil {
			return nil, err
		}
		e.doc.Lines = append(e.doc.Lines, data)
	}
	if r.Kind() == Experiment {
		err = tellAll(looks(r, experiments()), &e, func(*experimentLook) {})
	} else {
		err = tellAll(looks(r, runs()), &e, e.hear)
	}
	if err != nil {
		return nil, err
	}
	e.end(r)
	return e.doc, nil
}

// tellAll tells the looks of a record of either kind; hear tells what people and
// other systems said until one.
func tellAll[P, S, I any](looks iter.Seq2[*lookOf[P, S, I], error], e *exporter, hear func(*lookOf[P, S, I])) error {
	var plan *P
	for s, err := range looks {
		if err != nil {
			return err
		}
		e.at = s.At
		if plan == nil {
			e.doc.Started = s.At
		}
		switch {
		case s.Unwritten > 0:
			e.tell(Entry{Note: fmt.Sprintf("looks before this one that could not be written: %d", s.Unwritten)})
		case plan != nil && s.State != nil && !s.Apart:
			e.tell(Entry{Note: "Serin was started again, and went on from its journal"})
		}
		if plan != nil && !reflect.DeepEqual(plan, s.Plan) {
			e.tell(Entry{Note: "the plan was changed"})
		}
		plan = s.Plan
		hear(s)
		e.add(&s.told)
	}
	return nil
}

type exporter struct {
	doc  *Document
	at   time.Time       // of the present look
	seen map[string]bool // commands, approvals and results
}

func (e *exporter) tell(entry Entry) {
	entry.At = e.at
	e.doc.Timeline = append(e.doc.Timeline, entry)
}

// hear tells of a look at a release what was not told before.
func (e *exporter) hear(s *releaseLook) {
	once := func(kind, id string) bool {
		known := id == "" || e.seen[kind+id]
		e.seen[kind+id] = true
		return !known
	}
	if len(e.seen) == 0 && s.State != nil {
		once("command", s.State.Command) // was obeyed before
	}
	if c := s.Input.Command; once("command", c.ID) {
		e.tell(Entry{Command: &c})
	}
	for _, a := range s.Input.Approvals {
		if once("approval", a.ID) {
			e.tell(Entry{Approval: &a})
		}
	}
	for _, h := range s.Input.Hooks {
		if once("hook", h.ID) {
			e.tell(Entry{Hook: &h})
		}
	}
}

// add tells what was decided and acknowledged. A look at an experiment follows
// the acknowledgement; a release takes it in with its decision.
func (e *exporter) add(s *told) {
	if e.doc.Kind() == Experiment {
		e.acked(s.Acked)
	}
	if s.Decision != nil {
		e.tell(Entry{Decision: s.Decision})
		e.split(s)
	}
	if e.doc.Kind() == Release {
		e.acked(s.Acked)
	}
}

func (e *exporter) acked(a *Acked) {
	if a == nil {
		return
	}
	d := e.doc
	e.tell(Entry{Acked: a})
	if n := len(d.Splits); n > 0 && d.Splits[n-1].is(a.Traffic, a.Shares) {
		d.Splits[n-1].Acked = a.Since
	}
}

// split notes what was measured of the last one, and the next one if there is.
func (e *exporter) split(s *told) {
	d := e.doc
	n := len(d.Splits)
	if s.Seen != nil {
		d.Requests, d.Failures, d.Versions = s.Seen.Requests, s.Seen.Failures, s.Seen.Versions
		if n > 0 {
			d.Splits[n-1].measured(s.Seen)
		}
	}
	for _, event := range s.Decision.Events { // of a release
		d.Cost = max(d.Cost, event.Evidence.Cost)
	}
	next := Split{Asked: e.at, Step: s.Decision.Step, Traffic: &s.Decision.Traffic}
	if d.Kind() == Experiment {
		d.Cost = 0
		for i := range s.Decision.Candidates {
			d.Cost += s.Decision.Candidates[i].Evidence.Cost
		}
		next.Traffic, next.Shares = nil, sharesOf(s.Decision.Candidates)
		if n == 0 && next.Shares.none() { // it waits for pods
			return
		}
	}
	if n == 0 || !d.Splits[n-1].is(s.Decision.Traffic, next.Shares) {
		d.Splits = append(d.Splits, next)
	}
}

func (e *exporter) end(r *Record) {
	d := e.doc
	if r.Lost > 0 {
		d.Gaps = append(d.Gaps, fmt.Sprintf("%d lines were lost in a crash", r.Lost))
	}
	if r.Unwritten > 0 {
		d.Gaps = append(d.Gaps, fmt.Sprintf("looks that could not be written: %d", r.Unwritten))
	}
	if r.Cut != "" {
		d.Gaps = append(d.Gaps, r.Cut)
	}
	if r.End == nil {
		d.Gaps = append(d.Gaps, "the run had not ended, or its end could not be written")
		return
	}
	d.Ended, d.Outcome, d.Winner, d.Reason, d.Cost = r.End.At, r.End.Outcome, r.End.Winner, r.End.Reason, r.End.Cost
	d.Requests, d.Failures, d.Versions = r.End.Seen.Requests, r.End.Seen.Failures, r.End.Seen.Versions
	if n := len(d.Splits); n > 0 && d.Splits[n-1].Measured == nil {
		d.Splits[n-1].measured(&r.End.Seen)
	}
}
