package rollout

import (
	"fmt"
	"time"

	"serin.dev/serin/internal/analysis"
)

// Revision identifies a pod template; "" means none.
type Revision string

// Input is one observation of the world, made after the state that it is given
// with was stored. Whatever is counted in it (Samples,
// Served, Arrived, Late, FailedHooks) is counted since the last Step that was
// given it, and must be given to one Step only.
type Input struct {
	Now time.Time

	// Target is the user's workload: the canary. Stable is the copy that
	// serves users.
	Target, Stable Workload

	Ack Ack

	// Samples of requests that the split sent after Ack.Since.
	Samples analysis.Samples
	// FirstCanary is when the first request of this run reached the canary;
	// zero while none did.
	FirstCanary time.Time

	// Arrived counts requests to the service, however they were answered.
	// Those sent to the canary itself, such as a load test's, are none: they
	// will never be served by the stable version.
	Arrived int64
	// Served counts those among them that began after Ack.Since and that a
	// stable pod answered which runs World.StableRevision.
	Served int64
	// Late counts requests that were routed to the canary by a split that
	// should not have done so: they began after Ack.Since while Ack.Percent
	// was 0.
	Late int64

	// Command of a person; the zero value is none. It may be repeated: one ID
	// is obeyed once.
	Command Command

	// Suspended holds everything but rollbacks.
	Suspended bool

	// FailedHooks says which of the user's hooks failed and why, once per
	// failure.
	FailedHooks []string
}

// Workload is what is observed of one side's pods.
type Workload struct {
	// Revision of its template; "" = the workload does not exist.
	Revision Revision
	// Ready: it is scaled up, and every pod asked for runs Revision and is
	// available.
	Ready bool
	// Message says in one line why it is not ready.
	Message string
}

// Ack is what all proxies together confirmed.
type Ack struct {
	// OK: every proxy applied the latest route that was asked for. False
	// while one of them still has another, and while there is no route.
	OK bool
	// Percent that this route gives to the canary.
	Percent Percent
	// Since when that is so, by the caller's clock; zero unless OK.
	Since time.Time
}

// Command is what a person orders.
type Command struct {
	ID   string
	Verb Verb
	// Reason is what the person gave as one; "" = none.
	Reason string
}

// String names the command as it stands in reasons.
func (c Command) String() string {
	if c.Reason == "" {
		return "command " + c.ID
	}
	return fmt.Sprintf("command %s (%s)", c.ID, c.Reason)
}

// Verb is the kind of a Command.
type Verb string

// The verbs.
const (
	// Promote skips the remaining steps: the canary becomes stable now.
	Promote Verb = "promote"
	// Abort takes all traffic back and does not try the revision again.
	Abort Verb = "abort"
)
