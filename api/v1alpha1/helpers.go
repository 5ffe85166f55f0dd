package v1alpha1

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Annotations by which people order something of a Release.
const (
	// AnnotationCommand is the verb: promote, abort, skip, retry, rollback,
	// approve or reject.
	AnnotationCommand       = "serin.dev/command"
	AnnotationCommandID     = "serin.dev/command-id"     // tells one order from the next
	AnnotationCommandReason = "serin.dev/command-reason" // free text, kept in the history
	AnnotationCommandBy     = "serin.dev/command-by"     // who orders it
	AnnotationCommandGate   = "serin.dev/command-gate"   // which gate is approved or rejected
)

// AnnotationFreeze on a Release or on a Namespace lets no run start and none
// advance; rollbacks work. Its value is the reason.
const AnnotationFreeze = "serin.dev/freeze"

// Types of a Release's conditions.
const (
	ConditionAccepted = "Accepted" // the spec can be worked with
	ConditionReady    = "Ready"    // the stable version serves users
	ConditionPromoted = "Promoted" // the newest version is the stable one; unknown until its run has ended

	// ConditionEnoughTraffic: at the present rate of requests the first step
	// ends in time. It is missing until the rate is known.
	ConditionEnoughTraffic = "EnoughTraffic"
)

// Worker reports whether nobody calls the workload.
func (s *ReleaseSpec) Worker() bool { return s.Service.Port == 0 }

// SetCondition adds or changes a condition; the transition time moves only
// when the status does. A nil ok stands for Unknown.
func (s *ReleaseStatus) SetCondition(kind string, ok *bool, reason, message string, generation int64, now time.Time) {
	meta.SetStatusCondition(&s.Conditions, condition(kind, ok, reason, message, generation, now))
}

func condition(kind string, ok *bool, reason, message string, generation int64, now time.Time) metav1.Condition {
	status := metav1.ConditionUnknown
	if ok != nil {
		status = metav1.ConditionFalse
		if *ok {
			status = metav1.ConditionTrue
		}
	}
	return metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message,
		ObservedGeneration: generation, LastTransitionTime: Time(now),
	}
}

// Time converts to the API's time, which has whole seconds.
func Time(t time.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }

// OptionalTime converts to the API's time; nil for the zero time.
func OptionalTime(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	at := Time(t)
	return &at
}

// Texts returns numbers and texts as they were written.
func Texts(values []intstr.IntOrString) []string {
	var out []string
	for _, v := range values {
		out = append(out, v.String())
	}
	return out
}

// Raw wraps JSON for a field that keeps it as it is.
func Raw(data []byte) *runtime.RawExtension { return &runtime.RawExtension{Raw: data} }
