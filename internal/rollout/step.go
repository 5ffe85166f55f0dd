package rollout

// Event tells people what happened. It may be told twice after a crash.
type Event struct {
	Warning bool
	Reason  string // CamelCase, for machines: RunStarted, StepReached, ...
	Message string // one line
}

// Step moves a release forward by one observation.
//
// It is pure: the same plan, state and input give the same result. The plan
// must be valid.
func Step(plan Plan, s State, in Input) (State, []Event) { return s, nil }
