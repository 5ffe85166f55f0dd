package controller

import (
	"context"

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

// divided says since when both sides have the pods that the state asks for,
// behind the users' Service and in every proxy.
func (d *Deliver) divided(rel *kube.Delivery, run *delivery, want rollout.World) (since RouteAck, ok bool) {
	service := backend(rel, rel.Names.Service)
	canary, applied := d.Acks.Pods(service, rel.Names.Target)
	stable, _ := d.Acks.Pods(service, rel.Names.Stable)
	asked := divided{traffic: want.Traffic, canary: want.CanaryPods, stable: want.StablePods, since: run.divided.since}
	ok = applied.Snapshot != 0 &&
		rel.Target.Replicas == want.CanaryPods && canary <= want.CanaryPods && canary >= rel.Target.Enough &&
		(rel.Stable.Replicas == want.StablePods || want.StablePods == 0) && stable >= max(1, rel.Stable.Enough)
	switch {
	case !ok:
		run.divided = divided{}
		return RouteAck{}, false
	case run.divided != asked || run.divided.since.Snapshot == 0:
		asked.since = applied
		run.divided = asked
	}
	return run.divided.since, true
}

// grow scales up the side that has too few pods for what is asked of it.
// Between runs the target's pods are none, and while a run is on, as many as the
// stable copy has unless its user or an autoscaler wants another number.
func (d *Deliver) grow(ctx context.Context, rel *kube.Delivery, want rollout.World) error {
	canary := want.CanaryPods
	if want.CanaryScaled && !want.ByPods && rel.Target.Replicas == 0 {
		canary = max(canary, rel.Stable.Replicas, 1)
	}
	if want.CanaryScaled && canary > rel.Target.Replicas {
		if err := d.API.ScaleTarget(ctx, rel, canary); err != nil {
			return err
		}
	}
	if want.StablePods > rel.Stable.Replicas {
		return d.API.ScaleStable(ctx, rel, want.StablePods)
	}
	return nil
}

// shrink takes away the pods that would give a side more than its share where
// pods are the shares: of a canary that has to go at once, else when the other
// side's are there.
func (d *Deliver) shrink(ctx context.Context, rel *kube.Delivery, state rollout.State, want rollout.World) error {
	if !want.ByPods || !want.Split {
		return nil
	}
	service := backend(rel, rel.Names.Service)
	canary, _ := d.Acks.Pods(service, rel.Names.Target)
	stable, _ := d.Acks.Pods(service, rel.Names.Stable)
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
