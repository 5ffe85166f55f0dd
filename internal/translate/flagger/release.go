package flagger

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
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
	// defaults.
	falseAlarm = "0.001"
	confidence = "95"

	shortestInterval = 10 * time.Second // Flagger raises shorter ones
	hookTimeout      = 10 * time.Second // Flagger's default
)

// Release translates a Canary. The spec is complete: the API's defaults change
// nothing in it. It must not be used when a finding is an Error; there may be
// several.
func Release(c *flaggerv1.Canary) (v1alpha1.ReleaseSpec, []Finding) {
	var fs findings
	spec := v1alpha1.ReleaseSpec{
		Target:           target(&c.Spec.TargetRef, &fs),
		Service:          service(&c.Spec.Service, &fs),
		ProgressDeadline: progressDeadline(c, &fs),
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
	spec.Steps = steps(a, path, &fs)
	interval := analysisInterval(a, path, &fs)
	spec.Hold = metav1.Duration{Duration: interval}
	spec.Judge = v1alpha1.Judge{
		FalseAlarm:   falseAlarm,
		Tolerance:    "0", // Flagger advances when the checks pass
		Confidence:   confidence,
		Checks:       checks(a, path, interval, &fs),
		FailureLimit: int32(min(max(a.Threshold, 1), 1<<30)),
		Interval:     metav1.Duration{Duration: interval},
	}
	spec.Webhooks = webhooks(a, path, &fs)
	unsupportedAnalysis(a, path, &fs)
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

func service(s *flaggerv1.CanaryService, fs *findings) v1alpha1.Service {
	out := v1alpha1.Service{Name: s.Name, Port: s.Port, Hosts: s.Hosts, Gateways: s.Gateways}
	if s.Port < 1 || s.Port > 65535 {
		fs.error("spec.service.port", "%d: want a port from 1 to 65535", s.Port)
	}
	if s.TargetPort != (intstr.IntOrString{}) {
		out.TargetPort = &s.TargetPort
	}
	for i := range s.Match {
		path := fmt.Sprintf("spec.service.match[%d]", i)
		if usesSuffix(&s.Match[i]) {
			fs.error(path, "suffix is not supported: use regex, such as regex: .*\\.png")
		}
		data, err := json.Marshal(&s.Match[i])
		if err != nil {
			fs.error(path, "%v", err)
			continue
		}
		out.Match = append(out.Match, runtime.RawExtension{Raw: data})
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

func progressDeadline(c *flaggerv1.Canary, fs *findings) metav1.Duration {
	seconds := c.GetProgressDeadlineSeconds()
	if seconds < 1 {
		fs.error("spec.progressDeadlineSeconds", "%d: want 1 or more", seconds)
	}
	return metav1.Duration{Duration: time.Duration(seconds) * time.Second}
}

// analysisInterval is Flagger's: 60 s by default, never below 10 s. Flagger
// takes the default for one that it cannot read, too; here that is an error.
func analysisInterval(a *flaggerv1.CanaryAnalysis, path string, fs *findings) time.Duration {
	if a.Interval == "" {
		return flaggerv1.AnalysisInterval
	}
	d, err := time.ParseDuration(a.Interval)
	switch {
	case err != nil:
		fs.error(path+".interval", "%q: want a time such as 1m", a.Interval)
		return flaggerv1.AnalysisInterval
	case d < shortestInterval:
		fs.warn(path+".interval", "%s is raised to %v, the shortest that Flagger knows", a.Interval, shortestInterval)
		return shortestInterval
	}
	return d
}

// steps are the weights that Flagger would set one after the other: it adds the
// next step until the weight has reached its maximum, so the last step may pass
// it (20, 40, 60 for steps of 20 up to 50), and 100 is the limit.
func steps(a *flaggerv1.CanaryAnalysis, path string, fs *findings) []intstr.IntOrString {
	if a.Iterations > 0 {
		return nil // a finding of its own
	}
	if a.StepWeight == 0 && len(a.StepWeights) == 0 {
		fs.error(path+".stepWeight", "is missing: set it, such as stepWeight: 10, or stepWeights: [5, 20, 50]")
		return nil
	}
	if a.StepWeight < 0 || a.StepWeight > 100 {
		fs.error(path+".stepWeight", "%d: want 1 to 100", a.StepWeight)
		return nil
	}
	limit := a.MaxWeight
	switch {
	case len(a.StepWeights) > 0:
		if !ascending(a.StepWeights) {
			fs.error(path+".stepWeights", "%v: want weights from 1 to 100, each above the one before", a.StepWeights)
			return nil
		}
		limit = a.StepWeights[len(a.StepWeights)-1] // whatever maxWeight says
	case limit == 0:
		limit = 100
	case limit < 0 || limit > 100:
		fs.error(path+".maxWeight", "%d: want 1 to 100", limit)
		return nil
	}
	if a.StepWeight == 0 {
		out := make([]intstr.IntOrString, len(a.StepWeights))
		for i, w := range a.StepWeights {
			out[i] = intstr.FromInt(w)
		}
		return out
	}
	var out []intstr.IntOrString
	for w := 0; w < limit; {
		w = min(w+a.StepWeight, 100)
		out = append(out, intstr.FromInt(w))
	}
	return out
}

func ascending(weights []int) bool {
	last := 0
	for _, w := range weights {
		if w <= last || w > 100 {
			return false
		}
		last = w
	}
	return true
}

// checks are the two metrics that Flagger has built in.
func checks(a *flaggerv1.CanaryAnalysis, path string, interval time.Duration, fs *findings) []v1alpha1.Check {
	var out []v1alpha1.Check
	for i := range a.Metrics {
		m := &a.Metrics[i]
		p := fmt.Sprintf("%s.metrics[%d]", path, i)
		var check v1alpha1.Check
		switch {
		case m.TemplateRef != nil:
			fs.error(p+".templateRef", "metric templates are not supported yet: use request-success-rate or request-duration")
			continue
		case m.Query != "":
			fs.error(p+".query", "queries are not supported yet: use request-success-rate or request-duration")
			continue
		case m.Name == "request-success-rate":
			check.Metric = "success-rate"
		case m.Name == "request-duration":
			check.Metric = "duration-p99"
		default:
			fs.error(p+".name", "%q is not supported yet: use request-success-rate or request-duration", m.Name)
			continue
		}
		switch {
		case m.ThresholdRange != nil:
			check.Min, check.Max = number(m.ThresholdRange.Min), number(m.ThresholdRange.Max)
		case m.Threshold != 0 && check.Metric == "success-rate": // the deprecated form: a minimum for the rate …
			check.Min = number(&m.Threshold)
		case m.Threshold != 0: // … and a maximum for the duration
			check.Max = number(&m.Threshold)
		}
		if check.Min == "" && check.Max == "" {
			fs.error(p+".thresholdRange", "is missing: set min or max, or remove the metric")
			continue
		}
		if m.Interval != "" {
			switch d, err := time.ParseDuration(m.Interval); {
			case err != nil:
				fs.error(p+".interval", "%q: want a time such as 1m", m.Interval)
			case d > interval:
				fs.warn(p+".interval", "each look covers %v, the analysis interval, instead of %s: lengthen that if it sees too few requests", interval, m.Interval)
			}
		}
		out = append(out, check)
	}
	return out
}

func number(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(*v, 'f', -1, 64)
}

// webhooks are those that Flagger calls at every look.
func webhooks(a *flaggerv1.CanaryAnalysis, path string, fs *findings) []v1alpha1.Webhook {
	var out []v1alpha1.Webhook
	for i := range a.Webhooks {
		w := &a.Webhooks[i]
		p := fmt.Sprintf("%s.webhooks[%d]", path, i)
		switch w.Type {
		case "", flaggerv1.RolloutHook:
		case flaggerv1.PostRolloutHook, flaggerv1.EventHook:
			fs.warn(p+".type", "%s is not supported yet and is not called: watch the Release's events instead", w.Type)
			continue
		case flaggerv1.ConfirmRolloutHook, flaggerv1.ConfirmPromotionHook, flaggerv1.ConfirmTrafficIncreaseHook, flaggerv1.RollbackHook:
			fs.error(p+".type", "%s is not supported yet, and without it the version could go where you want it held: remove it, and use serin release promote and abort", w.Type)
			continue
		case flaggerv1.PreRolloutHook:
			fs.error(p+".type", "pre-rollout is not supported yet, and without it the version would get traffic untested: make it a rollout webhook, which is called from the first step on")
			continue
		default:
			fs.error(p+".type", "%q is unknown: use rollout", w.Type)
			continue
		}
		if !strings.HasPrefix(w.URL, "http://") && !strings.HasPrefix(w.URL, "https://") {
			fs.error(p+".url", "%q: want one such as http://flagger-loadtester.test/", w.URL)
		}
		hook := v1alpha1.Webhook{Name: w.Name, Type: "rollout", URL: w.URL, Timeout: metav1.Duration{Duration: hookTimeout}}
		if w.Timeout != "" {
			d, err := time.ParseDuration(w.Timeout)
			if err != nil || d <= 0 {
				fs.error(p+".timeout", "%q: want a time such as 5s", w.Timeout)
			}
			hook.Timeout.Duration = d
		}
		if w.Retries > 0 {
			fs.warn(p+".retries", "is not supported yet: each failed call is a failed check")
		}
		if w.Metadata != nil {
			hook.Metadata = *w.Metadata
		}
		out = append(out, hook)
	}
	return out
}
