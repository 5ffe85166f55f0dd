package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/record"
	"serin.dev/serin/internal/rollout"
	"serin.dev/serin/internal/telemetry"
)

// trial is what the loop remembers of one Experiment between two looks. All of
// it can be lost: the journal has what matters.
type trial struct {
	state    experiment.State // newest; may hold counts that are not stored yet
	stored   experiment.State // what the API has: only this is made true
	status   v1alpha1.ExperimentStatus
	storedAt time.Time

	plan    experiment.Plan
	tallies []*telemetry.Tally // by candidate, while they may have traffic
	resumed bool               // it was left by another process, and not looked at since
	settled bool               // all that have traffic were seen ready by this process
	given   bool               // the target was seen with the winner's template
	trouble trouble

	acked      time.Time // since when every proxy has the shares; zero = not all do, or there are none
	ackTold    time.Time // to the record
	recordOf   record.Key
	unrecorded string // why its record has a gap at the last look; "" = none
}

// experiments looks at every experiment once, before the releases, which keep
// their hands off what an experiment holds. It says when to look again.
func (d *Deliver) experiments(ctx context.Context, releases []*kube.Delivery) time.Duration {
	all, err := d.API.Experiments(releases)
	if err != nil {
		d.Log.Error("experiments cannot be read", "err", err)
		return idleTick
	}
	seen := map[string]bool{}
	for _, t := range all { // what is held is known before anybody begins
		uid := string(t.Experiment.UID)
		seen[uid] = true
		if d.trials[uid] == nil {
			d.trials[uid] = d.beginTrial(t)
		}
	}
	for uid, run := range d.trials {
		if !seen[uid] {
			run.closeTallies()
			d.Records.Forget(run.recordOf)
			delete(d.trials, uid)
		}
	}
	next := idleTick
	d.holds = nil
	for _, t := range all {
		d.hold(t, d.trials[string(t.Experiment.UID)])
	}
	for _, t := range all {
		run := d.trials[string(t.Experiment.UID)]
		err := d.oneTrial(ctx, t, run)
		switch {
		case err == nil:
			run.trouble = trouble{}
		case ctx.Err() == nil:
			if tell, _ := run.trouble.met(err, time.Now()); tell {
				d.Log.Warn("experiment is held up", "namespace", t.Experiment.Namespace, "experiment", t.Experiment.Name, "err", err)
				d.API.ExperimentEvent(t.Experiment, true, "HeldUp", err.Error())
			}
		}
		if run.state.Phase != experiment.Finished {
			next = tick
		}
	}
	return next
}

// holding is an experiment that has a target and its routes.
type holding struct {
	experiment, uid            string
	namespace, target, service string
}

// hold notes what an experiment has, by its stored state.
func (d *Deliver) hold(t *kube.Trial, run *trial) {
	if !run.stored.Want().Held {
		return
	}
	h := holding{t.Experiment.Name, string(t.Experiment.UID), t.Experiment.Namespace, t.Delivery.Names.Target, t.Delivery.Names.Service}
	if !slices.Contains(d.holds, h) {
		d.holds = append(d.holds, h)
	}
}

// heldBy names the experiment, other than the one with that UID, that has the
// target or the Service of a Delivery; "" = none.
func (d *Deliver) heldBy(rel *kube.Delivery, uid string) string {
	for _, h := range d.holds {
		if h.uid != uid && h.namespace == rel.Names.Namespace && (h.target == rel.Names.Target || h.service == rel.Names.Service) {
			return h.experiment
		}
	}
	return ""
}

// waitFor leaves a Release as it is while an experiment has its target.
func (d *Deliver) waitFor(ctx context.Context, rel *kube.Delivery, run *delivery, name string) error {
	status := run.status.DeepCopy()
	status.Reason = fmt.Sprintf("waiting for experiment %s to end", name)
	status.WaitingFor, status.Wait = status.Reason, string(rollout.WaitOthers)
	return d.write(ctx, rel, run, status)
}

// beginTrial takes up an Experiment where the journal says it was left.
func (d *Deliver) beginTrial(t *kube.Trial) *trial {
	run := &trial{status: *t.Experiment.Status.DeepCopy()}
	if j := t.Experiment.Status.Journal; j != nil {
		if err := json.Unmarshal(j.Raw, &run.stored); err != nil {
			// Only a foreign hand can have done this. It ends what it finds.
			d.Log.Error("journal cannot be read", "experiment", t.Experiment.Name, "err", err)
			run.stored = experiment.State{}
		}
	}
	run.state, run.resumed = run.stored, run.stored.Phase != ""
	return run
}

func (run *trial) closeTallies() {
	for _, t := range run.tallies {
		t.Close()
	}
	run.tallies = nil
}

