package controller

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
	"serin.dev/serin/internal/translate/istio"
)

// Check reports what makes a Release impossible to work with, for the moment
// at which it is applied: each line names a field and what to change. Other
// objects are not looked at, because they may be applied later.
func Check(r *v1alpha1.Release) error {
	_, err := planOf(&r.Spec)
	return errors.Join(err, checkRoutes(r))
}

// checkRoutes looks at what the user wrote into the routes of the split.
func checkRoutes(r *v1alpha1.Release) error {
	routes, err := kube.RoutesOf(r)
	if err != nil {
		return err
	}
	inSpec := strings.NewReplacer("spec.http[0].match", "spec.service.match", "spec.hosts", "spec.service.hosts", "spec.gateways", "spec.service.gateways")
	var errs []error
	for _, vs := range routes {
		for _, f := range istio.Errors(istio.Validate(vs)) {
			errs = append(errs, fmt.Errorf("%s: %s", inSpec.Replace(f.Path), inSpec.Replace(f.Message)))
		}
	}
	return errors.Join(errs...)
}

// planOf reads the plan of a Release. Errors name the field and what to
// change, one line each; the API's own schema has refused what it can before.
func planOf(spec *v1alpha1.ReleaseSpec) (rollout.Plan, error) {
	var errs []error
	number := func(field, text string, per float64) float64 {
		if text == "" {
			return 0
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %q is not a number", field, text))
		}
		return v / per
	}
	j := &spec.Judge
	p := rollout.Plan{
		Hold:     spec.Hold.Duration,
		Deadline: spec.ProgressDeadline.Duration,
		Policy: analysis.Policy{
			FalseAlarm:   number("spec.judge.falseAlarm", j.FalseAlarm, 1),
			Tolerance:    number("spec.judge.tolerance", j.Tolerance, 100),
			Confidence:   number("spec.judge.confidence", j.Confidence, 100),
			FailureLimit: int(j.FailureLimit),
			Interval:     j.Interval.Duration,
		},
	}
	for _, s := range spec.Steps {
		p.Steps = append(p.Steps, rollout.Share(s)*rollout.Percent)
	}
	for i, c := range j.Checks {
		check := analysis.Check{Metric: analysis.Metric(c.Metric)}
		field := fmt.Sprintf("spec.judge.checks[%d]", i)
		if c.Min != "" {
			v := number(field+".min", c.Min, 1)
			check.Min = &v
		}
		if c.Max != "" {
			v := number(field+".max", c.Max, 1)
			check.Max = &v
		}
		p.Policy.Checks = append(p.Policy.Checks, check)
	}
	if err := errors.Join(append(errs, p.Validate())...); err != nil {
		return rollout.Plan{}, err
	}
	return p, nil
}

// tick is how often a run is looked at without being woken: people read "12 s
// left", and evidence is complete on time. Failures wake the loop at once.
const tick = 250 * time.Millisecond
