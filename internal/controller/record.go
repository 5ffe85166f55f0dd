package controller

import (
	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/record"
	"serin.dev/serin/internal/rollout"
)

// record keeps a look for the run's record, before the decision on it takes
// effect. A record that cannot be written holds no release up.
func (d *Deliver) record(rel *kube.Delivery, run *delivery, was rollout.State, in rollout.Input, events []rollout.Event) {
	j := &run.journal
	look := record.Look{
		Plan: &run.plan, Was: &was, Next: &j.State, Input: &in, Events: events,
		From: record.Version{Revision: rollout.Revision(j.From.Revision), Label: j.From.Label},
		To:   record.Version{Revision: rollout.Revision(j.To.Revision), Label: j.To.Label},
		Seen: record.Seen{Requests: j.Canary.Requests, Failures: j.Canary.Failures},
	}
	if share, ok := run.tally.Measured(); ok {
		look.Seen.Share = &share
	}
	run.recordOf = record.Key{Namespace: rel.Release.Namespace, Name: rel.Release.Name, UID: string(rel.Release.UID)}
	unrecorded := ""
	if err := d.Records.Add(run.recordOf, look); err != nil {
		unrecorded = err.Error()
	}
	if unrecorded != "" && unrecorded != run.unrecorded {
		d.Log.Warn("the record of the run has a gap", "namespace", rel.Release.Namespace, "release", rel.Release.Name, "err", unrecorded)
	}
	run.unrecorded = unrecorded
}

// recordExperiment keeps a look at an experiment, as record does. What the
// run has is from before the look.
func (d *Deliver) recordExperiment(e *kube.Experiment, run *experimentRun, next *experiment.State, in *experiment.Input, events []experiment.Event) {
	look := record.ExperimentLook{
		Plan: &run.plan, Was: &run.state, Next: next, Input: in, Events: events, Versions: seenVersions(e, run),
	}
	if !run.acked.Equal(run.ackTold) {
		look.Acked = run.acked
	}
	run.recordOf = record.Key{Namespace: e.Experiment.Namespace, Name: e.Experiment.Name, UID: string(e.Experiment.UID)}
	unrecorded := ""
	if err := d.Records.AddExperiment(run.recordOf, look); err != nil {
		unrecorded = err.Error()
	} else {
		run.ackTold = run.acked
	}
	if unrecorded != "" && unrecorded != run.unrecorded {
		d.Log.Warn("the record of the experiment has a gap", "namespace", e.Experiment.Namespace, "experiment", e.Experiment.Name, "err", unrecorded)
	}
	run.unrecorded = unrecorded
}

// seenVersions is what an experiment's state does not know of its versions. When
// it is over pods go, and stable may be the winner: what they ran is as it was.
func seenVersions(e *kube.Experiment, run *experimentRun) []record.VersionSeen {
	if len(run.state.Candidates) == 0 {
		return nil
	}
	runs := []v1alpha1.Version{e.Delivery.Stable.Version}
	for _, c := range e.Candidates {
		runs = append(runs, c.Version)
	}
	out, shares := make([]record.VersionSeen, len(runs)), measuredShares(run)
	for i, v := range runs {
		if over := run.state.Outcome != ""; (over || v == v1alpha1.Version{}) && i < len(run.status.Versions) {
			v = run.status.Versions[i].Version
		}
		out[i].Version = record.Version{Revision: rollout.Revision(v.Revision), Label: v.Label}
		if shares != nil {
			out[i].Share = &shares[i]
		}
	}
	return out
}
