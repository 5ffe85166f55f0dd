package rollout

import (
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
	// ID is unique among all calls of a release.
	ID   string   `json:"id"`
	Type HookType `json:"type"`
	Name string   `json:"name"`
	// What the run was at when the call was decided: a repeated call has the
	// same payload.
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
