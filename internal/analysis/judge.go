package analysis

import (
	"fmt"
	"math"
	"time"
)

// Judge is the judge's memory of one run. It is a plain value that survives a
// trip through JSON; its fields are for this package and for storage alone.
// The zero value has seen nothing.
type Judge struct {
	// Share that was asked for last, and what was seen since then; Total is
	// what was seen since the run began.
	Share float64 `json:"share"`
	Step  Counts  `json:"step"`
	Total Counts  `json:"total"`
	Pace  pace    `json:"pace"`
	// Direct counts the canary's requests of this step that no split sent.
	Direct int64 `json:"direct,omitempty"`

	// Block collects requests that are not scored yet.
	Block   Counts      `json:"block"`
	Failure failureTest `json:"failure"`
	Bound   boundTest   `json:"bound"`
	Checks  checkWindow `json:"checks"`

	// Failed says why the canary was failed; once set it stays.
	Failed string `json:"failed,omitempty"`
}

const (
	// blockRequests is how many requests of the smaller side a block is to
	// have on average. Larger blocks measure the split better, and so lose
	// less of what a failure tells; smaller ones end sooner. For 0 → 50 % of
	// failures at 5 requests/s and a share of 10 % a decision takes 1.86,
	// 1.75, 1.77 and 1.89 times the limit with 1, 2, 3 and 5.
	blockRequests = 2
	// blockLeast requests make a block at an even split, for the same reason.
	blockLeast = 10
)

// blockSize is the number of requests, of both sides together, after which a
// block is scored. It must not depend on which side answered them, nor how:
// see failure.go.
func blockSize(share float64) int64 {
	smaller := min(share, 1-share)
	if smaller <= 0 {
		return blockLeast
	}
	return max(blockLeast, int64(math.Ceil(blockRequests/smaller)))
}

// NextStep tells the judge that from now on the canary's share is asked to be
// share (0 to 1). Evidence of earlier steps stays; a Pass needs at least one
// canary request of the new step, and a look at the checks when there are any.
// The share tunes the size of blocks; no verdict relies on traffic following it.
func (j Judge) NextStep(policy Policy, share float64, now time.Time) Judge {
	j = j.endBlock(policy) // a block has one split
	j.Share, j.Step, j.Direct, j.Pace = share, Counts{}, 0, pace{At: now}
	j.Checks = checkWindow{Since: now, Failed: j.Checks.Failed, Last: j.Checks.Last}
	return j
}

// Observe returns the judge after a look. It is called without samples too, as
// time alone ends a check's window.
func (j Judge) Observe(policy Policy, seen Samples, now time.Time) Judge {
	j.Step = j.Step.Add(seen.Counts)
	j.Total = j.Total.Add(seen.Counts)
	j.Direct += seen.DirectRequests
	j.Pace = j.Pace.add(seen.CanaryRequests, now)
	j.Block = j.Block.Add(seen.Counts)
	if j.Block.Requests() >= blockSize(j.Share) {
		j = j.endBlock(policy)
	}
	j.Checks = j.Checks.observe(policy, seen, now)
	return j.judgeChecks(policy)
}

// HookFailed counts a failed hook of the user's as one failed check; what says
// which one failed, and why.
func (j Judge) HookFailed(policy Policy, what string) Judge {
	j.Checks = j.Checks.fail(what)
	return j.judgeChecks(policy)
}

func (j Judge) endBlock(policy Policy) Judge {
	j.Failure = j.Failure.add(j.Block)
	j.Bound = j.Bound.add(j.Block, policy.deltas())
	j.Block = Counts{}
	if j.Failed == "" && policy.FalseAlarm > 0 && j.Failure.MaxLogE >= -math.Log(policy.FalseAlarm) {
		j.Failed = fmt.Sprintf("the canary failed %s, stable %s: worse, with a chance of error below %s",
			rateText(j.Total.CanaryFailures, j.Total.CanaryRequests),
			rateText(j.Total.StableFailures, j.Total.StableRequests), short(policy.FalseAlarm))
	}
	return j
}

func (j Judge) judgeChecks(policy Policy) Judge {
	if limit := max(1, policy.FailureLimit); j.Failed == "" && j.Checks.Failed >= limit {
		j.Failed = j.lastFailed(policy)
	}
	return j
}

func (j Judge) lastFailed(policy Policy) string {
	return fmt.Sprintf("%s (failed check %d of %d)", j.Checks.Last, j.Checks.Failed, max(1, policy.FailureLimit))
}

