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
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // as it was written, to the last digit
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	return json.Marshal(rename(tree, brief))
}

func rename(v any, brief bool) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, field := range v {
			if field = rename(field, brief); !brief || !isZero(field) {
				out[nameOf(name)] = field
			}
		}
		return out
	case []any:
		for i := range v {
			v[i] = rename(v[i], brief)
		}
	}
	return v
}

// nameOf makes a name begin with a small letter; one that is an abbreviation
// gets small letters alone.
func nameOf(name string) string {
	if strings.ToUpper(name) == name {
		return strings.ToLower(name)
	}
	return strings.ToLower(name[:1]) + name[1:]
}

var zeroTime = time.Time{}.Format(time.RFC3339Nano)

func isZero(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == "" || v == zeroTime
	case json.Number:
		return v == "0"
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// counted reports whether a field of rollout.Input counts since the look before.
// The others stand until they change.
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

// write returns the object of a look. The caller gives up the writer if that
// is not stored.
func (w *inputWriter) write(in *rollout.Input) (json.RawMessage, error) {
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
			look[nameOf(name)] = data
		}
		if !counted(name) {
			w.last[name] = string(data)
		}
	}
	return json.Marshal(look)
}

// inputReader is the reverse.
type inputReader struct{ in rollout.Input }

// read returns the input of the next look. What it shares with the one before is
// not to be changed.
func (r *inputReader) read(look json.RawMessage) (rollout.Input, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(look, &fields); err != nil {
		return rollout.Input{}, err
	}
	next := r.in
	v := reflect.ValueOf(&next).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		data, there := fields[nameOf(name)]
		delete(fields, nameOf(name))
		if there || counted(name) {
			v.Field(i).SetZero()
		}
		if !there {
			continue
		}
		if err := json.Unmarshal(data, v.Field(i).Addr().Interface()); err != nil {
			return rollout.Input{}, fmt.Errorf("%s: %w", nameOf(name), err)
		}
	}
	for name := range fields {
		return rollout.Input{}, fmt.Errorf("a look has no %q", name)
	}
	if next.Now.IsZero() {
		return rollout.Input{}, fmt.Errorf("the look does not say when it was")
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
