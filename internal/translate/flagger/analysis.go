package flagger

import (
	"encoding/json"
	"fmt"
	"time"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"serin.dev/serin/api/v1alpha1"
)

// strategy says how the canary meets its users. Flagger tells by the fields:
// iterations with match are an A/B test, without it blue/green, and else the
// weights count.
func strategy(spec *v1alpha1.ReleaseSpec, a *flaggerv1.CanaryAnalysis, path string, fs *findings) {
	byWeights := a.Iterations <= 0
	last := 100 // the canary's share when it is promoted
	switch {
	case a.Iterations < 0:
		fs.error(path+".iterations", "%d: want 1 or more", a.Iterations)
	case byWeights:
		spec.Strategy = "Canary"
		spec.Steps = steps(a, path, fs)
		if n := len(spec.Steps); n > 0 {
			last = spec.Steps[n-1].IntValue()
		}
		if len(a.Match) > 0 {
			fs.error(path+".match", "with weights is not supported: add iterations, and the matched users get the canary, or remove match")
		}
	case len(a.Match) > 0:
		spec.Strategy = "ABTest"
		spec.Match = matches(a.Match, path+".match", fs)
		for i := range a.Match {
			if overlaps(&spec.Service, a.Match[i].Headers) {
				fs.error(fmt.Sprintf("%s.match[%d].headers", path, i), "spec.service.match has conditions on the same header, and one request cannot be held to both: say it in one of them")
			}
		}
	case a.Mirror:
		spec.Strategy = "Canary" // copies for the test, then all users, as blue/green is
	default:
		spec.Strategy = "BlueGreen"
	}
	if !byWeights {
		spec.Iterations = int32(min(a.Iterations, 1<<30))
		spec.Steps = []intstr.IntOrString{intstr.FromInt32(100)} // all, of those who get the canary
		noWeights(a, path, fs)
	}
	mirror(spec, a, path, fs)
	spec.PromotionSteps = promotionSteps(a, 100-last, path, fs)
	spec.SessionAffinity = sessionAffinity(spec, a, path, fs)
}

// noWeights tells of fields that have no effect beside iterations, here as in
// Flagger.
func noWeights(a *flaggerv1.CanaryAnalysis, path string, fs *findings) {
	const why = "has no effect beside iterations, here as in Flagger"
	report(path+".", []unsupported{
		{a.StepWeight != 0, Warning, "stepWeight", why},
		{len(a.StepWeights) > 0, Warning, "stepWeights", why},
		{a.MaxWeight != 0, Warning, "maxWeight", why},
	}, fs)
}

// overlaps reports whether the service's own matches have conditions on one of
// the headers.
func overlaps[V any](s *v1alpha1.Service, headers map[string]V) bool {
	for i := range s.Match {
		var m struct{ Headers map[string]any }
		if json.Unmarshal(s.Match[i].Raw, &m) != nil {
			continue // told already
		}
		for name := range headers {
			if _, both := m.Headers[name]; both {
				return true
			}
		}
	}
	return false
}

func mirror(spec *v1alpha1.ReleaseSpec, a *flaggerv1.CanaryAnalysis, path string, fs *findings) {
	switch {
	case !a.Mirror:
		return
	case spec.Strategy == "ABTest":
		fs.warn(path+".mirror", "has no effect in A/B tests, here as in Flagger")
		return
	case a.MirrorWeight < 0 || a.MirrorWeight > 100:
		fs.error(path+".mirrorWeight", "%d: want 1 to 100", a.MirrorWeight)
	}
	share := a.MirrorWeight
	if share == 0 {
		share = 100
	}
	spec.Mirror = &v1alpha1.Mirror{Share: intstr.FromInt(share)}
}

// promotionSteps are the weights of the primary on the way back, but for the
// last one, by which it has all.
func promotionSteps(a *flaggerv1.CanaryAnalysis, primary int, path string, fs *findings) []intstr.IntOrString {
	step := a.StepWeightPromotion
	if step < 0 || step > 100 {
		fs.error(path+".stepWeightPromotion", "%d: want 1 to 100", step)
		return nil
	}
	if step == 0 {
		return nil
	}
	var out []intstr.IntOrString
	for w := primary + step; w < 100; w += step {
		out = append(out, intstr.FromInt(w))
	}
	return out
}

func sessionAffinity(spec *v1alpha1.ReleaseSpec, a *flaggerv1.CanaryAnalysis, path string, fs *findings) *v1alpha1.SessionAffinity {
	s := a.SessionAffinity
	switch {
	case s == nil:
		return nil
	case spec.Strategy == "ABTest":
		fs.warn(path+".sessionAffinity", "has no effect in A/B tests, here as in Flagger: the match decides")
		return nil
	case s.CookieName == "":
		fs.error(path+".sessionAffinity.cookieName", "is missing: name the cookie")
	case s.MaxAge < 0:
		fs.error(path+".sessionAffinity.maxAge", "%d: want 1 or more seconds", s.MaxAge)
	}
	return &v1alpha1.SessionAffinity{CookieName: s.CookieName, MaxAge: int32(min(s.GetMaxAge(), 1<<30))}
}

func ready(a *flaggerv1.CanaryAnalysis, path string, fs *findings) *v1alpha1.Readiness {
	if a.PrimaryReadyThreshold == nil && a.CanaryReadyThreshold == nil {
		return nil
	}
	percent := func(v *int, field string) int32 {
		if v == nil {
			return 100
		}
		if *v < 1 || *v > 100 {
			fs.error(path+"."+field, "%d: want 1 to 100 percent of the pods", *v)
			return 100
		}
		return int32(*v)
	}
	return &v1alpha1.Readiness{
		Canary: percent(a.CanaryReadyThreshold, "canaryReadyThreshold"),
		Stable: percent(a.PrimaryReadyThreshold, "primaryReadyThreshold"),
	}
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
