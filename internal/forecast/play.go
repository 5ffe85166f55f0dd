package forecast

import (
	"context"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
	"serin.dev/serin/internal/traffic"
)

// run is how one run went.
type run struct {
	outcome rollout.Outcome // "" = it did not end
	why     string
	took    time.Duration // since the first step
	failed  int64
	steps   []stepTimes
}

// stepTimes are of one step, since it began.
type stepTimes struct {
	began    time.Duration // since the first step
	evidence time.Duration // until the judge passed the canary; 0 = not yet
	took     time.Duration
	over     bool
	requests int64 // of the canary, until the evidence
}

const (
	stable rollout.Revision = "stable"
	canary rollout.Revision = "canary"
)

const (
	// soonest is how often the engine looks at first when nothing fails; later
	// it looks every 200th part of the time at the step, as a forecast need
	// not be finer than that. It always looks when a request failed.
	soonest = time.Second
	latest  = time.Minute
	finer   = 200
)

// world is one run under way.
type world struct {
	plan  *rollout.Plan
	state rollout.State
	now   time.Time
	first time.Time // the first step, or the test, began
	tests int       // 1 when the test comes before the first step
	out   run
}

// play plays one run. When ctx ends it is cut short, and worth nothing.
func (c *Case) play(ctx context.Context, day *traffic.Day, seed uint64) run {
	w := &world{plan: &c.Plan, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.until(stable, rollout.Idle)
	if c.Plan.Strategy == rollout.BlueGreen || c.Plan.Strategy == rollout.Mirror {
		w.tests = 1
		w.until(canary, rollout.Testing)
	} else {
		w.until(canary, rollout.Progressing)
	}
	w.first = w.now
	requests := c.begin(day, seed)
	for w.now.Sub(w.first) < Longest && !w.over() && ctx.Err() == nil {
		traffic, testing := w.state.Traffic, w.state.Phase == rollout.Testing
		length := min(max(soonest, w.now.Sub(w.state.Since)/finer).Truncate(soonest), latest)
		from := requests.of(w.state.Phase, traffic)
		began, spell := w.now, from.run.Next(length, from.share)
		end := began.Add(length)
		for at, seen := range spell.Looks(length) {
			w.now = began.Add(at - spell.From)
			if !testing {
				w.out.failed += seen.CanaryFailures
			}
			if from.direct {
				direct := asDirect(seen)
				seen = &direct
			}
			w.look(canary, seen)
			if w.over() || w.state.Traffic != traffic {
				break // what is left of the spell would go elsewhere
			}
		}
		if w.over() {
			break
		}
		// A look that follows another at the same moment, sees nothing and
		// answers nothing that was asked, changes nothing.
		if w.now.Equal(end) && w.state.Traffic == traffic {
			continue
		}
		w.now = end
		w.look(canary, &analysis.Samples{})
	}
	w.out.took = w.now.Sub(w.first)
	w.out.outcome, w.out.why = w.state.Run.Outcome, why(&w.state)
	return w.out
}

// requests are those that the canary gets in one way or another.
type requests struct{ split, copies, direct source }

// source draws requests of which the canary has a share; direct ones are not
// drawn between the two sides.
type source struct {
	run    *traffic.Run
	share  float64
	direct bool
}

// begin starts the day of a seed. Of each request that is copied there are two,
// one on either side; to the matched users, and to tests, there is one side.
func (c *Case) begin(day *traffic.Day, seed uint64) requests {
	copies, direct := *day, *day
	copies.Rate *= 2 * c.Plan.Mirror.Fraction()
	direct.Rate = c.Tests
	if c.Plan.Strategy == rollout.ABTest {
		direct.Rate = day.Rate * c.Matched
	}
	return requests{
		split:  source{run: day.Begin(seed)},
		copies: source{run: copies.Begin(seed), share: 0.5},
		direct: source{run: direct.Begin(seed), share: 1, direct: true},
	}
}

func (r *requests) of(phase rollout.Phase, t rollout.Traffic) source {
	switch {
	case t.Mirror > 0:
		return r.copies
	case t.Match, phase == rollout.Testing:
		return r.direct
	}
	from := r.split
	from.share = t.Share.Fraction()
	return from
}

// asDirect is what the canary did for requests that were sent to it.
func asDirect(s *analysis.Samples) analysis.Samples {
	return analysis.Samples{
		DirectRequests: s.CanaryRequests, DirectFailures: s.CanaryFailures, DirectLatency: s.CanaryLatency,
	}
}

// over reports whether the run is decided.
func (w *world) over() bool { return w.state.Run.Outcome != "" }

// why says in few words why a run was rolled back: those that the judge gives
// have figures, which differ from run to run.
func why(s *rollout.State) string {
	if s.Run.Outcome != rollout.RolledBack {
		return ""
	}
	if s.Run.Failed {
		return string(s.Run.Evidence.Kind)
	}
	return "deadline"
}

// until looks until a phase is reached, which in this world is a matter of
// few looks, not of time.
func (w *world) until(target rollout.Revision, phase rollout.Phase) {
	const enough = 20
	for range enough {
		if w.state.Phase == phase {
			return
		}
		w.now = w.now.Add(time.Second)
		w.look(target, &analysis.Samples{})
	}
}

// look lets the engine see the world, in which all that it wants is so.
func (w *world) look(target rollout.Revision, seen *analysis.Samples) {
	want := w.state.Want()
	in := rollout.Input{
		Now:     w.now,
		Target:  rollout.Workload{Revision: target, Ready: want.CanaryScaled, Message: "scaled away"},
		Stable:  rollout.Workload{Revision: want.StableRevision, Ready: want.StableRevision != ""},
		Ack:     rollout.Ack{OK: want.Split, Traffic: want.Traffic, Since: w.state.Asked},
		Samples: *seen,
		Arrived: seen.Requests() + seen.DirectRequests,
	}
	before := w.point()
	w.state, _ = rollout.Step(*w.plan, w.state, in)
	w.note(before, seen.CanaryRequests+seen.DirectRequests)
}

// point counts the test and the steps that were reached; 0 = none yet.
func (w *world) point() int {
	if w.state.Phase == rollout.Testing {
		return 1
	}
	if w.state.Step == 0 {
		return 0
	}
	return w.state.Step + w.tests
}

// note keeps the times of the steps.
func (w *world) note(before int, requests int64) {
	if w.state.Phase != rollout.Progressing && w.state.Phase != rollout.Testing && !w.over() {
		return
	}
	at := w.now.Sub(w.first)
	if w.first.IsZero() {
		at = 0
	}
	if n := len(w.out.steps); n > 0 {
		s := &w.out.steps[n-1]
		if s.evidence == 0 {
			s.requests += requests
		}
		moved := w.point() > before || w.state.Run.Outcome == rollout.Promoted
		if s.evidence == 0 && (moved || w.state.Evidence.Verdict == analysis.Pass) {
			s.evidence = max(at-s.began, 1)
		}
		if moved {
			s.took, s.over = at-s.began, true
		}
	}
	if w.point() > len(w.out.steps) {
		w.out.steps = append(w.out.steps, stepTimes{began: at})
	}
}
