package controller

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestWorkIsToldOnce: when it begins and when it ends.
func TestWorkIsToldOnce(t *testing.T) {
	var told []bool
	d := &Deliver{Busy: func(busy bool) { told = append(told, busy) }}
	for _, next := range []time.Duration{idleTick, tick, tick, idleTick, idleTick, tick} {
		d.noteBusy(next)
	}
	if diff := cmp.Diff([]bool{true, false, true}, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
