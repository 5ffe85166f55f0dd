package analysis

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// Value is a number that was measured, or a bound made of one. It may be
// infinite, as x/0 is in PromQL, and JSON has no number for that: it is then
// written as text, "+Inf" or "-Inf". What cannot be written would stop the run
// that has to be taken back.
type Value float64

// MarshalJSON writes a number, or text where there is none.
func (v Value) MarshalJSON() ([]byte, error) {
	if f := float64(v); math.IsInf(f, 0) || math.IsNaN(f) {
		return strconv.AppendQuote(nil, strconv.FormatFloat(f, 'g', -1, 64)), nil
	}
	return json.Marshal(float64(v))
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (v *Value) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case `"+Inf"`:
		*v = Value(math.Inf(1))
	case `"-Inf"`:
		*v = Value(math.Inf(-1))
	case `"NaN"`:
		*v = Value(math.NaN())
	default:
		if err := json.Unmarshal(data, (*float64)(v)); err != nil {
			return fmt.Errorf(`value %.20q: want a number, "+Inf" or "-Inf"`, data)
		}
	}
	return nil
}

// none reports whether it is no value at all: NaN, as 0/0 is.
func (v Value) none() bool { return math.IsNaN(float64(v)) }
