package analysis

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestQuantile compares with the exact quantile: buckets are 2.5 % wide.
func TestQuantile(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var h Histogram
	var all []time.Duration
	for range 20000 {
		d := time.Duration(math.Exp(r.NormFloat64()) * float64(20*time.Millisecond))
		h.Observe(d)
		all = append(all, d)
	}
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.999} {
		want := all[int(q*float64(len(all)))]
		got := h.Quantile(q)
		if off := math.Abs(float64(got)/float64(want) - 1); off > 0.04 {
			t.Errorf("Quantile(%v) = %v; want %v ± 4 %%", q, got, want)
		}
	}
}

func TestQuantileAtTheEdges(t *testing.T) {
	var empty, tiny, huge Histogram
	tiny.Observe(-time.Second)
	huge.Observe(time.Hour)
	for _, c := range []struct {
		name     string
		h        Histogram
		min, max time.Duration
	}{
		{"empty", empty, 0, 0},
		{"tiny", tiny, 0, 100 * time.Microsecond},
		{"huge", huge, 100 * time.Second, 110 * time.Second},
	} {
		if got := c.h.Quantile(0.99); got < c.min || got > c.max {
			t.Errorf("%s: Quantile = %v; want %v to %v", c.name, got, c.min, c.max)
		}
	}
}

func TestMergeIsTheSum(t *testing.T) {
	var a, b, both Histogram
	for i := range 1000 {
		d := time.Duration(i) * time.Millisecond
		both.Observe(d)
		if i%3 == 0 {
			a.Observe(d)
		} else {
			b.Observe(d)
		}
	}
	a.Merge(&b)
	if a != both {
		t.Errorf("merged differs from counted at once: %v, %v", a.Count(), both.Count())
	}
}

func FuzzHistogramJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"3":7,"569":1}`, `{"570":1}`, `{"x":1}`, `{"-1":1}`, `{"1":-1}`, `null`, `[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var h, again Histogram
		if json.Unmarshal(data, &h) != nil {
			return
		}
		out, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &again); err != nil || again != h {
			t.Errorf("%s became %s: %v", data, out, err)
		}
	})
}
