package controller

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/rollout"
)

// amongTime bounds what is asked while somebody waits for an object to be
// stored.
const amongTime = 2 * time.Second

// CheckAmong judges a Release that is to be stored beside the others there are,
// and the requests that come: after Check, which judges it by itself. Old is
// the Release as it is stored, nil for a new one; where the spec stays as it is
// nothing is said, so that commands are never refused. Warnings are for what
// may be mended by something that is applied later. It is safe for concurrent
// use.
func (d *Deliver) CheckAmong(ctx context.Context, r, old *v1alpha1.Release) (warnings []string, err error) {
	if old != nil && reflect.DeepEqual(r.Spec, old.Spec) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, amongTime)
	defer cancel()
	there := map[string]*v1alpha1.Release{}
	for _, other := range d.API.ReleaseObjects() {
		there[nameOfRelease(other)] = other
	}
	there[nameOfRelease(r)] = r
	var errs []error
	if c := circle(nameOfRelease(r), func(name string) *v1alpha1.Release { return there[name] }); c != nil {
		errs = append(errs, fmt.Errorf("spec.dependsOn: %s is a circle, in which none could start: take one of them out", strings.Join(c, " → ")))
	}
	for i, name := range dependsOn(r) {
		if there[name] == nil {
			warnings = append(warnings, fmt.Sprintf("spec.dependsOn[%d]: there is no Release %s: no run starts until there is", i, name))
		}
	}
	for i, c := range r.Spec.Judge.Checks {
		if c.Template == nil {
			continue
		}
		namespace := c.Template.Namespace
		if namespace == "" {
			namespace = r.Namespace
		}
		if _, err := d.API.MetricTemplate(ctx, namespace, c.Template.Name); err != nil {
			warnings = append(warnings, fmt.Sprintf("spec.judge.checks[%d].template: %v: no step ends until it has a value", i, err))
		}
	}
	if plan, err := planOf(&r.Spec); err == nil { // Check tells what is wrong with it
		slow, err := atRate(&plan, d.rates.get(nameOfRelease(r)))
		switch {
		case err != nil:
			errs = append(errs, err)
		case slow != "":
			warnings = append(warnings, "spec.steps: "+slow)
		}
	}
	return warnings, errors.Join(errs...)
}

// atRate says what the present rate of requests makes of a plan, if it is known.
func atRate(plan *rollout.Plan, r rate) (slow string, impossible error) {
	perSecond, known := r.perSecond()
	if !known {
		return "", nil
	}
	return plan.AtRate(perSecond)
}
