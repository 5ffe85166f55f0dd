package controller

import (
	"errors"
	"testing"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

// What the canary is to get more than it has needs its pods and rules first; all
// else is on the way back, which waits for nothing.
func TestTheCanaryGetsMoreThanItHas(t *testing.T) {
	f := func(has, gets rollout.Traffic, want bool) {
		t.Helper()
		rel := &kube.Delivery{Route: kube.Route{Traffic: has}}
		if got := getsMore(rel, rollout.World{Split: true, Traffic: gets}); got != want {
			t.Errorf("from %+v to %+v: more = %v, want %v", has, gets, got, want)
		}
	}
	half := rollout.Traffic{Share: rollout.All / 2}
	all := rollout.Traffic{Share: rollout.All}
	matched := rollout.Traffic{Share: rollout.All, Match: true}
	copies := rollout.Traffic{Mirror: rollout.All}
	none := rollout.Traffic{}
	f(none, half, true)
	f(none, copies, true)
	f(matched, all, true)
	f(half, half, false)
	f(all, half, false)
	f(half, rollout.Traffic{Warm: true}, false)
	for _, has := range []rollout.Traffic{none, half, all, matched, copies} {
		f(has, none, false)
	}
}

func TestSeveralErrorsAreOneLine(t *testing.T) {
	cause := errors.New("b")
	err := inOneLine{errors.Join(errors.New("a"), cause)}
	if err.Error() != "a; b" || !errors.Is(err, cause) {
		t.Errorf("%q, want a; b with its causes", err)
	}
}
