package analysis

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Judge is the judge's memory of one run. It is a plain value that survives a
// trip through JSON; its fields are for this package and for storage alone.
// The zero value has seen nothing. Nothing that a copy shares is changed.
type Judge struct {
	// Share that was asked for last, and what was seen since then; Total is
	// what was seen since the run began, at Began.
	Share float64   `json:"share"`
	Began time.Time `json:"began,omitzero"`
	Step  Counts    `json:"step"`
	Total Counts    `json:"total"`
	Pace  pace      `json:"pace"`
	// Direct counts the canary's requests of this step that no split sent.
	Direct int64 `json:"direct,omitempty"`
	// DirectTotal and DirectFailed count those of the whole run.
	DirectTotal  int64 `json:"directTotal,omitempty"`
	DirectFailed int64 `json:"directFailed,omitempty"`

	// Block collects requests of users whose cost, and what they prove good, is
	// not reckoned yet.
	Block   Counts        `json:"block"`
	Spared  spared        `json:"spared,omitzero"`
	Own     ownLoad       `json:"own,omitzero"`
	Failure failureTest   `json:"failure"`
	Latency latencyTest   `json:"latency"`
	Early   latencyTest   `json:"early,omitzero"` // see warmup.go
	Strata  []stratumTest `json:"strata,omitempty"`
	Cost    costTally     `json:"cost"`            // without Block
	Excess  failureTest   `json:"excess,omitzero"` // is it chance? Where there is a budget
	Bound   boundTest     `json:"bound"`
	// ByUser: the split keeps users on their side. Then Users are the evidence
	// to advance, and of the requests of Bound those of own load alone.
	ByUser bool      `json:"byUser,omitempty"`
	Users  userTest  `json:"users,omitzero"`
	Checks checkTest `json:"checks"`

	// Failed says why the canary was failed; once set it stays.
	Failed failure `json:"failed,omitzero"`
}

// ownLoad is the part of own load in what was seen since the run began, and
// its block: the canary has another share of it than of users' requests, and a
// block has one split. Its failures cost no user anything.
type ownLoad struct {
	Total Counts      `json:"total"`
	Block Counts      `json:"block"`
	Early latencyTest `json:"early,omitzero"`
}

// spared is the part of what was seen since the run began, and of the block, that
// users were spared: it is evidence, and costs nothing.
type spared struct {
	Total Counts `json:"total"`
	Block Counts `json:"block,omitzero"`
}

func (s spared) add(seen Counts) spared { return spared{s.Total.Add(seen), s.Block.Add(seen)} }

// failure is a Fail; the zero value is none.
type failure struct {
	Kind    Kind   `json:"kind"`
	Stratum string `json:"stratum,omitempty"`
	AtOnce  bool   `json:"atOnce,omitempty"`
	Reason  string `json:"reason"`
}

const (
	// blockFirst is how many requests of the smaller side the first blocks are
	// to have on average. Larger blocks measure the split better, and so lose
	// less of what a request tells; smaller ones end sooner. Later blocks may
	// be larger: the best size for a decision after n requests of the smaller
	// side grows with the root of n.
	blockFirst = 1.4
	blockRoot  = 0.7
	// blockMost bounds it: the longer a block, the more may change within.
	blockMost = 32
	// blockLeast requests make a block at an even split.
	blockLeast = 10
)

// blockSize is the number of requests, of both sides together, after which a
// block is scored, when so many were seen before and in it. It must not depend
// on which side answered them, nor how: see failure.go.
func blockSize(share float64, seen int64) int64 {
	return blockOf(share, min(max(blockFirst, blockRoot*math.Sqrt(float64(seen)*min(share, 1-share))), blockMost))
}

// blockOf is how many requests of both sides together have n of the smaller one
// on average.
func blockOf(share, n float64) int64 {
	smaller := min(share, 1-share)
	if smaller <= 0 {
		return blockLeast
	}
	return max(blockLeast, int64(math.Ceil(n/smaller)))
}

// NextStep tells the judge that from now on the canary's share is asked to be
// share (0 to 1). Evidence of earlier steps stays; a Pass needs at least one
// canary request of the new step, and a look at the checks when there are any.
// The share tunes the size of blocks; no verdict relies on traffic following it.
func (j Judge) NextStep(policy Policy, share float64, now time.Time) Judge {
	j.endBlocks(policy) // a block has one split
	j.Share, j.Step, j.Direct, j.Pace = share, Counts{}, 0, pace{At: now}
	j.Checks = j.Checks.nextStep(now)
	return j
}

