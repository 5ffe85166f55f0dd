package analysis

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// Decide says whether the canary may be given nextShare (0 to 1) of the
// traffic. A Fail is final, whatever the share.
func (j Judge) Decide(policy Policy, nextShare float64) Evidence {
	e := Evidence{
		Kind:         j.Failed.Kind,
		Stratum:      j.Failed.Stratum,
		AtOnce:       j.Failed.AtOnce,
		Counts:       j.Total,
		Own:          j.Own.Total,
		Spared:       j.Spared.Total,
		Direct:       j.DirectTotal,
		DirectFailed: j.DirectFailed,
		LogE:         float64(j.Failure.Max),
		FalseAlarm:   policy.FalseAlarm,
		Questions:    j.questions(policy),
		Delta:        policy.delta(nextShare),
		Cost:         j.spent().cost(),
		FailedChecks: j.Checks.Failed,
		Warnings:     j.Checks.Warnings,
		Warning:      j.Checks.Warning,
		Concerns:     slices.Clone(j.Checks.Concerns),
		Checks:       j.Checks.results(),
	}
	for _, delta := range policy.deltas() {
		if j.excluded(delta) >= policy.enough() && (e.Excluded == 0 || delta < e.Excluded) {
			e.Excluded = delta
		}
	}
	wait, passed := j.Checks.text(policy)
	if wait == "" {
		wait = j.doubt(policy)
	}
	if wait == "" {
		wait = j.unseen(policy, nextShare)
	}
	switch {
	case j.Failed.Kind != "":
		e.Verdict, e.Reason = Fail, j.Failed.Reason
	case j.Step.CanaryRequests+j.Direct == 0 && !policy.ChecksAlone:
		e.Verdict, e.Reason = NoData, "no request reached the canary at this share yet"
		if j.Checks.bad() {
			e.Reason += "; " + j.Checks.lastFailed(policy)
		}
	case wait != "":
		e.Verdict, e.Reason = Collecting, wait
	case e.Delta == 0 && passed != "":
		e.Verdict, e.Reason = Pass, "the checks passed: "+passed
	case policy.ChecksAlone:
		e.Verdict, e.Reason = Pass, "no check failed"
	case e.Delta == 0:
		e.Verdict, e.Reason = Pass, j.unasked()
	case j.excluded(e.Delta) >= policy.enough():
		of := ""
		if j.ByUser {
			of = ", each user weighing the same"
		}
		e.Verdict, e.Reason = Pass, fmt.Sprintf("at most %s %% more of the canary's requests fail%s, with %s %% confidence: canary %s",
			short(100*e.Delta), of, short(100*policy.Confidence), j.compareText())
	default:
		e.Verdict = Collecting
		e = j.progress(policy, e)
	}
	return e
}

// unasked says on what a canary passes of which nothing has to be shown.
func (j *Judge) unasked() string {
	switch {
	case j.Total.CanaryRequests > 0:
		return "no further evidence is asked for: canary failed " + rateText(j.Total.CanaryFailures, j.Total.CanaryRequests)
	case j.DirectTotal > 0:
		return "nothing was to be judged: of those sent to it alone the canary failed " + rateText(j.DirectFailed, j.DirectTotal)
	}
	return "nothing was to be judged"
}

// excluded is the evidence against a regression of delta.
func (j *Judge) excluded(delta float64) float64 {
	logE := j.Bound.logE(delta)
	if j.ByUser {
		logE += j.Users.logE(delta)
	}
	return logE
}

// compareText compares what the evidence to advance rests on.
func (j *Judge) compareText() string {
	if j.ByUser && j.Own.Total.Requests() == 0 {
		return j.Users.text()
	}
	if j.Share >= 1 { // both sides have own load alone
		return compareText(j.Own.Total)
	}
	return compareText(j.Total)
}

// gathering is what the evidence to advance rests on so far: how much of the
// canary's, in what, and of this the part that is scored; and how much stable fails.
func (j *Judge) gathering() (n int64, what string, waiting int64, stable float64) {
	waiting = j.Own.Block.CanaryRequests
	if j.ByUser {
		return j.Users.Canary.Users + j.Own.Total.CanaryRequests, "users", waiting, j.Users.Stable.rate()
	}
	return j.Total.CanaryRequests, "requests", waiting + j.Block.CanaryRequests, j.Total.StableRate()
}

