package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ReleaseStatus is what Serin did and saw.
type ReleaseStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Initializing, Idle, Starting, Progressing, Promoting, Finalizing or
	// RollingBack.
	// +optional
	Phase string `json:"phase,omitempty"`

	// What the engine waits for, or why it did what it did, in one line.
	// +optional
	Reason string `json:"reason,omitempty"`

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

	// +optional
	Split Split `json:"split,omitempty"`

	// Requests of the present run.
	// +optional
	Samples Samples `json:"samples,omitempty"`

	// NoData, Collecting, Pass or Fail.
	// +optional
	Verdict string `json:"verdict,omitempty"`

	// Checks that failed in the present run, or in the last one.
	// +optional
	FailedChecks int32 `json:"failedChecks,omitempty"`

	// What the verdict rests on, in one line.
	// +optional
	Evidence string `json:"evidence,omitempty"`

	// Ready, Promoted and Accepted, in Kubernetes' condition format.
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

// Samples are counts of requests that were routed by the split.
type Samples struct {
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

// Run is one ended run.
type Run struct {
	// Runs of a Release are numbered from 1.
	Number int64 `json:"number"`

	From Version `json:"from"`
	To   Version `json:"to"`

	// promoted, rolled-back, aborted or superseded.
	Outcome string `json:"outcome"`

	Started metav1.Time `json:"started"`
	Ended   metav1.Time `json:"ended"`

	// Requests the canary served and failed in the run.
	Canary Count `json:"canary"`

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

	// Why, in one line.
	// +optional
	Reason string `json:"reason,omitempty"`

	// Set when a fault decided the run.
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

	// Requests and failures of that endpoint on both sides.
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
}