// Observe returns the judge after a look. It is called without samples too, as
// time alone ends a check's window. The samples remain the caller's.
func (j Judge) Observe(policy Policy, seen Samples, now time.Time) Judge {
	if j.Began.IsZero() && seen.CanaryRequests+seen.Own.CanaryRequests > 0 {
		j.Began = now
	}
	warm := j.warm(policy, now)
	j.add(seen.Counts)
	j.Direct += seen.DirectRequests
	j.DirectTotal += seen.DirectRequests
	j.DirectFailed += seen.DirectFailures
	if policy.DirectUsers {
		j.Cost.Direct += seen.DirectFailures - seen.DirectSpared
	}
	canary, stable := &seen.CanaryLatency, &seen.StableLatency
	news := seen.CanaryRequests // that tell something of the canary
	if seen.ByUser && !j.ByUser {
		j.endBlocks(policy) // what was drawn before is none of users
		j.ByUser = true
	}
	if j.ByUser {
		users := seen.NewUsers()
		canary, stable, news = &users.CanaryLatency, &users.StableLatency, users.Canary.Users
		j.Failure = j.Failure.observeUsers(users.Counts)
		if !seen.StableDown {
			j.Users = j.Users.add(users)
		}
	} else {
		j.Failure = j.Failure.observe(seen.Counts, j.users().Requests(), j.Share)
	}
	if policy.Budget > 0 {
		j.observeExcess(policy, &seen)
	}
	if seen.StableDown {
		j.endBlock(policy) // with what was seen before
	}
	j.Block = j.Block.Add(seen.Counts)
	j.Spared = j.Spared.add(seen.Spared)
	switch {
	case seen.StableDown:
		j.pay()
	case j.Block.Requests() >= blockSize(j.Share, j.users().Requests()):
		j.endBlock(policy)
	}
	j.observeOwn(policy, &seen)
	j.Pace = j.Pace.add(news+seen.Own.CanaryRequests, now)
	j.observeLatency(policy, &seen, canary, stable, warm)
	j.observeStrata(policy, "", seen.Strata, j.Share, j.ByUser, warm)
	j.observeStrata(policy, ownStratum, seen.Own.Strata, ownShare, false, warm)
	j.Checks = j.Checks.observe(policy, &seen, now)
	j.judge(policy)
	return j
}

// SetBack returns the judge with its warm-up as far on as it was before the clock
// was set back by so much. Windows and rates mend themselves.
func (j Judge) SetBack(by time.Duration) Judge {
	if !j.Began.IsZero() {
		j.Began = j.Began.Add(-by)
	}
	return j
}

// add counts requests on which the verdict rests.
func (j *Judge) add(seen Counts) {
	j.Step = j.Step.Add(seen)
	j.Total = j.Total.Add(seen)
}

// users are the requests of users since the run began.
func (j *Judge) users() Counts { return j.Total.Less(j.Own.Total) }

// spent is what the run has cost its users, that of the block included.
func (j *Judge) spent() costTally {
	return j.Cost.add(j.Block.Less(j.Spared.Block), j.users().Less(j.Spared.Total))
}

// observeOwn scores own load in blocks of its own.
func (j *Judge) observeOwn(policy Policy, seen *Samples) {
	j.add(seen.Own.Counts)
	own := &j.Own
	own.Total = own.Total.Add(seen.Own.Counts)
	if seen.StableDown {
		return
	}
	own.Block = own.Block.Add(seen.Own.Counts)
	if own.Block.Requests() < blockSize(ownShare, own.Total.Requests()) {
		return
	}
	j.Failure = j.Failure.add(own.Block)
	j.Bound = j.Bound.add(own.Block, policy.deltas())
	own.Block = Counts{}
}

// HookFailed counts a failed hook of the user's as one failed check; what says
// which one failed, and why.
func (j Judge) HookFailed(policy Policy, what string) Judge {
	j.Checks = j.Checks.hookFailed(what)
	j.judge(policy)
	return j
}

// warm reports whether latency is compared. It must not depend on how long
// requests took, and so does not.
func (j *Judge) warm(policy Policy, now time.Time) bool {
	return policy.LatencyTolerance > 0 && !j.Began.IsZero() &&
		now.Sub(j.Began) >= policy.Warmup && j.Total.CanaryRequests >= policy.WarmupRequests
}

