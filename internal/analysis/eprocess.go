package analysis

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
)

// eProcess is evidence against a hypothesis that grows block by block: a bet
// at fair odds. It begins with 1 and is spread over alternatives; each block
// multiplies an alternative's part by the block's likelihood ratio, which under
// the hypothesis has a mean of at most 1. So has the whole, at any time, and
// by Ville's inequality (1939) it ever reaches 1/α with probability at most α.
//
// Not everything is bet at once. restartReserve is kept, and a part of it is
// bet anew at each block, as if the process began there: otherwise a canary
// that serves well for an hour and then leaks would first have to lose what its
// good hour proved. A change at block b costs 2·ln(b) more evidence or so.
// (Mixtures over the time of change: Shin, Ramdas & Rinaldo, "E-detectors",
// 2022.)
type eProcess struct {
	// Blocks that were bet on.
	Blocks int64 `json:"n,omitempty"`
	// Log of the alternatives' parts. A float32 is precise enough: what is
	// bet anew keeps the parts from falling far, and rounding is not biased.
	Log float32s `json:"l,omitempty"`
	// Max is the highest log e-value so far.
	Max float32 `json:"m,omitempty"`
}

const (
	// restartReserve costs a regression from the start -ln(0.9) = 0.1 of
	// evidence, of the 7 to 10 that are needed.
	restartReserve = 0.1
	// restartSoon delays the first new bets; any small number does.
	restartSoon = 3
)

// alternative is an odds ratio with its part of what is bet; parts add up to 1.
type alternative struct{ odds, part float64 }

// bet multiplies in one block: the log likelihood ratio of each alternative,
// in the order of parts.
func (e eProcess) bet(parts, ratios []float64) eProcess {
	next := make(float32s, len(parts))
	anew := e.reserve()
	e.Blocks++
	anew -= e.reserve()
	for i, part := range parts {
		at := math.Log(part * anew)
		if len(e.Log) == len(parts) {
			at = logAddExp(float64(e.Log[i]), at)
		} else {
			at = math.Log(part * (1 - restartReserve + anew))
		}
		next[i] = float32(at + ratios[i])
	}
	e.Log = next
	e.Max = max(e.Max, float32(e.logE()))
	return e
}

// reserve is what is not bet yet: it falls with 1/Blocks.
func (e eProcess) reserve() float64 {
	return restartReserve * restartSoon / float64(restartSoon+e.Blocks)
}

// logE is the logarithm of the present e-value.
func (e eProcess) logE() float64 {
	if len(e.Log) == 0 {
		return 0
	}
	return logAddExp(math.Log(e.reserve()), e.Log.logSumExp())
}

// atLeast reports whether the present log e-value is the limit or more. As a
// rule it never was, which is known without reckoning.
func (e *eProcess) atLeast(limit float64) bool {
	return e.Max >= float32(limit) && e.logE() >= limit
}

func logAddExp(a, b float64) float64 {
	top, low := max(a, b), min(a, b)
	return top + math.Log1p(math.Exp(low-top))
}

// logSumExp returns ln Σ exp(l) without overflow; -Inf of nothing.
func (l float32s) logSumExp() float64 {
	top := math.Inf(-1)
	for _, v := range l {
		top = max(top, float64(v))
	}
	if math.IsInf(top, 0) {
		return top
	}
	var sum float64
	for _, v := range l {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}

// float32s are written as base64 of their bits: exact, and half as long as numbers.
type float32s []float32

// MarshalText writes the bits, least significant byte first.
func (l float32s) MarshalText() ([]byte, error) {
	var bits []byte
	for _, v := range l {
		bits = binary.LittleEndian.AppendUint32(bits, math.Float32bits(v))
	}
	return base64.RawStdEncoding.AppendEncode(nil, bits), nil
}

// UnmarshalText reads what MarshalText wrote.
func (l *float32s) UnmarshalText(text []byte) error {
	bits, err := base64.RawStdEncoding.AppendDecode(nil, text)
	if err != nil || len(bits)%4 != 0 {
		return fmt.Errorf("numbers %.20q: want 32-bit floating-point numbers in base64", text)
	}
	*l = nil
	for ; len(bits) > 0; bits = bits[4:] {
		v := math.Float32frombits(binary.LittleEndian.Uint32(bits))
		if math.IsNaN(float64(v)) {
			return fmt.Errorf("numbers %.20q: not a number", text)
		}
		*l = append(*l, v)
	}
	return nil
}
