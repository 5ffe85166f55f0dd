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
// +kubebuilder:printcolumn:name="Asked",type=string,JSONPath=`.status.split.asked`
// +kubebuilder:printcolumn:name="Acked",type=string,JSONPath=`.status.split.acked`
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
//
// Its target and the name of its Service are given once: objects of other names
// would begin anew beside the old ones, which nobody would look after any more.
//
// +kubebuilder:validation:XValidation:rule="self.target.name == oldSelf.target.name",message="cannot be changed: delete the Release, which gives everything back, and make it anew; or make one more for another Deployment",fieldPath=".target.name"
// +kubebuilder:validation:XValidation:rule=`(has(self.service) ? (has(self.service.name) && self.service.name != "" ? self.service.name : self.target.name) : "") == (has(oldSelf.service) ? (has(oldSelf.service.name) && oldSelf.service.name != "" ? oldSelf.service.name : oldSelf.target.name) : "") || self.target.name != oldSelf.target.name`,message="cannot be changed, added or left out: delete the Release, which gives everything back, and make it anew",fieldPath=".service.name"
type ReleaseSpec struct {
	// The workload whose new versions are released. It stays the same for the life
	// of the Release.
	Target Target `json:"target"`

	// How users reach the workload. Left out for workers, which nobody calls, such
	// as those of a queue: strategy Replicas then releases them, and checks and
	// webhooks alone judge them. Its name stays the same for the life of the Release;
	// nor can it be added or left out later.
	// +optional
	Service Service `json:"service,omitzero"`

	// How the version meets its users: Canary by growing shares; ABTest by who
	// they are (match); BlueGreen all at once, after it was judged without
	// them; Mirror by copies of their requests, whose answers nobody sees;
	// Replicas by its share of the pods, without routing.
	// +kubebuilder:default=Canary
	// +kubebuilder:validation:Enum=Canary;ABTest;BlueGreen;Mirror;Replicas
	// +optional
	Strategy string `json:"strategy,omitempty"`

	// Canary shares, ascending: percent as a number, or as text down to a
	// hundredth, such as "0.1%". After the last step is judged good the
	// version is promoted. For Canary and Replicas.
	// +kubebuilder:default={10,25,50}
	// +kubebuilder:validation:MaxItems=100
	// +optional
	Steps []intstr.IntOrString `json:"steps,omitempty"`

	// Looks at the canary, one per judge.interval, that have to be good until
	// it is promoted. For ABTest, BlueGreen and Mirror.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Iterations int32 `json:"iterations,omitempty"`

	// Istio HTTPMatchRequests: whose requests get the canary. For ABTest.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	Match []runtime.RawExtension `json:"match,omitempty"`

	// Istio HTTPMatchRequests of testers: they meet the canary as soon as it
	// is ready, whatever its share, and do not count in the comparison.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	Preview []runtime.RawExtension `json:"preview,omitempty"`

	// Decides by who the user is, and not at each request anew, who meets the
	// canary: nobody goes back and forth, and shares stay exact.
	// +optional
	Cohort *Cohort `json:"cohort,omitempty"`

	// Keeps users who met the canary there by a cookie, for the time of the run.
	// +optional
	SessionAffinity *SessionAffinity `json:"sessionAffinity,omitempty"`

	// Copies of requests that the canary gets before its first share; their
	// answers are compared and thrown away. The strategy Mirror copies all
	// requests without it.
	// +optional
	Mirror *Mirror `json:"mirror,omitempty"`

	// Shares of the new stable version, ascending, by which it takes over from
	// the canary on promotion. Without: at once.
	// +kubebuilder:validation:MaxItems=100
	// +optional
	PromotionSteps []intstr.IntOrString `json:"promotionSteps,omitempty"`

	// Shares of the canary, descending, by which it is taken back when a
	// person aborts it or a limit is exceeded. Without, and whenever the
	// judge finds it worse: at once.
	// +kubebuilder:validation:MaxItems=100
	// +optional
	AbortSteps []intstr.IntOrString `json:"abortSteps,omitempty"`

	// Time at each of the abortSteps.
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:Format=duration
	// +optional
	AbortHold metav1.Duration `json:"abortHold,omitzero"`

	// How many of the pods have to be ready.
	// +optional
	Ready *Readiness `json:"ready,omitempty"`

	// The autoscaler of the target. The stable copy gets a copy of it, named
	// "<name>-stable", and has as many pods as that says.
	// +optional
	Autoscaler *Autoscaler `json:"autoscaler,omitempty"`

	// What must be given before the version gets further. A gate delays an
	// advance; it never holds up a rollback.
	// +listType=map
	// +listMapKey=name
	// +optional
	Gates []Gate `json:"gates,omitempty"`

	// Releases (name, or namespace/name) that go first: a run starts when each
	// of them has promoted its newest version.
	// +optional
	DependsOn []string `json:"dependsOn,omitempty"`

	// Releases of the namespace with the same set have one verdict: none is
	// promoted before all that have a new version are judged good, and when
	// one of them takes its version back, all do. With dependsOn between
	// them, one starts when the other is judged good.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	Set string `json:"set,omitempty"`

	// How long the pods of the version before stay after a promotion, so that
	// serin release rollback is done within a second.
	// +kubebuilder:validation:Format=duration
	// +optional
	KeepWarm metav1.Duration `json:"keepWarm,omitzero"`

	// Known from Flagger, and without effect: deleting a Release always gives
	// the target its replicas and users' Services their selectors back, and
	// removes the routes that Serin made.
	// +optional
	RevertOnDeletion bool `json:"revertOnDeletion,omitempty"`

	// Who is told.
	// +listType=map
	// +listMapKey=name
	// +optional
	Alerts []Alert `json:"alerts,omitempty"`

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

	// Longest time at one step for a version that is neither shown to be good
	// nor to be bad; then it is rolled back. Without: it is waited for.
	// +kubebuilder:validation:Format=duration
	// +optional
	StepDeadline metav1.Duration `json:"stepDeadline,omitzero"`

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

// Autoscaler names the autoscaler of the target, in the namespace of the
// Release, and says how the stable copy's differs from it.
type Autoscaler struct {
	// HorizontalPodAutoscaler (autoscaling/v2), or ScaledObject (KEDA's).
	// +kubebuilder:default=HorizontalPodAutoscaler
	// +kubebuilder:validation:Enum=HorizontalPodAutoscaler;ScaledObject
	// +optional
	Kind string `json:"kind,omitempty"`

	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`

	// Least number of pods of the stable copy; default: the target's, and at
	// least 1.
	// +kubebuilder:validation:Minimum=1
	// +optional
	MinReplicas *int32 `json:"minReplicas,omitempty"`

	// Largest number of pods of the stable copy; default: the target's.
	// +kubebuilder:validation:Minimum=1
	// +optional
	MaxReplicas *int32 `json:"maxReplicas,omitempty"`

	// Queries of the triggers of the stable copy's ScaledObject, by the
	// triggers' names. Without any, each query is the target's with the
	// stable copy's name in the place of the target's and the canary's.
	// +optional
	Queries map[string]string `json:"queries,omitempty"`
}

// Kinds of autoscalers.
const (
	KindHPA          = "HorizontalPodAutoscaler"
	KindScaledObject = "ScaledObject"
)

// Service describes the traffic that is split between stable and canary.
type Service struct {
	// Name of the Service users call; default: the target's name.
	// +optional
	Name string `json:"name,omitempty"`

	// Port users call.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// Name of the port.
	// +kubebuilder:default=http
	// +optional
	PortName string `json:"portName,omitempty"`

	// Protocol of the port, as in a Kubernetes Service, such as http2 or grpc.
	// +optional
	AppProtocol string `json:"appProtocol,omitempty"`

	// The other ports of the pods' containers are ports of the Services, too.
	// +optional
	PortDiscovery bool `json:"portDiscovery,omitempty"`

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

	// Part of an Istio HTTPRoute, for every request whichever version it goes
	// to: timeout, retries, headers, rewrite and corsPolicy.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	HTTP *runtime.RawExtension `json:"http,omitempty"`

	// Istio TrafficPolicy of the pods of both versions.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	TrafficPolicy *runtime.RawExtension `json:"trafficPolicy,omitempty"`

	// The VirtualService of the split has no hosts and gateways: others, which
	// have them, delegate to it by its name, which is that of the Service.
	// +optional
	Delegation bool `json:"delegation,omitempty"`

	// Labels and annotations of the Services that Serin makes.
	// +optional
	Metadata *ServiceMetadata `json:"metadata,omitempty"`
}

// ServiceMetadata is for the Service that users call, and for those of the two
// versions.
type ServiceMetadata struct {
	// +optional
	Service *Metadata `json:"service,omitempty"`
	// +optional
	Stable *Metadata `json:"stable,omitempty"`
	// +optional
	Canary *Metadata `json:"canary,omitempty"`
}

// Metadata is what an object is labelled and annotated with.
type Metadata struct {
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Cohort names what identifies a user. One field is set.
type Cohort struct {
	// Name of a request header, such as x-user.
	// +optional
	Header string `json:"header,omitempty"`
	// Name of a cookie.
	// +optional
	Cookie string `json:"cookie,omitempty"`
}

// SessionAffinity is Flagger's: whom the split sent to the canary gets a cookie
// that keeps them there.
type SessionAffinity struct {
	// +kubebuilder:validation:MinLength=1
	CookieName string `json:"cookieName"`
	// Seconds for which a browser keeps the cookie.
	// +kubebuilder:default=86400
	// +kubebuilder:validation:Minimum=1
	// +optional
	MaxAge int32 `json:"maxAge,omitempty"`
}

// Mirror sends copies of requests.
type Mirror struct {
	// Share of the requests that is copied, as in steps.
	// +kubebuilder:default=100
	// +optional
	Share intstr.IntOrString `json:"share,omitempty"`
}

// Readiness is how many of the pods that are asked for suffice, in percent.
type Readiness struct {
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Canary int32 `json:"canary,omitempty"`
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Stable int32 `json:"stable,omitempty"`
}

// Gate is something that has to be given: a person's approval, a time of the
// day, or both.
type Gate struct {
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`

	// Start: before the first traffic. Traffic: before each share, or the one
	// of step. Promotion: before the canary becomes the stable version.
	// +kubebuilder:default=Promotion
	// +kubebuilder:validation:Enum=Start;Traffic;Promotion
	// +optional
	At string `json:"at,omitempty"`

	// The step, from 1, before which a Traffic gate stands; 0 = each.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Step int32 `json:"step,omitempty"`

	// +optional
	Manual *ManualGate `json:"manual,omitempty"`

	// +optional
	Window *Window `json:"window,omitempty"`
}

// ManualGate waits for serin release approve.
type ManualGate struct {
	// Who may approve; empty: anybody who may change the Release.
	// +optional
	Approvers []string `json:"approvers,omitempty"`

	// The run is rolled back when nobody approved for so long. Without: it
	// waits.
	// +kubebuilder:validation:Format=duration
	// +optional
	Expires metav1.Duration `json:"expires,omitzero"`
}

// Window is a time of the day, on some days of the week.
type Window struct {
	// Without: every day.
	// +kubebuilder:validation:items:Enum=Mon;Tue;Wed;Thu;Fri;Sat;Sun
	// +optional
	Days []string `json:"days,omitempty"`
	// +kubebuilder:validation:Pattern=`^([01][0-9]|2[0-3]):[0-5][0-9]$`
	From string `json:"from"`
	// Earlier than from: on the next day.
	// +kubebuilder:validation:Pattern=`^([01][0-9]|2[0-3]):[0-5][0-9]$`
	To string `json:"to"`
	// Of the IANA database, such as Europe/Berlin.
	// +kubebuilder:default=UTC
	// +optional
	Zone string `json:"zone,omitempty"`
}

// Alert sends what happens to an AlertProvider of Flagger's.
type Alert struct {
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`

	// The least that is sent.
	// +kubebuilder:default=info
	// +kubebuilder:validation:Enum=info;warn;error
	// +optional
	Severity string `json:"severity,omitempty"`

	Provider ObjectRef `json:"provider"`
}

// ObjectRef names an object.
type ObjectRef struct {
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
	// Default: that of the Release.
	// +optional
	Namespace string `json:"namespace,omitempty"`
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

	// How much slower than stable the canary may be.
	// +kubebuilder:default={}
	// +optional
	Latency LatencyRule `json:"latency,omitzero"`

	// What a run may cost, whatever the statistics say.
	// +optional
	Budget *Budget `json:"budget,omitempty"`

	// Requests that Serin sends itself where users send too few: when a step,
	// or the test before it, still lacks evidence after the hold. Each goes to
	// the pods of the canary or of stable, by an even chance, marked with the
	// header serin-synthetic: NAMESPACE/NAME. None of it is a user's, so its
	// failures cost nothing.
	// +optional
	Load *Load `json:"load,omitempty"`

	// Promotes the version as soon as its pods are ready, unjudged.
	// +optional
	Skip bool `json:"skip,omitempty"`

	// Limits on single metrics, each looked at once per interval.
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

// LatencyRule is the relative judgement of durations.
type LatencyRule struct {
	// Percent by which the canary may be slower, such as "5%"; "0" = durations
	// are not judged.
	// +kubebuilder:default="5%"
	// +kubebuilder:validation:Pattern=`^[0-9]+(\.[0-9]+)?%?$`
	// +optional
	Tolerance string `json:"tolerance,omitempty"`

	// For how long after its first request the canary may be slower: fresh
	// processes fill caches, make connections and compile. A version that is
	// slower all along is found so much later, and one that is fast sooner is
	// not held up.
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Format=duration
	// +optional
	WarmUp metav1.Duration `json:"warmUp,omitzero"`
}

// Load is own load.
type Load struct {
	// Requests per second, to both versions together.
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Rate int32 `json:"rate,omitempty"`

	// Requests that a run may take in all. Without: as many as the evidence
	// does.
	// +kubebuilder:validation:Minimum=1
	// +optional
	UpTo int64 `json:"upTo,omitempty"`

	// What is sent, each as often as the others. Without: GET /.
	// +kubebuilder:validation:MaxItems=20
	// +optional
	Requests []LoadRequest `json:"requests,omitempty"`
}

// LoadRequest is one request of own load. It must be one that may be sent any
// number of times.
type LoadRequest struct {
	// +kubebuilder:default=GET
	// +optional
	Method string `json:"method,omitempty"`
	// With the query, as the pods get it: no route rewrites it.
	// +kubebuilder:default=/
	// +kubebuilder:validation:Pattern=`^/`
	// +optional
	Path string `json:"path,omitempty"`
	// +optional
	Headers map[string]string `json:"headers,omitempty"`
	// +optional
	Body string `json:"body,omitempty"`
}

// Budget bounds what a run may cost.
type Budget struct {
	// User requests that may fail because of the release, beyond those that would
	// have failed on stable; the run is rolled back when there are more.
	// +kubebuilder:validation:Minimum=1
	FailedRequests int64 `json:"failedRequests"`
}

// Check is a limit on what the canary does, absolute (min, max), relative to
// stable (toStable), or both.
type Check struct {
	// success-rate: answers without 5xx, in percent; error-rate: the others.
	// duration-p50, -p90, -p95, -p99: quantiles of what users wait for answers,
	// in milliseconds; failures have no part in them. cpu, memory: what a pod
	// uses on average, in thousandths of a processor and in MiB. restarts: of the
	// pods' containers. With a template or scrape: any name.
	// +kubebuilder:validation:MinLength=1
	Metric string `json:"metric"`

	// Lowest good value, as a number in a string.
	// +optional
	Min string `json:"min,omitempty"`

	// Highest good value, as a number in a string.
	// +optional
	Max string `json:"max,omitempty"`

	// Bounds on the difference between canary and stable.
	// +optional
	ToStable *Relative `json:"toStable,omitempty"`

	// abort: one bad look rolls back. count: so many as failureLimit do. warn:
	// it is told, by an event and an alert, and decides nothing.
	// +kubebuilder:default=count
	// +kubebuilder:validation:Enum=abort;count;warn
	// +optional
	Severity string `json:"severity,omitempty"`

	// Time that a look covers; default: judge.interval.
	// +kubebuilder:validation:Format=duration
	// +optional
	Interval metav1.Duration `json:"interval,omitzero"`

	// A Flagger MetricTemplate that measures the metric.
	// +optional
	Template *ObjectRef `json:"template,omitempty"`

	// For the template's query.
	// +optional
	Variables map[string]string `json:"variables,omitempty"`

	// A metric that the pods show themselves, read from each of them.
	// +optional
	Scrape *Scrape `json:"scrape,omitempty"`
}

// Scrape reads a counter or gauge that applications show in Prometheus' text
// format. Of a gauge the value is the pods' mean; of a counter its growth per
// second and pod, or, with per, divided by the growth of another counter.
type Scrape struct {
	// Such as orders_failed_total.
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`

	// Labels that a series has to have; all series that have them are added up.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// Counter to divide by, such as orders_total.
	// +optional
	Per string `json:"per,omitempty"`

	// Port of the pods.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// +kubebuilder:default=/metrics
	// +kubebuilder:validation:Pattern=`^/`
	// +optional
	Path string `json:"path,omitempty"`
}

// Relative bounds the canary's value by that of stable: by a difference in the
// metric's unit ("+2", "-0.5"), or by a part of stable's value ("10%").
type Relative struct {
	// +kubebuilder:validation:Pattern=`^[+-]?[0-9]+(\.[0-9]+)?%?$`
	// +optional
	Min string `json:"min,omitempty"`
	// +kubebuilder:validation:Pattern=`^[+-]?[0-9]+(\.[0-9]+)?%?$`
	// +optional
	Max string `json:"max,omitempty"`
}

// Webhook is an HTTP POST to a hook of the user's, in Flagger's payload:
// {name, namespace, phase, checksum, metadata}, with {serin} beside: step,
// weight, evidence.
type Webhook struct {
	Name string `json:"name"`

	// When it is called, and what an answer other than 2xx means:
	// confirm-rollout: before the run; it waits.
	// pre-rollout: before the first traffic; a failed check.
	// rollout: at every interval while the canary has traffic; a failed check.
	// confirm-traffic-increase: before each larger share; it waits.
	// confirm-promotion: before the promotion; it waits.
	// post-rollout: after the run; nothing.
	// rollback: at every interval; there it is 2xx that rolls back.
	// event: at every event; nothing.
	// +kubebuilder:default=rollout
	// +kubebuilder:validation:Enum=confirm-rollout;pre-rollout;rollout;confirm-traffic-increase;confirm-promotion;post-rollout;rollback;event
	// +optional
	Type string `json:"type,omitempty"`

	// Called through the mesh, so a Service's name works as host. A call that
	// is repeated after a crash has the same header Idempotency-Key.
	// +kubebuilder:validation:Pattern=`^https?://`
	URL string `json:"url"`

	// Longest time of one call.
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:Format=duration
	// +optional
	Timeout metav1.Duration `json:"timeout,omitempty"`

	// For the confirm types: the run is rolled back when the answer was no for
	// so long. Without: it waits.
	// +kubebuilder:validation:Format=duration
	// +optional
	Expires metav1.Duration `json:"expires,omitzero"`

	// Calls beyond the first, after pauses of 1, 2, 4 ... 30 s, while there is no
	// answer, 429 or 5xx.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	// +optional
	Retries int32 `json:"retries,omitempty"`

	// Its failure is not sent as an alert.
	// +optional
	MuteAlert bool `json:"muteAlert,omitempty"`

	// Any certificate is good enough.
	// +optional
	DisableTLS bool `json:"disableTLS,omitempty"`

	// Sent as it is.
	// +optional
	Metadata map[string]string `json:"metadata,omitempty"`
}
