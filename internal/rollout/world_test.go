package rollout

import (
	"testing"
	"time"
)

func TestPodsAreVacantWhenTheLastRequestsAreAnswered(t *testing.T) {
	acked := time.Unix(1000, 0)
	f := func(traffic Traffic, acked, at time.Time, want bool) {
		t.Helper()
		if got := (State{Split: true, Traffic: traffic, Acked: acked, At: at}).Vacant(); got != want {
			t.Errorf("%+v acknowledged at %v: vacant at %v = %v, want %v", traffic, acked, at, got, want)
		}
	}
	f(Traffic{}, acked, acked.Add(drain), true)
	f(Traffic{}, acked, acked.Add(drain-1), false)
	f(Traffic{}, time.Time{}, acked.Add(time.Hour), false)
	f(Traffic{Warm: true}, acked, acked.Add(drain), true)
	f(Traffic{Share: 1}, acked, acked.Add(time.Hour), false)
	f(Traffic{Mirror: 1}, acked, acked.Add(time.Hour), false)
}
