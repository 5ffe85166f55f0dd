package rollout

import (
	"math"
	"time"

	"serin.dev/serin/internal/analysis"
)

// Strategy is how the canary meets its users.
type Strategy string

// The strategies. "" is Canary.
const (
	// Canary: a growing share of all requests, by Plan.Steps.
	Canary Strategy = "Canary"
	// ABTest: all requests of the matched users, for Plan.Iterations. The
	// matched are not like the others, so the canary is judged by the checks
	// and hooks alone.
	ABTest Strategy = "ABTest"
	// BlueGreen: no user's request for Plan.Iterations, judged by the checks
	// and hooks; then all of them.
	BlueGreen Strategy = "BlueGreen"
	// Mirror: copies of requests for Plan.Iterations, then promotion.
	Mirror Strategy = "Mirror"
	// Replicas: a growing share of the pods, by Plan.Steps, without a route.
	// The one strategy of a Worker.
	Replicas Strategy = "Replicas"
)

// Plan is how a release wants its runs to go. It may change during a run.
type Plan struct {
	Strategy Strategy
	// Worker: nobody calls the pods, which find their work themselves, such as
	// in a queue. The canary is judged by the checks and hooks alone, and it is
	// promoted when the new stable pods are ready.
	Worker bool
	// Steps are the canary's shares in Canary and Replicas, ascending, each
	// above 0. After the last one is judged good the version is promoted.
	// The other strategies leave them alone.
	Steps []Share
	// Hold is the shortest time at each step, from the proxies' ack.
	Hold time.Duration
	// Iterations is how many good looks the test of ABTest, BlueGreen or
	// Mirror needs, one per Policy.Interval. A bad look is a failed check and
	// takes none away. In Canary it is the same for the copies before the
	// first step; 0 = those last for Hold.
	Iterations int
	// Mirror is the share of requests that are copied to the canary before
	// it gets any of its own: in Mirror, and in Canary before the first
	// step. 0 = none.
	Mirror Share

	// PromotionSteps are shares that the new stable pods get on the way from
	// the canary back to them, ascending, each held for Hold; empty = at once.
	PromotionSteps []Share
	// AbortSteps are shares of the canary on the way down when a run is taken
	// back, descending, each held for AbortHold; empty = at once. A newer
	// version, one that cannot answer, and a judge who says AtOnce do not wait
	// for them; looks at checks that failed too often do.
	AbortSteps []Share
	AbortHold  time.Duration

	Gates []Gate
	Hooks []Hook

	// Skip promotes each version as soon as its pods are ready: no steps and no
	// judge, so none of the hooks that these have. Gates at Start and the
	// confirm-rollout hooks are asked, and rollback, post-rollout and event
	// hooks are called as in any run.
	Skip bool
	// KeepWarm is how long the previous version keeps its pods after a
	// promotion.
	KeepWarm time.Duration

	// Deadline is the longest time that pods, proxies and hooks that do not
	// answer may keep the run waiting. Waiting for evidence does not count:
	// too little traffic is no fault of the version.
	Deadline time.Duration
	// StepDeadline is the longest time at one step, or in a test, from the
	// proxies' ack; gates do not count. Then a version that is neither shown
	// to be good nor to be bad is rolled back. 0 = for ever.
	StepDeadline time.Duration

	// Load is what may be sent where users' requests are too few.
	Load Load

	// Policy of the judge; its Shares are set from Steps, whatever they hold.
	Policy analysis.Policy
}

// Load is own load: requests that are sent to both sides alike, while a step
// still lacks evidence after Hold.
type Load struct {
	// Rate is how many are sent per second, to both sides together; 0 = none.
	Rate float64
	// UpTo is how many a run may take; 0 = as many as the evidence does.
	UpTo int64
}

// NumSteps is the number of steps that a run has in which the canary answers
// users. A test before them is none.
func (p *Plan) NumSteps() int { return len(p.steps()) }

// either is what is said of a release with users, or of a worker.
func (p *Plan) either(users, worker string) string {
	if p.Worker {
		return worker
	}
	return users
}

// steps are the canary's shares: of all requests, of the matched ones in
// ABTest, of the pods in Replicas.
func (p *Plan) steps() []Share {
	switch p.Strategy {
	case ABTest, BlueGreen:
		return []Share{All}
	case Mirror:
		return nil
	case Canary, Replicas, "":
	}
	return p.Steps
}

// policy is the judge's policy for where a run is.
func (p *Plan) policy(s *State) analysis.Policy {
	policy := p.Policy
	policy.Shares = nil
	switch p.Strategy {
	case ABTest, BlueGreen:
		policy.Shares = []float64{1}
		if p.Load.Rate <= 0 { // no two sides that compare
			policy.Tolerance, policy.LatencyTolerance = 0, 0
		}
		policy.DirectUsers = p.Strategy == ABTest
	case Canary, Mirror, Replicas, "":
		first := 1
		if p.tests() {
			first = 0
		}
		for n := first; n <= p.NumSteps(); n++ {
			policy.Shares = append(policy.Shares, p.next(n, s.Pods))
		}
		if s.Traffic.Share == All { // what both sides showed before tells nothing of it
			policy.Tolerance = 0
		}
	}
	if p.Worker {
		policy.ChecksAlone = true
		policy.FalseAlarm, policy.Tolerance, policy.LatencyTolerance = 0, 0, 0
	}
	switch {
	case policy.Budget <= 0:
	case s.Traffic.Mirror > 0:
		policy.Budget = math.MaxInt64 // copies cost no user a request
	default:
		policy.Budget += int64(math.Ceil(s.Run.CopiesCost))
	}
	return policy
}

// next is the share, 0 to 1, that follows a step (from 1), or the test (0):
// after the last one, all. Pods is how many there are in all, where they are
// the shares.
func (p *Plan) next(step int, pods int32) float64 {
	steps := p.steps()
	if step >= len(steps) {
		return 1
	}
	if p.Strategy == Replicas {
		canary, stable := divide(pods, steps[step])
		return float64(canary) / float64(canary+stable)
	}
	return steps[step].Fraction()
}
