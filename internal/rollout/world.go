package rollout

import "slices"

// Traffic is what the canary gets of the users' requests.
type Traffic struct {
	// Share of the requests that the canary answers.
	Share Share `json:"share,omitempty"`
	// Match: Share is of the matched users' requests alone, and all others
	// get the stable version.
	Match bool `json:"match,omitempty"`
	// Mirror is the share of the requests of which the canary gets a copy.
	// Its answers to copies reach no user.
	Mirror Share `json:"mirror,omitempty"`
	// Warm: the pods of World.Warm answer in the place of the stable copy's.
	Warm bool `json:"warm,omitempty"`
}

// World is what the caller has to make true, and to keep true. Fields of which
// no strategy in use makes sense of stay at their zero values.
type World struct {
	// Split: the stable copy takes part in the traffic. False: leave the
	// traffic as the user made it.
	Split bool
	// Traffic that goes to the target, by a route.
	Traffic Traffic
	// ByPods: there is no route. All pods of both sides get the same share,
	// so there must be exactly CanaryPods and StablePods of them.
	ByPods bool
	// CanaryPods and StablePods without ByPods are the least number of pods
	// that the side has to be scaled to, for the traffic that it will get
	// next; 0 = as its user and autoscaler like.
	CanaryPods, StablePods int32
	// CanaryScaled: the target runs as many pods as its user asks for;
	// false: none.
	CanaryScaled bool
	// TargetHeld: a route leads users to the target's pods, or may do so next.
	// Who deletes the target has to wait until it does not.
	TargetHeld bool
	// StableRevision is the template that the stable copy has to run;
	// "" = leave the copy alone.
	StableRevision Revision
	// Warm is a revision that has to run beside, as many pods as the stable
	// copy, to go back to at once; "" = none.
	Warm Revision
	// Load: the plan's own load has to be sent, each request to either side by
	// an even chance.
	Load bool
	// Hooks are the calls that have to be made.
	Hooks []HookCall
}

// Equal reports whether two worlds are the same.
func (w World) Equal(v World) bool {
	same := slices.EqualFunc(w.Hooks, v.Hooks, func(a, b HookCall) bool { return a.ID == b.ID })
	return same &&
		w.Split == v.Split && w.Traffic == v.Traffic &&
		w.ByPods == v.ByPods && w.CanaryPods == v.CanaryPods && w.StablePods == v.StablePods &&
		w.CanaryScaled == v.CanaryScaled && w.TargetHeld == v.TargetHeld && w.Load == v.Load && w.StableRevision == v.StableRevision && w.Warm == v.Warm
}

// Want returns the world that belongs to the state. It changes nothing in a
// release that was never looked at.
func (s State) Want() World {
	w := World{
		Split: s.Split, Traffic: s.Traffic, CanaryScaled: true, StableRevision: s.Stable,
		CanaryPods: s.CanaryPods, StablePods: s.StablePods, Warm: s.Warm, Load: s.Filling, Hooks: s.Calls,
	}
	switch s.Phase {
	case Idle:
		w.CanaryScaled = s.Next
	case Starting:
		w.CanaryScaled = s.Cleared || s.Next
	case Promoting, Finalizing:
		w.StableRevision = s.Canary
	case RollingBack:
		w.CanaryScaled = s.Run.Outcome != Reverted // it has no pods then
	case Initializing, Testing, Progressing:
	}
	if s.ByPods && s.Split {
		w.byPods(s)
	}
	w.TargetHeld = s.Canary != "" && w.Split && !w.ByPods && w.CanaryScaled && s.Run.Effective.IsZero()
	return w
}

// byPods makes the numbers of pods follow the share.
func (w *World) byPods(s State) {
	w.ByPods = true
	w.CanaryPods, w.StablePods = divide(s.Pods, s.Traffic.Share)
	if s.Phase == Promoting {
		// All of the new stable pods are there before the canary's go.
		_, w.StablePods = divide(s.Pods, 0)
	}
	if s.Phase == Idle {
		w.StablePods = 0 // as the user likes
	}
	w.CanaryScaled = w.CanaryPods > 0
}

// divide gives the canary its share of so many pods, to the nearest; but either
// side that has a share has a pod.
func divide(pods int32, share Share) (canary, stable int32) {
	pods = max(1, pods)
	if share > 0 {
		canary = int32((int64(pods)*int64(share) + int64(All)/2) / int64(All))
		canary = max(1, min(canary, pods-1))
	}
	return canary, max(1, pods-canary)
}

// Vacant reports whether nobody calls the canary's pods: no traffic is asked for,
// every proxy has obeyed, and the last requests under way are answered.
func (s State) Vacant() bool {
	return s.Traffic.Share == 0 && s.Traffic.Mirror == 0 && !s.Acked.IsZero() && s.At.Sub(s.Acked) >= drain
}

// MustWrite reports whether next has to be stored before the world is made to
// follow it. Otherwise it differs from s in nothing but counts and what people
// read, which may be stored at leisure: a crash then loses some evidence, never
// a decision.
func (s State) MustWrite(next State) bool {
	return s.Phase != next.Phase ||
		s.Step != next.Step || s.Part != next.Part || s.Gradual != next.Gradual ||
		s.Skipped != next.Skipped || s.Passed != next.Passed || s.Prepared != next.Prepared ||
		s.Rejected != next.Rejected || s.Previous != next.Previous ||
		s.Command != next.Command ||
		!slices.Equal(s.Approvals, next.Approvals) ||
		!slices.Equal(s.Gates, next.Gates) ||
		s.Run.Number != next.Run.Number ||
		s.Run.Outcome != next.Run.Outcome ||
		!s.Want().Equal(next.Want())
}