// oneTrial moves one experiment: observe, decide, store, act.
func (d *Deliver) oneTrial(ctx context.Context, t *kube.Trial, run *trial) error {
	x := t.Experiment
	deleted := x.DeletionTimestamp != nil
	if deleted && (!run.stored.Want().Held || d.API.Terminating(x.Namespace)) {
		d.abandonTrial(t, run)
		return d.API.SetExperimentFinalizer(ctx, x, false)
	}
	if run.state.Phase == experiment.Finished {
		return d.clearTrial(ctx, t, run)
	}
	plan, err := planOfTrial(x, run.stored)
	switch {
	case err == nil:
		run.plan = plan
	case deleted:
		run.plan = endingPlan(x)
		if t.Candidates, err = d.API.CandidatesNamed(x, run.stored.Names()); err != nil {
			return err
		}
	default:
		return d.refuseTrial(ctx, t, run, err)
	}
	if err := d.API.SetExperimentFinalizer(ctx, x, true); err != nil {
		return err
	}
	now := time.Now()
	if run.stored.MustWrite(run.state) {
		if err := d.storeTrial(ctx, t, run, now); err != nil {
			return err
		}
	}
	in := d.observeTrial(t, run, now)
	next, events := experiment.Step(run.plan, run.state, in)
	d.recordTrial(t, run, &next, &in, events)
	run.state, run.resumed = next, false
	if err := d.storeTrial(ctx, t, run, now); err != nil {
		return err
	}
	for _, e := range events {
		d.API.ExperimentEvent(x, e.Warning, e.Reason, e.Message)
		d.Log.Info(e.Message, "experiment", x.Name, "event", e.Reason)
	}
	d.hold(t, run)
	return d.makeTrial(ctx, t, run)
}

// abandonTrial ends an experiment of which nothing has to be taken back: it has
// not begun, or all that it has goes with its namespace. What it decides is for
// the record alone.
func (d *Deliver) abandonTrial(t *kube.Trial, run *trial) {
	var err error
	if run.plan, err = planOfTrial(t.Experiment, run.state); err != nil {
		run.plan = endingPlan(t.Experiment)
	}
	in := experiment.Input{
		Now: time.Now(), Resumed: run.resumed, Cancel: cancelled(t), Removed: true,
		Candidates: make([]experiment.Observed, len(run.state.Arms)),
	}
	for was := experiment.Phase(""); run.state.Phase != was; { // as many looks as there are phases left
		was = run.state.Phase
		next, events := experiment.Step(run.plan, run.state, in)
		d.recordTrial(t, run, &next, &in, events)
		run.state, in.Resumed = next, false
	}
	run.closeTallies()
	run.state.Phase = experiment.Finished
}

// endingPlan is that of an experiment which is deleted, where its spec cannot be
// worked with.
func endingPlan(x *v1alpha1.Experiment) experiment.Plan {
	return experiment.Plan{Deadline: cmp.Or(max(0, x.Spec.ProgressDeadline.Duration), endingDeadline)}
}

// endingDeadline is for each wait of an experiment that is deleted, where its
// spec, which cannot be worked with, has none: the field's default.
const endingDeadline = 10 * time.Minute

// planOfTrial is the plan of an experiment that is in a state. There may be none:
// an older Serin may have stored what this one refuses.
func planOfTrial(x *v1alpha1.Experiment, s experiment.State) (experiment.Plan, error) {
	plan, err := experimentPlan(&x.Spec)
	if err == nil && !runs(plan, s) {
		err = errors.New("spec.candidates: they were changed while the experiment was on: change them back, or delete it")
	}
	return plan, err
}

// runs reports whether the state is one of the plan.
func runs(p experiment.Plan, s experiment.State) bool {
	return len(s.Arms) == 0 || slices.EqualFunc(p.Candidates, s.Arms, func(c experiment.Candidate, a experiment.Arm) bool { return c.Name == a.Name })
}

// clearTrial looks after an experiment that is over.
func (d *Deliver) clearTrial(ctx context.Context, t *kube.Trial, run *trial) error {
	run.closeTallies()
	for i := range t.Candidates {
		if err := d.API.DropCandidate(ctx, t, i); err != nil {
			return err
		}
	}
	return d.API.SetExperimentFinalizer(ctx, t.Experiment, false)
}

// observeTrial collects one input for the state machine.
func (d *Deliver) observeTrial(t *kube.Trial, run *trial, now time.Time) experiment.Input {
	rel := t.Delivery
	in := experiment.Input{
		Now: now, Resumed: run.resumed, Blocked: d.blocked(t), Cancel: cancelled(t),
		Promoted: run.given, Removed: !slices.ContainsFunc(t.Candidates, func(c kube.TrialCandidate) bool { return c.Left }),
		Candidates: make([]experiment.Observed, len(t.Candidates)),
	}
	if rel.Target.Exists {
		in.Target = rel.Target.Revision
	}
	unready := ""
	if w := d.workload(rel, rel.Stable, rel.Names.StableService); !w.Ready {
		unready = w.Message
	}
	for i, c := range t.Candidates {
		w := d.workload(rel, c.Workload, c.Object)
		in.Candidates[i].Ready, in.Candidates[i].Message = w.Ready, w.Message
		if i < len(run.stored.Arms) && run.stored.Arms[i].Share > 0 && !w.Ready {
			unready = w.Message
		}
	}
	// After a restart all pods start anew. What fails until they are back says
	// nothing about the versions.
	run.settled = run.settled || unready == ""
	var base telemetry.Baseline
	in.Unacked, base = d.unacked(t, run)
	if in.Unacked == "" && !run.settled && run.stored.Phase == experiment.Running {
		in.Unacked = unready
	}
	run.acked = time.Time{}
	if phase := run.stored.Phase; in.Unacked == "" && (phase == experiment.Running || phase == experiment.Restoring) {
		if run.acked = base.At; base.At.IsZero() { // there are no routes any more
			run.acked = now
		}
	}
	d.count(t, run, in.Unacked == "", base)
	for i, tally := range run.tallies {
		in.Candidates[i].Samples = tally.Take().Samples
	}
	return in
}

