package controller

import (
	"context"
	"fmt"
	"time"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

// divided is since when the proxies know the pods that give the canary its
// share without a route.
type divided struct {
	traffic        rollout.Traffic
	canary, stable int32 // pods that were asked for
	since          RouteAck
}

// taking counts the pods of both sides that take users' requests, in the snapshot
// that every proxy runs, or work, as of now.
func (d *Deliver) taking(rel *kube.Delivery) (canary, stable int32, in RouteAck) {
	if rel.Release.Spec.Worker() {
		return rel.Target.Available, rel.Stable.Available, RouteAck{At: time.Now()}
	}
	service := backend(rel, rel.Names.Service)
	canary, in = d.Acks.Pods(service, rel.Names.Target)
	stable, _ = d.Acks.Pods(service, rel.Names.Stable)
	return canary, stable, in
}

// divided says since when both sides have the pods that the state asks for,
// behind the users' Service and in every proxy where there are users.
func (d *Deliver) divided(rel *kube.Delivery, run *delivery, want rollout.World) (since RouteAck, ok bool) {
	canary, stable, applied := d.taking(rel)
	asked := divided{traffic: want.Traffic, canary: want.CanaryPods, stable: want.StablePods, since: run.divided.since}
	ok = !applied.At.IsZero() && (rel.Target.Running <= want.CanaryPods || !rel.Release.Spec.Worker()) &&
		rel.Target.Replicas == want.CanaryPods && canary <= want.CanaryPods && canary >= rel.Target.Enough &&
		(rel.Stable.Replicas == want.StablePods || want.StablePods == 0) && stable >= max(1, rel.Stable.Enough)
	switch {
	case !ok:
		run.divided = divided{}
		return RouteAck{}, false
	case run.divided != asked || run.divided.since.At.IsZero():
		asked.since = applied
		run.divided = asked
	}
	return run.divided.since, true
}

// grow scales up the side that has too few pods for what is asked of it.
// Between runs the target's pods are none, and while a run is on, as many as the
// stable copy has, or as its autoscaler begins with, unless its user or an
// autoscaler wants another number. A canary that goes gets none.
func (d *Deliver) grow(ctx context.Context, rel *kube.Delivery, want rollout.World, phase rollout.Phase) error {
	canary := want.CanaryPods
	if want.CanaryScaled && !want.ByPods && rel.Target.Replicas == 0 && phase != rollout.RollingBack {
		from := rel.Stable.Replicas
		if rel.Scaler.Named {
			from = rel.Scaler.Least
		}
		canary = max(canary, from, 1)
	}
	if want.CanaryScaled && canary > rel.Target.Replicas {
		if err := d.API.ScaleTarget(ctx, rel, canary); err != nil {
			return err
		}
	}
	stable := want.StablePods
	if want.Split && (rel.Scaler.Named || want.CanaryScaled) {
		// Whoever scaled it to too few cannot be relied on to scale it up again:
		// an autoscaler leaves a Deployment of no replicas alone. Between runs
		// none at all may be what a person wants.
		stable = max(stable, rel.Scaler.Floor, 1)
	}
	if stable > rel.Stable.Replicas {
		return d.API.ScaleStable(ctx, rel, stable)
	}
	return nil
}

// scaling is what the stored state asks of the autoscalers.
func scaling(state *rollout.State, want rollout.World) kube.Scaling {
	s := kube.Scaling{Stable: want.StablePods, Canary: want.CanaryScaled}
	if state.Run.Number > 0 && state.Run.Ended.IsZero() {
		s.Run = state.Run.Number
	}
	return s
}

// shrink takes away the pods that would give a side more than its share where
// pods are the shares: of a canary that has to go at once, else when the other
// side's are there.
func (d *Deliver) shrink(ctx context.Context, rel *kube.Delivery, state rollout.State, want rollout.World) error {
	if !want.ByPods || !want.Split {
		return nil
	}
	canary, stable, _ := d.taking(rel)
	if rel.Target.Replicas > want.CanaryPods && (state.Phase == rollout.RollingBack || stable >= want.StablePods) {
		if err := d.API.ScaleTarget(ctx, rel, want.CanaryPods); err != nil {
			return err
		}
	}
	if want.StablePods > 0 && rel.Stable.Replicas > want.StablePods && canary >= want.CanaryPods {
		return d.API.ScaleStable(ctx, rel, want.StablePods)
	}
	return nil
}

// wish is how many pods the user asks for between runs, by the replicas of the
// target, which has none itself then.
type wish struct {
	seen0    bool // the target was seen scaled to 0 since
	replicas int32
	by       string // who declared them; "" = somebody scaled the target
	// insists is who declared the same number again after it was heard and the
	// target scaled to 0. They will never stop, and neither would Serin.
	insists string
}

// scaleAway takes the canary's pods away. Between runs the target's replicas
// are the user's wish for the service: when they are set again after we had
// set them to 0, the stable copy gets as many, unless it has an autoscaler. Who
// insists on a number is left it: pods without traffic are less harm than pods
// that start and end for ever.
func (d *Deliver) scaleAway(ctx context.Context, rel *kube.Delivery, run *delivery, state rollout.State) error {
	w, target := &run.wish, &rel.Target
	if target.Replicas == 0 {
		w.seen0 = state.Phase == rollout.Idle
		return d.API.ScaleTarget(ctx, rel, 0)
	}
	insists := target.Declarer != "" && target.Declarer == w.insists && state.Phase == rollout.Idle
	if w.seen0 || insists {
		if !rel.Scaler.Named && target.Replicas != rel.Stable.Replicas {
			if err := d.API.ScaleStable(ctx, rel, target.Replicas); err != nil {
				return err
			}
		}
	}
	if w.seen0 {
		again := target.Declarer != "" && target.Declarer == w.by && target.Replicas == w.replicas
		if again && !insists {
			w.insists, insists = target.Declarer, true
			d.API.Event(rel.Release, true, "ReplicasDeclared", fmt.Sprintf(
				"%s sets the replicas of deployment %s to %d again and again, so these pods stay, without traffic: take spec.replicas out of what it applies, and let it ignore the field",
				target.Declarer, rel.Names.Target, target.Replicas))
		}
		w.seen0, w.by, w.replicas = false, target.Declarer, target.Replicas
	}
	if insists {
		return nil
	}
	return d.API.ScaleTarget(ctx, rel, 0)
}
