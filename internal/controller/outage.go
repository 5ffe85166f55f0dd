package controller

import (
	"time"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

// reasonNotServing is that of the condition Ready and of the event that say
// that users get no answer.
const reasonNotServing = "NotServing"

// unserved says why nobody answers the users: the side that they are sent to
// has no pod that can. "" = somebody does, or the release was not taken up yet.
func unserved(rel *kube.Delivery, s *rollout.State) string {
	side := rel.Stable
	switch {
	case s.Phase == rollout.Initializing || s.Phase == "" || !s.Split:
		return ""
	case s.ByPods && rel.Target.Available > 0:
		return "" // both sides answer
	case s.Traffic.Warm:
		side = rel.Warm
	case s.Traffic.Share == rollout.All && !s.Traffic.Match:
		side = rel.Target
	}
	if side.Available > 0 {
		return ""
	}
	if rel.Release.Spec.Worker() {
		return "no pod can work: " + side.Message
	}
	return "no pod can serve users: " + side.Message
}

// outage is a time in which nobody answers the users.
type outage struct {
	since time.Time // zero = users are served
	told  bool
}

func (o *outage) lasts() bool { return !o.since.IsZero() }

// look returns what there is to tell of an outage that begins or ends. After a
// start all pods begin anew, which is worth a word only when it takes long.
func (o *outage) look(why string, run *delivery, now time.Time) []rollout.Event {
	if why == "" {
		told := o.told
		*o = outage{}
		if told {
			return []rollout.Event{{Reason: "Serving", Message: "users are served again"}}
		}
		return nil
	}
	if o.since.IsZero() {
		o.since = now
	}
	if o.told || !run.settled && now.Sub(o.since) < lasting {
		return nil
	}
	o.told = true
	return []rollout.Event{{Warning: true, Reason: reasonNotServing, Message: why}}
}
