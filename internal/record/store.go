package record

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/rollout"
)

const (
	// keepRuns is how many records a release has at most, and experiments of
	// one name.
	keepRuns = 20
	// keepNames is how many releases have records at most, and names of
	// experiments; those of releases that are gone stay until then.
	keepNames = 500
	// maxBytes is the length of a record, before it is packed, from which on it
	// has decisions and acknowledgements alone: half an hour of a service with
	// thousands of requests per second, days of a quiet one.
	maxBytes = 64 << 20
)

// Store keeps records in files, runs/NAMESPACE/RELEASE/0007.jsonl and
// experiments/NAMESPACE/EXPERIMENT/0001.jsonl below its directory, packed (.gz)
// when the run has ended. A nil Store keeps nothing.
type Store struct {
	dir        string
	maxBytes   int64
	maxEndings int

	mu   sync.Mutex
	open map[Key]*file // the run that is on
	// unwritten is how many looks at it were not, since one was.
	unwritten map[Key]int
	// endings are to be written yet, by the directories of their records.
	endings map[string]ending

	packing sync.WaitGroup
}

// Key names a Release or an Experiment.
type Key struct{ Namespace, Name, UID string }

// Look is one call of rollout.Step with what came out. The Store keeps none of
// it.
type Look struct {
	Plan      *rollout.Plan
	Was, Next *rollout.State
	Input     *rollout.Input
	Events    []rollout.Event
	From, To  Version // of the run of Next
	Seen      Seen
}

// ExperimentLook is one call of experiment.Step with what came out. Was is what
// came out of the look that was added before, unless Forget was called since. The
// Store keeps none of it.
type ExperimentLook struct {
	Plan      *experiment.Plan
	Was, Next *experiment.State
	Input     *experiment.Input
	Events    []experiment.Event
	// Acked is since when every proxy has the shares of Was, to be said once;
	// zero = it was said, or they have not.
	Acked time.Time
	// Versions are what they run, and their measured shares, stable first: one
	// for each, or none. The counts are the state's.
	Versions []VersionSeen
}

// NewStore keeps records below dir, which is made when the first run begins.
func NewStore(dir string) *Store {
	return &Store{
		dir: dir, maxBytes: maxBytes, maxEndings: maxEndings,
		open: map[Key]*file{}, unwritten: map[Key]int{}, endings: map[string]ending{},
	}
}

// Add adds a look to the record of the run that is on, if one is, or begins with
// it. The lines are in the file when it returns: a process that is killed loses
// none of them. After an error the record has a gap, and goes on behind it with
// the number of looks that it lacks; the last look of a run is kept for Retry.
func (s *Store) Add(k Key, l Look) error {
	began := l.Next.Run.Number > l.Was.Run.Number
	if s == nil || !began && !on(l.Was) {
		return nil
	}
	h := Header{
		Format: lineFormat, Namespace: k.Namespace, Release: k.Name, UID: k.UID,
		Run: l.Next.Run.Number, From: l.From, To: l.To,
	}
	e := entry{
		plan: l.Plan, was: l.Was, wasAt: l.Was.At, at: l.Next.At, input: l.Input,
		decision: decisionOf(l.Was, l.Next, l.Events), acked: ackedBy(l.Was, l.Next), seen: &l.Seen, end: endOf(l.Next, &l.Seen),
	}
	if err := s.add(k, h, began, e); err != nil {
		return fmt.Errorf("record of run %d: %w", h.Run, err)
	}
	return nil
}

// AddExperiment is Add for an experiment, whose record begins with the first look.
func (s *Store) AddExperiment(k Key, l ExperimentLook) error {
	if s == nil || l.Was.Phase == experiment.Finished {
		return nil
	}
	seen := seenOf(l.Next)
	seen.measured(l.Versions)
	e := entry{
		plan: l.Plan, was: l.Was, input: l.Input, seen: &seen, end: endOfExperiment(l.Next, &seen),
		decision: experimentDecision(l.Plan, l.Was, l.Next, l.Input, l.Events),
	}
	if !l.Acked.IsZero() {
		e.acked = &Acked{Shares: sharesOf(candidatesOf(l.Was)), Since: l.Acked}
	}
	h := Header{Format: lineFormat, Namespace: k.Namespace, Experiment: k.Name, UID: k.UID}
	if err := s.add(k, h, false, e); err != nil {
		return fmt.Errorf("record of the experiment: %w", err)
	}
	return nil
}

func (s *Store) add(k Key, h Header, began bool, e entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if began {
		s.drop(k)
		delete(s.unwritten, k)
	}
	e.unwritten = s.unwritten[k]
	f, err := s.fileOf(k, h, began)
	lines, unfit := f.encode(e)
	if err = errors.Join(err, unfit); err == nil {
		err = f.append(lines)
	}
	if err != nil {
		s.drop(k)
		s.unwritten[k]++
		if e.end != nil && unfit == nil {
			err = s.keep(f, h, began, lines, err)
		}
		return err
	}
	delete(s.unwritten, k)
	if e.end != nil {
		s.packing.Go(f.pack)
		delete(s.open, k)
	}
	return nil
}

// fileOf is the file of a run, opened if it was not. With an error it is none
// that can be written to.
func (s *Store) fileOf(k Key, h Header, began bool) (*file, error) {
	if f := s.open[k]; f != nil {
		return f, nil
	}
	dir := s.dirOf(h.Kind(), h.Namespace, h.Name())
	s.retry(dir) // the run before comes first
	f, err := s.begin(h, began)
	if err != nil {
		return &file{most: s.maxBytes}, err
	}
	delete(s.endings, dir)
	s.open[k] = f
	return f, nil
}

