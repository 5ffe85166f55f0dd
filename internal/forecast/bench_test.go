package forecast

import (
	"testing"
	"time"
)

// BenchmarkPlay is one run of a bad and of a good version through a plan of an
// hour at 1,000 requests a second.
func BenchmarkPlay(b *testing.B) {
	plan := plain(10*time.Minute, 1, 5, 10, 25, 50, 100)
	b.ReportAllocs()
	for seed := uint64(1); b.Loop(); seed++ {
		c := Case{Plan: plan, Rate: 1000, Errors: 0.001, Regression: 0.01, Runs: 1, Seed: seed}
		if _, err := c.Play(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
}
