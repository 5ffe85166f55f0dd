package record

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/rollout"
)

// lastLooks is a world before a run, of which a twin knows what becomes of it.
type lastLooks struct {
	*recorder
	over  func() bool
	again func() // plays another run of the name
	check func(*testing.T, *Record)

	last  int    // the number of the last look
	whole []byte // the record
}

func newLastLooks(t *testing.T, k Kind) *lastLooks {
	t.Helper()
	twin, w := bare(t, k), bare(t, k)
	twin.until(twin.over)
	w.full, w.last, w.whole = true, twin.looks, twin.lines(1)
	return w
}

func bare(t *testing.T, k Kind) *lastLooks {
	t.Helper()
	if k == Release {
		w := newWorld(t, t.TempDir())
		w.deploy("v2")
		return &lastLooks{
			recorder: w.recorder,
			over:     func() bool { return w.state.Run.Number > 0 && !on(&w.state) },
			again:    func() { w.release("v3") },
			check: func(t *testing.T, r *Record) {
				if got := replayed(t, r); got.First != nil || got.End != "" {
					t.Errorf("replayed: %+v", got.Replayed)
				}
			},
		}
	}
	w := newExperimentWorld(t, t.TempDir())
	return &lastLooks{
		recorder: w.recorder,
		over:     func() bool { return w.state.Phase == experiment.Finished },
		again: func() {
			w.key.UID, w.state = "uid-y", experiment.State{}
			w.run()
		},
		check: func(t *testing.T, r *Record) {
			if got := replayedExperiment(t, r); got.First != nil || got.End != "" {
				t.Errorf("replayed: %+v", got.Replayed)
			}
		},
	}
}

// fullFrom plays the run, for the last looks of which the disk has no space. It
// has it again after space.
func (w *lastLooks) fullFrom(t *testing.T, looks int) (space func()) {
	t.Helper()
	if before := w.last - looks; before > w.looks {
		w.until(func() bool { return w.looks == before })
	}
	space = w.noSpace(t)
	w.until(w.over)
	return space
}

// noSpace lets the disk have none for the run that is on or begins, until space.
func (w *recorder) noSpace(t *testing.T) (space func()) {
	t.Helper()
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	if w.store.open[w.key] == nil { // nor can a file be made where one is in the place of the directory
		must(os.MkdirAll(filepath.Dir(w.dir()), 0o700), os.WriteFile(w.dir(), nil, 0o600))
		return func() { must(os.Remove(w.dir())) }
	}
	w.store.fill(t, w.key)
	path, aside := w.store.open[w.key].path, filepath.Join(t.TempDir(), "aside")
	must(os.Rename(path, aside), os.Mkdir(path, 0o700)) // nor can a directory be opened to be written to
	return func() { must(os.Remove(path), os.Rename(aside, path)) }
}

const noEnd = "the run had not ended, or its end could not be written"

