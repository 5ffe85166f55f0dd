package sim

import (
	"math/rand/v2"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

// Random returns the scenario of a seed: any strategy, with any of what a plan
// can ask for, on any kind of day, and a version v2 that is good or, if bad is
// set, fails so much more than stable that no plan may promote it by itself.
func Random(seed uint64) (sc Scenario, bad bool) {
	r := rand.New(rand.NewPCG(seed, 0xca9a41))
	chance := func(p float64) bool { return r.Float64() < p }
	seconds := func(least, most int) time.Duration {
		return time.Duration(least+r.IntN(most-least+1)) * time.Second
	}
	sc = Scenario{
		Plan: randomPlan(r), Rate: 10 + 30*r.Float64(), Matched: 0.2 + 0.3*r.Float64(), Pods: 1 + r.IntN(4),
		Horizon: 30 * time.Minute,
	}
	if sc.Plan.Strategy == rollout.BlueGreen {
		sc.Direct = 5
	}
	if sc.Plan.Strategy == rollout.Replicas {
		sc.Pods++
	}
	usual := 0.01 * r.Float64()
	sc.Fails = map[rollout.Revision]float64{"v1": usual, "v2": usual, "v3": usual}
	if bad = chance(0.4); bad {
		sc.Fails["v2"] = 0.4 + 0.6*r.Float64()
		if !compares(sc.Plan.Strategy) { // absolute checks of a few requests are no statistics
			sc.Fails["v2"] = 1
		}
	}
	if chance(0.05) {
		sc.Broken = "v2"
	}
	sc.People = []Act{{At: time.Second, Target: "v2"}}
	commands := []rollout.Verb{rollout.Abort, rollout.Promote, rollout.Skip, rollout.Retry, rollout.Rollback}
	for chance(0.25) {
		sc.People = append(sc.People, Act{At: seconds(2, 60), Command: commands[r.IntN(len(commands))]})
	}
	if chance(0.1) {
		sc.People = append(sc.People, Act{At: seconds(2, 40), Target: []rollout.Revision{"v1", "v3"}[r.IntN(2)]})
	}
	if chance(0.1) {
		at := seconds(2, 30)
		words := [][2]string{{"on", "off"}, {"freeze", "thaw"}}[r.IntN(2)]
		sc.People = append(sc.People, Act{At: at, Suspend: words[0]}, Act{At: at + seconds(1, 60), Suspend: words[1]})
	}
	sc.Hooks = HookManners{
		Fails: 0.1 * r.Float64(), SaysNo: 0.5 * r.Float64(), Panics: 0.005 * r.Float64(),
		Silent: 0.2 * r.Float64(), Takes: seconds(0, 4),
	}
	sc.Gates = GateManners{Answers: 0.05 + 0.5*r.Float64(), Rejects: 0.05 * r.Float64(), Strangers: 0.3 * r.Float64()}
	if chance(0.1) {
		sc.Gates.Answers = 0 // on holiday
	}
	if chance(0.1) {
		sc.NoTraffic = Span{From: seconds(3, 60), To: sc.Horizon}
	}
	if chance(0.8) {
		sc.Faults = randomFaults(r)
	}
	if chance(0.05) {
		sc.People = append(sc.People, Act{At: seconds(2, 60), Delete: true})
	}
	return sc, bad
}

// compares reports whether a strategy has two sides with the same users.
func compares(s rollout.Strategy) bool { return s != rollout.ABTest && s != rollout.BlueGreen }

// randomFaults makes some days worse than others, and few days bad in each way.
func randomFaults(r *rand.Rand) Faults {
	some := func(most float64) float64 {
		if r.IntN(2) == 0 {
			return 0
		}
		return most * r.Float64()
	}
	return Faults{
		Crash: some(0.01), StoreFail: some(0.2), LostPush: some(0.1), Foreign: some(0.01),
		Scaling: some(0.05), GitOps: some(0.05), PodCrash: some(0.005), ClockBack: some(0.004), Takeover: some(0.03),
	}
}

// randomPlan returns a valid plan whose waits all have an end.
func randomPlan(r *rand.Rand) rollout.Plan {
	chance := func(p float64) bool { return r.Float64() < p }
	least := 85.0
	p := rollout.Plan{
		Strategy: []rollout.Strategy{rollout.Canary, rollout.Canary, rollout.ABTest, rollout.BlueGreen, rollout.Mirror, rollout.Replicas}[r.IntN(6)],
		Steps:    [][]rollout.Share{{30 * rollout.Percent}, {50, 20 * rollout.Percent, 60 * rollout.Percent}, {10 * rollout.Percent, 50 * rollout.Percent}}[r.IntN(3)],
		Hold:     time.Duration(r.IntN(3)) * time.Second, Deadline: 40 * time.Second, StepDeadline: 4 * time.Minute,
		Policy: analysis.Policy{
			FalseAlarm: 0.001, Tolerance: 0.1, Confidence: 0.95, FailureLimit: 2, Interval: 3 * time.Second,
			Checks: []analysis.Check{{Metric: analysis.SuccessRate, Min: &least}},
		},
		Skip: chance(0.02),
	}
	routed := p.Strategy != rollout.Replicas
	if p.Strategy == rollout.Mirror || !compares(p.Strategy) {
		p.Iterations = 1 + r.IntN(3)
		p.Policy.FailureLimit = 1
	}
	if p.Strategy == rollout.Mirror || p.Strategy == rollout.Canary && chance(0.3) {
		p.Mirror = []rollout.Share{20 * rollout.Percent, rollout.All}[r.IntN(2)]
	}
	if routed && chance(0.3) {
		p.PromotionSteps = []rollout.Share{50 * rollout.Percent, 80 * rollout.Percent}
	}
	if chance(0.3) {
		p.AbortSteps, p.AbortHold = []rollout.Share{20 * rollout.Percent, 5 * rollout.Percent}, 2*time.Second
	}
	if routed && chance(0.3) {
		p.KeepWarm = 20 * time.Second
	}
	randomGates(r, &p)
	types := []rollout.HookType{
		rollout.HookConfirmRollout, rollout.HookPreRollout, rollout.HookRollout, rollout.HookConfirmTrafficIncrease,
		rollout.HookConfirmPromotion, rollout.HookPostRollout, rollout.HookRollback, rollout.HookEvent,
	}
	for _, t := range types {
		if chance(0.15) {
			h := rollout.Hook{Name: "h", Type: t}
			if t == rollout.HookConfirmRollout || t == rollout.HookConfirmTrafficIncrease || t == rollout.HookConfirmPromotion {
				h.Expires = time.Minute
			}
			p.Hooks = append(p.Hooks, h)
		}
	}
	return p
}

func randomGates(r *rand.Rand, p *rollout.Plan) {
	points := []rollout.Point{rollout.AtStart, rollout.AtTraffic, rollout.AtPromotion}
	if p.Strategy == rollout.Mirror {
		points = []rollout.Point{rollout.AtStart, rollout.AtPromotion}
	}
	if p.Skip {
		points = points[:1]
	}
	for i, at := range points {
		if r.IntN(6) == 0 {
			p.Gates = append(p.Gates, rollout.Gate{
				Name: string('a' + rune(i)), At: at, Manual: true, Approvers: []string{"alice"}, Expires: time.Minute,
			})
		}
		if r.IntN(20) == 0 {
			p.Gates = append(p.Gates, rollout.Gate{
				// Closed for up to a minute after midnight, when the story begins.
				Name: string('x' + rune(i)), At: at, Window: &rollout.Window{From: time.Duration(1+r.IntN(60)) * time.Second, To: 0},
			})
		}
	}
}
