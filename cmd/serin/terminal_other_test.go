//go:build !linux

package main

import "testing"

func (w *world) testWatchTerminal(t *testing.T) {
	t.Skip("pseudo-terminals are opened as Linux does it")
}

func (w *world) testPagesInATerminal(t *testing.T) {
	t.Skip("pseudo-terminals are opened as Linux does it")
}
