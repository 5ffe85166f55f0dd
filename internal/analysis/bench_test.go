package analysis

import (
	"math/rand/v2"
	"testing"
	"time"
)

// BenchmarkObserve is a look of the controller's loop, four a second, at 200
// requests a second.
func BenchmarkObserve(b *testing.B) {
	for _, c := range []struct {
		name      string
		endpoints int
		latency   float64
	}{
		{"failures", 0, 0},
		{"latency", 0, 0.05},
		{"8 endpoints", 8, 0},
		{"8 endpoints and latency", 8, 0.05},
		{"64 endpoints and latency", 64, 0.05},
	} {
		b.Run(c.name, func(b *testing.B) {
			policy := Policy{FalseAlarm: 1e-9, LatencyTolerance: c.latency, Tolerance: 0.02, Confidence: 0.95, Shares: []float64{0.25, 1}}
			s := site{share: 0.1, timed: true}
			for range max(1, c.endpoints) {
				s.endpoints = append(s.endpoints, endpoint{part: 1 / float64(max(1, c.endpoints)), stable: 0.01, canary: 0.01})
			}
			r := rand.New(rand.NewPCG(1, 2))
			looks := make([]Samples, 64)
			for i := range looks {
				looks[i] = s.look(r, i, 50)
				if c.endpoints == 0 {
					looks[i].Strata = nil
				}
			}
			b.ReportAllocs()
			j := Judge{}.NextStep(policy, 0.1, start)
			for n := 0; b.Loop(); n++ {
				j = j.Observe(policy, looks[n%len(looks)], start.Add(time.Duration(n)*time.Second/4))
			}
		})
	}
}
