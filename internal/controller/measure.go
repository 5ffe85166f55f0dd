package controller

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/metric"
	"serin.dev/serin/internal/rollout"
)

// measureTimeout is how long a provider may take for one number, as in Flagger.
const measureTimeout = 5 * time.Second

// measures asks, beside the loop, for the values of one release's checks that
// have a template: each once per interval while the canary answers requests,
// and never twice at the same time.
type measures struct {
	// read finds a template with its credentials.
	read func(ctx context.Context, namespace, name string) (metric.Template, error)
	wake func() // after each value

	mu  sync.Mutex
	now *series // nil: nothing was asked yet
}

// measured is what values belong to: those of another run, or of other checks
// than the spec has now, are of no use.
type measured struct {
	run, generation int64
}

// series are the questions of one run with one spec.
type series struct {
	of    measured
	asked map[int]time.Time   // when each check was asked for last, by its index
	busy  map[int]bool        // which are under way
	got   []analysis.Measured // since the last take
}

// due asks what it is time to ask.
func (m *measures) due(ctx context.Context, rel *kube.Delivery, s *rollout.State, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if of := (measured{s.Run.Number, rel.Release.Generation}); m.now == nil || m.now.of != of {
		m.now = &series{of: of, asked: map[int]time.Time{}, busy: map[int]bool{}} // an answer to the old one gets lost
	}
	if !measurable(s) {
		return
	}
	judge := &rel.Release.Spec.Judge
	for i := range judge.Checks {
		c := &judge.Checks[i]
		if c.Template == nil || m.now.busy[i] {
			continue
		}
		interval := c.Interval.Duration
		if interval == 0 {
			interval = judge.Interval.Duration
		}
		last := m.now.asked[i]
		if last.IsZero() {
			last = s.Acked // the first window begins with the canary's traffic
		}
		if now.Sub(last) < interval {
			continue
		}
		m.now.asked[i], m.now.busy[i] = now, true
		go m.ask(ctx, m.now, i, questionOf(rel, c, interval))
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

// question is what a check asks of its provider.
type question struct {
	template v1alpha1.ObjectRef
	vars     metric.Vars
	compare  bool // for stable, too
	stable   string
}

func questionOf(rel *kube.Delivery, c *v1alpha1.Check, interval time.Duration) question {
	q := question{
		template: *c.Template,
		compare:  c.ToStable != nil,
		stable:   rel.Names.Stable,
		vars: metric.Vars{
			Name: rel.Release.Name, Namespace: rel.Release.Namespace,
			Target: rel.Names.Target, Service: rel.Names.Service, Route: rel.Names.Service,
			Stable: rel.Names.Stable, Canary: rel.Names.Target,
			Interval: wholeUnits(interval), Variables: c.Variables,
		},
	}
	if q.template.Namespace == "" {
		q.template.Namespace = rel.Release.Namespace
	}
	return q
}

// wholeUnits writes a time as queries do: 1m, not 1m0s.
func wholeUnits(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func (m *measures) ask(ctx context.Context, s *series, check int, q question) {
	got := m.measure(ctx, q)
	got.Check, got.At = check, time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	s.busy[check] = false
	if ctx.Err() == nil {
		s.got = append(s.got, got)
		m.wake()
	}
}

// measure asks for the canary's value and, where the check compares, with the
// stable copy in the canary's place for stable's.
func (m *measures) measure(ctx context.Context, q question) (out analysis.Measured) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	var err error
	t, err := m.read(ctx, q.template.Namespace, q.template.Name)
	if err == nil {
		out.Canary, out.HasCanary, err = query(ctx, t, q.vars)
	}
	if err == nil && q.compare {
		q.vars.Target, q.vars.Canary = q.stable, q.stable
		out.Stable, out.HasStable, err = query(ctx, t, q.vars)
	}
	if err != nil {
		return analysis.Measured{Err: err.Error()}
	}
	return out
}

// query asks once; ok is false where there is no value.
func query(ctx context.Context, t metric.Template, vars metric.Vars) (value float64, ok bool, err error) {
	text, err := metric.Render(t.Query, vars)
	if err != nil {
		return 0, false, err
	}
	t.Config.Interval = vars.Interval
	provider, err := metric.New(t.Config)
	if err != nil {
		return 0, false, err
	}
	value, err = provider.Query(ctx, text)
	if errors.Is(err, metric.ErrNoValues) {
		return 0, false, nil
	}
	return value, err == nil, err
}
