package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/rollout"
)

const laterFormat = `{"record":{"format":99,"namespace":"shop","release":"music","uid":"uid-1","run":3}}` + "\n"

// TestOneBadFileErasesNoOtherRecord of a release: not the remains of a crash, nor
// a full disk, nor what a later Serin wrote.
func TestOneBadFileErasesNoOtherRecord(t *testing.T) {
	f := func(name string, want []string, during func(w *world, dir string)) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			w.plan.Skip, w.full = true, true
			w.release("v2")
			w.release("v3")
			w.store.packing.Wait()
			during(w, w.dir())
			if diff := cmp.Diff(want, w.files()); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
	whole := []string{"0001.jsonl.gz", "0002.jsonl.gz", "0003.jsonl.gz"}
	for name, left := range map[string]string{"nothing is in it": "", "half a header": `{"record":{"form`, "zeros": "\x00\x00\x00", "no header": "{}\n"} {
		f(name, whole, func(w *world, dir string) {
			plant(t, left, dir, "0003.jsonl")
			w.release("v4")
			if got := replayed(t, w.record(3)); got.First != nil || got.Lost > 0 || w.unwritten > 0 {
				t.Errorf("%d looks not written; %+v", w.unwritten, got)
			}
		})
	}
	f("packed, and torn", []string{"0001.jsonl.gz", "0002.jsonl.gz", "0003.jsonl.gz"}, func(w *world, dir string) {
		plant(t, "\x1f\x8b", dir, "0002.jsonl.gz")
		w.release("v4")
	})
	f("the disk is full", whole, func(w *world, dir string) {
		if err := os.Symlink(fullDisk(t), filepath.Join(dir, "0003.jsonl.new")); err != nil {
			t.Fatal(err)
		}
		w.deploy("v4")
		w.until(func() bool { return on(&w.state) })
		if diff := cmp.Diff(whole[:2], w.files()); w.unwritten != 1 || diff != "" {
			t.Errorf("%d looks not written; files (-want +got):\n%s", w.unwritten, diff)
		}
		w.until(func() bool { return !on(&w.state) })
	})
	f("a later format", []string{"0001.jsonl.gz", "0002.jsonl.gz", "0003.jsonl", "0004.jsonl.gz"}, func(w *world, dir string) {
		w.deploy("v4")
		w.until(func() bool { return w.state.Phase != rollout.Idle })
		stored := w.state
		w.crash(stored)
		plant(t, laterFormat, dir, "0003.jsonl")
		w.until(func() bool { return !on(&w.state) })
		if w.unwritten == 0 {
			t.Error("this process went on in what it cannot read")
		}
		w.release("v5")
		if data, err := os.ReadFile(filepath.Join(dir, "0003.jsonl")); err != nil || string(data) != laterFormat {
			t.Errorf("run 3: %q, %v", data, err)
		}
	})
}

// TestAnExperimentTakesTheNumberOfARemainder and counts on behind a record that
// it cannot read.
func TestAnExperimentTakesTheNumberOfARemainder(t *testing.T) {
	w := newExperimentWorld(t, t.TempDir())
	w.in.Blocked, w.full = "a run is on", true
	next := func(uid string) {
		w.key.UID, w.state = uid, experiment.State{}
		w.run()
	}
	next("uid-a")
	w.store.packing.Wait()
	dir := w.dir()
	plant(t, "", dir, "0002.jsonl")
	next("uid-b")
	w.store.packing.Wait()
	plant(t, strings.NewReplacer("release", "experiment", "uid-1", "uid-later").Replace(laterFormat), dir, "0003.jsonl")
	next("uid-c")
	if err := os.Symlink(fullDisk(t), filepath.Join(dir, "0005.jsonl.new")); err != nil {
		t.Fatal(err)
	}
	next("uid-d")
	for run, uid := range map[int64]string{1: "uid-a", 2: "uid-b", 4: "uid-c", 5: "uid-d"} {
		if got := w.record(run).UID; got != uid {
			t.Errorf("run %d is of %s, want %s", run, got, uid)
		}
	}
	if there, err := runsIn(dir); err != nil || len(there) != 5 || w.unwritten != 1 {
		t.Errorf("runs %v, %v; %d looks not written, want the first one of five", there, err, w.unwritten)
	}
}

