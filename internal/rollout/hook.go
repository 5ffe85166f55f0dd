package rollout

import (
	"fmt"
	"slices"
	"time"
)

// HookType says when a hook of the user's is called and what its answer means.
// The types, and the meanings, are Flagger's (docs.flagger.app, "Webhooks").
type HookType string

// The types. "Again" is after Policy.Interval.
const (
	// HookConfirmRollout is asked before the canary's pods are started, again
	// until it says yes.
	HookConfirmRollout HookType = "confirm-rollout"
	// HookPreRollout is called before the canary gets traffic. A failure is a
	// failed check; it is called again until it succeeds.
	HookPreRollout HookType = "pre-rollout"
	// HookRollout is called again and again while the canary is judged. A
	// failure is a failed check; no step is passed before it succeeded there.
	HookRollout HookType = "rollout"
	// HookConfirmTrafficIncrease is asked before each rise of the canary's
	// share, again until it says yes.
	HookConfirmTrafficIncrease HookType = "confirm-traffic-increase"
	// HookConfirmPromotion is asked before promotion, again until it says yes.
	HookConfirmPromotion HookType = "confirm-promotion"
	// HookPostRollout is called once when a run has ended. A failure is told.
	HookPostRollout HookType = "post-rollout"
	// HookRollback is asked again and again until the stable copy is changed.
	// When it says yes the run is rolled back.
	HookRollback HookType = "rollback"
	// HookEvent is called once with each event. A failure changes nothing.
	HookEvent HookType = "event"
)

// Hook is what the engine has to know of a hook; how it is called (address,
// timeout, retries) is the caller's.
type Hook struct {
	Name string // unique among the hooks of its type
	Type HookType
	// Expires is how long one of the confirm types may say no before the run
	// is rolled back; 0 = for ever. Others have none.
	Expires time.Duration
}

// HookCall is a call that has to be made. It is wanted (World.Hooks) until its
// result was given to Step. The caller makes it once per ID; when a crash let
// it forget whether it did, it calls again and sends the ID as idempotency key.
type HookCall struct {
	// ID is unique among all calls of one journal; the caller adds what
	// tells releases apart.
	ID   string   `json:"id"`
	Type HookType `json:"type"`
	Name string   `json:"name"`
	// What the run was at when the call was decided, which a repeated call says
	// again; its evidence and reason are those of the moment of the call.
	Phase    Phase    `json:"phase"`
	Revision Revision `json:"revision"`
	Step     int      `json:"step,omitempty"`
	Traffic  Traffic  `json:"traffic,omitzero"`
	// Event is told by the call; nil unless Type is HookEvent.
	Event *Event `json:"event,omitempty"`
}

// HookResult is how a call ended, after all retries.
type HookResult struct {
	ID string
	// OK: the hook answered with success (2xx), which for the confirm types
	// and for HookRollback means yes.
	OK bool
	// Reason says in one line why not.
	Reason string
}

