package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/load"
	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/record"
	"serin.dev/serin/internal/rollout"
	"serin.dev/serin/internal/telemetry"
)

// Deliver moves releases forward: it observes, lets package rollout decide,
// stores the decision, and makes the objects follow what is stored. All
// fields must be set.
type Deliver struct {
	API   *kube.Client
	Acks  *Acks
	Hub   *telemetry.Hub
	Hooks *http.Client // calls webhooks through the mesh
	// LaxHooks is the same for webhooks with disableTLS: it accepts any
	// certificate.
	LaxHooks *http.Client
	OwnLoad  OwnLoad
	Metrics  *Metrics      // nil: nobody counts
	Records  *record.Store // of what runs were decided on
	// Busy is told when releases or experiments begin to move, and when none
	// does any more.
	Busy func(busy bool)
	Log  *slog.Logger

	wake kube.Signal
	runs map[string]*delivery // by UID
	all  others               // at the present look

	rates rates // of requests; read by others
	busy  bool  // as Busy was told last

	experimentRuns map[string]*experimentRun // by UID of the Experiment
	holds          []holding                 // at the present look
}

// storeEvery bounds how often counts alone are written: people see progress,
// and the API's history is not flooded.
const storeEvery = 500 * time.Millisecond

// idleTick is how often releases without a run are looked at when nothing
// woke the loop; it repairs what a foreign writer changed unnoticed.
const idleTick = 5 * time.Second

// delivery is what the loop remembers of one Release between two looks. All of
// it can be lost: the journal has what matters.
type delivery struct {
	name     string
	journal  journal // newest; may hold counts that are not stored yet
	stored   journal // what the API has: only this is made true
	status   v1alpha1.ReleaseStatus
	version  string // of the Release, as the status was written last; "" = it was not yet
	storedAt time.Time

	plan     rollout.Plan
	planned  bool  // it is one that a spec asks for
	problem  error // why the spec, or the objects, cannot be worked with
	tally    *telemetry.Tally
	before   v1alpha1.Count // canary requests of this run before a restart
	hooks    hooks
	measures measures
	own      ownLoad
	alerts   alerts
	told     int       // of journal.Untold, by this process
	serving  time.Time // when this process first saw a pod of stable; zero = not yet
	settled  bool      // failures count: see settle
	wish     wish
	divided  divided
	trouble  trouble
	outage   outage
	hidden   hidden
	frozen   string // why it was at the last look; "" = it was not
	pace     pace

	recordOf   record.Key
	unrecorded string // why its record has a gap at the last look; "" = none

	leaving    time.Time // since when a Release being deleted has its users taken from the canary; zero = not yet
	left       bool      // none of them is there any more
	handedBack time.Time // when its objects were; zero = not yet
}

// journal is what survives a restart, in status.journal.
type journal struct {
	State rollout.State `json:"state"`
	// Canary counts all requests of the run that reached the canary.
	Canary v1alpha1.Count `json:"canary"`
	// Cause is set with the decision that it explains.
	Cause *v1alpha1.Cause `json:"cause,omitempty"`
	// Command is the latest that was taken in.
	Command *v1alpha1.CommandStatus `json:"command,omitempty"`
	// From and To are the versions of the run, which the objects need not
	// show any more when it ends.
	From v1alpha1.Version `json:"from,omitzero"`
	To   v1alpha1.Version `json:"to,omitzero"`
	// Untold is what nobody, or not everybody, was told of yet: it is stored
	// with the decision that it tells of, so that no crash can swallow it.
	Untold []rollout.Event `json:"untold,omitempty"`
	// Spec is the last good one, while a run is on: it stays in force where
	// the Release's own cannot be worked with any more.
	Spec *v1alpha1.ReleaseSpec `json:"spec,omitempty"`
}

// Run works until ctx ends.
func (d *Deliver) Run(ctx context.Context) {
	d.wake = kube.NewSignal()
	d.runs = map[string]*delivery{}
	d.experimentRuns = map[string]*experimentRun{}
	d.Acks.OnChange(d.wake.Give)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.API.ReleaseChanged():
		case <-d.wake:
		case <-timer.C:
		}
		next := d.pass(ctx)
		d.noteBusy(next)
		timer.Reset(next)
	}
}

// noteBusy tells whether there is work, by when the next look is due.
func (d *Deliver) noteBusy(next time.Duration) {
	if busy := next < idleTick; busy != d.busy {
		d.busy = busy
		d.Busy(busy)
	}
}

