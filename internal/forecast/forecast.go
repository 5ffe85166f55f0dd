package forecast

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
	"serin.dev/serin/internal/traffic"
)

// Case is what is imagined.
type Case struct {
	Plan rollout.Plan
	// Rate of requests to the service, per second, more than 0 and at most
	// MostRate.
	Rate float64
	// Errors is the share of stable's requests that fail, Regression how many
	// more of a bad version's do: 0 to 1, and so is their sum.
	Errors, Regression float64
	// Slower is how much longer requests take on a bad version: 0.2 = 20 %.
	Slower float64
	// Matched is the share of the requests, 0 to 1, that come from the users
	// whom ABTest matches. Tests are the requests per second that are sent to
	// the canary itself while BlueGreen tests it. They matter to no other
	// strategy, and are more than 0 in theirs.
	Matched, Tests float64
	// Runs of each version, from 1 to MostRuns, unless Play is stopped before.
	Runs int
	Seed uint64
}

// usual is the shape that durations are imagined to have: median 40 ms, p95
// 77 ms. How soon a slower version is found depends on the spread alone.
func usual(factor float64) *traffic.Durations {
	return traffic.LogNormal(time.Duration(factor*float64(40*time.Millisecond)), 0.4)
}

// MostRate and MostRuns bound what is imagined: beyond, it would take hours, and
// tell no more.
const (
	MostRate = 10_000
	MostRuns = 10_000
)

// Longest is how long a run is followed.
const Longest = 7 * 24 * time.Hour

// Forecast is what would happen.
type Forecast struct {
	// Runs of each version that it is made of.
	Runs int
	// Bad is a version with the regression, Good one without any.
	Bad, Good Outlook
	// Steps of the good version's runs that came that far, from the first.
	Steps []Step
	// Omitted says what in the plan was left out, one line each.
	Omitted []string
	// Advice says what in the plan is wasteful or cannot work.
	Advice []string
}

// Outlook is what becomes of many runs of one version. Shares are 0 to 1.
type Outlook struct {
	RolledBack, Promoted, Open float64 // Open: neither, within Longest
	// Why it was rolled back most often; "" = it was not.
	Why string
	// RollbackTook and PromotionTook are from the first step on, over the
	// runs that ended so.
	RollbackTook, PromotionTook Spread
	// Failed are the failed requests of the canary until the end of the run.
	// Those of a test reach no user, and are none.
	Failed Numbers
}

// Spread is the median and the 90th percentile of a time.
type Spread struct{ P50, P90 time.Duration }

// Numbers is the mean and the 90th percentile of a count.
type Numbers struct{ Mean, P90 float64 }

// Step is how long the good version is at one step, or in the test before.
type Step struct {
	// Name says what the canary gets, Share how much of the users' requests:
	// 0 where that is not how it meets them.
	Name  string
	Share rollout.Share
	// Evidence is the median time until the judge had what it needs, Took the
	// one until the step was over.
	Evidence, Took time.Duration
	// Requests of the canary in Evidence, in the median.
	Requests int64
}

// Play makes the forecast. An error about the case names the flag of 'serin
// simulate' that sets it. The same case gives the same one on every machine.
//
// After each run of both versions Play asks more, unless it is nil, with how many
// there are; never two at a time. When that says no, or ctx ends, the forecast is
// made of the runs so far: the one that as many Runs would give. Without one run
// of each version there is none, which is an error.
func (c Case) Play(ctx context.Context, more func(done int) bool) (*Forecast, error) {
	f := &Forecast{}
	if err := c.prepare(f); err != nil {
		return nil, err
	}
	good := traffic.Day{Rate: c.Rate, Stable: c.Errors, Canary: c.Errors, StableTakes: usual(1), CanaryTakes: usual(1)}
	bad := good
	bad.Canary += c.Regression
	bad.CanaryTakes = usual(1 + c.Slower)
	runs := c.playAll(ctx, [versions]*traffic.Day{&bad, &good}, more)
	f.Runs = len(runs[0])
	if f.Runs == 0 {
		return nil, errors.New("stopped before one run of each version was over")
	}
	f.Bad, f.Good = outlook(runs[0]), outlook(runs[1])
	f.Steps = c.steps(runs[1])
	f.advise(c)
	return f, nil
}

