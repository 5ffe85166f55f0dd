package kube

import (
	"cmp"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"serin.dev/serin/api/v1alpha1"
)

// claim finds out who has the objects that the Release needs. When somebody
// else has one, d.Problem says so, and that one may not be touched: two hands
// on one Deployment or route would undo each other's work for ever.
func (c *Client) claim(d *Delivery) {
	deployments := c.coreInformers.Apps().V1().Deployments().Lister().Deployments(d.Names.Namespace)
	// The lister's only error is "not found".
	stable, err := deployments.Get(d.Names.Stable)
	foreign := err == nil && !isCopyOf(d.Release, stable)
	if foreign {
		d.Stable = Workload{Message: fmt.Sprintf("deployment %s is not the stable copy", stable.Name)}
	}
	if holder := c.holder(d); holder != nil {
		d.Holder = holder.Name
		d.Problem = fmt.Errorf("%s %w, release %s: delete one of the two releases, or make this one anew with another target or spec.service.name",
			shared(NamesOf(holder), d.Names), ErrTaken, d.Holder)
		return
	}
	if foreign {
		d.Problem = fmt.Errorf("deployment %s %w, and the stable copy needs its name: rename or delete it", stable.Name, ErrTaken)
		return
	}
	for _, name := range routeNames(d.Release) {
		vs, err := c.istioInformers.Networking().V1().VirtualServices().Lister().VirtualServices(d.Names.Namespace).Get(name)
		if err == nil && !d.owns(vs) {
			d.Problem = fmt.Errorf("virtualservice %s %w, and the split needs its name: delete it, or make the Release anew with another spec.service.name", name, ErrTaken)
			return
		}
	}
	if target, err := deployments.Get(d.Names.Target); err == nil && !identified(target) {
		d.Problem = fmt.Errorf("deployment %s must select its pods by one of the labels app, name or app.kubernetes.io/name, so that the stable copy's can be told apart: create it anew with one of them in spec.selector.matchLabels",
			target.Name)
	}
}

// holder returns another Release that came before and has an object that this
// one needs; nil = none.
func (c *Client) holder(d *Delivery) *v1alpha1.Release {
	var first *v1alpha1.Release
	for _, obj := range c.releases.GetStore().List() {
		r := obj.(*v1alpha1.Release)
		if r.Namespace != d.Release.Namespace || r.UID == d.Release.UID || earlier(r, d.Release) > 0 || shared(NamesOf(r), d.Names) == "" {
			continue
		}
		if first == nil || earlier(r, first) < 0 {
			first = r
		}
	}
	return first
}

// earlier orders Releases by their right to an object: one that was begun has
// it, then the older one. Times are in seconds, so names decide in the end.
func earlier(a, b *v1alpha1.Release) int {
	begun := func(r *v1alpha1.Release) int {
		if r.Status.Journal != nil {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(begun(a), begun(b)),
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		cmp.Compare(a.Name, b.Name),
	)
}

// shared names an object that two Releases of one namespace would both write
// to; "" = none.
func shared(a, b Names) string {
	common := func(kind string, x, y []string) string {
		for _, name := range x {
			if slices.Contains(y, name) {
				return kind + " " + name
			}
		}
		return ""
	}
	return cmp.Or(
		common("deployment", []string{a.Target, a.Stable}, []string{b.Target, b.Stable}),
		common("service", []string{a.Service, a.StableService, a.CanaryService}, []string{b.Service, b.StableService, b.CanaryService}),
	)
}

// isCopyOf reports whether the Deployment is the Release's stable copy: made by
// Serin, or by Flagger for the Canary that owns the Release. One that was restored
// from a backup has no owner; see Adopt.
func isCopyOf(r *v1alpha1.Release, dep *appsv1.Deployment) bool {
	canary, owner := metav1.GetControllerOf(r), metav1.GetControllerOf(dep)
	if dep.Labels[LabelRelease] == r.Name && (owner == nil || owner.Kind == "Release" && owner.Name == r.Name) || metav1.IsControlledBy(dep, r) {
		return true
	}
	return canary != nil && owner != nil && canary.UID == owner.UID
}