// progress fills in how far the collecting is.
func (j Judge) progress(policy Policy, e Evidence) Evidence {
	if j.Step.Requests() == 0 { // direct ones alone
		e.Reason = "no request was split between the versions yet"
		return e
	}
	// An observed split of 0 or 1 tells nothing about the requests to come.
	share := min(max(float64(j.Step.CanaryRequests)/float64(j.Step.Requests()), 0.01), 0.99)
	n, what, waiting, stable := j.gathering()
	perOne := growth(stable, share, e.Delta)
	enough := policy.enough()
	e.Reason = fmt.Sprintf("collecting evidence: %d canary %s", n, what)
	if perOne <= 0 || math.IsInf(enough, 1) {
		return e
	}
	if j.paused() {
		e.Reason = fmt.Sprintf("no evidence while so much fails on both sides: canary %s", j.compareText())
		return e
	}
	if e.Overdue = float64(j.Bound.Canary+j.Users.Canary.Users)*perOne > overdueFactor*enough; e.Overdue {
		e.Reason = fmt.Sprintf("%s %% more failures than stable are neither excluded nor shown: canary %s", short(100*e.Delta), j.compareText())
		return e
	}
	more := (enough-j.excluded(e.Delta))/perOne - float64(waiting)
	more = max(1, math.Ceil(more))
	e.Needed = n + whole(more)
	e.Reason = fmt.Sprintf("collecting evidence: %d of about %d canary %s", n, max(roughly(e.Needed), n+1), what)
	if idle := j.Pace.idle(); idle >= silent {
		none := "request"
		if j.ByUser {
			none = "new user"
		}
		e.Reason += fmt.Sprintf(", no %s for %dm", none, idle/time.Minute)
		return e
	}
	if j.Pace.Seconds >= 1 && j.Pace.Requests > 0 {
		if left := more / j.Pace.Requests * j.Pace.Seconds; left <= foreseeable.Seconds() {
			e.Left = time.Duration(math.Ceil(left)) * time.Second
			e.Reason += fmt.Sprintf(", about %v left", e.Left)
		}
	}
	return e
}

// paused reports whether nothing counts as evidence to advance: see boundPause.
func (j *Judge) paused() bool {
	if j.ByUser {
		return j.Users.paused()
	}
	return j.Bound.paused()
}

// foreseeable is how far ahead the present rate of requests says anything: one
// that would take longer has stopped, or is about to.
const foreseeable = 7 * 24 * time.Hour

// questions lists what was asked, of the endpoints only the one where most
// speaks for a regression.
func (j *Judge) questions(policy Policy) []Question {
	if policy.FalseAlarm <= 0 {
		return nil // nothing is asked
	}
	out := append(make([]Question, 0, 5), Question{
		Kind: Failures, LogE: float64(j.Failure.Max), Limit: policy.limit(policy.failures()), Counts: j.Total,
	})
	if policy.Budget > 0 {
		out = append(out, Question{
			Kind: Budget, LogE: float64(j.Excess.Max), Limit: policy.limit(excessPart), Counts: j.users().Less(j.Spared.Total),
		})
	}
	if k := j.worst(func(k int, t *stratumTest) float64 {
		return float64(t.Failure.Max) - policy.limit(stratumPart(k))
	}); k >= 0 {
		t := &j.Strata[k]
		out = append(out, Question{
			Kind: Failures, Stratum: t.Name, LogE: float64(t.Failure.Max),
			Limit: policy.limit(strataFailuresPart * stratumPart(k)), Counts: t.seen(),
		})
	}
	if policy.LatencyTolerance <= 0 {
		return out
	}
	out = append(out, j.Latency.question("", policy.limit(latencyPart)))
	if k := j.worst(func(k int, t *stratumTest) float64 {
		return float64(t.Latency.Max) - policy.limit(stratumPart(k))
	}); k >= 0 {
		t := &j.Strata[k]
		out = append(out, t.Latency.question(t.Name, policy.limit(strataLatencyPart*stratumPart(k))))
	}
	return out
}

func (t latencyTest) question(stratum string, limit float64) Question {
	i := t.best()
	return Question{
		Kind: Latency, Stratum: stratum, LogE: float64(t.Max), Limit: limit,
		Counts: t.Total.at(i).Add(t.Block.at(i)), Threshold: bucketBound(int(t.At[i])),
	}
}

// compareText writes "failed 5 of 11 requests (45.5 %), stable 0 of 90 (0 %)".
func compareText(c Counts) string {
	return "failed " + rateText(c.CanaryFailures, c.CanaryRequests) + ", stable " + rateText(c.StableFailures, c.StableRequests)
}

// rateText writes "5 of 11 requests (45.5 %)".
func rateText(failures, requests int64) string {
	return strconv.FormatInt(failures, 10) + " of " + strconv.FormatInt(requests, 10) +
		" requests (" + short(100*ratio(failures, requests)) + " %)"
}

// roughly rounds to two significant digits: an estimate must not look exact.
func roughly(n int64) int64 {
	unit := int64(1)
	for n/unit >= 100 {
		unit *= 10
	}
	return (n + unit/2) / unit * unit
}
