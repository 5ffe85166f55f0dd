package rollout

import (
	"fmt"
	"strconv"
	"time"
)

const (
	// patience is how long a first step may take before somebody should know
	// of it when the plan is applied.
	patience = 10 * time.Minute
	// farBeyond: a step that needs so many times its deadline is not a matter of
	// a quiet hour.
	farBeyond = 10
)

// AtRate says what the plan's first step is like when so many requests come to
// the service per second: that it is slow, with what to change, or "" when it is
// not; and an error, with the path of the field, when the step's deadline is
// over long before its evidence can be there. The least that is needed counts:
// that of versions that never fail.
func (p *Plan) AtRate(perSecond float64) (slow string, impossible error) {
	share, requests := p.first()
	if requests == 0 || p.Skip || p.Worker {
		return "", nil
	}
	if p.Load.Rate > 0 && (p.Load.UpTo == 0 || p.Load.UpTo >= 2*requests) {
		return "", nil // half of own load is the canary's
	}
	if perSecond <= 0 {
		return fmt.Sprintf("at present no request arrives, and step 1 (%v) needs about %d of the canary: %ssend some, such as with serin load run", share, requests, p.moreLoad(requests)), nil
	}
	takes := seconds(float64(requests) / (perSecond * share.Fraction()))
	if takes <= max(patience, p.Hold) && (p.StepDeadline == 0 || takes <= p.StepDeadline) {
		return "", nil
	}
	slow = fmt.Sprintf("at the present %s req/s step 1 (%v) needs about %d requests of the canary: %s; %s",
		strconv.FormatFloat(perSecond, 'g', 2, 64), share, requests, about(takes), p.moreLoad(requests)+p.sooner(perSecond, share))
	if p.StepDeadline > 0 && takes/farBeyond > p.StepDeadline {
		return slow, fmt.Errorf("spec.stepDeadline: step 1 is given up after %s; %s", about(p.StepDeadline), slow)
	}
	return slow, nil
}

// first is the share of the first step and how many requests of the canary its
// evidence needs at least; 0 = none is asked for.
func (p *Plan) first() (Share, int64) {
	switch p.Strategy {
	case Canary, Replicas, "":
	case ABTest, BlueGreen, Mirror:
		return 0, 0
	default:
		return 0, 0
	}
	next := All
	if len(p.Steps) > 1 {
		next = p.Steps[1]
	}
	share := p.Steps[0]
	return share, p.Policy.Needs(share.Fraction(), next.Fraction(), 0)
}

// moreLoad says that own load's limit is what is too small for a first step
// that needs so many requests of the canary; "" = there is no own load.
func (p *Plan) moreLoad(requests int64) string {
	if p.Load.Rate <= 0 {
		return ""
	}
	return fmt.Sprintf("own load would bring them if spec.judge.load.upTo, %d, were %d or more; or ", p.Load.UpTo, 2*requests)
}

// sooner says what makes the first step shorter.
func (p *Plan) sooner(perSecond float64, share Share) string {
	const otherwise = "a higher spec.judge.tolerance asks for fewer, and a load test sends more"
	for _, larger := range []Share{5 * Percent, 10 * Percent, 20 * Percent, 50 * Percent} {
		if larger <= share {
			continue
		}
		takes := seconds(float64(p.Policy.Needs(larger.Fraction(), 1, 0)) / (perSecond * larger.Fraction()))
		if takes <= patience || larger == 50*Percent && takes < week {
			return fmt.Sprintf("with a first share of %v, %s; %s", larger, about(takes), otherwise)
		}
	}
	return otherwise
}

// seconds is a time of at most some years.
func seconds(s float64) time.Duration {
	return time.Duration(min(s, 1e8) * float64(time.Second))
}

const week = 7 * day
