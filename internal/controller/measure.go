package controller

import (
	"context"
	"sync"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

// measureTimeout is how long a source may take for one number, as in Flagger.
const measureTimeout = 5 * time.Second

// measures asks, beside the loop, for the values of one release's checks that
// the judge cannot count itself: each once per interval while the canary answers
// requests, and never twice at the same time.
type measures struct {
	from meterFinder
	wake func() // after each value

	mu  sync.Mutex
	now *series // nil: nothing was asked yet
}

// meterFinder finds out how a check is measured.
type meterFinder interface {
	// meter reads everything that it needs of the release here and now; the
	// values are asked for later. last is what the same check's meter was
	// before; nil for the first one.
	meter(rel *kube.Delivery, c *v1alpha1.Check, interval time.Duration, last meter) meter
}

// meter measures one side of a release.
type meter interface {
	// measure returns the value of one of the two Deployments; ok is false
	// where there is none. One value is asked for at a time.
	measure(ctx context.Context, deployment string) (value float64, ok bool, err error)
}

// beginner is a meter that tells what changed since it was asked before.
type beginner interface {
	// begin comes before the first question of a run.
	begin(ctx context.Context, deployments []string)
}

// measured is what values belong to: those of another run, or of other checks
// than the spec has now, are of no use.
type measured struct {
	run, generation int64
}

// series are the questions of one run with one spec.
type series struct {
	of     measured
	asked  map[int]time.Time   // when each check was asked for last, by its index
	busy   map[int]bool        // which are under way
	meters map[int]meter       // what each was asked of last
	got    []analysis.Measured // since the last take
}

// due asks what it is time to ask.
func (m *measures) due(ctx context.Context, rel *kube.Delivery, s *rollout.State, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if of := (measured{s.Run.Number, rel.Release.Generation}); m.now == nil || m.now.of != of {
		// An answer to the old one gets lost.
		m.now = &series{of: of, asked: map[int]time.Time{}, busy: map[int]bool{}, meters: map[int]meter{}}
	}
	if !measurable(s) {
		return
	}
	judge := &rel.Release.Spec.Judge
	for i := range judge.Checks {
		c := &judge.Checks[i]
		if measuredBy(c) == "" || m.now.busy[i] {
			continue
		}
		interval := c.Interval.Duration
		if interval == 0 {
			interval = judge.Interval.Duration
		}
		sides := []string{rel.Names.Target}
		if c.ToStable != nil {
			sides = append(sides, rel.Names.Stable)
		}
		of := m.from.meter(rel, c, interval, m.now.meters[i])
		last, again := m.now.asked[i]
		if !again {
			m.now.asked[i] = s.Acked // the first window begins with the canary's traffic
			if b, ok := of.(beginner); ok {
				m.now.meters[i], m.now.busy[i] = of, true
				go m.begin(ctx, m.now, i, b, sides)
				continue
			}
			last = s.Acked
		}
		if now.Sub(last) < interval {
			continue
		}
		m.now.meters[i], m.now.busy[i], m.now.asked[i] = of, true, now
		go m.ask(ctx, m.now, i, of, sides)
	}
}

// take returns the values that came since the last take.
func (m *measures) take() []analysis.Measured {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now == nil {
		return nil
	}
	out := m.now.got
	m.now.got = nil
	return out
}

// measurable reports whether the canary answers requests on which its fate
// still depends.
func measurable(s *rollout.State) bool {
	switch s.Phase {
	case rollout.Testing, rollout.Progressing, rollout.Promoting:
		return !s.Acked.IsZero()
	case rollout.Initializing, rollout.Idle, rollout.Starting, rollout.Finalizing, rollout.RollingBack:
	}
	return false
}

func (m *measures) begin(ctx context.Context, s *series, check int, of beginner, sides []string) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	of.begin(ctx, sides)
	m.mu.Lock()
	defer m.mu.Unlock()
	s.busy[check] = false
}

func (m *measures) ask(ctx context.Context, s *series, check int, of meter, sides []string) {
	got := measureSides(ctx, of, sides)
	got.Check, got.At = check, time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	s.busy[check] = false
	if ctx.Err() == nil {
		s.got = append(s.got, got)
		m.wake()
	}
}

// measureSides asks for the canary's value and, where the check compares, for
// stable's.
func measureSides(ctx context.Context, of meter, sides []string) (out analysis.Measured) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	canary, ok, err := of.measure(ctx, sides[0])
	out.Canary, out.HasCanary = analysis.Value(canary), ok
	if err == nil && len(sides) > 1 {
		var stable float64
		stable, out.HasStable, err = of.measure(ctx, sides[1])
		out.Stable = analysis.Value(stable)
	}
	if err != nil {
		return analysis.Measured{Err: err.Error()}
	}
	return out
}
