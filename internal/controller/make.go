package controller

import (
	"context"
	"errors"
	"strings"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

// make makes the objects follow the stored state. What adds capacity for the
// canary comes before the traffic, and an error there delays an advance. Nothing
// delays the way back: unless the canary is to get more than it has, the traffic
// is moved first, and then all the rest is tried, whatever fails of it.
func (d *Deliver) make(ctx context.Context, rel *kube.Delivery, run *delivery) error {
	state := run.stored.State
	want := state.Want()
	more := getsMore(rel, want)
	if rel.Holder != "" { // all but its own routes may be the other's
		if more || !want.Split || want.ByPods {
			return nil
		}
		return d.API.MakeTraffic(ctx, rel, want.Traffic, previews(state))
	}
	var moved error
	if !more {
		moved = d.moveTraffic(ctx, rel, run, want)
	}
	needed, others := d.makePods(ctx, rel, run, want)
	if more && needed == nil {
		moved = d.moveTraffic(ctx, rel, run, want)
	}
	errs := []error{moved, needed, others}
	if state.Phase == rollout.Idle && state.Run.Number > 0 {
		keep := map[string]bool{rel.Target.Revision: true}
		for _, rev := range []rollout.Revision{state.Stable, state.Rejected, state.Previous, state.Warm} {
			keep[string(rev)] = true
		}
		errs = append(errs, d.API.DropRevisions(ctx, rel, keep))
	}
	return errors.Join(append(errs, d.API.MakeWarm(ctx, rel, string(want.Warm)))...)
}

// getsMore reports whether the canary is to get more than it has.
func getsMore(rel *kube.Delivery, want rollout.World) bool {
	if want.ByPods {
		return want.CanaryPods > rel.Target.Replicas
	}
	has, gets := rel.Route.Traffic, want.Traffic
	return gets.Share > has.Share || gets.Mirror > has.Mirror || gets.Match != has.Match && gets.Share > 0
}

// makePods makes the pods of both sides what the stored state asks for. The
// canary gets no more traffic without what is needed; a target that cannot be
// held, and an autoscaler that cannot be followed, are none of that.
func (d *Deliver) makePods(ctx context.Context, rel *kube.Delivery, run *delivery, want rollout.World) (needed, others error) {
	state := run.stored.State
	var errs []error
	try := func(err error) bool {
		errs = append(errs, err)
		return err == nil
	}
	initializing, revision := state.Phase == rollout.Initializing, string(want.StableRevision)
	kept := true
	if initializing {
		kept = try(d.API.Adopt(ctx, rel))
	}
	if kept && rel.Target.Exists && (initializing || rel.Target.Revision == string(state.Canary)) {
		kept = try(d.API.KeepRevision(ctx, rel))
	}
	// What was not kept could not be gone back to.
	if revision != "" && (kept || !initializing && revision != rel.Target.Revision) {
		try(d.API.MakeStable(ctx, rel, revision))
	}
	if want.CanaryScaled || want.CanaryPods > 0 {
		try(d.API.RefreshPods(ctx, rel, d.vacant(rel, run)))
	}
	others = errors.Join(
		d.API.HoldTarget(ctx, rel, want.TargetHeld),
		d.API.MakeScaler(ctx, rel, scaling(&state, want)),
	)
	try(d.grow(ctx, rel, want, state.Phase))
	return errors.Join(errs...), others
}

// vacant reports whether nobody calls the canary's pods, by what was asked for
// and by what is in effect.
func (d *Deliver) vacant(rel *kube.Delivery, run *delivery) bool {
	has, _, ok := d.inEffect(rel, run)
	return ok && has.Share == 0 && has.Mirror == 0 && run.stored.State.Vacant()
}

// moveTraffic divides the users between the sides, and when that is done takes the
// pods away that have nothing to do any more. Where pods are the shares the canary
// that has to go loses its own first: the users' Service has both sides already.
func (d *Deliver) moveTraffic(ctx context.Context, rel *kube.Delivery, run *delivery, want rollout.World) error {
	state := run.stored.State
	back := want.ByPods && state.Phase == rollout.RollingBack
	if !back {
		if err := d.makeTraffic(ctx, rel, state); err != nil {
			return err
		}
	}
	if state.Phase != rollout.Idle {
		run.wish.seen0 = false // a run's replicas are the canary's own
	}
	var away error
	if want.Split && !want.CanaryScaled {
		away = d.scaleAway(ctx, rel, run, state)
	}
	if away == nil {
		away = d.shrink(ctx, rel, state, want)
	}
	if back {
		return errors.Join(away, d.makeTraffic(ctx, rel, state))
	}
	return away
}

func (d *Deliver) makeTraffic(ctx context.Context, rel *kube.Delivery, state rollout.State) error {
	want := state.Want()
	// What routes give to the canary is for the revision that is judged, and
	// between runs they give it nothing.
	judged := rel.Target.Revision == string(state.Canary)
	sides := func() error {
		if !rel.Stable.Exists {
			return nil
		}
		return d.API.MakeSides(ctx, rel, judged || state.Phase == rollout.Idle)
	}
	_, known := d.Acks.Endpoints(backend(rel, rel.Names.StableService), "")
	switch routed := len(rel.Route.Parts) > 0; {
	case rel.Release.Spec.Worker() || !rel.Stable.Exists && !routed:
		return nil
	case !want.Split:
		return sides()
	case want.ByPods:
		return errors.Join(sides(), d.API.MakeShared(ctx, rel, judged && want.CanaryPods > 0))
	case !routed && known == 0: // routes may only name what the proxies can reach already
		return sides()
	case !routed || getsMore(rel, want):
		if err := errors.Join(sides(), d.API.MakeRules(ctx, rel)); err != nil {
			return err
		}
		return d.API.MakeTraffic(ctx, rel, want.Traffic, previews(state))
	default:
		moved := d.API.MakeTraffic(ctx, rel, want.Traffic, previews(state))
		return errors.Join(moved, sides(), d.API.MakeRules(ctx, rel))
	}
}

// previews reports whether testers may meet the canary: while its pods are up
// and it is on the way to the users.
func previews(s rollout.State) bool {
	switch s.Phase {
	case rollout.Testing, rollout.Progressing, rollout.Promoting:
		return true
	case rollout.Initializing, rollout.Idle, rollout.Starting, rollout.Finalizing, rollout.RollingBack:
	}
	return false
}

// inOneLine is an error of several, said in one line.
type inOneLine struct{ error }

func (e inOneLine) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", "; ") }

func (e inOneLine) Unwrap() error { return e.error }
