package flagger

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	istiov1alpha3 "github.com/fluxcd/flagger/pkg/apis/istio/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"serin.dev/serin/api/v1alpha1"
)

const (
	// What Serin's judge adds to the Canary's checks: the Release's own
	// defaults, but for durations, of which the author's own checks decide.
	falseAlarm       = "0.001"
	confidence       = "95"
	latencyTolerance = "0"

	shortestInterval = 10 * time.Second // Flagger raises shorter ones
	metricInterval   = time.Minute      // Flagger's default, for templates
	hookTimeout      = 10 * time.Second // Flagger's default
	mostRetries      = 10               // of a Release's webhooks
)

// Release translates a Canary. The spec is complete: the API's defaults change
// nothing in it. It must not be used when a finding is an Error; there may be
// several.
func Release(c *flaggerv1.Canary) (v1alpha1.ReleaseSpec, []Finding) {
	var fs findings
	spec := v1alpha1.ReleaseSpec{
		Target:           target(&c.Spec.TargetRef, &fs),
		Service:          service(&c.Spec.Service, &fs),
		Autoscaler:       autoscaler(c.Spec.AutoscalerRef, &fs),
		ProgressDeadline: progressDeadline(c, &fs),
		RevertOnDeletion: c.Spec.RevertOnDeletion,
		Suspend:          c.Spec.Suspend,
	}
	unsupportedSpec(&c.Spec, &fs)
	a, path := c.Spec.Analysis, "spec.analysis"
	if a == nil {
		a, path = c.Spec.CanaryAnalysis, "spec.canaryAnalysis"
	}
	if a == nil {
		fs.error("spec.analysis", "is missing: say how the canary advances, such as interval: 1m, threshold: 5, maxWeight: 50, stepWeight: 10")
		return spec, fs
	}
	strategy(&spec, a, path, &fs)
	interval := analysisInterval(a, path, &fs)
	spec.Hold = metav1.Duration{Duration: interval}
	spec.AbortHold = spec.Hold
	spec.Ready = ready(a, path, &fs)
	spec.Judge = v1alpha1.Judge{
		FalseAlarm:   falseAlarm,
		Tolerance:    "0", // Flagger advances when the checks pass
		Confidence:   confidence,
		Latency:      v1alpha1.LatencyRule{Tolerance: latencyTolerance},
		Skip:         c.Spec.SkipAnalysis,
		Checks:       checks(a, path, interval, &fs),
		FailureLimit: int32(min(max(a.Threshold, 1), 1<<30)),
		Interval:     metav1.Duration{Duration: interval},
	}
	spec.Webhooks = webhooks(a, path, &fs)
	spec.Alerts = alerts(a, path, &fs)
	blind(&spec, a, path, &fs)
	return spec, fs
}

func target(t *flaggerv1.LocalObjectReference, fs *findings) v1alpha1.Target {
	if t.Kind != "Deployment" || t.APIVersion != "" && t.APIVersion != "apps/v1" {
		fs.error("spec.targetRef", "%s %s is not supported: name a Deployment of apps/v1", t.APIVersion, t.Kind)
	}
	if t.Name == "" {
		fs.error("spec.targetRef.name", "is missing: name the Deployment")
	}
	return v1alpha1.Target{Kind: "Deployment", Name: t.Name}
}

// autoscaler is the same for both; Flagger looks at the kind alone.
func autoscaler(ref *flaggerv1.AutoscalerRefernce, fs *findings) *v1alpha1.Autoscaler {
	if ref == nil {
		return nil
	}
	const path = "spec.autoscalerRef"
	if ref.Kind != v1alpha1.KindHPA && ref.Kind != v1alpha1.KindScaledObject {
		fs.error(path+".kind", "%q is not supported: name a HorizontalPodAutoscaler or a ScaledObject", ref.Kind)
	}
	if ref.Name == "" {
		fs.error(path+".name", "is missing: name the autoscaler")
	}
	out := &v1alpha1.Autoscaler{Kind: ref.Kind, Name: ref.Name}
	if ref.Kind == v1alpha1.KindScaledObject {
		out.Queries = ref.PrimaryScalerQueries
	} else if len(ref.PrimaryScalerQueries) > 0 {
		*fs = append(*fs, Finding{Warning, path + ".primaryScalerQueries", "has no effect: it is for a ScaledObject"})
	}
	if r := ref.PrimaryScalerReplicas; r != nil {
		out.MinReplicas, out.MaxReplicas = r.MinReplicas, r.MaxReplicas
		if r.MinReplicas != nil && *r.MinReplicas < 1 {
			out.MinReplicas = nil
			*fs = append(*fs, Finding{Warning, path + ".primaryScalerReplicas.minReplicas", "is taken for 1: without any primary pod nobody answers"})
		}
	}
	return out
}

