package apiserver

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestTheCollectorFollowsTheWork, and leaves it to the environment what that
// sets.
func TestTheCollectorFollowsTheWork(t *testing.T) {
	unset := func(name string) {
		t.Setenv(name, "") // so that what it was is set again
		os.Unsetenv(name)
	}
	unset("GOGC")
	unset("GOMEMLIMIT")
	const before = 123
	defer debug.SetGCPercent(debug.SetGCPercent(before))
	set := func(what string, call func(), want int) {
		t.Helper()
		call()
		if got := debug.SetGCPercent(before); got != want {
			t.Errorf("%s: the heap may grow by %d %%; want %d", what, got, want)
		}
	}
	set("starting", GrowMemory, startGCPercent)
	set("settled", SettleMemory, settledGCPercent)
	set("busy", func() { BusyMemory(true) }, busyGCPercent)
	set("busy no more", func() { BusyMemory(false) }, settledGCPercent)
	t.Setenv("GOMEMLIMIT", "1GiB")
	set("by the environment", func() { BusyMemory(true) }, before)
}
