package controller

import (
	"errors"
	"testing"
	"time"
)

func TestTroubleIsToldOnceAndOnlyWhenItLasts(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var held trouble
	look := func(after time.Duration, err string, tell, alarm bool) {
		t.Helper()
		if gotTell, gotAlarm := held.met(errors.New(err), began.Add(after)); gotTell != tell || gotAlarm != alarm {
			t.Errorf("%s after %v: told %t, alerted %t; want %t, %t", err, after, gotTell, gotAlarm, tell, alarm)
		}
	}
	look(0, "object has been modified", false, false)
	look(passing/2, "deployment not found", false, false) // another look, another race
	look(passing/2+passing, "deployment not found", true, false)
	look(passing/2+2*passing, "deployment not found", false, false)
	look(passing/2+lasting, "deployment not found", false, true)
	look(2*lasting, "deployment not found", false, false)
	held = trouble{} // a look went well
	look(3*lasting, "deployment not found", false, false)
}
