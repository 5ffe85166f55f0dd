package analysis

import "math"

// doubtful is the e-value from which a question holds the canary at its share,
// long before it would fail it: 1/α is for taking a version back, which is dear
// to get wrong. Waiting is cheap: a version that is no worse meets such a value
// in at most one run of ten (Ville, over all questions, which share this as they
// share the false alarms) and loses it again as its good requests come in,
// while a fault in a rare endpoint is not given more users before it is known.
const doubtful = 10

// doubt says in one line what speaks against the canary, "" for nothing. Unlike
// a failure it goes by the present e-values, not by the highest.
func (j *Judge) doubt(policy Policy) string {
	if policy.FalseAlarm <= 0 {
		return ""
	}
	asked := func(e *eProcess, part float64) bool { return e.atLeast(math.Log(doubtful / part)) }
	const text = ": it may be worse, which more requests will show"
	if asked(&j.Failure.eProcess, policy.failures()) {
		return "the canary " + compareText(j.Total) + text
	}
	for k := range j.Strata {
		if t := &j.Strata[k]; asked(&t.Failure.eProcess, strataFailuresPart*stratumPart(k)) {
			return t.Name + ": the canary " + compareText(t.seen()) + text
		}
	}
	if policy.LatencyTolerance <= 0 {
		return ""
	}
	if early := j.early(policy); early != "" {
		return early
	}
	if asked(&j.Latency.eProcess, latencyPart) {
		return j.Latency.text(policy.LatencyTolerance) + text
	}
	for k := range j.Strata {
		if t := &j.Strata[k]; asked(&t.Latency.eProcess, strataLatencyPart*stratumPart(k)) {
			return t.Name + ": " + t.Latency.text(policy.LatencyTolerance) + text
		}
	}
	return ""
}