// Answer is what is remembered of one hook at the present point of a run.
type Answer struct {
	Type HookType `json:"type"`
	Name string   `json:"name"`
	// Since is when it was called here first, At when last.
	Since time.Time `json:"since,omitzero"`
	At    time.Time `json:"at,omitzero"`
	// Known: it answered; OK and Reason are its latest answer.
	Known  bool   `json:"known,omitempty"`
	OK     bool   `json:"ok,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// mostTold bounds the events whose calls are under way: a hook that does not
// answer must not let the journal grow. The oldest are given up.
const mostTold = 16

// confirms reports whether a type is a question that gates the run, and where.
func (t HookType) confirms() (Point, bool) {
	switch t {
	case HookConfirmRollout:
		return AtStart, true
	case HookConfirmTrafficIncrease:
		return AtTraffic, true
	case HookConfirmPromotion:
		return AtPromotion, true
	case HookPreRollout, HookRollout, HookPostRollout, HookRollback, HookEvent:
	}
	return "", false
}

// call decides a call.
func (r *step) call(h Hook, event *Event) {
	s := &r.s
	s.Called++
	s.Calls = append(s.Calls, HookCall{
		ID:   fmt.Sprintf("run-%d/%s/%s/%d", s.Run.Number, h.Type, h.Name, s.Called),
		Type: h.Type, Name: h.Name,
		Phase: s.Phase, Revision: s.Run.To, Step: s.Step, Traffic: s.Traffic, Event: event,
	})
}

// ask calls a hook unless a call is under way or the last one is younger than
// the interval, and returns what is known of it at this point of the run.
func (r *step) ask(h Hook) *Answer {
	s := &r.s
	i := slices.IndexFunc(s.Hooks, func(a Answer) bool { return a.Type == h.Type && a.Name == h.Name })
	if i < 0 {
		s.Hooks = append(s.Hooks, Answer{Type: h.Type, Name: h.Name, Since: r.in.Now})
		i = len(s.Hooks) - 1
	}
	a := &s.Hooks[i]
	due := a.At.IsZero() || r.in.Now.Sub(a.At) >= r.plan.Policy.Interval || r.in.Now.Before(a.At)
	if due && !r.calling(h) {
		a.At = r.in.Now
		r.call(h, nil)
	}
	return a
}

func (r *step) calling(h Hook) bool {
	return slices.ContainsFunc(r.s.Calls, func(c HookCall) bool { return c.Type == h.Type && c.Name == h.Name })
}

// hooksOf are the plan's hooks of a type.
func (r *step) hooksOf(t HookType) func(func(Hook) bool) {
	return func(yield func(Hook) bool) {
		for _, h := range r.plan.Hooks {
			if h.Type == t && !yield(h) {
				return
			}
		}
	}
}

// answers takes in the results of calls, each once: a call that has its result
// is not wanted any more, and one that is not wanted has no result.
func (r *step) answers() {
	s := &r.s
	for _, res := range r.in.Hooks {
		i := slices.IndexFunc(s.Calls, func(c HookCall) bool { return c.ID == res.ID })
		if i < 0 {
			continue
		}
		call := s.Calls[i]
		s.Calls = slices.Delete(s.Calls, i, i+1)
		r.answer(call, res)
	}
	// What was taken out of the plan cannot be called any more.
	s.Calls = slices.DeleteFunc(s.Calls, func(c HookCall) bool {
		return !slices.ContainsFunc(r.plan.Hooks, func(h Hook) bool { return h.Type == c.Type && h.Name == c.Name })
	})
}

func (r *step) answer(call HookCall, res HookResult) {
	s := &r.s
	here := call.Phase == s.Phase && call.Step == s.Step
	for i := range s.Hooks {
		if a := &s.Hooks[i]; here && a.Type == call.Type && a.Name == call.Name {
			if at, confirms := a.Type.confirms(); confirms && !res.OK && (!a.Known || a.OK) {
				r.tell(false, "GateClosed", "%s: webhook %s says no%s", r.place(at), a.Name, because(res.Reason))
			}
			a.Known, a.OK, a.Reason = true, res.OK, res.Reason
		}
	}
	failed := fmt.Sprintf("webhook %s failed%s", call.Name, because(res.Reason))
	switch call.Type {
	case HookPreRollout, HookRollout:
		if !res.OK {
			r.failed = append(r.failed, failed)
		}
	case HookRollback:
		if res.OK && r.s.undecided() {
			r.rollBack(RolledBack, fmt.Sprintf("webhook %s asks for it", call.Name))
		}
	case HookPostRollout:
		if !res.OK {
			r.tell(true, "HookFailed", "%s", failed)
		}
	case HookEvent:
		if !res.OK { // nobody is told by another call: that one would fail, too
			r.tell(true, untold, "%s", failed)
		}
	case HookConfirmRollout, HookConfirmTrafficIncrease, HookConfirmPromotion: // gates read the answer
	}
}

// because adds a reason to what is told; "" where there is none.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// untold is the reason of the event that event hooks are not told of.
const untold = "EventNotDelivered"

// undecided reports whether a run is on whose outcome is open.
func (s *State) undecided() bool {
	switch s.Phase {
	case Starting, Testing, Progressing:
		return true
	case Initializing, Idle, Promoting, Finalizing, RollingBack:
	}
	return false
}

// besides calls the hooks that no phase waits for.
func (r *step) besides() {
	if !r.s.undecided() {
		return
	}
	for h := range r.hooksOf(HookRollback) {
		r.ask(h)
	}
	if r.s.Phase != Starting && !r.s.Acked.IsZero() {
		for h := range r.hooksOf(HookRollout) {
			r.ask(h)
		}
	}
}

// prepared calls the pre-rollout hooks and reports whether all succeeded in
// this run.
func (r *step) prepared() bool {
	s := &r.s
	if s.Prepared {
		return true
	}
	for h := range r.hooksOf(HookPreRollout) {
		var a Answer
		if known := r.answerOf(h); known != nil && known.OK {
			continue
		}
		switch a = *r.ask(h); {
		case a.Known && !r.calling(h):
			r.pause(WaitTime, a.At.Add(r.plan.Policy.Interval), "before the first step: webhook %s is called again after it failed: %s", h.Name, orElse(a.Reason, "it gave no reason"))
		default:
			r.late(r.stall("before the first step: waiting for the answer of webhook %s", h.Name))
		}
		return false
	}
	s.Prepared = true
	return true
}

func (r *step) answerOf(h Hook) *Answer {
	for i := range r.s.Hooks {
		if a := &r.s.Hooks[i]; a.Type == h.Type && a.Name == h.Name {
			return a
		}
	}
	return nil
}

// unanswered is a rollout hook that did not succeed at this step yet; "" =
// there is none.
func (r *step) unanswered() (name string, a Answer) {
	for h := range r.hooksOf(HookRollout) {
		known := r.answerOf(h)
		if known == nil {
			return h.Name, Answer{}
		}
		if !known.OK {
			return h.Name, *known
		}
	}
	return "", Answer{}
}

// post decides the calls that follow the end of a run, and gives up those whose
// answers would have no meaning any more.
func (r *step) post() {
	s := &r.s
	s.Hooks = nil
	s.Calls = slices.DeleteFunc(s.Calls, func(c HookCall) bool { return c.Type != HookEvent && c.Type != HookPostRollout })
	for h := range r.hooksOf(HookPostRollout) {
		r.call(h, nil)
	}
}

// deliver decides the calls that tell of this step's events.
func (r *step) deliver() {
	for i := range r.events {
		r.events[i].Phase, r.events[i].Outcome = r.s.Phase, r.s.Run.Outcome
	}
	for h := range r.hooksOf(HookEvent) {
		for i := range r.events {
			if r.events[i].Reason != untold {
				e := r.events[i]
				r.call(h, &e)
			}
		}
	}
	s := &r.s
	told := 0
	for i := len(s.Calls) - 1; i >= 0; i-- {
		if s.Calls[i].Type != HookEvent {
			continue
		}
		if told++; told > mostTold {
			s.Calls = slices.Delete(s.Calls, i, i+1)
		}
	}
}
