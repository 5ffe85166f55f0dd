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
// Served, Arrived, Late, Mirrored) is counted since the last Step that was
// given it, and must be given to one Step only.
type Input struct {
	Now time.Time

	// Target is the user's workload: the canary. Stable is the copy that
	// serves users.
	Target, Stable Workload

	Ack Ack

	// Samples of requests that the split sent after Ack.Since. While copies
	// are mirrored the canary's are its answers to copies, and the stable
	// side's those to the requests that were copied: the same requests, so
	// they compare fairly. In the ABTest strategy the users of the two sides
	// are not alike: the canary's requests are direct ones, and the stable
	// side has none. Own load is counted whatever the split is, as long as
	// Ack.OK.
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
	// should not have done so: they began after Ack.Since while Ack.Traffic
	// gave it none.
	Late int64

	// Command of a person; the zero value is none. It may be repeated: one ID
	// is obeyed once.
	Command Command

	// Approvals of manual gates. They may be repeated, in any number.
	Approvals []Approval

	// Hooks are the results of World.Hooks that came in. They may be
	// repeated; one for a call that is not wanted any more is ignored.
	Hooks []HookResult

	// Mirrored is how the answers to copies compare, since the last Step.
	Mirrored Mirrored

	// Warm is the workload that runs World.Warm.
	Warm Workload

	// Pods is how many the user, or the autoscaler, asks for in all in the
	// Replicas strategy; 0 = as many as the stable copy had at first.
	Pods int32

	// Suspended holds everything but rollbacks.
	Suspended bool
	// Frozen does the same, with the reason that somebody gave; "" = it is
	// not.
	Frozen string
	// Blocked does the same, with what has to be settled first, such as an
	// object that is somebody else's; "" = it is not.
	Blocked string
	// Paused does the same, with who holds the target and how it goes on; "" =
	// nobody does. Nor is a stable copy begun: nobody knows whether the
	// target's revision is one that may serve users.
	Paused string
	// DependsOn are the releases that a new run has to wait for, because
	// they run or are not promoted.
	DependsOn []string
	// Set are the other releases of the same set; empty = it is in none.
	Set []Member
}

// Workload is what is observed of one side's pods.
type Workload struct {
	// Revision of its template; "" = the workload does not exist.
	Revision Revision
	// Ready: it is scaled up, and enough of the pods asked for run Revision
	// and are available.
	Ready bool
	// Pods are those of any revision that answer requests, Wanted those that
	// are asked for. Wanted = 0: it is scaled away, or nobody counts.
	Pods, Wanted int32
	// ScaledAway: it exists, and is asked to have no pod.
	ScaledAway bool
	// Message says in one line why it is not ready, or does not exist.
	Message string
}

// Ack is what all proxies together confirmed.
type Ack struct {
	// OK: every proxy applied the latest route that was asked for. False
	// while one of them still has another, and while there is no route.
	OK bool
	// Traffic that this route gives to the canary. Without a route (see
	// World.ByPods): what the numbers of pods give it, once they are as
	// asked for and every proxy knows them; Share is then the one asked for.
	Traffic Traffic
	// Since when that is so, by the caller's clock; zero unless OK.
	Since time.Time
}

// Command is what a person orders.
type Command struct {
	ID   string
	Verb Verb
	// Reason is what the person gave as one; "" = none.
	Reason string
	// By is who the person is; "" = not known.
	By string
	// Gate is the one that Approve and Reject answer.
	Gate string
}

// String names the command as it stands in reasons.
func (c Command) String() string {
	out := c.By
	if out == "" {
		out = "command " + c.ID
	}
	if c.Reason != "" {
		out += fmt.Sprintf(" (%s)", c.Reason)
	}
	return out
}

// Verb is the kind of a Command.
type Verb string

// The verbs.
const (
	// Promote skips the remaining steps and gates: the canary becomes stable
	// now.
	Promote Verb = "promote"
	// Abort takes all traffic back and does not try the revision again.
	Abort Verb = "abort"
	// Skip ends the present step without its evidence; gates are asked.
	Skip Verb = "skip"
	// Retry releases a revision that was rolled back or aborted once more.
	Retry Verb = "retry"
	// Rollback goes back to the last good version: during a run as Abort,
	// otherwise from the stable version to the one before it.
	Rollback Verb = "rollback"
	// Approve and Reject answer the gate Command.Gate, as an Approval.
	Approve Verb = "approve"
	Reject  Verb = "reject"
)

// Mirrored counts pairs of answers that were compared. It is shown, and decides
// nothing: a new version may well be meant to answer otherwise.
type Mirrored struct {
	// Compared are pairs of the canary and stable, Differ those whose answers
	// were not the same.
	Compared int64 `json:"compared,omitempty"`
	Differ   int64 `json:"differ,omitempty"`
	// Noise is the same for pairs of stable and stable.
	NoiseCompared int64 `json:"noiseCompared,omitempty"`
	NoiseDiffer   int64 `json:"noiseDiffer,omitempty"`
	// Example says how one of them differed.
	Example string `json:"example,omitempty"`
}

// Add returns the sum of two comparisons, with the latest example.
func (m Mirrored) Add(n Mirrored) Mirrored {
	return Mirrored{
		Compared: m.Compared + n.Compared, Differ: m.Differ + n.Differ,
		NoiseCompared: m.NoiseCompared + n.NoiseCompared, NoiseDiffer: m.NoiseDiffer + n.NoiseDiffer,
		Example: orElse(n.Example, m.Example),
	}
}
