package rollout

// Traffic moves to a side no faster than the side can carry it. How many pods
// all of the traffic needs is known from what is asked for: the larger of the
// two sides serves all users, or would. A side needs its share of that.
//
// The guard waits in both directions of a run that goes on, and asks for the
// pods that it waits for (World.CanaryPods, World.StablePods), as an autoscaler
// sees no reason to start them before the traffic is there. Nor does a run take
// a step while the stable side lost pods that it needs for what it has, because
// all of the traffic may have to go back to it: one that was scaled to none gets
// its pods back, and holds the run at once. It does not hold up
// the way back: a canary that has to go goes at once, even if the stable pods
// will be short until they are scaled up, because too few good pods are a
// matter of seconds. The one exception is a stable side without any ready pod:
// then every request would fail, and the canary keeps its traffic until there
// is one.

// carries reports whether the canary has the pods for a step, from 1, and the
// stable side those for its present share.
func (r *step) carries(n int) bool {
	s, in := &r.s, &r.in
	t := r.plan.traffic(n)
	if s.ByPods || t.Match { // pods are the share; and nobody knows how many will match
		return true
	}
	// Only its own number counts: how many its user wants is not the run's to
	// raise as long as the traffic goes the other way.
	if need := part(All-s.Traffic.Share, in.Stable.Wanted); !r.plan.Worker && (r.stranded() || !in.Stable.holds(need)) {
		r.late(r.stall("before step %d (%v): waiting for the stable copy to carry what it has: %d of %d pods are ready", n, t.Share, in.Stable.Pods, max(1, need)))
		return false
	}
	need := pods(t.Share, in)
	if in.Target.holds(need) {
		return true
	}
	s.CanaryPods = max(s.CanaryPods, need)
	r.late(r.stall("before step %d (%v): waiting for the canary to have the capacity: %d of %d pods are ready", n, t.Share, in.Target.Pods, need))
	return false
}

// regain asks for the pods of a stable side that somebody scaled to none while a
// run is on. How many it had is not known any more: as many as the other side
// has, which would serve all users.
func (r *step) regain() {
	s, in := &r.s, &r.in
	if s.Canary != "" && s.Split && !s.ByPods && in.Stable.Revision != "" && in.Stable.Wanted == 0 {
		s.StablePods = max(s.StablePods, in.Target.Wanted)
	}
}

// regained reports whether a stable side that was scaled to none has the pods
// again that it needs for its present share, and how many those are.
func (r *step) regained() (need int32, ok bool) {
	s, in := &r.s, &r.in
	need = part(All-s.Traffic.Share, s.StablePods)
	return need, s.StablePods == 0 || in.Stable.Wanted > 0 && in.Stable.holds(need)
}

// returns reports whether the stable side has the pods for all but what the
// canary keeps.
func (r *step) returns(keeps Share) bool {
	s, in := &r.s, &r.in
	need := pods(All-keeps, in)
	if s.ByPods {
		_, need = divide(s.Pods, 0)
	}
	if in.Stable.holds(need) {
		return true
	}
	if !s.ByPods {
		s.StablePods = max(s.StablePods, need)
	}
	r.late(r.stall("waiting for the stable copy to have the capacity: %d of %d pods are ready", in.Stable.Pods, need))
	return false
}

// holds reports whether a side has so many pods, or as many of them as are
// enough to its user. Where nobody counts it has.
func (w *Workload) holds(need int32) bool {
	return w.Wanted == 0 || w.Pods >= need || w.Ready && w.Wanted >= need
}

// stranded reports whether no stable pod could answer what the canary answers
// now. Where nobody counts pods it is false, and a worker's work can wait.
func (r *step) stranded() bool {
	return !r.plan.Worker && r.in.Stable.Pods == 0 && r.in.Target.Pods > 0
}

// pods are so many as a share of the traffic needs.
func pods(share Share, in *Input) int32 {
	return part(share, max(in.Stable.Wanted, in.Target.Wanted))
}

// part is a share of so many pods, rounded up.
func part(share Share, all int32) int32 {
	return int32((int64(all)*int64(share) + int64(All) - 1) / int64(All))
}

// countPods notes whether pods are the shares, and how many there are in all.
// The strategy of a run stays what it was at its start.
func (r *step) countPods() {
	s, in := &r.s, &r.in
	s.ByPods = r.plan.Strategy == Replicas
	if s.ByPods && s.Pods == 0 {
		s.Pods = max(1, in.Stable.Wanted)
	}
	r.recountPods()
	if !s.ByPods {
		s.Pods = 0
	}
}

// recountPods follows the user, or the autoscaler.
func (r *step) recountPods() {
	s, in := &r.s, &r.in
	if !s.ByPods {
		return
	}
	switch {
	case in.Pods > 0:
		s.Pods = in.Pods
	case s.Phase == Idle && in.Stable.Wanted > 0:
		s.Pods = in.Stable.Wanted
	}
}