// pass looks at every release once and says when to look again.
func (d *Deliver) pass(ctx context.Context) time.Duration {
	d.Records.Retry()
	all, err := d.API.Releases()
	if err != nil {
		d.Log.Error("releases cannot be read", "err", err)
		return idleTick
	}
	next := idleTick
	seen := map[string]bool{}
	d.all = others{}
	for i, rel := range all {
		uid := string(rel.Release.UID)
		seen[uid] = true
		if d.runs[uid] == nil {
			d.runs[uid] = d.begin(rel)
		}
		all[i] = d.runs[uid].inForce(rel, d.API.Delivery)
		d.all[nameOfRelease(rel.Release)] = other{all[i], &d.runs[uid].journal.State}
	}
	next = min(next, d.experiments(ctx, all))
	for _, rel := range all {
		run := d.runs[string(rel.Release.UID)]
		err := d.one(ctx, rel, run)
		if errors.Is(err, kube.ErrOvertaken) {
			d.Log.Warn("release was moved on by another process, and is taken up from there", "namespace", rel.Release.Namespace, "release", rel.Release.Name)
			d.forget(string(rel.Release.UID))
			next = min(next, tick)
			continue
		}
		if err != nil && ctx.Err() == nil {
			d.complain(ctx, rel, run, err)
			next = min(next, tick)
			continue
		}
		run.trouble = trouble{}
		if run.outage.lasts() || run.journal.State.Phase != rollout.Idle || !run.planned || rel.Release.DeletionTimestamp != nil {
			next = min(next, tick)
		}
	}
	if err := d.API.FreeTargets(ctx, all); err != nil && ctx.Err() == nil {
		d.Log.Warn("a Deployment that is no target any more is still held", "err", err)
	}
	for uid := range d.runs {
		if !seen[uid] {
			d.Records.Forget(d.runs[uid].recordOf)
			d.rates.forget(d.runs[uid].name)
			d.forget(uid)
		}
	}
	return next
}

// forget lets go of a Release; what matters of one that is still there is in
// its journal.
func (d *Deliver) forget(uid string) {
	d.runs[uid].tally.Close()
	d.runs[uid].hooks.stop()
	d.runs[uid].own.stop()
	delete(d.runs, uid)
}

// begin takes up a Release where the journal says it was left.
func (d *Deliver) begin(rel *kube.Delivery) *delivery {
	run := &delivery{name: nameOfRelease(rel.Release), status: *rel.Release.Status.DeepCopy()}
	if j := rel.Release.Status.Journal; j != nil {
		if err := json.Unmarshal(j.Raw, &run.stored); err != nil {
			// Only a foreign hand can have done this. Starting afresh is
			// safe: the first phase takes all traffic to the stable copy.
			d.Log.Error("journal cannot be read, starting afresh", "release", rel.Release.Name, "err", err)
			run.stored = journal{}
		}
	}
	run.journal = run.stored
	run.before = run.stored.Canary
	run.hooks.client, run.hooks.lax, run.hooks.wake = d.Hooks, d.LaxHooks, d.wake.Give
	run.hooks.count = d.Metrics.called
	run.measures.from, run.measures.wake = sources{d.API}, d.wake.Give
	run.alerts.read = d.API.AlertProvider
	run.own.send = load.Run
	d.newTally(run.inForce(rel, d.API.Delivery), run)
	return run
}

func (d *Deliver) newTally(rel *kube.Delivery, run *delivery) {
	if run.tally != nil {
		run.tally.Close()
	}
	service, shared := backend(rel, rel.Names.Service), mesh.ServiceName("")
	if run.journal.State.ByPods {
		service, shared = "", service
	}
	run.tally = d.Hub.Tally(telemetry.TallySpec{
		Stable:  backend(rel, rel.Names.StableService),
		Canary:  backend(rel, rel.Names.CanaryService),
		Warm:    backend(rel, rel.Names.WarmService),
		Routes:  rel.RouteOrigins(),
		Service: service,
		Shared:  shared,

		CanaryWorkload: rel.Names.Target,
		Own:            d.OwnLoad.From,
		OwnTimeout:     ownTimeout,
		WarmUp:         rel.Release.Spec.Judge.Latency.WarmUp.Duration,
		Failed:         d.wake.Give,
	})
}

func backend(rel *kube.Delivery, service string) mesh.ServiceName {
	return mesh.ServiceName(service + "." + rel.Names.Namespace)
}

// complain tells of an error once, not at every look.
func (d *Deliver) complain(ctx context.Context, rel *kube.Delivery, run *delivery, err error) {
	tell, alarm := run.trouble.met(err, time.Now())
	if tell {
		d.Log.Warn("release is held up", "namespace", rel.Release.Namespace, "release", rel.Release.Name, "err", err)
		d.API.Event(rel.Release, true, "HeldUp", err.Error())
	}
	if alarm {
		d.alert(ctx, rel, run, rollout.Event{Warning: true, Reason: "HeldUp", Message: err.Error()})
	}
}

