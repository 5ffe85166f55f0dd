package forecast

import (
	"fmt"
	"math"
	"time"

	"serin.dev/serin/internal/rollout"
)

const (
	// idleFactor: a step is wasteful that is held for more than so many times
	// what the evidence takes, and longer by idleLeast at least.
	idleFactor = 3
	idleLeast  = time.Minute
	// patience is how long a first step may take before a larger one is
	// advised.
	patience = 10 * time.Minute
)

// firstShares are those that are advised for a first step.
func firstShares() []rollout.Share {
	var out []rollout.Share
	for _, percent := range []rollout.Share{1, 2, 5, 10, 20, 25, 50} {
		out = append(out, percent*rollout.Percent)
	}
	return out
}

func (f *Forecast) advise(c Case) {
	say := func(format string, args ...any) { f.Advice = append(f.Advice, fmt.Sprintf(format, args...)) }
	for i, s := range f.Steps {
		if s.Share == 0 { // it lasts for so many looks
			continue
		}
		if idle := s.Took - s.Evidence; idle > idleLeast && s.Took > idleFactor*s.Evidence {
			complete := "complete after " + Words(s.Evidence)
			if s.Evidence < soonest {
				complete = "complete when it begins"
			}
			say("step %d (%v) holds %s but evidence is %s: spec.hold may be shorter", i+1, s.Share, Words(s.Took), complete)
		}
		if i == 0 && s.Evidence > patience {
			f.adviseStart(c, s, say)
		}
	}
	switch limit := c.Plan.StepDeadline; {
	case f.Good.Why == "deadline" && limit > 0:
		say("spec.stepDeadline of %s rolls %s of the good versions back: at %s req/s they need longer", Words(limit), percent(f.Good.RolledBack), number(c.Rate))
	case f.Good.Open > 0.5 && len(f.Steps) < len(c.Plan.Steps):
		say("at %s req/s step %d (%v) is not over within %s: raise the share, or spec.judge.tolerance", number(c.Rate), len(f.Steps)+1, c.Plan.Steps[len(f.Steps)], Words(Longest))
	}
	if allowed := c.Plan.Policy.Tolerance; c.Regression > 0 && f.Bad.Promoted > 0.05 && c.Regression <= allowed {
		say("%s of the bad versions are promoted: a regression of %s is within spec.judge.tolerance (%s)", percent(f.Bad.Promoted), percent(c.Regression), percent(allowed))
	}
	if fails := f.Good.RolledBack; fails > 2*c.Plan.Policy.FalseAlarm && f.Good.Why == "check" {
		say("the checks roll %s of the good versions back: they are absolute, and too narrow for %s of errors", percent(fails), percent(c.Errors))
	}
}

// adviseStart says with which first share the evidence comes in time.
func (f *Forecast) adviseStart(c Case, s Step, say func(string, ...any)) {
	for _, share := range firstShares() {
		takes := float64(s.Requests) / (c.Rate * share.Fraction())
		if share > s.Share && (takes <= patience.Seconds() || share == 50*rollout.Percent) {
			say("at %s req/s step 1 of %v needs about %s: start at %v, which needs about %s",
				number(c.Rate), s.Share, Words(s.Evidence), share, Words(time.Duration(takes*float64(time.Second))))
			return
		}
	}
	say("at %s req/s step 1 of %v needs about %s: no larger share helps much", number(c.Rate), s.Share, Words(s.Evidence))
}

// Words writes a time as coarse as people think of it.
func Words(d time.Duration) string {
	round := func(unit time.Duration) string {
		return number(math.Round(10*float64(d)/float64(unit)) / 10)
	}
	switch {
	case d >= 100*time.Hour:
		return round(24*time.Hour) + " days"
	case d >= 100*time.Minute:
		return round(time.Hour) + " h"
	case d >= 100*time.Second:
		return round(time.Minute) + " min"
	case d >= 10*time.Second:
		return number(math.Round(d.Seconds())) + " s"
	}
	return round(time.Second) + " s"
}

func number(x float64) string { return fmt.Sprintf("%.4g", x) }

func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }
