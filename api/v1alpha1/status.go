package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ReleaseStatus is what Serin did and saw.
type ReleaseStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Initializing, Idle, Starting, Testing, Progressing, Promoting, Finalizing
	// or RollingBack.
	// +optional
	Phase string `json:"phase,omitempty"`

	// What the engine waits for, or why it did what it did, in one line.
	// +optional
	Reason string `json:"reason,omitempty"`

	// What is waited for, in one line; empty when nothing is.
	// +optional
	WaitingFor string `json:"waitingFor,omitempty"`

	// Who or what ends that wait: others (pods, proxies, hooks), evidence,
	// time, gate, or person.
	// +optional
	Wait string `json:"wait,omitempty"`

	// When the present wait ends at the latest.
	// +optional
	Deadline *metav1.Time `json:"deadline,omitempty"`

	// Version that serves users.
	// +optional
	Stable Version `json:"stable,omitzero"`

	// Version under judgement, empty between runs.
	// +optional
	Canary Version `json:"canary,omitzero"`

	// Present step, from 1; 0 between runs.
	// +optional
	Step int32 `json:"step,omitempty"`

	// Step as people read it: "2/3", empty between runs.
	// +optional
	StepText string `json:"stepText,omitempty"`

	// Good looks at the present step, or in the test before the first one, of
	// those that it needs: "3/10".
	// +optional
	Iterations string `json:"iterations,omitempty"`

	// Why nothing may advance: the reason of the freeze; empty = none is on.
	// +optional
	Frozen string `json:"frozen,omitempty"`

	// How far all releases of the same set are.
	// +optional
	Set *SetStatus `json:"set,omitempty"`

	// Gates that were asked at the present point of the run.
	// +listType=map
	// +listMapKey=name
	// +optional
	Gates []GateStatus `json:"gates,omitempty"`

	// Webhooks that hold the run up at the present point.
	// +optional
	Hooks []HookStatus `json:"hooks,omitempty"`

	// The latest command of a person that was taken in.
	// +optional
	Command *CommandStatus `json:"command,omitempty"`

	// +optional
	Split Split `json:"split,omitempty"`

	// Requests of the present run.
	// +optional
	Samples Samples `json:"samples,omitempty"`

	// What the present run, or the last one, cost its users.
	// +optional
	Cost Cost `json:"cost"`

	// How the answers to copies of requests compare, of the present run.
	// +optional
	Mirrored *Mirrored `json:"mirrored,omitempty"`

	// NoData, Collecting, Pass or Fail.
	// +optional
	Verdict string `json:"verdict,omitempty"`

	// Checks that failed in the present run, or in the last one.
	// +optional
	FailedChecks int32 `json:"failedChecks,omitempty"`

	// What is wrong with checks and decides nothing now: a limit of severity warn
	// that is missed, a metric that cannot be measured. Empty between runs.
	// +optional
	Warnings []string `json:"warnings,omitempty"`

	// What the verdict rests on, in one line.
	// +optional
	Evidence string `json:"evidence,omitempty"`

	// Ready, Promoted, Accepted and EnoughTraffic, in Kubernetes' condition format.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Ended runs, latest first, ten at most.
	// +optional
	History []Run `json:"history,omitempty"`

	// The engine's own state, written before each of its steps so that a
	// restart goes on where it was. Not for reading by others.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Journal *runtime.RawExtension `json:"journal,omitempty"`
}

// Version identifies what runs.
type Version struct {
	// Hash of the pod template.
	// +optional
	Revision string `json:"revision,omitempty"`

	// Value of the template's version label, or the image's tag.
	// +optional
	Label string `json:"label,omitempty"`

	// +optional
	Image string `json:"image,omitempty"`
}

// Split is the canary's share in percent, such as "25" or "0.1".
type Split struct {
	// Written to the VirtualService.
	// +optional
	Asked string `json:"asked"`

	// When the present share was asked for.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// Applied by every proxy.
	// +optional
	Acked string `json:"acked"`

	// Seen in the requests since then, such as "9.8"; empty without traffic.
	// +optional
	Measured string `json:"measured,omitempty"`
}

// Samples are counts of requests that were routed by the split: in ABTest those
// of the matched users, in the test of BlueGreen those that were sent to the
// canary itself.
type Samples struct {
	// +optional
	Canary Count `json:"canary"`
	// +optional
	Stable Count `json:"stable"`

	// Those of them that Serin sent itself.
	// +optional
	Own OwnSamples `json:"own,omitzero"`
}

// OwnSamples are the requests of own load.
type OwnSamples struct {
	// +optional
	Canary Count `json:"canary"`
	// +optional
	Stable Count `json:"stable"`
}

// Count of requests and of failures (5xx or no answer) among them.
type Count struct {
	// +optional
	Requests int64 `json:"requests"`
	// +optional
	Failures int64 `json:"failures"`
}

// SetStatus is how far the releases of one set are.
type SetStatus struct {
	Name string `json:"name"`

	// Settled: nothing is new. Behind: a new version is to be released or is
	// being judged. Passed: each new version was judged good. Failed: one was
	// taken back, and all with it.
	Verdict string `json:"verdict"`

	// This release is among them.
	// +listType=map
	// +listMapKey=name
	Members []SetMember `json:"members"`
}

// SetMember is how far one release of a set is.
type SetMember struct {
	Name string `json:"name"`

	// As the verdict, of this one alone.
	Standing string `json:"standing"`

	// +optional
	Reason string `json:"reason,omitempty"`
}

// GateStatus is a gate that was asked.
type GateStatus struct {
	Name string `json:"name"`

	// Start, Traffic or Promotion.
	At string `json:"at"`

	// The step before which a gate at Traffic is asked.
	// +optional
	Step int32 `json:"step,omitempty"`

	// +optional
	Open bool `json:"open"`

	// When it was asked.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// Who may approve; empty: anybody who may change the Release, or nobody
	// has to.
	// +optional
	Approvers []string `json:"approvers,omitempty"`

	// Who approved.
	// +optional
	By string `json:"by,omitempty"`

	// When the run is rolled back without an approval.
	// +optional
	Expires *metav1.Time `json:"expires,omitempty"`
}

// HookStatus is a webhook that was called and did not succeed yet.
type HookStatus struct {
	Name string `json:"name"`
	Type string `json:"type"`

	// When it was called first at this point, and last.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// +optional
	Called *metav1.Time `json:"called,omitempty"`

	// What it answered; empty while the answer is waited for.
	// +optional
	Answer string `json:"answer,omitempty"`
}

// CommandStatus is a command of a person, and what became of it.
type CommandStatus struct {
	// The annotation serin.dev/command-id.
	ID string `json:"id"`

	// promote, abort, skip, retry, rollback, approve or reject.
	Verb string `json:"verb"`

	// +optional
	Gate string `json:"gate,omitempty"`

	// Who ordered it, as they said.
	// +optional
	By string `json:"by,omitempty"`

	// +optional
	Reason string `json:"reason,omitempty"`

	// When it was taken in.
	Time metav1.Time `json:"time"`

	// Why it had no effect; empty: it was obeyed.
	// +optional
	Refused string `json:"refused,omitempty"`
}

// Cost is what a run costs the users.
type Cost struct {
	// About how many requests of users failed because of the run, beyond those
	// that would have failed on stable.
	// +optional
	FailedRequests int64 `json:"failedRequests"`
}

// Mirrored counts pairs of answers, of the canary and of stable to the same
// request.
type Mirrored struct {
	Compared int64 `json:"compared"`
	Differ   int64 `json:"differ"`

	// The same for pairs of two stable answers: what differs by itself.
	// +optional
	NoiseCompared int64 `json:"noiseCompared,omitempty"`
	// +optional
	NoiseDiffer int64 `json:"noiseDiffer,omitempty"`

	// How one of them differed.
	// +optional
	Example string `json:"example,omitempty"`
}

// Run is one ended run.
type Run struct {
	// Runs of a Release are numbered from 1.
	Number int64 `json:"number"`

	From Version `json:"from"`
	To   Version `json:"to"`

	// promoted, rolled-back, aborted, superseded or reverted.
	Outcome string `json:"outcome"`

	Started metav1.Time `json:"started"`
	Ended   metav1.Time `json:"ended"`

	// Requests the canary served and failed in the run, without own load.
	Canary Count `json:"canary"`

	// Requests of own load that the run was judged by, too.
	// +optional
	Own OwnSamples `json:"own,omitzero"`

	// +optional
	Cost Cost `json:"cost"`

	// What people ordered in the run, the latest last.
	// +optional
	Commands []CommandStatus `json:"commands,omitempty"`

	// From the first request that reached the canary to the decision, in
	// milliseconds.
	// +optional
	DecisionMillis int64 `json:"decisionMillis,omitempty"`

	// From the decision to the acknowledgement of the last proxy, in
	// milliseconds.
	// +optional
	EffectMillis int64 `json:"effectMillis,omitempty"`

	// Requests sent to the canary after that acknowledgement, from the
	// proxies' records.
	// +optional
	CanaryRequestsAfterEffect int64 `json:"canaryRequestsAfterEffect"`

	// Why, in one line. Where it counts requests, they are those that were judged.
	// +optional
	Reason string `json:"reason,omitempty"`

	// Set when failed requests decided the run: where they were, beside the
	// reason.
	// +optional
	Cause *Cause `json:"cause,omitempty"`
}

// Cause explains a rollback with what was seen.
type Cause struct {
	// Version that failed, by its label.
	Version string `json:"version"`

	// Endpoint that failed most, such as "GET /api/v1/music/{id}".
	// +optional
	Endpoint string `json:"endpoint,omitempty"`

	// Requests and failures of that endpoint on both sides in the whole run,
	// failures that a retry masked included. The reason counts those alone that
	// were judged: none of tests, and none from before a step was in effect.
	Canary Count `json:"canary"`
	Stable Count `json:"stable"`

	// One failed request.
	// +optional
	Example *Example `json:"example,omitempty"`

	// The whole in one sentence.
	Summary string `json:"summary"`
}

// Example is one recorded request.
type Example struct {
	Time       metav1.MicroTime `json:"time"`
	RequestID  string           `json:"requestID,omitempty"`
	Method     string           `json:"method"`
	Path       string           `json:"path"`
	Code       int32            `json:"code"`
	Flags      string           `json:"flags,omitempty"`
	Source     string           `json:"source,omitempty"`
	Pod        string           `json:"pod,omitempty"`
	DurationMS string           `json:"durationMS,omitempty"`

	// A try of it failed, and a retry masked that: code is what the retry got.
	// +optional
	Masked bool `json:"masked,omitempty"`
}
