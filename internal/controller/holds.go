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
// why. A circle of them, which is refused when it is applied unless two applied it
// at once, is told whether or not anything is new in it: no run in it could be
// sure to start.
func (o others) waitedFor(r *v1alpha1.Release) []string {
	if c := circle(nameOfRelease(r), o.release); c != nil {
		return []string{strings.Join(c, " → ") + " (a circle: take one of them out of spec.dependsOn)"}
	}
	var out []string
	for i, name := range dependsOn(r) {
		if it, ok := o[name]; ok && sameSet(r, it.rel.Release) && it.member().Standing == rollout.Passed {
			continue // it is promoted when this one has passed, too
		}
		if why := o.behind(name); why != "" {
			out = append(out, fmt.Sprintf("%s (%s)", r.Spec.DependsOn[i], why))
		}
	}
	return out
}

// sameSet reports whether two releases have one verdict.
func sameSet(a, b *v1alpha1.Release) bool {
	return a.Spec.Set != "" && a.Spec.Set == b.Spec.Set && a.Namespace == b.Namespace
}

// members are the others of a release's set, by name.
func (o others) members(r *v1alpha1.Release) []rollout.Member {
	var out []rollout.Member
	for name, it := range o {
		if name != nameOfRelease(r) && sameSet(r, it.rel.Release) && it.rel.Release.DeletionTimestamp == nil {
			out = append(out, it.member())
		}
	}
	slices.SortFunc(out, func(a, b rollout.Member) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (it other) member() rollout.Member {
	return it.state.Member(it.rel.Release.Name, rollout.Revision(it.rel.Target.Revision))
}

// setStatus is nil for a release that is in no set.
func (o others) setStatus(r *v1alpha1.Release) *v1alpha1.SetStatus {
	own, ok := o[nameOfRelease(r)]
	if r.Spec.Set == "" || !ok {
		return nil
	}
	all := append(o.members(r), own.member())
	slices.SortFunc(all, func(a, b rollout.Member) int { return strings.Compare(a.Name, b.Name) })
	out := &v1alpha1.SetStatus{Name: r.Spec.Set, Verdict: string(rollout.Verdict(all))}
	for _, m := range all {
		out.Members = append(out.Members, v1alpha1.SetMember{Name: m.Name, Standing: string(m.Standing), Reason: m.Why})
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
// itself; nil = there is none. Release returns one by its name, or nil.
func circle(start string, release func(name string) *v1alpha1.Release) []string {
	seen := map[string]bool{}
	var walk func(name string, way []string) []string
	walk = func(name string, way []string) []string {
		if name == start && len(way) > 0 {
			return append(way, name)
		}
		r := release(name)
		if r == nil || seen[name] {
			return nil
		}
		seen[name] = true
		for _, next := range dependsOn(r) {
			if found := walk(next, append(slices.Clip(way), name)); found != nil {
				return found
			}
		}
		return nil
	}
	return walk(start, nil)
}

// release finds one by its full name; nil = there is none.
func (o others) release(name string) *v1alpha1.Release {
	if it, ok := o[name]; ok {
		return it.rel.Release
	}
	return nil
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