// fill lets the disk have no space for the file that is open.
func (s *Store) fill(t *testing.T, k Key) {
	t.Helper()
	full, err := os.OpenFile(fullDisk(t), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := s.open[k]
	f.f.Close()
	f.f = full
}

// TestALookThatCannotBeWrittenIsAGap and no restart.
func TestALookThatCannotBeWrittenIsAGap(t *testing.T) {
	f := func(kind Kind, cut bool, play func(dir string, most int64) *Record) {
		t.Run(fmt.Sprint(kind, ", cut ", cut), func(t *testing.T) {
			most := int64(maxBytes)
			if cut {
				most = 10_000
			}
			r := play(t.TempDir(), most)
			doc := exported(t, r)
			var notes []string
			for _, e := range doc.Timeline {
				if e.Note != "" {
					notes = append(notes, e.Note)
				}
			}
			if diff := cmp.Diff([]string{"looks before this one that could not be written: 1"}, notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
			if !slices.Contains(doc.Gaps, "looks that could not be written: 1") || r.Lost > 0 || cut != (r.Cut != "") {
				t.Errorf("gaps: %q", doc.Gaps)
			}
			if again := parse(t, []byte(toJSON(t, doc))); again.Unwritten != 1 {
				t.Errorf("by the document %d looks are missing", again.Unwritten)
			}
		})
	}
	for _, cut := range []bool{false, true} {
		f(Release, cut, func(dir string, most int64) *Record {
			w := newWorld(t, dir)
			w.store.maxBytes, w.full = most, true
			w.deploy("v2")
			w.until(func() bool { return w.state.Step == 2 })
			w.store.fill(t, key)
			w.until(func() bool { return !on(&w.state) })
			r := w.record(1)
			if got := replayed(t, r); got.First != nil || got.End != "" || got.State.Run.Outcome != rollout.Promoted {
				t.Errorf("replayed: %+v", got)
			}
			if !cut {
				if c := backtestOf(t, r, w.plan); len(c.Notes) == 0 || !strings.Contains(c.Notes[0], "could not be written") {
					t.Errorf("notes of the estimate: %q", c.Notes)
				}
			}
			return r
		})
		f(Experiment, cut, func(dir string, most int64) *Record {
			w := newExperimentWorld(t, dir)
			w.store.maxBytes, w.full = most, true
			w.until(func() bool { return w.state.Phase == experiment.Running && w.ackTold })
			w.store.fill(t, w.key)
			w.run()
			r := w.record(0)
			if got := replayedExperiment(t, r); got.First != nil || got.End != "" {
				t.Errorf("replayed: %+v", got.Replayed)
			}
			return r
		})
	}
}

// TestARecordThatIsBeingWrittenIsNotSweptAway though nobody has had a run for
// longer: adding to a file does not change its directory.
func TestARecordThatIsBeingWrittenIsNotSweptAway(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.deploy("v2")
	w.until(func() bool { return on(&w.state) })
	dirOf := func(name string) string { return filepath.Join(w.store.dir, "runs", key.Namespace, name) }
	age := func(name string, hours int) {
		t.Helper()
		then := time.Now().Add(-time.Duration(hours) * time.Hour)
		if err := errors.Join(os.MkdirAll(dirOf(name), 0o700), os.Chtimes(dirOf(name), then, then)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range keepNames {
		age(fmt.Sprint("gone-", i), 10+i)
	}
	age(key.Name, 10_000)
	age("next", 9_000)
	was, next := rollout.State{}, rollout.State{Run: rollout.Run{Number: 1}}
	if err := w.store.Add(Key{key.Namespace, "next", "uid-2"}, Look{Plan: &w.plan, Was: &was, Next: &next, Input: &w.in}); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dirOf(""))
	if err != nil || len(left) != keepNames {
		t.Errorf("%d names are left, %v; want %d", len(left), err, keepNames)
	}
	for name, want := range map[string]bool{key.Name: true, "next": true, "gone-0": true, fmt.Sprint("gone-", keepNames-3): true, fmt.Sprint("gone-", keepNames-2): false} {
		if _, err := os.Stat(dirOf(name)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", name, err, want)
		}
	}
	w.until(func() bool { return !on(&w.state) })
	if got := replayed(t, w.record(1)); got.First != nil || got.End != "" {
		t.Errorf("replayed: %+v", got)
	}
}
