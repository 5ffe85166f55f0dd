package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

// storeExperiment writes the status: at once when a decision was made, at leisure
// when only counts changed.
func (d *Deliver) storeExperiment(ctx context.Context, e *kube.Experiment, run *experimentRun, now time.Time) error {
	if !run.stored.MustWrite(run.state) && now.Sub(run.storedAt) < storeEvery {
		return nil
	}
	status, err := d.experimentStatus(e, run, now)
	if err != nil {
		return err
	}
	if err := d.writeExperiment(ctx, e, run, status); err != nil {
		return err
	}
	run.stored = run.state
	return nil
}

func (d *Deliver) writeExperiment(ctx context.Context, e *kube.Experiment, run *experimentRun, status *v1alpha1.ExperimentStatus) error {
	x, errX := json.Marshal(status)
	y, errY := json.Marshal(run.status)
	if errX == nil && errY == nil && string(x) == string(y) {
		return nil
	}
	e.Experiment.Status = *status
	if err := d.API.WriteExperimentStatus(ctx, e.Experiment); err != nil {
		return err
	}
	run.status, run.storedAt = *status.DeepCopy(), time.Now()
	return nil
}

// refuseExperiment says why the Experiment cannot be worked with.
func (d *Deliver) refuseExperiment(ctx context.Context, e *kube.Experiment, run *experimentRun, cause error) error {
	no, status := false, run.status.DeepCopy()
	status.ObservedGeneration = e.Experiment.Generation
	status.SetCondition(v1alpha1.ConditionAccepted, &no, "Invalid", cause.Error(), e.Experiment.Generation, time.Now())
	status.Reason = cause.Error()
	if err := d.writeExperiment(ctx, e, run, status); err != nil {
		return err
	}
	return cause
}

// experimentStatus writes down what is known. The journal in it is the newest state.
func (d *Deliver) experimentStatus(e *kube.Experiment, run *experimentRun, now time.Time) (*v1alpha1.ExperimentStatus, error) {
	s := &run.state
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	out := &v1alpha1.ExperimentStatus{
		ObservedGeneration: e.Experiment.Generation,
		Phase:              string(s.Phase),
		Reason:             s.Reason,
		Deadline:           v1alpha1.OptionalTime(s.Deadline),
		Began:              v1alpha1.OptionalTime(s.Began),
		Ends:               v1alpha1.OptionalTime(s.Ends),
		Outcome:            string(s.Outcome),
		Winner:             s.Winner,
		Conditions:         slices.Clone(run.status.Conditions),
		Versions:           experimentVersions(e, run),
		Journal:            v1alpha1.Raw(data),
	}
	if run.trouble.what != "" && s.Phase != experiment.Finished {
		out.Reason = run.trouble.what // what the state waits for will not come by itself
	}
	in := 0
	for _, c := range s.Candidates {
		if c.Dropped == "" {
			in++
		}
	}
	if len(s.Candidates) > 0 {
		out.Candidates = fmt.Sprintf("%d/%d", in, len(s.Candidates))
	}
	if e.Experiment.DeletionTimestamp == nil { // one that is deleted needs no valid spec
		yes := true
		out.SetCondition(v1alpha1.ConditionAccepted, &yes, "Valid", "the spec can be worked with", e.Experiment.Generation, now)
	}
	setExperimentConditions(out, s, e.Experiment.Generation, now)
	return out, nil
}

func setExperimentConditions(out *v1alpha1.ExperimentStatus, s *experiment.State, generation int64, now time.Time) {
	finished, chosen := s.Phase == experiment.Finished, s.Outcome == experiment.Chosen
	out.SetCondition(v1alpha1.ConditionFinished, &finished, string(s.Phase), s.Reason, generation, now)
	if !finished {
		out.SetCondition(v1alpha1.ConditionChosen, nil, string(s.Phase), "the experiment is not over", generation, now)
		return
	}
	reason := "NotChosen"
	if chosen {
		reason = "Chosen"
	}
	out.SetCondition(v1alpha1.ConditionChosen, &chosen, reason, s.Why, generation, now)
}

// experimentVersions is what each version did. A share stays as it was when the
// experiment ended; a dropped candidate has none.
func experimentVersions(e *kube.Experiment, run *experimentRun) []v1alpha1.ExperimentVersion {
	s := &run.state
	if len(s.Candidates) == 0 {
		return nil
	}
	before := func(name string) v1alpha1.ExperimentVersion {
		for _, v := range run.status.Versions {
			if v.Name == name {
				return v
			}
		}
		return v1alpha1.ExperimentVersion{Name: name}
	}
	measured := measuredShares(run)
	split := s.Phase == experiment.Running || s.Outcome == experiment.AllDropped
	stable := before(experiment.Stable)
	rest := rollout.All
	out := []v1alpha1.ExperimentVersion{stable}
	for i, c := range s.Candidates {
		v := before(c.Name)
		if w := e.Candidates[i].Workload; w.Exists {
			v.Version = w.Version
		}
		setSide(&v, &c.Seen)
		if split {
			setSplit(&v.Split, c.Share, s, measured, i+1)
		}
		rest -= c.Share
		if s.Phase != experiment.Starting {
			v.Verdict, v.Evidence = c.Evidence.Verdict.String(), c.Evidence.Reason
		}
		v.Dropped = c.Dropped
		out = append(out, v)
	}
	if w := e.Delivery.Stable; w.Exists && s.Outcome == "" {
		out[0].Version = w.Version
	}
	setSide(&out[0], &s.Stable)
	if split {
		setSplit(&out[0].Split, rest, s, measured, 0)
	}
	return out
}

func setSide(v *v1alpha1.ExperimentVersion, seen *analysis.Side) {
	v.Requests, v.Failures = seen.Requests, seen.Failures
	if seen.Latency.Count() == 0 {
		return
	}
	ms := func(q float64) string {
		return strconv.FormatFloat(float64(seen.Latency.Quantile(q))/float64(time.Millisecond), 'f', 1, 64)
	}
	v.P50, v.P99 = ms(0.5), ms(0.99)
}

func setSplit(split *v1alpha1.Split, asked rollout.Share, s *experiment.State, measured []float64, version int) {
	if text := shareText(asked); text != split.Asked {
		split.Asked, split.Measured = text, "" // what was measured was of another share
	}
	if s.Deadline.IsZero() { // nothing is waited for: the proxies have it
		split.Acked = split.Asked
	}
	if measured != nil {
		split.Measured = strconv.FormatFloat(100*measured[version], 'f', 1, 64)
	}
}

// measuredShares are those of stable and the candidates in the requests under
// the present split, 0 to 1; nil without requests. Each tally knows one
// candidate beside stable.
func measuredShares(run *experimentRun) []float64 {
	out, sum := make([]float64, len(run.state.Candidates)+1), 1.0
	out[0] = 1 // in units of stable's
	for i, tally := range run.tallies {
		if run.state.Candidates[i].Share == 0 {
			continue
		}
		part, ok := tally.Measured()
		if !ok || part >= 1 {
			return nil
		}
		out[i+1] = part / (1 - part)
		sum += out[i+1]
	}
	if run.tallies == nil {
		return nil
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}
