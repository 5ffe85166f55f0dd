package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/rollout"
)

// Record is a record as it was read.
type Record struct {
	Header
	// End of the run; nil = it had not ended, or the line was lost.
	End *End
	// Cut says why there are but few looks from some point on; "" = it has all.
	Cut string
	// Lost is how many lines could not be read: those that a crash tore, and
	// looks that cannot be replayed without them.
	Lost int
	// Unwritten is how many looks are missing, because they could not be written.
	Unwritten int
	// Uncompared: it is of a document of an older format. Whether its lines are
	// what else it says was not looked at.
	Uncompared bool

	lines []line
}

// releaseLook is one look of a record of a release, experimentLook of one of an
// experiment.
type (
	releaseLook    = lookOf[rollout.Plan, rollout.State, rollout.Input]
	experimentLook = lookOf[experiment.Plan, experiment.State, experiment.Input]
)

// lookOf is one look of a record, as it was read.
type lookOf[P, S, I any] struct {
	Plan *P // in force
	// State before the look, where it does not follow from the look before.
	State *S
	Input I
	told
}

// told is what a record says of a look besides.
type told struct {
	At time.Time // of the look
	// Decision, Acked and Seen as they were recorded; nil = none.
	Decision *Decision
	Acked    *Acked
	Seen     *Seen
	// Unwritten is how many looks before this one could not be written.
	Unwritten int
	// Apart: looks were left out before this one, for the record's length.
	Apart bool
}

// Parse reads a record: the lines of a file, or the document that Export makes
// of them. What a crash may have left is passed over; anything else that is
// wrong is an error.
func Parse(data []byte) (*Record, error) { return parseBy(data, documentFormat) }

// parseBy is Parse by a Serin that exports documents of a format.
func parseBy(data []byte, exports int) (*Record, error) {
	first, rest, _ := bytes.Cut(data, []byte("\n"))
	h, err := readHeader(first)
	if err == nil {
		return readLines(h, rest)
	}
	var doc struct {
		Format int               `json:"format"`
		Lines  []json.RawMessage `json:"lines"`
	}
	if json.Unmarshal(data, &doc) != nil || len(doc.Lines) == 0 {
		return nil, fmt.Errorf("this is no record of a run: %w", err)
	}
	if err := readable(doc.Format, exports); err != nil {
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
	r, err := readLines(h, rest)
	if err != nil {
		return nil, err
	}
	if r.Uncompared = doc.Format < exports; r.Uncompared {
		return r, nil
	}
	return r, r.is(data)
}

func readLines(h Header, data []byte) (*Record, error) {
	r := &Record{Header: h}
	r.read(data)
	if !slices.ContainsFunc(r.lines, func(l line) bool { return l.Look != nil }) {
		return nil, fmt.Errorf("the record of run %d holds no look", h.Run)
	}
	return r, nil
}

// is returns an error unless a document says the same as its lines, of which
// Export made it: otherwise somebody changed what people read and not what is
// replayed.
func (r *Record) is(document []byte) error {
	again, err := Export(r)
	if err != nil {
		return err
	}
	data, err := json.Marshal(again)
	if err != nil {
		return err
	}
	var said, is map[string]any
	if err := errors.Join(json.Unmarshal(document, &said), json.Unmarshal(data, &is)); err != nil {
		return err
	}
	delete(said, "lines")
	delete(is, "lines")
	var fields []string
	for name := range is {
		if !reflect.DeepEqual(said[name], is[name]) {
			fields = append(fields, name)
		}
	}
	for name := range said {
		if _, known := is[name]; !known {
			fields = append(fields, name)
		}
	}
	if len(fields) == 0 {
		return nil
	}
	slices.Sort(fields)
	return fmt.Errorf("the document was changed after its export: by its lines, which are what is replayed, %s would be different", strings.Join(fields, ", "))
}

func readHeader(first []byte) (Header, error) {
	var l line
	if err := json.Unmarshal(first, &l); err != nil {
		return Header{}, err
	}
	if l.Record == nil {
		return Header{}, fmt.Errorf("the first line does not say of which")
	}
	if l.Record.Release != "" && l.Record.Experiment != "" {
		return Header{}, fmt.Errorf("the first line says that it is of a release and of an experiment")
	}
	return *l.Record, readable(l.Record.Format, lineFormat)
}

// readable returns an error for a format that is not known.
func readable(n, newest int) error {
	if n < 1 || n > newest {
		return fmt.Errorf("its format is %d, and this Serin reads up to %d: use a newer one", n, newest)
	}
	return nil
}

// read takes in the lines after the first, up to the end.
func (r *Record) read(data []byte) {
	whole := false // the next look follows from what was read
	for text := range bytes.Lines(data) {
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			l = line{Lost: 1}
		}
		if l.Look != nil && !whole && l.State == nil {
			l = line{Lost: 1}
		}
		switch {
		case l.Lost > 0:
			r.Lost += l.Lost
			whole = false
		case l.Unwritten > 0:
			r.Unwritten += l.Unwritten
			whole = false
		case l.State != nil:
			whole = true
		case l.Cut != "":
			r.Cut = l.Cut
		case l.End != nil:
			r.End = l.End
		}
		r.lines = append(r.lines, l)
	}
}

// looks returns the looks of a record in order. It ends with an error when one
// of them is not what this package writes, or the record is not of the machine's
// kind.
func looks[P, S, I, V any](r *Record, m machine[P, S, I, V]) iter.Seq2[*lookOf[P, S, I], error] {
	return func(yield func(*lookOf[P, S, I], error) bool) {
		if r.Kind() != m.kind {
			yield(nil, fmt.Errorf("the record is not of %s, but of %s %s", article(m.kind), r.Kind(), r.Name()))
			return
		}
		var (
			plan      *P
			state     *S
			inputs    inputReader[I]
			number    int // of the look before, behind its state
			unwritten int
			cut       bool
		)
		for i, l := range r.lines {
			err := error(nil)
			switch {
			case l.Plan != nil:
				plan, err = m.plan(l.Plan)
			case l.State != nil:
				state, inputs, number = new(S), inputReader[I]{}, 0
				if err = json.Unmarshal(l.State, state); err == nil {
					err = m.check(state)
				}
			case l.Unwritten > 0:
				unwritten += l.Unwritten
			case l.Cut != "":
				cut = true
			case l.Look != nil && plan == nil:
				err = fmt.Errorf("no plan stands before the look")
			case l.Look != nil && l.Number != 0 && l.Number != number+1:
				err = fmt.Errorf("look %d follows look %d: looks were taken out, doubled or moved", l.Number, number)
			case l.Look != nil:
				number++
				s := &lookOf[P, S, I]{Plan: plan, State: state, told: told{
					Decision: l.Decision, Acked: l.Acked, Seen: l.Seen, Unwritten: unwritten, Apart: cut && state != nil,
				}}
				if s.Input, err = inputs.read(l.Look); err == nil {
					s.At, err = m.at(&s.Input)
				}
				if err == nil {
					state, unwritten = nil, 0
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

// article names a kind in a sentence.
func article(k Kind) string {
	if k == Experiment {
		return "an experiment"
	}
	return "a release"
}
