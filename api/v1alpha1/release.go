package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Release brings new versions of one Deployment to its users step by step.
//
// Serin keeps a copy of the Deployment, "<name>-stable", that serves users.
// A change of the Deployment's pod template starts a run: the new version
// (the canary) gets a share of live traffic, is judged against the stable
// version on the same traffic, and is promoted or rolled back.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=rel,categories=all
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Step",type=string,JSONPath=`.status.stepText`
// +kubebuilder:printcolumn:name="Asked",type=integer,JSONPath=`.status.split.asked`
// +kubebuilder:printcolumn:name="Acked",type=integer,JSONPath=`.status.split.acked`
// +kubebuilder:printcolumn:name="Measured",type=string,JSONPath=`.status.split.measured`
// +kubebuilder:printcolumn:name="Verdict",type=string,JSONPath=`.status.verdict`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Release struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ReleaseSpec   `json:"spec"`
	Status ReleaseStatus `json:"status,omitempty"`
}

// ReleaseList is a list of Release objects.
//
// +kubebuilder:object:root=true
type ReleaseList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Release `json:"items"`
}

// ReleaseSpec is what the user asks for.
type ReleaseSpec struct {
	// The workload whose new versions are released.
	Target Target `json:"target"`

	// How users reach the workload.
	Service Service `json:"service"`

	// Canary shares in percent, ascending, each 1 to 100. After the last
	// step is judged good the version is promoted.
	// +kubebuilder:default={10,25,50}
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=100
	// +kubebuilder:validation:XValidation:rule="self.isSorted() && self.all(s, self.exists_one(t, t == s))",message="steps must ascend without repeats, such as [10, 25, 50]"
	// +optional
	Steps []int32 `json:"steps,omitempty"`

	// Shortest time at each step.
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:Format=duration
	// +optional
	Hold metav1.Duration `json:"hold,omitempty"`

	// Longest time for which pods that do not get ready, or proxies that do
	// not acknowledge a split, may hold a run up; then it is rolled back. Too
	// little traffic is no fault of the version, so waiting for requests does
	// not count.
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:Format=duration
	// +optional
	ProgressDeadline metav1.Duration `json:"progressDeadline,omitempty"`

	// How the canary is judged.
	// +kubebuilder:default={}
	// +optional
	Judge Judge `json:"judge,omitempty"`

	// HTTP hooks called during the run, such as a load test.
	// +optional
	Webhooks []Webhook `json:"webhooks,omitempty"`

	// Stops acting on this Release; traffic stays as it is.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// Target names the workload, in the namespace of the Release.
type Target struct {
	// +kubebuilder:default=Deployment
	// +kubebuilder:validation:Enum=Deployment
	// +optional
	Kind string `json:"kind,omitempty"`

	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
}

// Service describes the traffic that is split between stable and canary.
type Service struct {
	// Name of the Service users call; default: the target's name.
	// +optional
	Name string `json:"name,omitempty"`

	// Port users call.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// Port of the pods, by number or name; default: Port.
	// +optional
	TargetPort *intstr.IntOrString `json:"targetPort,omitempty"`

	// Further hosts under which the traffic arrives, such as the names of a
	// gateway's server; the Service's own name is always included.
	// +optional
	Hosts []string `json:"hosts,omitempty"`

	// Istio Gateways on which the traffic arrives, besides calls between
	// services ("mesh", always included).
	// +optional
	Gateways []string `json:"gateways,omitempty"`

	// Istio HTTPMatchRequests: which requests belong to this service on
	// its hosts. Without one: all.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	Match []runtime.RawExtension `json:"match,omitempty"`
}

// Judge sets how sure Serin must be, and of what.
type Judge struct {
	// Highest chance of rolling back a version that is no worse than
	// stable, over the whole run however often Serin looks (alpha).
	// A number between 0 and 0.5 written as a string.
	// +kubebuilder:default="0.001"
	// +kubebuilder:validation:Pattern=`^0(\.[0-9]+)?$`
	// +optional
	FalseAlarm string `json:"falseAlarm,omitempty"`

	// Share of user requests, in percent, that the next step may cost at
	// most: a step is passed when, at the given confidence, the canary's
	// extra failures times the next share stay below it. "0" asks for no
	// evidence beyond the checks.
	// +kubebuilder:default="1"
	// +kubebuilder:validation:Pattern=`^[0-9]+(\.[0-9]+)?$`
	// +optional
	Tolerance string `json:"tolerance,omitempty"`

	// Confidence in percent with which the tolerance must hold.
	// +kubebuilder:default="95"
	// +kubebuilder:validation:Pattern=`^[0-9]+(\.[0-9]+)?$`
	// +optional
	Confidence string `json:"confidence,omitempty"`

	// Absolute limits, looked at once per interval.
	// +optional
	Checks []Check `json:"checks,omitempty"`

	// Failed checks after which the run is rolled back, counted over the
	// whole run.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +optional
	FailureLimit int32 `json:"failureLimit,omitempty"`

	// Time between two looks at the checks.
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:Format=duration
	// +optional
	Interval metav1.Duration `json:"interval,omitempty"`
}

// Check is one absolute limit on what the canary does.
type Check struct {
	// success-rate: answers without 5xx, in percent.
	// duration-p99: 99th percentile of the duration, in milliseconds.
	// +kubebuilder:validation:Enum=success-rate;duration-p99
	Metric string `json:"metric"`

	// Lowest good value, as a number in a string.
	// +optional
	Min string `json:"min,omitempty"`

	// Highest good value, as a number in a string.
	// +optional
	Max string `json:"max,omitempty"`
}

// Webhook is an HTTP POST to a hook of the user's, in Flagger's payload:
// {name, namespace, phase, checksum, metadata}.
type Webhook struct {
	Name string `json:"name"`

	// rollout: called at every interval while the canary has traffic; an
	// answer other than 2xx is a failed check.
	// +kubebuilder:default=rollout
	// +kubebuilder:validation:Enum=rollout
	// +optional
	Type string `json:"type,omitempty"`

	// Called through the mesh, so a Service's name works as host.
	// +kubebuilder:validation:Pattern=`^https?://`
	URL string `json:"url"`

	// +kubebuilder:default="10s"
	// +kubebuilder:validation:Format=duration
	// +optional
	Timeout metav1.Duration `json:"timeout,omitempty"`

	// Sent as it is.
	// +optional
	Metadata map[string]string `json:"metadata,omitempty"`
}