// Decide says whether the canary may be given nextShare (0 to 1) of the
// traffic. A Fail is final, whatever the share.
func (j Judge) Decide(policy Policy, nextShare float64) Evidence {
	e := Evidence{
		Counts:       j.Total,
		LogE:         j.Failure.MaxLogE,
		FalseAlarm:   policy.FalseAlarm,
		Delta:        policy.delta(nextShare),
		FailedChecks: j.Checks.Failed,
	}
	for _, r := range j.Bound.Regressions {
		if r.LogE >= policy.enough() && (e.Excluded == 0 || r.Delta < e.Excluded) {
			e.Excluded = r.Delta
		}
	}
	switch {
	case j.Failed != "":
		e.Verdict, e.Reason = Fail, j.Failed
	case j.Step.CanaryRequests+j.Direct == 0:
		e.Verdict, e.Reason = NoData, "no request reached the canary at this share yet"
		if j.Checks.Bad {
			e.Reason += "; " + j.lastFailed(policy)
		}
	case j.Checks.Bad:
		e.Verdict, e.Reason = Collecting, j.lastFailed(policy)
	case len(policy.Checks) > 0 && j.Checks.Looks == 0:
		e.Verdict, e.Reason = Collecting, fmt.Sprintf("the checks are looked at every %v, and were not yet at this share", policy.Interval)
	case e.Delta == 0 && j.Checks.Passed != "":
		e.Verdict, e.Reason = Pass, "the checks passed: "+j.Checks.Passed
	case e.Delta == 0:
		e.Verdict, e.Reason = Pass, "no further evidence is asked for: canary failed "+rateText(j.Total.CanaryFailures, j.Total.CanaryRequests)
	case j.Bound.logE(e.Delta) >= policy.enough():
		e.Verdict, e.Reason = Pass, fmt.Sprintf("at most %s %% more of the canary's requests fail, with %s %% confidence: canary failed %s, stable %s",
			short(100*e.Delta), short(100*policy.Confidence),
			rateText(j.Total.CanaryFailures, j.Total.CanaryRequests),
			rateText(j.Total.StableFailures, j.Total.StableRequests))
	default:
		e.Verdict = Collecting
		e = j.progress(policy, e)
	}
	return e
}

// progress fills in how far the collecting is.
func (j Judge) progress(policy Policy, e Evidence) Evidence {
	if j.Step.Requests() == 0 { // direct ones alone
		e.Reason = "no request was split between the versions yet"
		return e
	}
	// An observed split of 0 or 1 tells nothing about the requests to come.
	share := min(max(float64(j.Step.CanaryRequests)/float64(j.Step.Requests()), 0.01), 0.99)
	perRequest := growth(j.Total.StableRate(), share, e.Delta)
	enough := policy.enough()
	e.Reason = fmt.Sprintf("collecting evidence: %d canary requests", j.Total.CanaryRequests)
	if perRequest <= 0 || math.IsInf(enough, 1) {
		return e
	}
	if j.Bound.paused() {
		e.Reason = fmt.Sprintf("no evidence while so much fails on both sides: canary failed %s, stable %s",
			rateText(j.Total.CanaryFailures, j.Total.CanaryRequests),
			rateText(j.Total.StableFailures, j.Total.StableRequests))
		return e
	}
	if e.Overdue = float64(j.Bound.Canary)*perRequest > overdueFactor*enough; e.Overdue {
		e.Reason = fmt.Sprintf("%s %% more failures than stable are neither excluded nor shown: canary failed %s, stable %s",
			short(100*e.Delta),
			rateText(j.Total.CanaryFailures, j.Total.CanaryRequests),
			rateText(j.Total.StableFailures, j.Total.StableRequests))
		return e
	}
	more := (enough-j.Bound.logE(e.Delta))/perRequest - float64(j.Block.CanaryRequests)
	more = max(1, math.Ceil(more))
	e.Needed = j.Total.CanaryRequests + int64(more)
	e.Reason = fmt.Sprintf("collecting evidence: %d of about %d canary requests", j.Total.CanaryRequests, roughly(e.Needed))
	if j.Pace.Seconds >= 1 && j.Pace.Requests > 0 {
		left := more / j.Pace.Requests * j.Pace.Seconds
		e.Left = time.Duration(math.Ceil(min(left, 1e6))) * time.Second
		e.Reason += fmt.Sprintf(", about %v left", e.Left)
	}
	return e
}

// pace measures how fast the canary's requests come, with a memory of about
// half a minute.
type pace struct {
	At       time.Time `json:"at,omitzero"`
	Requests float64   `json:"requests"`
	Seconds  float64   `json:"seconds"`
}

func (p pace) add(requests int64, now time.Time) pace {
	const memory = 30 // seconds
	spent := max(0, now.Sub(p.At).Seconds())
	fade := math.Exp(-spent / memory)
	return pace{
		At:       now,
		Requests: p.Requests*fade + float64(requests),
		Seconds:  p.Seconds*fade + spent,
	}
}

// rateText writes "5 of 11 requests (45.5 %)".
func rateText(failures, requests int64) string {
	return fmt.Sprintf("%d of %d requests (%s %%)", failures, requests, short(100*ratio(failures, requests)))
}

// roughly rounds to two significant digits: an estimate must not look exact.
func roughly(n int64) int64 {
	unit := int64(1)
	for n/unit >= 100 {
		unit *= 10
	}
	return (n + unit/2) / unit * unit
}