// one moves one release: observe, decide, store, act.
func (d *Deliver) one(ctx context.Context, rel *kube.Delivery, run *delivery) error {
	if name := d.heldBy(rel, ""); name != "" {
		return d.waitFor(ctx, rel, run, name)
	}
	if rel.Release.DeletionTimestamp != nil {
		return d.handBack(ctx, rel, run)
	}
	if run.problem != nil && !run.on() {
		return d.refuse(ctx, rel, run, run.problem)
	}
	notMarked := d.API.SetFinalizer(ctx, rel.Release, true)
	if notMarked != nil && !run.on() {
		return notMarked
	}
	now := time.Now()
	if run.stored.State.MustWrite(run.journal.State) {
		// A decision that could not be written stands; nothing is decided on
		// top of it before it is durable.
		if err := d.store(ctx, rel, run, now); err != nil {
			return d.keepUp(ctx, rel, run, err)
		}
	}
	in := d.observe(rel, run, now)
	run.pace.count(in.Arrived, run.stored.State.Split, now)
	d.rates.set(run.name, run.pace.rate)
	d.hear(rel, run, &in)
	was := run.journal.State
	next, events := rollout.Step(run.plan, was, in)
	d.advance(rel, run, next)
	say := d.wording(rel, run)
	for i := range events {
		events[i].Message = say(events[i].Message)
	}
	if next.Command != was.Command {
		run.journal.Command = taken(in.Command, events, now)
	}
	d.record(rel, run, was, in, events)
	run.journal.Untold = slices.Concat(run.journal.Untold, events)
	if err := d.store(ctx, rel, run, now); err != nil {
		return d.keepUp(ctx, rel, run, err)
	}
	d.tell(ctx, rel, run)
	d.tellOf(ctx, rel, run, run.outage.look(unserved(rel, &run.journal.State), run, now))
	run.hooks.keep(ctx, run.stored.State.Want().Hooks, func(c rollout.HookCall) (order, error) { return d.order(rel, run, c) })
	run.measures.due(ctx, rel, &run.stored.State, now)
	d.sendOwn(ctx, rel, run)
	if err := errors.Join(run.problem, notMarked, d.make(ctx, rel, run)); err != nil {
		return inOneLine{err}
	}
	return run.hidden.look(d.Acks, rel, &in, run.stored.State.Phase != rollout.Idle)
}

// keepUp makes true what was stored before something could not be stored, unless
// that is because another process has moved the release on.
func (d *Deliver) keepUp(ctx context.Context, rel *kube.Delivery, run *delivery, cause error) error {
	if errors.Is(cause, kube.ErrOvertaken) || run.stored.State.Phase == "" {
		return cause
	}
	return inOneLine{errors.Join(cause, run.problem, d.make(ctx, rel, run))}
}

// hear adds to an input what people and other systems said.
func (d *Deliver) hear(rel *kube.Delivery, run *delivery, in *rollout.Input) {
	in.Command = commandOf(rel.Release)
	run.hearProblem(rel, in)
	in.Hooks = run.hooks.results()
	in.Samples.Measured = run.measures.take()
	in.Frozen = d.API.Frozen(rel.Release)
	in.DependsOn = d.all.waitedFor(rel.Release)
	in.Set = d.all.members(rel.Release)
	run.frozen = in.Frozen
}

// tell says what was decided. It stays in the journal until the last chat system
// has it, so that the next process tells it once more rather than never.
func (d *Deliver) tell(ctx context.Context, rel *kube.Delivery, run *delivery) {
	d.tellOf(ctx, rel, run, run.journal.Untold[run.told:])
	run.journal.Untold = run.journal.Untold[max(0, len(run.journal.Untold)-mostAlerts):]
	run.told = len(run.journal.Untold)
	if run.alerts.idle() {
		run.journal.Untold, run.told = nil, 0
	}
}

// tellOf says what happened to whoever wants to know.
func (d *Deliver) tellOf(ctx context.Context, rel *kube.Delivery, run *delivery, events []rollout.Event) {
	for _, e := range events {
		d.API.Event(rel.Release, e.Warning, e.Reason, e.Message)
		d.Log.Info(e.Message, "release", rel.Release.Name, "event", e.Reason)
		d.alert(ctx, rel, run, e)
	}
}

// refuse says why the Release cannot be worked with; everything stays as it is.
func (d *Deliver) refuse(ctx context.Context, rel *kube.Delivery, run *delivery, cause error) error {
	status := run.status.DeepCopy()
	status.ObservedGeneration = rel.Release.Generation
	setAccepted(status, cause, rel.Release.Generation, time.Now())
	status.Reason = cause.Error()
	if err := d.write(ctx, rel, run, status); err != nil {
		return err
	}
	return cause
}

