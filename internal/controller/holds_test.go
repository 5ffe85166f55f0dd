package controller

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

func TestAReleaseWaitsForThoseThatItDependsOn(t *testing.T) {
	all := others{}
	add := func(namespace, name, target string, s rollout.State, on ...string) *v1alpha1.Release {
		r := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{DependsOn: on}}
		r.Namespace, r.Name = namespace, name
		all[nameOfRelease(r)] = other{&kube.Delivery{Release: r, Target: kube.Workload{Exists: target != "", Revision: target}}, &s}
		return r
	}
	idle := func(stable rollout.Revision) rollout.State { return rollout.State{Phase: rollout.Idle, Stable: stable} }
	rejected := idle("v1")
	rejected.Rejected = "v2"

	add("shop", "done", "v1", idle("v1"))
	add("shop", "new", "v2", idle("v1"))
	add("shop", "bad", "v2", rejected)
	add("shop", "runs", "v2", rollout.State{Phase: rollout.Progressing, Stable: "v1", Canary: "v2"})
	add("shop", "young", "v1", rollout.State{})
	add("shop", "gone", "", idle("v1"))
	add("other", "done", "v2", idle("v1"))
	add("shop", "a", "v1", idle("v1"), "b")
	add("shop", "b", "v1", idle("v1"), "shop/c", "done")
	c := add("shop", "c", "v1", idle("v1"), "done", "a")
	self := add("shop", "self", "v1", idle("v1"), "self")
	beside := add("shop", "beside", "v1", idle("v1"), "a") // a circle that it is not part of

	f := func(r *v1alpha1.Release, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, all.waitedFor(r)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", r.Name, diff)
		}
	}
	front := func(on ...string) *v1alpha1.Release { return add("shop", "front", "v2", idle("v1"), on...) }
	f(front())
	f(front("done"))
	f(front("done", "new", "other/done"), "new (its newest version is to be released)", "other/done (its newest version is to be released)")
	f(front("bad"), "bad (its newest version was taken back)")
	f(front("runs"), "runs (a run is on)")
	f(front("young"), "young (its stable copy is being made)")
	f(front("gone"), "gone (its target does not exist)")
	f(front("nobody"), "nobody (it does not exist)")
	f(c, "shop/c → shop/a → shop/b → shop/c (a circle: take one of them out of spec.dependsOn)")
	f(self, "shop/self → shop/self (a circle: take one of them out of spec.dependsOn)")
	f(beside)
}
