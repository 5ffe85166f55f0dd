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
