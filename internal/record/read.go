package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"

	"serin.dev/serin/internal/rollout"
)

// Record is a record as it was read.
type Record struct {
	Header
	// End of the run; nil = it had not ended, or the line was lost.
	End *End
	// Cut says why there are decisions alone from some point on; "" = there
	// are not.
	Cut string
	// Lost is how many lines could not be read: those that a crash tore, and
	// looks that cannot be replayed without them.
	Lost int

	lines []line
}

// Step is one look of a record.
type Step struct {
	Plan *rollout.Plan // in force
	// State before the look, where it does not follow from the look before.
	State *rollout.State
	Input rollout.Input
	// Decision, Acked and Seen as they were recorded; nil = none.
	Decision *Decision
	Acked    *Acked
	Seen     *Seen
	// Apart: looks were left out before this one, for the record's length.
	Apart bool
}

// Parse reads a record: the lines of a file, or the document that Export makes
// of them. What a crash may have left is passed over; anything else that is
// wrong is an error.
func Parse(data []byte) (*Record, error) {
	first, rest, _ := bytes.Cut(data, []byte("\n"))
	h, err := readHeader(first)
	if err != nil {
		var doc struct {
			Lines []json.RawMessage `json:"lines"`
		}
		if json.Unmarshal(data, &doc) != nil || len(doc.Lines) == 0 {
			return nil, fmt.Errorf("this is no record of a run: %w", err)
		}
		if h, err = readHeader(doc.Lines[0]); err != nil {
			return nil, fmt.Errorf("this is no record of a run: %w", err)
		}
		rest = nil
		for _, l := range doc.Lines[1:] {
			var one bytes.Buffer
			if err := json.Compact(&one, l); err != nil {
				return nil, err
			}
			rest = append(append(rest, one.Bytes()...), '\n')
		}
	}
	r := &Record{Header: h}
	r.read(rest)
	if len(r.lines) == 0 {
		return nil, fmt.Errorf("the record of run %d holds no look", h.Run)
	}
	return r, nil
}

func readHeader(first []byte) (Header, error) {
	var l line
	if err := json.Unmarshal(first, &l); err != nil {
		return Header{}, err
	}
	switch {
	case l.Record == nil:
		return Header{}, fmt.Errorf("the first line does not say of which")
	case l.Record.Format < 1 || l.Record.Format > format:
		return Header{}, fmt.Errorf("its format is %d, and this Serin reads up to %d: use a newer one", l.Record.Format, format)
	}
	return *l.Record, nil
}

// read takes in the lines after the first, up to the end.
func (r *Record) read(data []byte) {
	whole := false // the next look follows from what was read
	for text := range bytes.Lines(data) {
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			r.Lost++
			whole = false
			continue
		}
		switch {
		case l.State != nil:
			whole = true
		case l.Look != nil && !whole:
			r.Lost++
			continue
		case l.Cut != "":
			r.Cut = l.Cut
		case l.End != nil:
			r.End = l.End
		}
		r.lines = append(r.lines, l)
	}
}

// Steps returns the looks in order. It ends with an error when one of them is
// not what this package writes.
func (r *Record) Steps() iter.Seq2[*Step, error] {
	return func(yield func(*Step, error) bool) {
		var (
			plan   *rollout.Plan
			state  *rollout.State
			inputs inputReader
			cut    bool
		)
		for i, l := range r.lines {
			err := error(nil)
			switch {
			case l.Plan != nil:
				plan, err = planOf(l.Plan)
			case l.State != nil:
				state, inputs = &rollout.State{}, inputReader{}
				err = json.Unmarshal(l.State, state)
			case l.Cut != "":
				cut = true
			case l.Look != nil && plan == nil:
				err = fmt.Errorf("no plan stands before the look")
			case l.Look != nil:
				s := &Step{Plan: plan, State: state, Decision: l.Decision, Acked: l.Acked, Seen: l.Seen, Apart: cut && state != nil}
				if s.Input, err = inputs.read(l.Look); err == nil {
					state = nil
					if !yield(s, nil) {
						return
					}
				}
			}
			if err != nil {
				yield(nil, fmt.Errorf("line %d of the record of run %d: %w", i+2, r.Run, err))
				return
			}
		}
	}
}
