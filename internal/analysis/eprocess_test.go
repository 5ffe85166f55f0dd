package analysis

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
)

// TestWealthIsKept: a block that tells nothing (all ratios 1) leaves the whole
// at 1, however often the reserve is bet anew.
func TestWealthIsKept(t *testing.T) {
	var e eProcess
	parts, ratios := []float64{0.2, 0.5, 0.3}, make([]float64, 3)
	for n := range 10000 {
		e = e.bet(parts, ratios)
		if l := e.logE(); math.Abs(l) > 1e-4 {
			t.Fatalf("after %d blocks the e-value is e^%v; want 1", n+1, l)
		}
	}
	var zero eProcess
	if zero.logE() != 0 {
		t.Errorf("e-value before any block: e^%v; want 1", zero.logE())
	}
}

// TestALateRegressionIsFound: a good hour must not hide what follows.
func TestALateRegressionIsFound(t *testing.T) {
	block := Counts{CanaryRequests: 10, StableRequests: 90}
	found := func(goodBlocks int) int {
		var f failureTest
		for n := range goodBlocks { // each side fails once in 100 requests
			b := block
			if n%10 == 0 {
				b.CanaryFailures = 1
			} else {
				b.StableFailures = 1
			}
			f = f.add(b)
		}
		for n := 1; ; n++ { // then the canary fails 10 times as often
			b := block
			b.CanaryFailures, b.StableFailures = 1, int64(n%10/9)
			if f = f.add(b); f.logE() > math.Log(1000) {
				return n
			}
		}
	}
	early, late := found(0), found(20000)
	if late > 4*early {
		t.Errorf("a regression is found after %d blocks, and after %d when a good time preceded it; want at most four times as many", early, late)
	}
	t.Logf("found after %d blocks, %d after a good time", early, late)
}

func FuzzFloats(f *testing.F) {
	for _, s := range []string{`"AACAPw"`, `""`, `"AACAPw=="`, `"AADAfw"`, `"AAA"`, `3`, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var l, again float32s
		if json.Unmarshal(data, &l) != nil {
			return
		}
		out, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &again); err != nil || len(l)+len(again) > 0 && !reflect.DeepEqual(l, again) {
			t.Errorf("%s became %s: %v", data, out, err)
		}
	})
}
