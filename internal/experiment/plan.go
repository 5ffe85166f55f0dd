package experiment

import (
	"errors"
	"fmt"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

// Stable is the name of the version that the candidates are compared with.
const Stable = "stable"

// Planned is one candidate, a version that is tried, as the plan has it.
type Planned struct {
	Name string
	// Share of the users' requests; stable keeps what no candidate has.
	Share rollout.Share
}

// Plan is how an experiment goes. It must not change once it began.
type Plan struct {
	Candidates []Planned
	// Duration for which the candidates have traffic.
	Duration time.Duration
	// Deadline of each wait for others.
	Deadline time.Duration
	// Policy of the judge. Its FalseAlarm is for all candidates together, its
	// budget for each of them; Shares are set here.
	Policy analysis.Policy
	// Metric by which the best version is found; "" = none is looked for.
	Metric analysis.Metric
	// Promote the winner, if the judge passed it.
	Promote bool
}

// Validate reports everything in the plan that could not work: errors with the
// path of the field in the spec, joined.
func (p *Plan) Validate() error {
	// The judge is that of a release, so its rules are.
	judge := rollout.Plan{Steps: []rollout.Share{rollout.Percent}, Deadline: 1, Policy: p.Policy}
	errs := []error{judge.Validate()}
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(p.Candidates) == 0 {
		wrong("spec.candidates: at least one is needed")
	}
	seen, all := map[string]bool{}, rollout.Share(0)
	for i, c := range p.Candidates {
		switch {
		case c.Name == "":
			wrong("spec.candidates[%d].name: a name is needed", i)
		case c.Name == Stable:
			wrong("spec.candidates[%d].name: %s is the running version's: choose another one", i, Stable)
		case seen[c.Name]:
			wrong("spec.candidates[%d].name: %q is used twice", i, c.Name)
		}
		seen[c.Name] = true
		if c.Share <= 0 {
			wrong("spec.candidates[%d].share: %v is no share of the requests: 0.01 %% is the least", i, c.Share)
		}
		all += max(0, c.Share)
	}
	if all >= rollout.All {
		wrong("spec.candidates: their shares sum to %v: leave a part of 100 %% to the running version, which they are compared with", all)
	}
	if p.Duration <= 0 {
		wrong("spec.duration: %v must be longer than 0s", p.Duration)
	}
	if p.Deadline <= 0 {
		wrong("spec.progressDeadline: %v must be longer than 0s", p.Deadline)
	}
	if p.Metric != "" {
		if err := analysis.CheckContest(p.Metric); err != nil {
			wrong("spec.choose.metric: %v", err)
		}
	}
	return errors.Join(errs...)
}

// CheckWarmup refuses a plan in which the best version is found by durations,
// and most of the time is over before they are compared. It is apart from
// Validate because it does not make impossible what began already.
func (p *Plan) CheckWarmup() error {
	if rank, _ := analysis.ContestRank(p.Metric); rank == 0 || p.Duration >= 2*p.Policy.Warmup {
		return nil
	}
	return fmt.Errorf("spec.duration: %v is too short to choose by %s: fresh processes have spec.judge.latency.warmUp, %v, before it is compared; make it at least %v, or the warm-up shorter",
		p.Duration, p.Metric, p.Policy.Warmup, 2*p.Policy.Warmup)
}

// policy is that of the judge of one candidate. What it has to show is that
// the candidate may serve everybody.
func (p *Plan) policy() analysis.Policy {
	out := p.Policy
	out.FalseAlarm /= float64(len(p.Candidates))
	out.Shares = []float64{1}
	return out
}

// left is what stable has beside the shares.
func left(shares []rollout.Share) rollout.Share {
	rest := rollout.All
	for _, s := range shares {
		rest -= s
	}
	return rest
}
