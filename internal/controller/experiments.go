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

// experimentRun is what the loop remembers of one Experiment between two looks.
// All of it can be lost: the journal has what matters.
type experimentRun struct {
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
	for _, e := range all { // what is held is known before anybody begins
		uid := string(e.Experiment.UID)
		seen[uid] = true
		if d.experimentRuns[uid] == nil {
			d.experimentRuns[uid] = d.beginExperiment(e)
		}
	}
	for uid, run := range d.experimentRuns {
		if !seen[uid] {
			run.closeTallies()
			d.Records.Forget(run.recordOf)
			delete(d.experimentRuns, uid)
		}
	}
	next := idleTick
	d.holds = nil
	for _, e := range all {
		d.hold(e, d.experimentRuns[string(e.Experiment.UID)])
	}
	for _, e := range all {
		run := d.experimentRuns[string(e.Experiment.UID)]
		err := d.oneExperiment(ctx, e, run)
		switch {
		case err == nil:
			run.trouble = trouble{}
		case ctx.Err() == nil:
			if tell, _ := run.trouble.met(err, time.Now()); tell {
				d.Log.Warn("experiment is held up", "namespace", e.Experiment.Namespace, "experiment", e.Experiment.Name, "err", err)
				d.API.ExperimentEvent(e.Experiment, true, "HeldUp", err.Error())
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
func (d *Deliver) hold(e *kube.Experiment, run *experimentRun) {
	if !run.stored.Want().Held {
		return
	}
	h := holding{e.Experiment.Name, string(e.Experiment.UID), e.Experiment.Namespace, e.Delivery.Names.Target, e.Delivery.Names.Service}
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

// beginExperiment takes up an Experiment where the journal says it was left.
func (d *Deliver) beginExperiment(e *kube.Experiment) *experimentRun {
	run := &experimentRun{status: *e.Experiment.Status.DeepCopy()}
	if j := e.Experiment.Status.Journal; j != nil {
		if err := json.Unmarshal(j.Raw, &run.stored); err != nil {
			// Only a foreign hand can have done this. It ends what it finds.
			d.Log.Error("journal cannot be read", "experiment", e.Experiment.Name, "err", err)
			run.stored = experiment.State{}
		}
	}
	run.state, run.resumed = run.stored, run.stored.Phase != ""
	return run
}

func (run *experimentRun) closeTallies() {
	for _, t := range run.tallies {
		t.Close()
	}
	run.tallies = nil
}

// oneExperiment moves one experiment: observe, decide, store, act.
func (d *Deliver) oneExperiment(ctx context.Context, e *kube.Experiment, run *experimentRun) error {
	x := e.Experiment
	deleted := x.DeletionTimestamp != nil
	if deleted && (!run.stored.Want().Held || d.API.Terminating(x.Namespace)) {
		d.abandonExperiment(e, run)
		return d.API.SetExperimentFinalizer(ctx, x, false)
	}
	if run.state.Phase == experiment.Finished {
		return d.clearExperiment(ctx, e, run)
	}
	plan, err := planIn(x, run.stored)
	switch {
	case err == nil:
		run.plan = plan
	case deleted:
		run.plan = endingPlan(x)
		if e.Candidates, err = d.API.CandidatesNamed(x, run.stored.Names()); err != nil {
			return err
		}
	default:
		return d.refuseExperiment(ctx, e, run, err)
	}
	if err := d.API.SetExperimentFinalizer(ctx, x, true); err != nil {
		return err
	}
	now := time.Now()
	if run.stored.MustWrite(run.state) {
		if err := d.storeExperiment(ctx, e, run, now); err != nil {
			return err
		}
	}
	in := d.observeExperiment(e, run, now)
	next, events := experiment.Step(run.plan, run.state, in)
	d.recordExperiment(e, run, &next, &in, events)
	run.state, run.resumed = next, false
	if err := d.storeExperiment(ctx, e, run, now); err != nil {
		return err
	}
	for _, ev := range events {
		d.API.ExperimentEvent(x, ev.Warning, ev.Reason, ev.Message)
		d.Log.Info(ev.Message, "experiment", x.Name, "event", ev.Reason)
	}
	d.hold(e, run)
	return d.makeExperiment(ctx, e, run)
}

// abandonExperiment ends an experiment of which nothing has to be taken back: it has
// not begun, or all that it has goes with its namespace. What it decides is for
// the record alone.
func (d *Deliver) abandonExperiment(e *kube.Experiment, run *experimentRun) {
	var err error
	if run.plan, err = planIn(e.Experiment, run.state); err != nil {
		run.plan = endingPlan(e.Experiment)
	}
	in := experiment.Input{
		Now: time.Now(), Resumed: run.resumed, Cancel: cancelled(e), Removed: true,
		Candidates: make([]experiment.Observed, len(run.state.Candidates)),
	}
	for was := experiment.Phase(""); run.state.Phase != was; { // as many looks as there are phases left
		was = run.state.Phase
		next, events := experiment.Step(run.plan, run.state, in)
		d.recordExperiment(e, run, &next, &in, events)
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

// planIn is the plan of an experiment that is in a state. There may be none:
// an older Serin may have stored what this one refuses.
func planIn(x *v1alpha1.Experiment, s experiment.State) (experiment.Plan, error) {
	plan, err := experimentPlan(&x.Spec)
	if err == nil && !runs(plan, s) {
		err = errors.New("spec.candidates: they were changed while the experiment was on: change them back, or delete it")
	}
	return plan, err
}

// runs reports whether the state is one of the plan.
func runs(p experiment.Plan, s experiment.State) bool {
	return len(s.Candidates) == 0 || slices.EqualFunc(p.Candidates, s.Candidates, func(c experiment.Planned, is experiment.Candidate) bool { return c.Name == is.Name })
}

// clearExperiment looks after an experiment that is over.
func (d *Deliver) clearExperiment(ctx context.Context, e *kube.Experiment, run *experimentRun) error {
	run.closeTallies()
	for i := range e.Candidates {
		if err := d.API.DropCandidate(ctx, e, i); err != nil {
			return err
		}
	}
	return d.API.SetExperimentFinalizer(ctx, e.Experiment, false)
}

// observeExperiment collects one input for the state machine.
func (d *Deliver) observeExperiment(e *kube.Experiment, run *experimentRun, now time.Time) experiment.Input {
	rel := e.Delivery
	in := experiment.Input{
		Now: now, Resumed: run.resumed, Blocked: d.blocked(e), Cancel: cancelled(e),
		Promoted: run.given, Removed: !slices.ContainsFunc(e.Candidates, func(c kube.Candidate) bool { return c.Left }),
		Candidates: make([]experiment.Observed, len(e.Candidates)),
	}
	if rel.Target.Exists {
		in.Target = rel.Target.Revision
	}
	unready := ""
	if w := d.workload(rel, rel.Stable, rel.Names.StableService); !w.Ready {
		unready = w.Message
	}
	for i, c := range e.Candidates {
		w := d.workload(rel, c.Workload, c.Object)
		in.Candidates[i].Ready, in.Candidates[i].Message = w.Ready, w.Message
		if i < len(run.stored.Candidates) && run.stored.Candidates[i].Share > 0 && !w.Ready {
			unready = w.Message
		}
	}
	// After a restart all pods start anew. What fails until they are back says
	// nothing about the versions.
	run.settled = run.settled || unready == ""
	var base telemetry.Baseline
	in.Unacked, base = d.unacked(e, run)
	if in.Unacked == "" && !run.settled && run.stored.Phase == experiment.Running {
		in.Unacked = unready
	}
	run.acked = time.Time{}
	if phase := run.stored.Phase; in.Unacked == "" && (phase == experiment.Running || phase == experiment.Restoring) {
		if run.acked = base.At; base.At.IsZero() { // there are no routes any more
			run.acked = now
		}
	}
	d.count(e, run, in.Unacked == "", base)
	for i, tally := range run.tallies {
		in.Candidates[i].Samples = tally.Take().Samples
	}
	return in
}

// count keeps the tallies of the candidates that have traffic.
func (d *Deliver) count(e *kube.Experiment, run *experimentRun, acked bool, base telemetry.Baseline) {
	if run.stored.Phase != experiment.Running {
		run.closeTallies()
		return
	}
	rel := e.Delivery
	if run.tallies == nil {
		for _, c := range e.Candidates {
			run.tallies = append(run.tallies, d.Hub.Tally(telemetry.TallySpec{
				Stable: backend(rel, rel.Names.StableService), Canary: backend(rel, c.Object),
				Routes: rel.RouteOrigins(), Failed: d.wake.Give, WarmUp: run.plan.Policy.Warmup,
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
func (d *Deliver) unacked(e *kube.Experiment, run *experimentRun) (why string, base telemetry.Baseline) {
	shares := run.stored.Want().Shares
	if !d.API.SharesWritten(e, shares) {
		return "the routes are not written yet", base
	}
	if shares == nil && !e.Released {
		for _, origin := range e.Delivery.RouteOrigins() {
			if d.Acks.Route(origin).Snapshot != 0 {
				return "not every proxy has dropped the routes yet", base
			}
		}
		return "", base
	}
	acked, ok := d.acked(e.Delivery)
	if !ok {
		return "not every proxy has applied the shares yet", base
	}
	return "", telemetry.Baseline{Snapshot: acked.Snapshot, At: acked.At}
}

// cancelled says why an experiment has to end.
func cancelled(e *kube.Experiment) string {
	switch {
	case e.Experiment.DeletionTimestamp != nil:
		return "the experiment was deleted"
	case e.Released && e.Delivery.Release.DeletionTimestamp != nil:
		return fmt.Sprintf("release %s is being deleted", e.Delivery.Release.Name)
	}
	return ""
}

// blocked says what has the target; "" = the experiment can begin.
func (d *Deliver) blocked(e *kube.Experiment) string {
	rel := e.Delivery
	if e.Problem != nil {
		return e.Problem.Error()
	}
	if other := d.heldBy(rel, string(e.Experiment.UID)); other != "" {
		return fmt.Sprintf("experiment %s is on", other)
	}
	if why := d.API.Frozen(rel.Release); why != "" {
		return "it is frozen: " + why
	}
	if e.Released {
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
	case rel.Target.Paused:
		return paused(rel)
	case s.Phase == "" || s.Phase == rollout.Initializing:
		return "its stable copy is being made"
	case s.Phase != rollout.Idle || s.Canary != "":
		return "a run is on"
	case target != s.Stable && target != s.Rejected:
		return "its newest version is to be released"
	}
	return ""
}

// makeExperiment makes the objects follow the stored state: pods before their
// traffic, and no traffic before the pods go.
func (d *Deliver) makeExperiment(ctx context.Context, e *kube.Experiment, run *experimentRun) error {
	want := run.stored.Want()
	if !want.Held {
		return nil
	}
	for i, pods := range want.Pods {
		if !pods || e.Experiment.DeletionTimestamp != nil { // what is about to go is not made any more
			continue
		}
		if err := d.API.MakeCandidate(ctx, e, i); err != nil {
			return err
		}
	}
	if err := d.API.MakeShares(ctx, e, want.Shares); err != nil {
		return err
	}
	if want.Promote != "" {
		given, err := d.API.GiveTarget(ctx, e, want.Promote)
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
		if err := d.API.DropCandidate(ctx, e, i); err != nil {
			return err
		}
	}
	return nil
}
