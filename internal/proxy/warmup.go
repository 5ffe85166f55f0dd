package proxy

import (
	"cmp"
	"math"
	"time"

	"serin.dev/serin/internal/mesh"
)

// noteWarmup notes until when a member warms up, as Envoy's slow start does.
func (r *roster) noteWarmup(m *member) {
	w := m.group.policy.Warmup
	if w == nil {
		return
	}
	since := time.Duration(m.since.Load())
	r.warm = max(r.warm, since+w.Duration)
	if r.oldest < 0 || since < r.oldest {
		r.oldest = since
	}
}

// warming reports whether a member may get less than its share.
func (r *roster) warming(at time.Duration) bool { return r.oldest >= 0 && at < r.warm }

// accepts draws whether a member that was drawn is taken: as often as it has
// warmed up, compared to the one that is there longest. That keeps the shares
// right, and wastes no draw where all began together.
func (r *roster) accepts(m *member, at time.Duration, d *draws) bool {
	w := m.group.policy.Warmup
	mine, most := warmth(w, at-time.Duration(m.since.Load())), warmth(w, at-r.oldest)
	return mine >= most || d.part()*most < mine
}

// warmth is the part of its weight that an endpoint has, so long after it
// joined.
func warmth(w *mesh.Warmup, age time.Duration) float64 {
	if age >= w.Duration {
		return 1
	}
	grown := float64(max(age, time.Millisecond)) / float64(w.Duration)
	if w.Aggression != 0 {
		grown = math.Pow(grown, 1/w.Aggression)
	}
	const defaultPercent = 10
	return min(max(grown, float64(cmp.Or(w.MinPercent, defaultPercent))/100), 1)
}
