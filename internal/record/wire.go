package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"serin.dev/serin/internal/rollout"
)

// null is a zero value on the wire.
const null = "null"

// marshal writes a value of another package with names as JSON has them
// (dependsOn, id), which reading does not distinguish from Go's. With brief,
// fields of structs that have their zero values are left out; that must not be
// asked for where a pointer to zero means something.
func marshal(v any, brief bool) (json.RawMessage, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	out, _ := rename(make([]byte, 0, len(data)), data, brief)
	return out, nil
}

// rename appends the first value of in, which json.Marshal wrote, to out, and
// returns what follows it.
func rename(out, in []byte, brief bool) (_, rest []byte) {
	switch in[0] {
	case '{':
		out, in = append(out, '{'), in[1:]
		for empty := len(out); in[0] != '}'; {
			if in[0] == ',' {
				in = in[1:]
			}
			before := len(out)
			if before > empty {
				out = append(out, ',')
			}
			name, after := text(in)
			out = append(append(out, nameOf(string(name))...), ':')
			value := len(out)
			if out, in = rename(out, after[1:], brief); brief && isZero(out[value:]) {
				out = out[:before]
			}
		}
		return append(out, '}'), in[1:]
	case '[':
		out, in = append(out, '['), in[1:]
		for in[0] != ']' {
			if in[0] == ',' {
				out, in = append(out, ','), in[1:]
			}
			out, in = rename(out, in, brief)
		}
		return append(out, ']'), in[1:]
	case '"':
		value, rest := text(in)
		return append(out, value...), rest
	}
	end := bytes.IndexAny(in, ",]}")
	if end < 0 {
		end = len(in)
	}
	return append(out, in[:end]...), in[end:]
}

// text cuts off a string with its quotes.
func text(in []byte) (value, rest []byte) {
	end := 1
	for ; in[end] != '"'; end++ {
		if in[end] == '\\' {
			end++
		}
	}
	return in[:end+1], in[end+1:]
}

// nameOf makes a name, in quotes, begin with a small letter; one that is an
// abbreviation gets small letters alone.
func nameOf(name string) string {
	if strings.ToUpper(name) == name {
		return strings.ToLower(name)
	}
	return strings.ToLower(name[:2]) + name[2:]
}

// fieldName is the name of a field of an input on the wire.
func fieldName(name string) string { return strings.Trim(nameOf(`"`+name+`"`), `"`) }

func isZero(value []byte) bool {
	switch string(value) {
	case null, "false", "0", `""`, "[]", "{}", `"0001-01-01T00:00:00Z"`:
		return true
	}
	return false
}

// counted reports whether a field of rollout.Input counts since the look before.
// The others stand until they change. Those of experiment.Input all stand: what
// its candidates did is new as a whole.
func counted(field string) bool {
	switch field {
	case "Samples", "Arrived", "Served", "Late", "Hooks", "Mirrored":
		return true
	}
	return false
}

// inputWriter writes inputs by what differs from the one before.
type inputWriter struct {
	last map[string]string // what was written of the fields that stand
}

// write returns the look's object. in is a pointer to an input; if the look is
// not stored, the writer must not be used again.
func (w *inputWriter) write(in any) (json.RawMessage, error) {
	look := map[string]json.RawMessage{}
	v := reflect.ValueOf(in).Elem()
	for i := range v.NumField() {
		name, data := v.Type().Field(i).Name, json.RawMessage(null)
		if !v.Field(i).IsZero() {
			var err error
			if data, err = marshal(v.Field(i).Interface(), true); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		before, known := w.last[name]
		switch {
		case counted(name) && string(data) == null:
		case !counted(name) && string(data) == before:
		case !counted(name) && !known && string(data) == null:
		default:
			look[fieldName(name)] = data
		}
		if !counted(name) {
			w.last[name] = string(data)
		}
	}
	return json.Marshal(look)
}

// inputReader is the reverse, for inputs I.
type inputReader[I any] struct{ in I }

// read returns the input of the next look. What it shares with the one before is
// not to be changed.
func (r *inputReader[I]) read(look json.RawMessage) (I, error) {
	var none I
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(look, &fields); err != nil {
		return none, err
	}
	next := r.in
	v := reflect.ValueOf(&next).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		data, there := fields[fieldName(name)]
		delete(fields, fieldName(name))
		if there || counted(name) {
			v.Field(i).SetZero()
		}
		if !there {
			continue
		}
		if err := json.Unmarshal(data, v.Field(i).Addr().Interface()); err != nil {
			return none, fmt.Errorf("%s: %w", fieldName(name), err)
		}
	}
	for name := range fields {
		return none, fmt.Errorf("a look has no %q", name)
	}
	r.in = next
	return next, nil
}

// planOf reads a plan, with the zones that its windows name.
func planOf(data json.RawMessage) (*rollout.Plan, error) {
	p := &rollout.Plan{}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, err
	}
	for i := range p.Gates {
		w := p.Gates[i].Window
		if w == nil {
			continue
		}
		where, err := time.LoadLocation(w.Zone)
		if err != nil {
			return nil, fmt.Errorf("gate %s: %w", p.Gates[i].Name, err)
		}
		w.Location = where
	}
	return p, p.Validate()
}