// prepare checks the case and leaves out of the plan what cannot be imagined.
func (c *Case) prepare(f *Forecast) error {
	switch { // so that what is not a number is refused, too
	case !(c.Rate > 0 && c.Rate <= MostRate):
		return fmt.Errorf("--rps: %v is not above 0 and at most %d", c.Rate, MostRate)
	case c.Runs < 1 || c.Runs > MostRuns:
		return fmt.Errorf("--runs: %d is not from 1 to %d", c.Runs, MostRuns)
	case !(c.Errors >= 0 && c.Errors <= 1):
		return fmt.Errorf("--baseline-errors: %s is not from 0 to 100 %%", percent(c.Errors))
	case !(c.Regression >= 0 && c.Errors+c.Regression <= 1):
		return fmt.Errorf("--regression: with --baseline-errors, %s is more than 100 %%, or it is negative", percent(c.Errors+c.Regression))
	case !(c.Slower >= 0):
		return fmt.Errorf("--latency: %s is negative", percent(c.Slower))
	}
	p := &c.Plan
	if p.Worker {
		return errors.New("without spec.service there are no requests to imagine: a worker is judged by its checks and webhooks alone")
	}
	switch p.Strategy {
	case rollout.Canary, rollout.Replicas, "":
		if p.Skip {
			return errors.New("spec.judge.skip promotes every version as soon as its pods are ready: there is nothing to predict")
		}
		// The engine plays shares of the pods as shares of the requests.
		p.Strategy = rollout.Canary
	case rollout.ABTest, rollout.BlueGreen, rollout.Mirror:
		if p.Strategy == rollout.ABTest && (c.Matched <= 0 || c.Matched > 1) {
			return errors.New("the matched users send more than 0 and at most 100 % of the requests")
		}
		if p.Strategy == rollout.BlueGreen && c.Tests <= 0 {
			return errors.New("the requests that test the canary must be more than 0 per second")
		}
		p.Steps = nil
	}
	if err := p.Validate(); err != nil {
		return err
	}
	omit := func(there bool, what string) {
		if there {
			f.Omitted = append(f.Omitted, what)
		}
	}
	omit(len(p.Gates) > 0, "gates: taken to open at once")
	omit(len(p.Hooks) > 0, "webhooks: taken to succeed at once")
	omit(p.Load.Rate > 0, "the load of spec.judge.load: taken to be none")
	p.Gates, p.Hooks, p.Load = nil, nil, rollout.Load{}
	if p.Strategy == rollout.Canary {
		omit(p.Mirror > 0, "the test with copies of requests before the first step: no user notices it")
		p.Mirror = 0
	}
	checks := slices.DeleteFunc(slices.Clone(p.Policy.Checks), func(k analysis.Check) bool { return k.External })
	omit(len(checks) < len(p.Policy.Checks), "checks of metric templates: taken to pass")
	p.Policy.Checks = checks
	return nil
}

func outlook(runs []run) Outlook {
	var o Outlook
	var back, forth []time.Duration
	var failed []float64
	var sum int64
	whys := map[string]int{}
	for _, r := range runs {
		switch r.outcome {
		case rollout.Promoted:
			forth = append(forth, r.took)
		case rollout.RolledBack:
			back = append(back, r.took)
			whys[r.why]++
			if most := whys[o.Why]; whys[r.why] > most || whys[r.why] == most && r.why < o.Why {
				o.Why = r.why
			}
		case rollout.Aborted, rollout.Superseded, rollout.Reverted, "": // nobody is there to do so
		}
		failed = append(failed, float64(r.failed))
		sum += r.failed
	}
	n := float64(len(runs))
	o.RolledBack, o.Promoted = float64(len(back))/n, float64(len(forth))/n
	o.Open = float64(len(runs)-len(back)-len(forth)) / n
	o.Failed = Numbers{float64(sum) / n, quantile(failed, 0.9)}
	o.RollbackTook = Spread{quantile(back, 0.5), quantile(back, 0.9)}
	o.PromotionTook = Spread{quantile(forth, 0.5), quantile(forth, 0.9)}
	return o
}

// steps are the medians over the runs that finished each step.
func (c *Case) steps(runs []run) []Step {
	var out []Step
	for i, step := range c.points() {
		var evidence, took []time.Duration
		var requests []int64
		for _, r := range runs {
			if i < len(r.steps) && r.steps[i].over {
				evidence = append(evidence, r.steps[i].evidence)
				took = append(took, r.steps[i].took)
				requests = append(requests, r.steps[i].requests)
			}
		}
		if len(took) == 0 {
			break
		}
		step.Evidence, step.Took, step.Requests = quantile(evidence, 0.5), quantile(took, 0.5), quantile(requests, 0.5)
		out = append(out, step)
	}
	return out
}

// points are the steps of the plan, and the test before them, by their names.
func (c *Case) points() []Step {
	switch p := &c.Plan; p.Strategy {
	case rollout.ABTest:
		return []Step{{Name: "matched users"}}
	case rollout.BlueGreen:
		return []Step{{Name: "test"}, {Name: rollout.All.String()}}
	case rollout.Mirror:
		return []Step{{Name: "copies of " + p.Mirror.String()}}
	case rollout.Canary, rollout.Replicas, "":
	}
	var out []Step
	for _, share := range c.Plan.Steps {
		out = append(out, Step{Name: share.String(), Share: share})
	}
	return out
}

// quantile by the nearest rank; 0 of nothing.
func quantile[T float64 | time.Duration | int64](all []T, q float64) T {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return all[min(len(all)-1, int(q*float64(len(all))))]
}
