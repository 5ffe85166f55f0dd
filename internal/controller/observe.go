package controller

import (
	"fmt"
	"time"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
	"serin.dev/serin/internal/telemetry"
)

// observe collects one input for the state machine.
func (d *Deliver) observe(rel *kube.Delivery, run *delivery, now time.Time) rollout.Input {
	in := rollout.Input{
		Now:       now,
		Target:    d.workload(rel, rel.Target, rel.Names.CanaryService),
		Stable:    d.workload(rel, rel.Stable, rel.Names.StableService),
		Warm:      d.workload(rel, rel.Warm, rel.Names.WarmService),
		Suspended: rel.Release.Spec.Suspend,
		Paused:    paused(rel),
	}
	run.settle(&in)
	in.Ack = d.ack(rel, run)
	if !run.stored.State.Split { // later the stable copy has as many as there are in all
		in.Pods = max(rel.Target.Replicas, rel.Stable.Replicas)
	}
	counted := run.tally.Take()
	if !d.API.TargetExists(rel) { // asked after counting, so that a deletion is seen no later than the requests that it fails
		in.Target = rollout.Workload{Message: targetMissing(rel, run), Pods: in.Target.Pods} // those that are left
	}
	run.hidden.count(counted.Past)
	in.Samples = counted.Samples
	in.Mirrored = rollout.Mirrored(counted.Copies)
	in.Arrived = counted.Arrived
	in.Late = counted.Late
	in.Served = counted.Served[string(run.stored.State.Want().StableRevision)]
	in.FirstCanary = run.tally.Run().FirstCanary
	return in
}

// paused says that somebody holds the target; "" = nobody does.
func paused(rel *kube.Delivery) string {
	if !rel.Target.Paused {
		return ""
	}
	return fmt.Sprintf("the Deployment %s is paused (kubectl rollout resume deployment/%[1]s goes on)", rel.Names.Target)
}

// settle says from when on failures count. After a restart all pods start anew,
// and what fails until both sides are back says nothing about the version,
// unless the canary does not come back while stable does.
func (run *delivery) settle(in *rollout.Input) {
	if run.serving.IsZero() && in.Stable.Pods > 0 {
		run.serving = in.Now
	}
	patience := 30 * time.Second
	if in.Target.Pods > 0 {
		patience = 5 * time.Second // some are back: the others need about as long, or crash
	}
	ready := in.Stable.Ready && (in.Target.Ready || !run.stored.State.Want().CanaryScaled)
	if ready || !run.serving.IsZero() && in.Now.Sub(run.serving) >= patience {
		run.settled = true
	}
}

// workload is ready when its Deployment says so and the proxies know enough of
// its pods: traffic that is sent to it then arrives. Proxies know no workers.
func (d *Deliver) workload(rel *kube.Delivery, w kube.Workload, service string) rollout.Workload {
	out := rollout.Workload{Message: w.Message}
	if rel.Release.Spec.Worker() {
		if w.Exists {
			out.Revision, out.Pods, out.Wanted, out.Ready = rollout.Revision(w.Revision), w.Available, w.Replicas, w.Ready
			out.ScaledAway = w.Replicas == 0
		}
		return out
	}
	of, all := d.Acks.Endpoints(backend(rel, service), w.Template)
	out.Pods = int32(all)
	if !w.Exists {
		return out
	}
	out.Revision, out.Wanted, out.ScaledAway = rollout.Revision(w.Revision), w.Replicas, w.Replicas == 0
	if !w.Ready {
		return out
	}
	out.Ready = of == all && of >= int(w.Enough)
	if !out.Ready {
		out.Message = "the proxies do not know all of its pods yet"
	}
	return out
}

// ack says whether the proxies run the split that is asked for, and rebases
// the tally when that begins.
func (d *Deliver) ack(rel *kube.Delivery, run *delivery) rollout.Ack {
	traffic, acked, ok := d.inEffect(rel, run)
	if !ok || !run.settled {
		return rollout.Ack{}
	}
	base := telemetry.Baseline{
		Snapshot: acked.Snapshot, At: acked.At,
		CutOff: traffic.Share == 0, Matched: traffic.Match, Mirrored: traffic.Mirror > 0,
	}
	if run.tally.Baseline() != base {
		run.tally.Rebase(base)
	}
	return rollout.Ack{OK: traffic == run.stored.State.Want().Traffic, Traffic: traffic, Since: acked.At}
}

// inEffect is what the canary gets in every proxy, and since when; ok is false
// while that is not the same in all of them.
func (d *Deliver) inEffect(rel *kube.Delivery, run *delivery) (t rollout.Traffic, since RouteAck, ok bool) {
	if want := run.stored.State.Want(); want.ByPods {
		since, ok = d.divided(rel, run, want)
		return want.Traffic, since, ok
	}
	since, ok = d.acked(rel)
	return rel.Route.Traffic, since, ok
}

// acked says since when the proxies run the route as the API has it; ok is
// false while they do not run all of it.
func (d *Deliver) acked(rel *kube.Delivery) (_ RouteAck, ok bool) {
	if !rel.Route.Exists {
		return RouteAck{}, false
	}
	var last RouteAck
	for _, part := range rel.Route.Parts {
		a := d.Acks.Route(part.Origin)
		if a.Snapshot == 0 || a.Generation != part.Generation {
			return RouteAck{}, false
		}
		if a.Snapshot > last.Snapshot {
			last = a
		}
	}
	return last, true
}
