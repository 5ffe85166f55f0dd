package controller

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

// others are all releases, by namespace/name, with what is known of each.
type others map[string]other

type other struct {
	rel   *kube.Delivery
	state *rollout.State // newest
}

func nameOfRelease(r *v1alpha1.Release) string { return r.Namespace + "/" + r.Name }

// dependsOn are the full names of the releases that one depends on.
func dependsOn(r *v1alpha1.Release) []string {
	var out []string
	for _, name := range r.Spec.DependsOn {
		if !strings.Contains(name, "/") {
			name = r.Namespace + "/" + name
		}
		out = append(out, name)
	}
	return out
}

// waitedFor says which of the releases that one depends on have to go first, and
// why. A circle of them is told whether or not anything is new in it: no run in
// it could be sure to start.
func (o others) waitedFor(r *v1alpha1.Release) []string {
	if circle := o.circle(r); circle != nil {
		return []string{strings.Join(circle, " → ") + " (a circle: take one of them out of spec.dependsOn)"}
	}
	var out []string
	for i, name := range dependsOn(r) {
		if why := o.behind(name); why != "" {
			out = append(out, fmt.Sprintf("%s (%s)", r.Spec.DependsOn[i], why))
		}
	}
	return out
}

// behind says why a release has not promoted its newest version; "" = it has.
func (o others) behind(name string) string {
	it, ok := o[name]
	if !ok {
		return "it does not exist"
	}
	target := rollout.Revision(it.rel.Target.Revision)
	switch s := it.state; {
	case s.Phase == "" || s.Phase == rollout.Initializing:
		return "its stable copy is being made"
	case s.Canary != "":
		return "a run is on"
	case !it.rel.Target.Exists:
		return "its target does not exist"
	case target == s.Stable:
		return ""
	case target == s.Rejected:
		return "its newest version was taken back"
	default:
		return "its newest version is to be released"
	}
}

// circle finds a way from a release over those that it depends on back to
// itself; nil = there is none.
func (o others) circle(r *v1alpha1.Release) []string {
	start := nameOfRelease(r)
	seen := map[string]bool{}
	var walk func(name string, way []string) []string
	walk = func(name string, way []string) []string {
		if name == start && len(way) > 0 {
			return append(way, name)
		}
		it, ok := o[name]
		if !ok || seen[name] {
			return nil
		}
		seen[name] = true
		for _, next := range dependsOn(it.rel.Release) {
			if found := walk(next, append(slices.Clip(way), name)); found != nil {
				return found
			}
		}
		return nil
	}
	return walk(start, nil)
}

// checkReferences refuses what a Release can say of others that is wrong
// whatever they are.
func checkReferences(r *v1alpha1.Release) error {
	var errs []error
	seen := map[string]bool{}
	for i, name := range dependsOn(r) {
		field := fmt.Sprintf("spec.dependsOn[%d]", i)
		parts := strings.Split(r.Spec.DependsOn[i], "/")
		switch {
		case len(parts) > 2 || slices.Contains(parts, ""):
			errs = append(errs, fmt.Errorf("%s: %q is no name of a Release: write NAME or NAMESPACE/NAME", field, r.Spec.DependsOn[i]))
		case name == nameOfRelease(r):
			errs = append(errs, fmt.Errorf("%s: a release cannot wait for itself", field))
		case seen[name]:
			errs = append(errs, fmt.Errorf("%s: %s is there already", field, r.Spec.DependsOn[i]))
		}
		seen[name] = true
	}
	return errors.Join(errs...)
}
