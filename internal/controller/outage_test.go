package controller

import (
	"strings"
	"testing"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

func TestUsersAreServedByTheSideThatTheyAreSentTo(t *testing.T) {
	up := func(name string) kube.Workload { return kube.Workload{Exists: true, Available: 1, Message: name} }
	down := func(name string) kube.Workload { return kube.Workload{Exists: true, Message: name} }
	served := v1alpha1.ReleaseSpec{Service: v1alpha1.Service{Port: 80}}
	all := kube.Delivery{Release: &v1alpha1.Release{Spec: served}, Target: up("target"), Stable: up("stable"), Warm: up("warm")}
	without := func(name string) *kube.Delivery {
		d := all
		switch name {
		case "target":
			d.Target = down(name)
		case "stable":
			d.Stable = down(name)
		case "warm":
			d.Warm = down(name)
		}
		return &d
	}
	for what, c := range map[string]struct {
		state rollout.State
		needs string // the side without which nobody answers; "" = none
	}{
		"not taken up":     {rollout.State{}, ""},
		"first traffic":    {rollout.State{Phase: rollout.Initializing, Split: true}, ""},
		"between runs":     {rollout.State{Phase: rollout.Idle, Split: true}, "stable"},
		"a share":          {rollout.State{Phase: rollout.Progressing, Split: true, Traffic: rollout.Traffic{Share: rollout.All / 2}}, "stable"},
		"all":              {rollout.State{Phase: rollout.Promoting, Split: true, Traffic: rollout.Traffic{Share: rollout.All}}, "target"},
		"all matched":      {rollout.State{Phase: rollout.Progressing, Split: true, Traffic: rollout.Traffic{Share: rollout.All, Match: true}}, "stable"},
		"one Service":      {rollout.State{Phase: rollout.Progressing, Split: true, ByPods: true}, ""},
		"back to the warm": {rollout.State{Phase: rollout.RollingBack, Split: true, Traffic: rollout.Traffic{Warm: true}}, "warm"},
	} {
		for _, side := range []string{"target", "stable", "warm"} {
			got := unserved(without(side), &c.state)
			if want := c.needs == side; (got != "") != want || want && !strings.Contains(got, side) {
				t.Errorf("%s, %s down: unserved = %q; want it said: %t", what, side, got, want)
			}
		}
	}
}

func TestAnOutageIsToldOnceAndWhenItIsOver(t *testing.T) {
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var o outage
	told := func(run *delivery, why string, after time.Duration) string {
		var out []string
		for _, e := range o.look(why, run, start.Add(after)) {
			out = append(out, e.Reason)
		}
		return strings.Join(out, " ")
	}
	f := func(run *delivery, why string, after time.Duration, want string) {
		t.Helper()
		if got := told(run, why, after); got != want {
			t.Errorf("after %v: told %q, want %q", after, got, want)
		}
	}
	began := &delivery{}
	f(began, "pods start", 0, "")
	f(began, "pods start", lasting-1, "")
	f(began, "", lasting, "") // nothing was told, so nothing is over
	f(began, "pods start", 2*lasting, "")
	f(began, "pods start", 3*lasting, "NotServing")
	f(began, "pods start", 3*lasting, "")
	f(began, "", 4*lasting, "Serving")
	f(&delivery{settled: true}, "crash", 5*lasting, "NotServing")
	if !o.lasts() {
		t.Error("an outage that goes on does not last")
	}
}
