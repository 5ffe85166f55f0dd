package controller

import (
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
	run.recordOf = record.Key{Namespace: rel.Release.Namespace, Release: rel.Release.Name, UID: string(rel.Release.UID)}
	unrecorded := ""
	if err := d.Records.Add(run.recordOf, look); err != nil {
		unrecorded = err.Error()
	}
	if unrecorded != "" && unrecorded != run.unrecorded {
		d.Log.Warn("the record of the run has a gap", "namespace", rel.Release.Namespace, "release", rel.Release.Name, "err", unrecorded)
	}
	run.unrecorded = unrecorded
}