// count keeps the tallies of the candidates that have traffic.
func (d *Deliver) count(t *kube.Trial, run *trial, acked bool, base telemetry.Baseline) {
	if run.stored.Phase != experiment.Running {
		run.closeTallies()
		return
	}
	rel := t.Delivery
	if run.tallies == nil {
		for _, c := range t.Candidates {
			run.tallies = append(run.tallies, d.Hub.Tally(telemetry.TallySpec{
				Stable: backend(rel, rel.Names.StableService), Canary: backend(rel, c.Object),
				Routes: rel.RouteOrigins(), Failed: d.wake.Give,
			}))
		}
	}
	for _, tally := range run.tallies {
		if acked && tally.Baseline() != base {
			tally.Rebase(base)
		}
	}
}

// unacked says why the routes of the stored state are not in effect in every
// proxy; "" = they are, since base.
func (d *Deliver) unacked(t *kube.Trial, run *trial) (why string, base telemetry.Baseline) {
	shares := run.stored.Want().Shares
	if !d.API.SharesWritten(t, shares) {
		return "the routes are not written yet", base
	}
	if shares == nil && !t.Released {
		for _, origin := range t.Delivery.RouteOrigins() {
			if d.Acks.Route(origin).Snapshot != 0 {
				return "not every proxy has dropped the routes yet", base
			}
		}
		return "", base
	}
	acked, ok := d.acked(t.Delivery)
	if !ok {
		return "not every proxy has applied the shares yet", base
	}
	return "", telemetry.Baseline{Snapshot: acked.Snapshot, At: acked.At}
}

// cancelled says why an experiment has to end.
func cancelled(t *kube.Trial) string {
	switch {
	case t.Experiment.DeletionTimestamp != nil:
		return "the experiment was deleted"
	case t.Released && t.Delivery.Release.DeletionTimestamp != nil:
		return fmt.Sprintf("release %s is being deleted", t.Delivery.Release.Name)
	}
	return ""
}

// blocked says what has the target; "" = the experiment can begin.
func (d *Deliver) blocked(t *kube.Trial) string {
	rel := t.Delivery
	if t.Problem != nil {
		return t.Problem.Error()
	}
	if other := d.heldBy(rel, string(t.Experiment.UID)); other != "" {
		return fmt.Sprintf("experiment %s is on", other)
	}
	if why := d.API.Frozen(rel.Release); why != "" {
		return "it is frozen: " + why
	}
	if t.Released {
		if why := d.releaseBusy(rel); why != "" {
			return fmt.Sprintf("release %s: %s", rel.Release.Name, why)
		}
	}
	if w := d.workload(rel, rel.Stable, rel.Names.StableService); !w.Ready {
		return w.Message
	}
	return ""
}

// releaseBusy says why a Release cannot leave its routes to an experiment.
func (d *Deliver) releaseBusy(rel *kube.Delivery) string {
	it, ok := d.all[nameOfRelease(rel.Release)]
	if !ok {
		return "it was not looked at yet"
	}
	target := rollout.Revision(rel.Target.Revision)
	switch s := it.state; {
	case rel.Release.Spec.Suspend:
		return "it is suspended"
	case s.Phase == "" || s.Phase == rollout.Initializing:
		return "its stable copy is being made"
	case s.Phase != rollout.Idle || s.Canary != "":
		return "a run is on"
	case target != s.Stable && target != s.Rejected:
		return "its newest version is to be released"
	}
	return ""
}

// makeTrial makes the objects follow the stored state: pods before their
// traffic, and no traffic before the pods go.
func (d *Deliver) makeTrial(ctx context.Context, t *kube.Trial, run *trial) error {
	want := run.stored.Want()
	if !want.Held {
		return nil
	}
	for i, pods := range want.Pods {
		if !pods || t.Experiment.DeletionTimestamp != nil { // what is about to go is not made any more
			continue
		}
		if err := d.API.MakeCandidate(ctx, t, i); err != nil {
			return err
		}
	}
	if err := d.API.MakeShares(ctx, t, want.Shares); err != nil {
		return err
	}
	if want.Promote != "" {
		given, err := d.API.GiveTarget(ctx, t, want.Promote)
		if err != nil {
			return err
		}
		if run.given = given; given {
			d.wake.Give()
		}
	}
	for i, pods := range want.Pods {
		if pods {
			continue
		}
		if err := d.API.DropCandidate(ctx, t, i); err != nil {
			return err
		}
	}
	return nil
}
