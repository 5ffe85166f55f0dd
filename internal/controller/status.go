package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

// maxHistory is how many ended runs a status keeps: enough to see a week of
// daily releases, small enough that the object stays readable.
const maxHistory = 10

// statusOf writes down what is known. The journal in it is the newest state.
func (d *Deliver) statusOf(rel *kube.Delivery, run *delivery, now time.Time) (*v1alpha1.ReleaseStatus, error) {
	s := run.journal.State
	data, err := json.Marshal(run.journal)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	running := s.Canary != ""
	say := d.wording(rel, run)
	reason := say(s.Reason)
	if run.trouble.what != "" {
		reason = run.trouble.what // what the state waits for will not come by itself
	}
	out := &v1alpha1.ReleaseStatus{
		ObservedGeneration: rel.Release.Generation,
		Phase:              string(s.Phase),
		Reason:             reason,
		Deadline:           v1alpha1.OptionalTime(s.Deadline),
		Stable:             d.version(rel, run, s.Stable),
		Split:              d.split(rel, run),
		Conditions:         slices.Clone(run.status.Conditions),
		History:            slices.Clone(run.status.History),
		FailedChecks:       int32(s.Run.Evidence.FailedChecks),
		Frozen:             run.frozen,
		Command:            run.journal.Command,
		Set:                d.all.setStatus(rel.Release),
		Cost:               costOf(&s),
		Journal:            v1alpha1.Raw(data),
	}
	if running {
		out.Canary = d.version(rel, run, s.Canary)
		out.Step = int32(s.Step)
		if s.Step > 0 {
			out.StepText = fmt.Sprintf("%d/%d", s.Step, run.plan.NumSteps())
		}
		asked(out, &s, &run.plan)
		c := s.Evidence.Counts
		switch run.plan.Strategy {
		case rollout.ABTest, rollout.BlueGreen: // those who meet the canary are chosen, or testers
			c.CanaryRequests += s.Evidence.Direct
			c.CanaryFailures += s.Evidence.DirectFailed
		case rollout.Canary, rollout.Mirror, rollout.Replicas, "":
		}
		out.Samples = v1alpha1.Samples{
			Canary: v1alpha1.Count{Requests: c.CanaryRequests, Failures: c.CanaryFailures},
			Stable: v1alpha1.Count{Requests: c.StableRequests, Failures: c.StableFailures},
			Own:    ownSamples(s.Evidence.Own),
		}
		out.FailedChecks = int32(s.Evidence.FailedChecks)
		out.Verdict = s.Evidence.Verdict.String()
		out.Evidence = say(s.Evidence.Reason)
		for _, c := range s.Evidence.Concerns {
			out.Warnings = append(out.Warnings, c.Text)
		}
	}
	if s.Wait != "" {
		out.WaitingFor, out.Wait = reason, string(s.Wait)
	}
	addHistory(out, run, say)
	setAccepted(out, run.problem, rel.Release.Generation, now)
	setConditions(out, &s, servesText(rel), unserved(rel, &s), rel.Release.Generation, now)
	setPromoted(out, &s, &rel.Target, say, rel.Release.Generation, now)
	setEnoughTraffic(out, run, rel.Release.Generation, now)
	return out, nil
}

// setEnoughTraffic tells of the rate of requests, as it was when there was news
// of it.
func setEnoughTraffic(out *v1alpha1.ReleaseStatus, run *delivery, generation int64, now time.Time) {
	p := &run.pace
	if run.plan.Worker {
		return
	}
	if p.news(generation) {
		p.generation = generation
		p.told, _ = p.rate.perSecond()
		p.slow, _ = run.plan.AtRate(p.told) // the error says the same
	}
	if p.generation != generation {
		return
	}
	yes, no := true, false
	if p.slow != "" {
		out.SetCondition(v1alpha1.ConditionEnoughTraffic, &no, "Slow", p.slow, generation, now)
		return
	}
	out.SetCondition(v1alpha1.ConditionEnoughTraffic, &yes, "Enough", "the first step has its evidence in time", generation, now)
}

func (d *Deliver) split(rel *kube.Delivery, run *delivery) v1alpha1.Split {
	out := v1alpha1.Split{Asked: shareText(run.journal.State.Traffic.Share), Since: v1alpha1.OptionalTime(run.journal.State.Asked), Acked: run.status.Split.Acked}
	if traffic, _, ok := d.inEffect(rel, run); ok {
		out.Acked = shareText(traffic.Share)
	}
	if share, ok := run.tally.Measured(); ok {
		out.Measured = strconv.FormatFloat(100*share, 'f', 1, 64)
	}
	return out
}