func service(s *flaggerv1.CanaryService, fs *findings) v1alpha1.Service {
	out := v1alpha1.Service{
		Name: s.Name, Port: s.Port, PortName: s.PortName, AppProtocol: s.AppProtocol, PortDiscovery: s.PortDiscovery,
		Hosts: s.Hosts, Gateways: s.Gateways, Delegation: s.Delegation,
		Match:         matches(s.Match, "spec.service.match", fs),
		HTTP:          commonRoute(s, fs),
		TrafficPolicy: trafficPolicy(s.TrafficPolicy, fs),
		Metadata:      serviceMetadata(s),
	}
	if s.Port < 1 || s.Port > 65535 {
		fs.error("spec.service.port", "%d: want a port from 1 to 65535", s.Port)
	}
	if out.PortName == "" {
		out.PortName = "http"
	}
	if s.TargetPort != (intstr.IntOrString{}) {
		out.TargetPort = &s.TargetPort
	}
	if s.Delegation && len(s.Hosts)+len(s.Gateways) > 0 {
		fs.error("spec.service.delegation", "cannot be with hosts or gateways: those of the VirtualService that delegates count; remove them here")
	}
	return out
}

// matches keeps conditions on requests as they are.
func matches(in []istiov1alpha3.HTTPMatchRequest, path string, fs *findings) []runtime.RawExtension {
	var out []runtime.RawExtension
	for i := range in {
		at := fmt.Sprintf("%s[%d]", path, i)
		if usesSuffix(&in[i]) {
			fs.error(at, "suffix is not supported: use regex, such as regex: .*\\.png")
		}
		if raw := rawOf(&in[i], at, fs); raw != nil {
			out = append(out, *raw)
		}
	}
	return out
}

func usesSuffix(m *istiov1alpha3.HTTPMatchRequest) bool {
	for _, s := range m.Headers {
		if s.Suffix != "" {
			return true
		}
	}
	return m.Uri != nil && m.Uri.Suffix != "" || m.Scheme != nil && m.Scheme.Suffix != "" ||
		m.Method != nil && m.Method.Suffix != "" || m.Authority != nil && m.Authority.Suffix != ""
}

// commonRoute is what is done with every request; nil = nothing.
func commonRoute(s *flaggerv1.CanaryService, fs *findings) *runtime.RawExtension {
	route := istiov1alpha3.HTTPRoute{
		Rewrite: s.GetIstioRewrite(),
		Timeout: seconds(s.Timeout, "spec.service.timeout", fs),
		Headers: s.Headers,
	}
	if s.Retries != nil {
		retries := *s.Retries
		retries.PerTryTimeout = seconds(retries.PerTryTimeout, "spec.service.retries.perTryTimeout", fs)
		route.Retries = &retries
	}
	if s.CorsPolicy != nil {
		cors := *s.CorsPolicy
		cors.MaxAge = seconds(cors.MaxAge, "spec.service.corsPolicy.maxAge", fs)
		route.CorsPolicy = &cors
	}
	raw := rawOf(&route, "spec.service", fs)
	if raw == nil || string(raw.Raw) == "{}" {
		return nil
	}
	return raw
}

// trafficPolicy keeps a policy but for the form of its times.
func trafficPolicy(p *istiov1alpha3.TrafficPolicy, fs *findings) *runtime.RawExtension {
	const path = "spec.service.trafficPolicy"
	if p == nil {
		return nil
	}
	raw := rawOf(p, path, fs)
	var tree map[string]any
	if raw == nil || json.Unmarshal(raw.Raw, &tree) != nil {
		return nil // told already
	}
	times(tree, path, fs)
	return rawOf(tree, path, fs)
}

// timeFields are those of a traffic policy. None of its maps has keys of the
// user's own.
var timeFields = map[string]bool{
	"interval": true, "baseEjectionTime": true, "connectTimeout": true, "idleTimeout": true, "ttl": true, "time": true, "warmupDurationSecs": true,
}

// times writes all times in a tree in seconds.
func times(tree map[string]any, path string, fs *findings) {
	for key, value := range tree {
		switch v := value.(type) {
		case map[string]any:
			times(v, path+"."+key, fs)
		case string:
			if timeFields[key] {
				tree[key] = seconds(v, path+"."+key, fs)
			}
		}
	}
}

// seconds writes a time in the one form that Istio's messages have.
func seconds(text, path string, fs *findings) string {
	if text == "" {
		return ""
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		fs.error(path, "%q: want a time such as 15s", text)
		return ""
	}
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

func rawOf(v any, path string, fs *findings) *runtime.RawExtension {
	data, err := json.Marshal(v)
	if err != nil {
		fs.error(path, "%v", err)
		return nil
	}
	return v1alpha1.Raw(data)
}

func serviceMetadata(s *flaggerv1.CanaryService) *v1alpha1.ServiceMetadata {
	if s.Apex == nil && s.Primary == nil && s.Canary == nil {
		return nil
	}
	of := func(m *flaggerv1.CustomMetadata) *v1alpha1.Metadata {
		if m == nil {
			return nil
		}
		return &v1alpha1.Metadata{Labels: m.Labels, Annotations: m.Annotations}
	}
	return &v1alpha1.ServiceMetadata{Service: of(s.Apex), Stable: of(s.Primary), Canary: of(s.Canary)}
}

func progressDeadline(c *flaggerv1.Canary, fs *findings) metav1.Duration {
	seconds := c.GetProgressDeadlineSeconds()
	if seconds < 1 {
		fs.error("spec.progressDeadlineSeconds", "%d: want 1 or more", seconds)
	}
	return metav1.Duration{Duration: time.Duration(seconds) * time.Second}
}