func (j *Judge) endBlock(policy Policy) {
	if !j.ByUser {
		j.Bound = j.Bound.add(j.Block, policy.deltas())
	}
	j.pay()
}

// pay ends the block as far as its cost goes.
func (j *Judge) pay() {
	j.Cost = j.spent()
	j.Block, j.Spared.Block = Counts{}, Counts{}
}

// endBlocks ends those of all questions.
func (j *Judge) endBlocks(policy Policy) {
	j.endBlock(policy)
	j.Failure, j.Excess = j.Failure.endStretch(), j.Excess.endStretch()
	j.Latency, j.Early = j.Latency.endBlock(), j.Early.endBlock()
	j.Strata = slices.Clone(j.Strata)
	for k := range j.Strata {
		j.Strata[k].Failure = j.Strata[k].Failure.endStretch()
		j.Strata[k].Latency = j.Strata[k].Latency.endBlock()
	}
	j.judge(policy)
}

// judge fails the canary when there is reason to, once.
func (j *Judge) judge(policy Policy) {
	if j.Failed.Kind == "" {
		j.Failed = j.verdict(policy)
	}
}

// verdict is the first reason to fail the canary.
func (j *Judge) verdict(policy Policy) failure {
	chance := func() string { return ", with a chance of error below " + short(policy.FalseAlarm) }
	failures := func(t *stratumTest, limit float64) bool { return float64(t.Failure.Max) >= limit }
	latency := func(t *stratumTest, limit float64) bool { return float64(t.Latency.Max) >= limit }

	if float64(j.Failure.Max) >= policy.limit(policy.failures()) {
		f := failure{Kind: Failures, AtOnce: true, Reason: "the canary " + compareText(j.Total) + ": worse" + chance()}
		if n := j.Spared.Total.CanaryFailures; n > 0 {
			f.Reason += fmt.Sprintf("; retries spared users %d of its failures", n)
		}
		if t := j.mostFailures(); t != nil {
			f.Stratum = t.Name
			f.Reason += fmt.Sprintf("; %d of its failures in %s", t.seen().CanaryFailures, t.Name)
		}
		return f
	}
	if t := j.found(policy, strataFailuresPart, failures); t != nil {
		return failure{Kind: Failures, Stratum: t.Name, AtOnce: true,
			Reason: fmt.Sprintf("%s: the canary %s: worse%s", t.Name, compareText(t.seen()), chance())}
	}
	if float64(j.Latency.Max) >= policy.limit(latencyPart) {
		return failure{Kind: Latency, AtOnce: true, Reason: j.Latency.text(policy.LatencyTolerance) + chance()}
	}
	if t := j.found(policy, strataLatencyPart, latency); t != nil {
		return failure{Kind: Latency, Stratum: t.Name, AtOnce: true,
			Reason: t.Name + ": " + t.Latency.text(policy.LatencyTolerance) + chance()}
	}
	if f := j.overspent(policy); f.Kind != "" {
		return f
	}
	return j.Checks.verdict(policy)
}

// found is the first stratum whose question is answered; nil without one.
func (j *Judge) found(policy Policy, part float64, answered func(t *stratumTest, limit float64) bool) *stratumTest {
	least := policy.limit(part) // of all of them, so that one limit does for most
	for k := range j.Strata {
		if t := &j.Strata[k]; answered(t, least) && answered(t, policy.limit(part*stratumPart(k))) {
			return t
		}
	}
	return nil
}

// pace measures how fast the canary's requests come, with a memory of about
// half a minute.
type pace struct {
	At       time.Time `json:"at,omitzero"`
	Requests float64   `json:"requests"`
	Seconds  float64   `json:"seconds"`
	// Last is when a look saw requests last, or the step began.
	Last time.Time `json:"last,omitzero"`
}

// silent is how long no request at all has to come until that is said instead
// of an estimate, in which the rate fades away.
const silent = time.Minute

// idle is how long no request came.
func (p pace) idle() time.Duration {
	if p.Last.IsZero() {
		return 0
	}
	return p.At.Sub(p.Last)
}

func (p pace) add(requests int64, now time.Time) pace {
	const memory = 30 // seconds
	spent := max(0, now.Sub(p.At).Seconds())
	fade := math.Exp(-spent / memory)
	last := p.Last
	if requests > 0 || last.IsZero() || now.Before(last) {
		last = now
	}
	return pace{
		At:       now,
		Last:     last,
		Requests: p.Requests*fade + float64(requests),
		Seconds:  p.Seconds*fade + spent,
	}
}