// begin opens the file of a run, a new one or, after a restart, the one that it
// has.
func (s *Store) begin(h Header, began bool) (*file, error) {
	dir := s.dirOf(h.Kind(), h.Namespace, h.Name())
	there, err := runsIn(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var last int64
	if n := len(there); n > 0 {
		last = there[n-1]
	}
	if h.Run == 0 { // of an experiment: it has that of its last look, or the next one
		h.Run = max(1, last)
	}
	path := filepath.Join(dir, fileName(h.Run))
	old, err := headerOf(path)
	if err != nil {
		return nil, err
	}
	if !began && old.Format > 0 && old.UID == h.UID {
		if err := readable(old.Format, lineFormat); err != nil {
			return nil, err // it is whole, though not for this process to go on with
		}
		return reopen(path, s.maxBytes)
	}
	if h.Kind() == Experiment && old.Format > 0 {
		h.Run++
	}
	if err := s.makeRoom(dir, there, h); err != nil {
		return nil, err
	}
	return create(filepath.Join(dir, fileName(h.Run)), h, s.maxBytes)
}

// makeRoom removes what a new record makes out of date: the oldest ones, and
// those of another Release of the name, or of a journal that was lost. The
// experiments of a name are counted on. A file that does not say of whom it is
// makes no other one out of date.
func (s *Store) makeRoom(dir string, there []int64, h Header) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	other := false
	if n := len(there); n > 0 && h.Kind() == Release {
		last, err := headerOf(filepath.Join(dir, fileName(there[n-1])))
		other = err == nil && last.Format > 0 && last.UID != h.UID
	}
	var errs []error
	for i, run := range there {
		if other || run >= h.Run || i < len(there)-keepRuns+1 {
			errs = append(errs, remove(filepath.Join(dir, fileName(run))))
		}
	}
	return errors.Join(append(errs, s.sweep(h.Kind(), dir))...)
}

// sweep removes the records of those that had no run for longest, but not of
// those that have one: next, and all whose files are open.
func (s *Store) sweep(k Kind, next string) error {
	// The pattern is well-formed.
	dirs, _ := filepath.Glob(filepath.Join(s.dir, k.dir(), "*", "*"))
	surplus := len(dirs) - keepNames
	if surplus <= 0 {
		return nil
	}
	busy := map[string]bool{next: true}
	for _, f := range s.open {
		busy[filepath.Dir(f.path)] = true
	}
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return busy[dir] })
	at := map[string]time.Time{}
	for _, dir := range dirs {
		if fi, err := os.Stat(dir); err == nil {
			at[dir] = fi.ModTime()
		}
	}
	slices.SortFunc(dirs, func(a, b string) int { return at[a].Compare(at[b]) })
	var errs []error
	for _, dir := range dirs[:min(surplus, len(dirs))] {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// drop closes the record of a run that may go on.
func (s *Store) drop(k Key) {
	if f := s.open[k]; f != nil {
		f.f.Close() // each line was written when it came
		delete(s.open, k)
	}
}

// Forget closes what is open of a Release or an Experiment that is gone. Its
// records stay until they are the oldest, or another Release of the name has a
// run.
func (s *Store) Forget(k Key) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(k)
	delete(s.unwritten, k)
}

// Close closes all files, and waits for those that are being packed.
func (s *Store) Close() {
	s.mu.Lock()
	for dir := range s.endings {
		s.retry(dir)
	}
	for k := range s.open {
		s.drop(k)
	}
	s.mu.Unlock()
	s.packing.Wait()
}

// Open returns the lines of a record for the caller to close; run 0 is the last
// one. The error says which runs there are, and is fs.ErrNotExist, when that one
// has no record. A record that is being written ends with what is written.
func (s *Store) Open(k Kind, namespace, name string, run int64) (io.ReadCloser, error) {
	dir := s.dirOf(k, namespace, name)
	runs, err := runsIn(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	switch {
	case len(runs) == 0 && k == Experiment:
		return nil, missing(fmt.Sprintf("experiment %s has no record: Serin has not looked at it since it keeps them", name))
	case len(runs) == 0:
		return nil, missing(fmt.Sprintf("release %s has no record: none of its runs began since Serin keeps them", name))
	}
	if run == 0 {
		run = runs[len(runs)-1]
	}
	r, err := unpack(filepath.Join(dir, fileName(run)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(fmt.Sprintf("run %d of %s %s has no record; these have: %s", run, k, name, listOf(runs)))
	}
	return r, err
}

// missing says which record there is not, in full, and is fs.ErrNotExist.
type missing string

func (m missing) Error() string        { return string(m) }
func (m missing) Is(target error) bool { return target == fs.ErrNotExist }

// dir is where records of a kind are.
func (k Kind) dir() string {
	if k == Experiment {
		return "experiments"
	}
	return "runs"
}

func (s *Store) dirOf(k Kind, namespace, name string) string {
	// Both are names of objects of the API. A caller from outside may make
	// up others; nothing but a name below the directory is ever touched.
	return filepath.Join(s.dir, k.dir(), filepath.Base(filepath.Clean("/"+namespace)), filepath.Base(filepath.Clean("/"+name)))
}

func listOf(runs []int64) string {
	var out []string
	for _, n := range runs {
		out = append(out, strconv.FormatInt(n, 10))
	}
	return strings.Join(out, ", ")
}

const extension = ".jsonl"

func fileName(run int64) string { return fmt.Sprintf("%04d%s", run, extension) }

// runsIn lists the runs that have a record, in order.
func runsIn(dir string) ([]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []int64
	for _, e := range entries {
		number, rest, _ := strings.Cut(e.Name(), ".")
		n, err := strconv.ParseInt(number, 10, 64)
		if err == nil && ("."+rest == extension || "."+rest == extension+packed) && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, cmp.Compare)
	return out, nil
}
