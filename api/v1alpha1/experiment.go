package v1alpha1

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Experiment compares several versions of one Deployment on live traffic, for a
// time, and takes them away again.
//
// Each candidate gets pods and an exact share of the users' requests of its
// own beside the running version ("stable"), which keeps the rest and which
// every candidate is judged against. A candidate that is found worse loses its
// traffic at once. A spec cannot be changed: delete the Experiment, which gives
// all traffic back, and make another one.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=exp,categories=all
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.target.name`
// +kubebuilder:printcolumn:name="Candidates",type=string,JSONPath=`.status.candidates`
// +kubebuilder:printcolumn:name="Winner",type=string,JSONPath=`.status.winner`
// +kubebuilder:printcolumn:name="Outcome",type=string,JSONPath=`.status.outcome`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Experiment struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ExperimentSpec   `json:"spec"`
	Status ExperimentStatus `json:"status,omitempty"`
}

// ExperimentList is a list of Experiment objects.
//
// +kubebuilder:object:root=true
type ExperimentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Experiment `json:"items"`
}

// ExperimentSpec is what the user asks for.
type ExperimentSpec struct {
	// The workload whose running version the candidates are compared with.
	Target Target `json:"target"`

	// How users reach the workload. Left out where a Release has the target:
	// that says it already.
	// +optional
	Service *Service `json:"service,omitempty"`

	// The versions that are tried.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	Candidates []Candidate `json:"candidates"`

	// How long the candidates have traffic.
	// +kubebuilder:validation:Format=duration
	Duration metav1.Duration `json:"duration"`

	// Longest time of each wait for others: for the run of a Release to end,
	// pods to get ready, proxies to acknowledge.
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:Format=duration
	// +optional
	ProgressDeadline metav1.Duration `json:"progressDeadline,omitempty"`

	// How each candidate is judged against stable. All of them share
	// falseAlarm; a budget is for each.
	// +kubebuilder:default={}
	// +optional
	Judge Judge `json:"judge,omitempty"`

	// How the best version is found; without: none is.
	// +optional
	Choose *Choose `json:"choose,omitempty"`
}

// Candidate is one version that is tried. Of containers, template and
// deployment one is set; without any it is the running version once more.
type Candidate struct {
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=32
	Name string `json:"name"`

	// Share of the requests: percent as a number, or as text down to a
	// hundredth, such as "0.1%".
	Share intstr.IntOrString `json:"share"`

	// Pods. Default: for its share as many as stable has for all requests, and 1 at least.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// What is different from the running version.
	// +listType=map
	// +listMapKey=name
	// +optional
	Containers []ContainerChange `json:"containers,omitempty"`

	// A whole pod template, as in a Deployment.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	Template *runtime.RawExtension `json:"template,omitempty"`

	// A Deployment whose pod template it runs. Its own pods are left alone.
	// +optional
	Deployment string `json:"deployment,omitempty"`
}

// ContainerChange changes one container of the running version.
type ContainerChange struct {
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`

	// +optional
	Image string `json:"image,omitempty"`

	// Variables that are added, or have another value.
	// +listType=map
	// +listMapKey=name
	// +optional
	Env []Variable `json:"env,omitempty"`
}

// Variable of the environment.
type Variable struct {
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
	// +optional
	Value string `json:"value,omitempty"`
}

// Choose says which version is the best, and what becomes of it.
type Choose struct {
	// What is to be low: error-rate, or a quantile of the duration.
	// +kubebuilder:default=error-rate
	// +kubebuilder:validation:Enum=error-rate;duration-p50;duration-p90;duration-p95;duration-p99
	// +optional
	Metric string `json:"metric,omitempty"`

	// The target gets the winner's pod template when the experiment is over,
	// if the judge passed it. A Release of the target then releases it.
	// +optional
	Promote bool `json:"promote,omitempty"`
}

// ExperimentStatus is what Serin did and saw.
type ExperimentStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Waiting, Starting, Running, Restoring, Promoting, Removing or Finished.
	// +optional
	Phase string `json:"phase,omitempty"`

	// What is waited for, or how it ended, in one line.
	// +optional
	Reason string `json:"reason,omitempty"`

	// When the present wait ends at the latest.
	// +optional
	Deadline *metav1.Time `json:"deadline,omitempty"`

	// When the candidates got traffic, and when it is taken back.
	// +optional
	Began *metav1.Time `json:"began,omitempty"`
	// +optional
	Ends *metav1.Time `json:"ends,omitempty"`

	// Candidates that are in, of all: "2/3".
	// +optional
	Candidates string `json:"candidates,omitempty"`

	// chosen, no-difference, compared (nothing was to be chosen), all-dropped,
	// cancelled, failed or not-started; empty until it is known.
	// +optional
	Outcome string `json:"outcome,omitempty"`

	// The version that is better than all others, "stable" included; empty
	// without.
	// +optional
	Winner string `json:"winner,omitempty"`

	// The running version, named stable, then the candidates.
	// +listType=map
	// +listMapKey=name
	// +optional
	Versions []ExperimentVersion `json:"versions,omitempty"`

	// Accepted, Finished and Chosen, in Kubernetes' condition format.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// The engine's own state, written before each of its steps so that a
	// restart goes on where it was. Not for reading by others.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Journal *runtime.RawExtension `json:"journal,omitempty"`
}

// ExperimentVersion is what one version did.
type ExperimentVersion struct {
	Name string `json:"name"`

	// +optional
	Version Version `json:"version,omitzero"`

	// Its share of the requests in percent: as asked for now, as applied by
	// every proxy, and as measured.
	// +optional
	Split Split `json:"split,omitempty"`

	// Requests while it had its share, and those that failed (5xx or no answer).
	// +optional
	Requests int64 `json:"requests"`
	// +optional
	Failures int64 `json:"failures"`

	// Quantiles of the duration in milliseconds; empty without requests.
	// +optional
	P50 string `json:"p50,omitempty"`
	// +optional
	P99 string `json:"p99,omitempty"`

	// NoData, Collecting, Pass or Fail, against stable.
	// +optional
	Verdict string `json:"verdict,omitempty"`

	// What the verdict rests on, in one line.
	// +optional
	Evidence string `json:"evidence,omitempty"`

	// Why it lost its traffic before the end.
	// +optional
	Dropped string `json:"dropped,omitempty"`
}

// Types of an Experiment's conditions, besides ConditionAccepted.
const (
	ConditionFinished = "Finished" // nothing of it is left but its status
	ConditionChosen   = "Chosen"   // one version was shown to be the best; unknown until it is finished
)

// SetCondition adds or changes a condition; see ReleaseStatus.SetCondition.
func (s *ExperimentStatus) SetCondition(kind string, ok *bool, reason, message string, generation int64, now time.Time) {
	meta.SetStatusCondition(&s.Conditions, condition(kind, ok, reason, message, generation, now))
}