// TestTheLastLookIsWrittenWhenThereIsSpaceAgain with the number of those before
// it that are missing.
func TestTheLastLookIsWrittenWhenThereIsSpaceAgain(t *testing.T) {
	for _, k := range []Kind{Release, Experiment} {
		for _, looks := range []int{1, 4, math.MaxInt} {
			t.Run(fmt.Sprint(k, ", the last ", looks), func(t *testing.T) {
				w := newLastLooks(t, k)
				space := w.fullFrom(t, looks)
				for range 3 {
					w.store.Retry()
				}
				if len(w.store.endings) != 1 {
					t.Errorf("%d last looks are kept while there is no space, want one", len(w.store.endings))
				}
				space()
				if looks < math.MaxInt {
					if doc := exported(t, w.record(1)); doc.Outcome != "" || !slices.Contains(doc.Gaps, noEnd) {
						t.Errorf("before it is written: outcome %q, gaps %q", doc.Outcome, doc.Gaps)
					}
				}
				w.store.Retry()
				r := w.record(1)
				w.check(t, r)
				if r.End == nil || r.Lost > 0 || r.Unwritten != w.unwritten-1 || len(w.store.endings) > 0 {
					t.Errorf("end %+v, %d lines lost, %d looks of %d missing, %d last looks kept", r.End, r.Lost, r.Unwritten, w.unwritten, len(w.store.endings))
				}
				if looks == 1 && !bytes.Equal(w.lines(1), w.whole) {
					t.Error("the record is not what it is where there is always space")
				}
				if diff := cmp.Diff([]string{"0001.jsonl.gz"}, w.files()); diff != "" {
					t.Errorf("files (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestAProcessThatEndsTriesOnceMore to write what it keeps, and one that is
// killed leaves a record which says that it has no end.
func TestAProcessThatEndsTriesOnceMore(t *testing.T) {
	for _, k := range []Kind{Release, Experiment} {
		w := newLastLooks(t, k)
		w.fullFrom(t, 1)()
		w.store.Close()
		if !bytes.Equal(w.lines(1), w.whole) {
			t.Errorf("%s: the last look is missing", k)
		}

		w = newLastLooks(t, k)
		space := w.fullFrom(t, 2)
		w.dies()
		space()
		w.store.Retry()
		r := w.record(1)
		if doc := exported(t, r); r.Lost > 0 || !slices.Equal(doc.Gaps, []string{noEnd}) {
			t.Errorf("%s: killed: %d lines lost, gaps %q", k, r.Lost, doc.Gaps)
		}
	}
}

// TestTheNextRunComesBehindTheLastLook of the run before.
func TestTheNextRunComesBehindTheLastLook(t *testing.T) {
	for _, k := range []Kind{Release, Experiment} {
		for _, looks := range []int{1, math.MaxInt} {
			w := newLastLooks(t, k)
			w.fullFrom(t, looks)()
			w.again()
			if diff := cmp.Diff([]string{"0001.jsonl.gz", "0002.jsonl.gz"}, w.files()); diff != "" {
				t.Errorf("%s, the last %d: files (-want +got):\n%s", k, looks, diff)
			}
			for run := range int64(2) {
				r := w.record(run + 1)
				w.check(t, r)
				if r.End == nil {
					t.Errorf("%s, the last %d: run %d has no end", k, looks, run+1)
				}
			}
		}
	}

	// It is too late for one that cannot be written all the same.
	w := newLastLooks(t, Release)
	space := w.fullFrom(t, 1)
	w.again()
	space()
	w.store.Retry()
	if r := w.record(1); r.End != nil || len(w.store.endings) > 0 {
		t.Errorf("run 1 ends with %+v behind run 2", r.End)
	}
	if r := w.record(2); r.End == nil {
		t.Error("run 2 has no end")
	}
}

// TestTheLastLookOfARecordThatIsGoneIsGivenUp as its lines follow from that one's.
func TestTheLastLookOfARecordThatIsGoneIsGivenUp(t *testing.T) {
	w := newLastLooks(t, Release)
	w.fullFrom(t, 1)()
	if err := os.RemoveAll(w.dir()); err != nil {
		t.Fatal(err)
	}
	w.store.Retry()
	if _, err := os.Stat(w.dir()); !errors.Is(err, fs.ErrNotExist) || len(w.store.endings) > 0 {
		t.Errorf("%d last looks are kept, and the record is there: %v", len(w.store.endings), err)
	}
}

// TestLastLooksDoNotFillTheMemory where the disk stays full.
func TestLastLooksDoNotFillTheMemory(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.plan.Skip, w.full = true, true
	plant(t, "", w.store.dir, "runs") // where a directory has to be
	var one int
	for i := range 9 {
		w.key.Name = fmt.Sprint("music-", i)
		w.release(rollout.Revision(fmt.Sprint("v", i+2)))
		if i == 0 {
			for _, e := range w.store.endings {
				one = len(e.lines)
			}
			w.store.maxEndings = 5*one + one/2
		}
	}
	if n := len(w.store.endings); one == 0 || n != 5 {
		t.Errorf("%d last looks of %d bytes are kept, want 5", n, one)
	}
	w.key.Name = "music-0"
	w.release("v20")
	if e := w.store.endings[w.dir()]; len(w.store.endings) != 5 || !bytes.Contains(e.lines, []byte(`"v20"`)) {
		t.Errorf("%d last looks are kept; that of the last run has not replaced the one before it:\n%s", len(w.store.endings), e.lines)
	}
}