// advance takes over the next state, and what belongs to it.
func (d *Deliver) advance(rel *kube.Delivery, run *delivery, next rollout.State) {
	was := run.journal.State
	run.journal.State = next
	if next.Run.Number != was.Run.Number {
		run.before = v1alpha1.Count{}
		run.journal.Cause = nil
		from, to := d.version(rel, run, next.Run.From), d.version(rel, run, next.Run.To)
		run.journal.From, run.journal.To = from, to
	}
	run.journal.Spec = nil
	if next.Canary != "" && run.planned {
		run.journal.Spec = &rel.Release.Spec // rel is this look's own copy
	}
	if next.Run.Number != was.Run.Number || next.ByPods != was.ByPods {
		d.newTally(rel, run)
	}
	cost := run.tally.Run().Canary
	if next.Run.Number > 0 && next.Run.Ended.IsZero() || was.Run.Ended.IsZero() {
		run.journal.Canary = v1alpha1.Count{
			Requests: run.before.Requests + int64(cost.Requests),
			Failures: run.before.Failures + int64(cost.Failures),
		}
	}
	if !next.Run.Ended.IsZero() && was.Run.Ended.IsZero() {
		d.Metrics.ended(&next.Run)
	}
	if next.Run.Failed && !was.Run.Failed {
		run.journal.Cause = explains(next.Run.Evidence.Kind, run.journal.To, run.tally.Endpoints())
	}
}

// version finds what people call a revision.
func (d *Deliver) version(rel *kube.Delivery, run *delivery, rev rollout.Revision) v1alpha1.Version {
	known := []v1alpha1.Version{
		rel.Target.Version, rel.Stable.Version, run.status.Stable, run.status.Canary, run.journal.From, run.journal.To,
	}
	for _, ended := range run.status.History {
		known = append(known, ended.From, ended.To)
	}
	for _, v := range known {
		if v.Revision == string(rev) {
			return v
		}
	}
	return v1alpha1.Version{Revision: string(rev)}
}

// wording puts the names that people use in the place of revisions, which are
// all that package rollout knows.
func (d *Deliver) wording(rel *kube.Delivery, run *delivery) func(string) string {
	s := run.journal.State
	names := map[rollout.Revision]string{}
	alike := map[string]int{}
	for _, rev := range []rollout.Revision{s.Stable, s.Canary, s.Rejected, s.Run.From, s.Run.To, rollout.Revision(rel.Target.Revision)} {
		if v := d.version(rel, run, rev); rev != "" && v.Label != "" && names[rev] == "" {
			names[rev] = v.Label
			alike[v.Label]++
		}
	}
	var pairs []string
	for rev, name := range names {
		if alike[name] > 1 { // as where only a ConfigMap was changed
			name += "@" + string(rev[:min(7, len(rev))])
		}
		pairs = append(pairs, "revision "+string(rev), name, string(rev), name)
	}
	return strings.NewReplacer(pairs...).Replace
}

// store writes the status: at once when a decision was made, at leisure when
// only counts changed.
func (d *Deliver) store(ctx context.Context, rel *kube.Delivery, run *delivery, now time.Time) error {
	must := run.stored.State.MustWrite(run.journal.State)
	if !must && now.Sub(run.storedAt) < storeEvery {
		return nil
	}
	status, err := d.statusOf(rel, run, now)
	if err != nil {
		return err
	}
	if err := d.write(ctx, rel, run, status); err != nil {
		return err
	}
	run.stored = run.journal
	return nil
}

func (d *Deliver) write(ctx context.Context, rel *kube.Delivery, run *delivery, status *v1alpha1.ReleaseStatus) error {
	if sameStatus(&run.status, status) {
		return nil
	}
	rel.Release.Status = *status // rel is this look's own copy
	if run.version != "" {
		rel.Release.ResourceVersion = run.version // what was read may be older
	}
	if err := d.API.WriteStatus(ctx, rel.Release, run.status.Journal); err != nil {
		return err
	}
	run.status, run.version = *status.DeepCopy(), rel.Release.ResourceVersion
	run.storedAt = time.Now()
	return nil
}

func sameStatus(a, b *v1alpha1.ReleaseStatus) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// targetMissing is shown while there is nothing to release.
func targetMissing(rel *kube.Delivery, run *delivery) string {
	if run.stored.State.Canary != "" {
		return fmt.Sprintf("deployment %s was deleted", rel.Names.Target)
	}
	return fmt.Sprintf("deployment %s not found in namespace %s: create it, or make the Release anew with another target", rel.Names.Target, rel.Names.Namespace)
}