func ownSamples(c analysis.Counts) v1alpha1.OwnSamples {
	return v1alpha1.OwnSamples{
		Canary: v1alpha1.Count{Requests: c.CanaryRequests, Failures: c.CanaryFailures},
		Stable: v1alpha1.Count{Requests: c.StableRequests, Failures: c.StableFailures},
	}
}

// shareText writes a share in percent without the sign.
func shareText(s rollout.Share) string { return strings.TrimSuffix(s.String(), " %") }

// addHistory adds the run that has ended, once.
func addHistory(out *v1alpha1.ReleaseStatus, run *delivery, say func(string) string) {
	r := run.journal.State.Run
	if r.Ended.IsZero() {
		return
	}
	if len(out.History) > 0 && out.History[0].Number == r.Number {
		return
	}
	entry := v1alpha1.Run{
		Number:  r.Number,
		From:    run.journal.From,
		To:      run.journal.To,
		Outcome: string(r.Outcome),
		Started: v1alpha1.Time(r.Started),
		Ended:   v1alpha1.Time(r.Ended),
		Canary:  run.journal.Canary,
		Own:     ownSamples(run.journal.State.Evidence.Own),
		Cost:    costOf(&run.journal.State),
		Reason:  say(r.Reason),
		Cause:   run.journal.Cause,

		Commands:                  commandsOf(&r),
		CanaryRequestsAfterEffect: r.Late,
	}
	if !r.FirstCanary.IsZero() && r.Decided.After(r.FirstCanary) { // a person can decide before any request
		entry.DecisionMillis = r.Decided.Sub(r.FirstCanary).Milliseconds()
	}
	if !r.Effective.IsZero() && !r.Decided.IsZero() {
		entry.EffectMillis = r.Effective.Sub(r.Decided).Milliseconds()
	}
	out.History = append([]v1alpha1.Run{entry}, out.History...)
	out.History = out.History[:min(len(out.History), maxHistory)]
}

// servesText is what the stable version does.
func servesText(rel *kube.Delivery) string {
	if rel.Release.Spec.Worker() {
		return "does all the work"
	}
	return "serves users"
}

// setAccepted tells whether the Release can be worked with as it is; problem says
// why not.
func setAccepted(out *v1alpha1.ReleaseStatus, problem error, generation int64, now time.Time) {
	yes, no := true, false
	switch {
	case problem == nil:
		out.SetCondition(v1alpha1.ConditionAccepted, &yes, "Valid", "the spec can be worked with", generation, now)
	case errors.Is(problem, kube.ErrTaken):
		out.SetCondition(v1alpha1.ConditionAccepted, &no, "Conflict", problem.Error(), generation, now)
	default:
		out.SetCondition(v1alpha1.ConditionAccepted, &no, "Invalid", problem.Error(), generation, now)
	}
}

func setConditions(out *v1alpha1.ReleaseStatus, s *rollout.State, serves, unserved string, generation int64, now time.Time) {
	yes, no := true, false
	switch {
	case initializing(s):
		out.SetCondition(v1alpha1.ConditionReady, &no, "Initializing", out.Reason, generation, now)
	case unserved == "":
		out.SetCondition(v1alpha1.ConditionReady, &yes, "Serving", nameOf(out.Stable)+" "+serves, generation, now)
	default:
		out.SetCondition(v1alpha1.ConditionReady, &no, reasonNotServing, unserved, generation, now)
	}
}

func initializing(s *rollout.State) bool { return s.Phase == rollout.Initializing || s.Phase == "" }

// setPromoted says whether the newest version is the stable one. The newest is
// the target's; of a target that does not exist it is that of the last run.
func setPromoted(out *v1alpha1.ReleaseStatus, s *rollout.State, target *kube.Workload, say func(string) string, generation int64, now time.Time) {
	yes, no := true, false
	set := func(ok *bool, reason, message string) {
		out.SetCondition(v1alpha1.ConditionPromoted, ok, reason, message, generation, now)
	}
	switch {
	case initializing(s):
		set(nil, "Initializing", out.Reason)
	case s.Canary != "":
		set(nil, string(s.Phase), nameOf(out.Canary)+" is being released")
	case s.Rejected != "", !target.Exists && s.Run.Number > 0 && s.Run.Outcome != rollout.Promoted:
		set(&no, "NotPromoted", say(s.Run.Reason))
	case target.Exists && target.Revision != string(s.Stable):
		set(nil, "Waiting", say(s.Reason))
	case s.Run.Number == 0:
		set(&yes, "Initialized", nameOf(out.Stable)+" is the only version so far")
	case s.Run.Outcome == rollout.Promoted:
		set(&yes, "Promoted", nameOf(out.Stable)+" was promoted")
	default:
		set(&yes, "Restored", "the target has "+nameOf(out.Stable)+" again, which is stable")
	}
}
