package record

import (
	"encoding/json"
	"fmt"
	"time"

	"serin.dev/serin/internal/rollout"
)

// Document is a record as one JSON value: what happened, in order, with the
// evidence of each decision, and the lines of the record, of which Parse makes
// the same record again.
type Document struct {
	Header
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	// Outcome of the run, and why; "" = it had not ended.
	Outcome rollout.Outcome `json:"outcome,omitempty"`
	Reason  string          `json:"reason,omitempty"`
	// Cost is about how many failed requests of users the run caused, beyond
	// those that would have failed on the stable version. Requests are all that
	// reached the canary, Failures those among them that failed.
	Cost     float64 `json:"cost"`
	Requests int64   `json:"requests"`
	Failures int64   `json:"failures"`

	// Gaps says what the record lacks; empty = it is whole.
	Gaps []string `json:"gaps,omitempty"`
	// Plan of the run when it began.
	Plan json.RawMessage `json:"plan"`
	// Splits are what the canary was asked to get, one after the other.
	Splits   []Split `json:"splits"`
	Timeline []Entry `json:"timeline"`

	Lines []json.RawMessage `json:"lines"`
}

// Split is a change of the canary's traffic and what became of it.
type Split struct {
	Asked   time.Time       `json:"asked"`
	Step    int             `json:"step,omitempty"`
	Traffic rollout.Traffic `json:"traffic"`
	// Acked is when every proxy had it; zero = not before the next one.
	Acked time.Time `json:"acked,omitzero"`
	// Measured is the canary's part, 0 to 1, of the requests since then; nil =
	// there was none.
	Measured *float64 `json:"measured,omitempty"`
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
	e := exporter{doc: &Document{Header: r.Header, Splits: []Split{}, Timeline: []Entry{}}, seen: map[string]bool{}}
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
	for s, err := range r.Steps() {
		if err != nil {
			return nil, err
		}
		e.add(s)
	}
	e.end(r)
	return e.doc, nil
}

type exporter struct {
	doc  *Document
	plan *rollout.Plan
	seen map[string]bool // commands, approvals and results
}

func (e *exporter) add(s *Step) {
	d := e.doc
	tell := func(entry Entry) {
		entry.At = s.Input.Now
		d.Timeline = append(d.Timeline, entry)
	}
	once := func(kind, id string) bool {
		known := id == "" || e.seen[kind+id]
		e.seen[kind+id] = true
		return !known
	}
	switch {
	case e.plan == nil:
		d.Started = s.Input.Now
		if s.State != nil {
			once("command", s.State.Command) // was obeyed before
		}
	case s.State != nil && !s.Apart:
		tell(Entry{Note: "Serin was started again, and went on from its journal"})
	}
	if e.plan != nil && e.plan != s.Plan {
		tell(Entry{Note: "the plan was changed"})
	}
	e.plan = s.Plan
	if c := s.Input.Command; once("command", c.ID) {
		tell(Entry{Command: &c})
	}
	for _, a := range s.Input.Approvals {
		if once("approval", a.ID) {
			tell(Entry{Approval: &a})
		}
	}
	for _, h := range s.Input.Hooks {
		if once("hook", h.ID) {
			tell(Entry{Hook: &h})
		}
	}
	if s.Decision != nil {
		tell(Entry{Decision: s.Decision})
		e.split(s)
	}
	if s.Acked != nil {
		tell(Entry{Acked: s.Acked})
		if n := len(d.Splits); n > 0 && d.Splits[n-1].Traffic == s.Acked.Traffic {
			d.Splits[n-1].Acked = s.Acked.Since
		}
	}
}

// split notes what was measured of the last one, and the next one if there is.
func (e *exporter) split(s *Step) {
	d := e.doc
	n := len(d.Splits)
	if s.Seen != nil {
		d.Requests, d.Failures = s.Seen.Requests, s.Seen.Failures
		if n > 0 && !d.Splits[n-1].Acked.IsZero() && s.Seen.Share != nil {
			d.Splits[n-1].Measured = s.Seen.Share
		}
	}
	if n == 0 || d.Splits[n-1].Traffic != s.Decision.Traffic {
		d.Splits = append(d.Splits, Split{Asked: s.Input.Now, Step: s.Decision.Step, Traffic: s.Decision.Traffic})
	}
	for _, event := range s.Decision.Events {
		d.Cost = max(d.Cost, event.Evidence.Cost)
	}
}

func (e *exporter) end(r *Record) {
	d := e.doc
	if r.Lost > 0 {
		d.Gaps = append(d.Gaps, fmt.Sprintf("%d lines were lost in a crash", r.Lost))
	}
	if r.Cut != "" {
		d.Gaps = append(d.Gaps, r.Cut)
	}
	if r.End == nil {
		d.Gaps = append(d.Gaps, "the run had not ended")
		return
	}
	d.Ended, d.Outcome, d.Reason, d.Cost = r.End.At, r.End.Outcome, r.End.Reason, r.End.Cost
	d.Requests, d.Failures = r.End.Seen.Requests, r.End.Seen.Failures
	if n := len(d.Splits); n > 0 && d.Splits[n-1].Measured == nil && !d.Splits[n-1].Acked.IsZero() {
		d.Splits[n-1].Measured = r.End.Seen.Share
	}
}
