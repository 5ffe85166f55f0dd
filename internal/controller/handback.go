package controller

import (
	"context"
	"time"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

// handBackTime bounds how long each of the two waits of a deletion for the proxies
// lasts, which follow within milliseconds unless the routes are not as we made them.
const handBackTime = 10 * time.Second

// handBack ends a Release that is being deleted. The users leave the canary before
// its pods are changed, and the stable copy goes only when no proxy sends anything
// to it any more.
func (d *Deliver) handBack(ctx context.Context, rel *kube.Delivery, run *delivery) error {
	if !run.left {
		left, err := d.takeAway(ctx, rel, run)
		if run.leaving.IsZero() {
			run.leaving = time.Now()
		}
		if !left && time.Since(run.leaving) < handBackTime {
			return err
		}
		run.left = true
	}
	if err := d.API.HoldTarget(ctx, rel, false); err != nil {
		return err // nobody would let it go any more
	}
	if !d.API.HasToHandBack(rel) {
		return d.API.SetFinalizer(ctx, rel.Release, false)
	}
	done, err := d.API.HandBack(ctx, rel)
	if err != nil || !done {
		return err
	}
	if run.handedBack.IsZero() {
		run.handedBack = time.Now()
	}
	if !d.Acks.Left(rel) && time.Since(run.handedBack) < handBackTime {
		return nil
	}
	return d.API.SetFinalizer(ctx, rel.Release, false)
}

// takeAway takes the users from the canary, if there is a stable pod to answer
// them, and reports whether nobody is left there.
func (d *Deliver) takeAway(ctx context.Context, rel *kube.Delivery, run *delivery) (left bool, err error) {
	if d.API.Terminating(rel.Names.Namespace) {
		return true, nil
	}
	if run.stored.State.Want().ByPods {
		canary, stable, _ := d.taking(rel)
		if !run.on() || stable == 0 || canary == 0 && rel.Target.Replicas == 0 {
			return true, nil
		}
		return false, d.API.ScaleTarget(ctx, rel, 0)
	}
	_, stable := d.Acks.Endpoints(backend(rel, rel.Names.StableService), "")
	if stable == 0 || len(rel.Route.Parts) == 0 {
		return true, nil
	}
	has := rel.Route.Traffic
	if has.Share > 0 || has.Mirror > 0 {
		return false, d.API.MakeTraffic(ctx, rel, rollout.Traffic{Warm: has.Warm}, false)
	}
	since, ok := d.acked(rel)
	return ok && rollout.State{Traffic: has, Acked: since.At, At: time.Now()}.Vacant(), nil
}
