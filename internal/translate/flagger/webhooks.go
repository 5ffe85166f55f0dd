package flagger

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"serin.dev/serin/api/v1alpha1"
)

// webhooks translates all eight types.
func webhooks(a *flaggerv1.CanaryAnalysis, path string, fs *findings) []v1alpha1.Webhook {
	var out []v1alpha1.Webhook
	byWeights := a.Iterations <= 0
	for i := range a.Webhooks {
		w := &a.Webhooks[i]
		p := fmt.Sprintf("%s.webhooks[%d]", path, i)
		hook := webhook(w, p, fs)
		switch w.Type {
		case flaggerv1.ConfirmTrafficIncreaseHook:
			if !byWeights {
				fs.warn(p+".type", "%s is not called beside iterations, here as in Flagger: use confirm-promotion", w.Type)
				continue
			}
		case flaggerv1.ConfirmPromotionHook:
			if !byWeights && len(a.Match) == 0 {
				// Blue/green asks before all users get the version, and
				// again before it is copied.
				before := hook
				before.Type = flaggerv1.ConfirmTrafficIncreaseHook
				out = append(out, before)
			}
		case "", flaggerv1.RolloutHook, flaggerv1.PreRolloutHook, flaggerv1.ConfirmRolloutHook,
			flaggerv1.PostRolloutHook, flaggerv1.RollbackHook, flaggerv1.EventHook:
		default:
			fs.error(p+".type", "%q is unknown: use confirm-rollout, pre-rollout, rollout, confirm-traffic-increase, confirm-promotion, post-rollout, rollback or event", w.Type)
			continue
		}
		out = append(out, hook)
	}
	tellApart(out)
	return out
}

func webhook(w *flaggerv1.CanaryWebhook, path string, fs *findings) v1alpha1.Webhook {
	if !strings.HasPrefix(w.URL, "http://") && !strings.HasPrefix(w.URL, "https://") {
		fs.error(path+".url", "%q: want one such as http://flagger-loadtester.test/", w.URL)
	}
	out := v1alpha1.Webhook{
		Name: w.Name, Type: cmp.Or(string(w.Type), string(flaggerv1.RolloutHook)), URL: w.URL,
		Timeout: metav1.Duration{Duration: hookTimeout}, MuteAlert: w.MuteAlert,
	}
	if out.Name == "" {
		out.Name = out.Type
	}
	if w.Timeout != "" {
		d, err := time.ParseDuration(w.Timeout)
		if err != nil || d <= 0 {
			fs.error(path+".timeout", "%q: want a time such as 5s", w.Timeout)
		}
		out.Timeout.Duration = d
	}
	switch {
	case w.Retries < 0:
		fs.error(path+".retries", "%d: want 0 or more", w.Retries)
	case w.Retries > mostRetries:
		fs.warn(path+".retries", "%d is more than the %d that there are at most", w.Retries, mostRetries)
	}
	out.Retries = int32(max(0, min(w.Retries, mostRetries)))
	if w.Metadata != nil {
		out.Metadata = *w.Metadata
	}
	return out
}

// tellApart numbers webhooks of one type that share a name: Flagger tells them
// apart by their place.
func tellApart(hooks []v1alpha1.Webhook) {
	taken := map[string]bool{}
	for i := range hooks {
		h := &hooks[i]
		name := h.Name
		for n := 2; taken[h.Type+"/"+h.Name]; n++ {
			h.Name = fmt.Sprintf("%s-%d", name, n)
		}
		taken[h.Type+"/"+h.Name] = true
	}
}

// alerts translates who is told.
func alerts(a *flaggerv1.CanaryAnalysis, path string, fs *findings) []v1alpha1.Alert {
	var out []v1alpha1.Alert
	taken := map[string]bool{}
	for i := range a.Alerts {
		alert := &a.Alerts[i]
		p := fmt.Sprintf("%s.alerts[%d]", path, i)
		severity := cmp.Or(alert.Severity, flaggerv1.SeverityInfo)
		switch severity {
		case flaggerv1.SeverityInfo, flaggerv1.SeverityWarn, flaggerv1.SeverityError:
		default:
			fs.error(p+".severity", "%q is unknown: use info, warn or error", alert.Severity)
		}
		if alert.ProviderRef.Name == "" {
			fs.error(p+".providerRef.name", "is missing: name the AlertProvider")
		}
		base := cmp.Or(alert.Name, alert.ProviderRef.Name)
		name := base
		for n := 2; taken[name]; n++ {
			name = fmt.Sprintf("%s-%d", base, n)
		}
		taken[name] = true
		out = append(out, v1alpha1.Alert{
			Name: name, Severity: string(severity),
			Provider: v1alpha1.ObjectRef{Name: alert.ProviderRef.Name, Namespace: alert.ProviderRef.Namespace},
		})
	}
	return out
}
