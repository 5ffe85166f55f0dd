package flagger

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"serin.dev/serin/api/v1alpha1"
)

// builtin are the metrics that Flagger has built in.
var builtin = map[string]string{
	"request-success-rate": "success-rate",
	"request-duration":     "duration-p99",
}

// checks translates the metrics: the two that are built in, and those that a
// template measures. One that is called as a built-in and has a template is
// both, as in Flagger.
func checks(a *flaggerv1.CanaryAnalysis, path string, interval time.Duration, fs *findings) []v1alpha1.Check {
	var out []v1alpha1.Check
	for i := range a.Metrics {
		m := &a.Metrics[i]
		p := fmt.Sprintf("%s.metrics[%d]", path, i)
		ours := builtin[m.Name]
		if m.Query != "" {
			fs.error(p+".query", "is not supported: put the query and the address of its server into a MetricTemplate, and name that in templateRef")
			continue
		}
		if ours == "" && m.TemplateRef == nil {
			fs.error(p+".name", "%q is not built in: use request-success-rate, request-duration, or a templateRef", m.Name)
			continue
		}
		window := lookback(m, p, interval, fs)
		if ours != "" {
			check := v1alpha1.Check{Metric: ours, Interval: window}
			switch {
			case m.ThresholdRange != nil:
				check.Min, check.Max = number(m.ThresholdRange.Min), number(m.ThresholdRange.Max)
			case m.Threshold != 0 && ours == "success-rate": // the deprecated form: a minimum for the rate …
				check.Min = number(&m.Threshold)
			case m.Threshold != 0: // … and a maximum for the duration
				check.Max = number(&m.Threshold)
			}
			out = addCheck(out, check, p, fs)
		}
		if m.TemplateRef != nil {
			out = addCheck(out, templated(m, p, window, fs), p, fs)
		}
	}
	return out
}

func addCheck(out []v1alpha1.Check, check v1alpha1.Check, path string, fs *findings) []v1alpha1.Check {
	if check.Min == "" && check.Max == "" {
		fs.error(path+".thresholdRange", "is missing: set min or max, or remove the metric")
		return out
	}
	check.Severity = "count"
	return append(out, check)
}

// templated is a check of what a MetricTemplate measures. Without a range
// Flagger takes the threshold for the highest good value, even one of 0.
func templated(m *flaggerv1.CanaryMetric, path string, window metav1.Duration, fs *findings) v1alpha1.Check {
	ref := m.TemplateRef
	if ref.Name == "" {
		fs.error(path+".templateRef.name", "is missing: name the MetricTemplate")
	}
	check := v1alpha1.Check{
		Metric:    cmp.Or(m.Name, ref.Name),
		Template:  &v1alpha1.ObjectRef{Name: ref.Name, Namespace: ref.Namespace},
		Variables: m.TemplateVariables,
		Interval:  window,
	}
	if m.ThresholdRange != nil {
		check.Min, check.Max = number(m.ThresholdRange.Min), number(m.ThresholdRange.Max)
	} else {
		check.Max = number(&m.Threshold)
	}
	return check
}

// blind tells where nothing judges the canary: Flagger promotes whatever it
// looks at no metric of, and so does the Release, whose tolerance of 0 says that
// nothing has to be shown.
func blind(spec *v1alpha1.ReleaseSpec, a *flaggerv1.CanaryAnalysis, path string, fs *findings) {
	if spec.Judge.Skip || len(a.Metrics) > 0 {
		return
	}
	for i := range a.Webhooks {
		switch a.Webhooks[i].Type {
		case "", flaggerv1.PreRolloutHook, flaggerv1.RolloutHook, flaggerv1.ConfirmTrafficIncreaseHook, flaggerv1.ConfirmPromotionHook:
			return
		case flaggerv1.ConfirmRolloutHook, flaggerv1.PostRolloutHook, flaggerv1.RollbackHook, flaggerv1.EventHook: // too soon, or too late
		}
	}
	const add = ", here as in Flagger: add a metric, such as {name: request-success-rate, thresholdRange: {min: 99}}"
	n := len(spec.Steps)
	switch {
	case spec.Strategy != "Canary" || a.Iterations > 0:
		fs.warn(path+".metrics", "is missing, and no webhook judges, so every version is promoted"+add)
	case n > 0 && spec.Steps[n-1].IntValue() == 100:
		fs.warn(path+".metrics", "is missing, so nothing judges the canary at weight 100, where no primary is left to compare it with"+add)
	}
}

// lookback is the time that a look at a metric covers, where that is longer
// than the analysis interval. A shorter one would miss requests, and count a
// failure more often.
func lookback(m *flaggerv1.CanaryMetric, path string, interval time.Duration, fs *findings) metav1.Duration {
	var d time.Duration
	if m.TemplateRef != nil {
		d = metricInterval
	}
	if m.Interval != "" {
		var err error
		if d, err = time.ParseDuration(m.Interval); err != nil {
			fs.error(path+".interval", "%q: want a time such as 1m", m.Interval)
		}
	}
	if d <= interval {
		return metav1.Duration{}
	}
	return metav1.Duration{Duration: d}
}

func number(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(*v, 'f', -1, 64)
}
