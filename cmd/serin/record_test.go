package main

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/record"
)

// TestReplayTellsWhatItWasNotGiven before it says that all was the same.
func TestReplayTellsWhatItWasNotGiven(t *testing.T) {
	records := record.NewStore(t.TempDir())
	plan := experiment.Plan{Deadline: time.Minute}
	in := experiment.Input{Now: time.Unix(1e9, 0).UTC(), Blocked: "a run is on"}
	was := experiment.State{}
	next, events := experiment.Step(plan, was, in)
	err := records.AddExperiment(record.Key{Namespace: "shop", Name: "speed", UID: "u-1"}, record.ExperimentLook{
		Plan: &plan, Was: &was, Next: &next, Input: &in, Events: events,
	})
	if err != nil {
		t.Fatal(err)
	}
	records.Close()
	lines, err := records.Open(record.Experiment, "shop", "speed", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	data, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	r, err := record.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	r.Uncompared, r.Lost, r.Unwritten, r.Cut = true, 2, 3, "the record has more than 64 MB"
	var out bytes.Buffer
	if err := replayRun(&out, r); err != nil {
		t.Fatal(err)
	}
	want := `The document is of an older Serin: its lines are replayed, and what else it says is not compared with them.
2 lines of the record were lost in a crash; the rest is replayed.
Looks that could not be written: 3; the rest is replayed.
The record has more than 64 MB.
run 1 of speed: 1 looks, 1 decisions, all the same. The run had not ended, or its end could not be written.
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("replay (-want +got):\n%s", diff)
	}
}
