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

	"serin.dev/serin/internal/rollout"
)

const (
	// keepRuns is how many records a release has at most.
	keepRuns = 20
	// keepReleases is how many releases have records at most; those of
	// releases that are gone stay until then.
	keepReleases = 500
	// maxBytes is the length of a record, before it is packed, from which on it
	// has decisions alone: half an hour of a service with thousands of requests
	// per second, days of a quiet one.
	maxBytes = 64 << 20
)

// Store keeps the records of runs in files, NAMESPACE/RELEASE/0007.jsonl below
// its directory, packed (.gz) when the run has ended. A nil Store keeps nothing.
type Store struct {
	dir      string
	maxBytes int64

	mu   sync.Mutex
	open map[Key]*file // the run that is on

	packing sync.WaitGroup
}

// Key names a Release.
type Key struct{ Namespace, Release, UID string }

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

// NewStore keeps records below dir, which is made when the first run begins.
func NewStore(dir string) *Store {
	return &Store{dir: dir, maxBytes: maxBytes, open: map[Key]*file{}}
}

// Add adds a look to the record of the run that is on, if one is, or begins with
// it. The lines are in the file when it returns: a process that is killed loses
// none of them. After an error the record has a gap, and goes on behind it.
func (s *Store) Add(k Key, l Look) error {
	began := l.Next.Run.Number > l.Was.Run.Number
	if s == nil || !began && !on(l.Was) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.add(k, l, began)
	if err != nil {
		s.drop(k)
		return fmt.Errorf("record of run %d: %w", l.Next.Run.Number, err)
	}
	if !on(l.Next) {
		s.finish(k)
	}
	return nil
}

func (s *Store) add(k Key, l Look, began bool) error {
	f := s.open[k]
	if f == nil || began {
		s.drop(k)
		h := Header{format, k.Namespace, k.Release, k.UID, l.Next.Run.Number, l.From, l.To}
		var err error
		if f, err = s.begin(h, began); err != nil {
			return err
		}
		s.open[k] = f
	}
	return f.add(l)
}

// begin opens the file of a run, a new one or, after a restart, the one that it
// has.
func (s *Store) begin(h Header, began bool) (*file, error) {
	dir := s.dirOf(h.Namespace, h.Release)
	path := filepath.Join(dir, fileName(h.Run))
	if !began {
		if old, err := headerOf(path); err == nil && old.UID == h.UID {
			return reopen(path, s.maxBytes)
		}
	}
	if err := s.makeRoom(dir, h); err != nil {
		return nil, err
	}
	return create(path, h, s.maxBytes)
}

// makeRoom removes what a new record makes out of date: the oldest ones, and
// those of another Release of the name, or of a journal that was lost.
func (s *Store) makeRoom(dir string, h Header) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	runs, err := runsIn(dir)
	if err != nil {
		return err
	}
	other := false
	if n := len(runs); n > 0 {
		last, err := headerOf(filepath.Join(dir, fileName(runs[n-1])))
		other = err != nil || last.UID != h.UID
	}
	for i, run := range runs {
		if other || run >= h.Run || i < len(runs)-keepRuns+1 {
			err = errors.Join(err, remove(filepath.Join(dir, fileName(run))))
		}
	}
	return errors.Join(err, s.sweep())
}

// sweep removes the records of the releases that had no run for longest.
func (s *Store) sweep() error {
	// The pattern is well-formed.
	dirs, _ := filepath.Glob(filepath.Join(s.dir, "*", "*"))
	if len(dirs) <= keepReleases {
		return nil
	}
	at := map[string]time.Time{}
	for _, dir := range dirs {
		if fi, err := os.Stat(dir); err == nil {
			at[dir] = fi.ModTime()
		}
	}
	slices.SortFunc(dirs, func(a, b string) int { return at[a].Compare(at[b]) })
	var errs []error
	for _, dir := range dirs[:len(dirs)-keepReleases] {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// finish closes the record of a run that ended, and packs it beside the caller.
func (s *Store) finish(k Key) {
	if f := s.open[k]; f != nil {
		s.packing.Go(f.pack)
		delete(s.open, k)
	}
}

// drop closes the record of a run that may go on.
func (s *Store) drop(k Key) {
	if f := s.open[k]; f != nil {
		f.f.Close() // each line was written when it came
		delete(s.open, k)
	}
}

// Forget closes what is open of a Release that is gone. Its records stay until
// they are the oldest, or another Release of the name has a run.
func (s *Store) Forget(k Key) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(k)
}

// Close closes all files, and waits for those that are being packed.
func (s *Store) Close() {
	s.mu.Lock()
	for k := range s.open {
		s.drop(k)
	}
	s.mu.Unlock()
	s.packing.Wait()
}

// Open returns the lines of a record for the caller to close; run 0 is the last
// one. The error says which runs there are, and is fs.ErrNotExist, when that one
// has no record. A record that is being written ends with what is written.
func (s *Store) Open(namespace, release string, run int64) (io.ReadCloser, error) {
	runs, err := runsIn(s.dirOf(namespace, release))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(runs) == 0 {
		return nil, missing(fmt.Sprintf("release %s has no record: none of its runs began since Serin keeps them", release))
	}
	if run == 0 {
		run = runs[len(runs)-1]
	}
	r, err := unpack(filepath.Join(s.dirOf(namespace, release), fileName(run)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(fmt.Sprintf("run %d of release %s has no record; these have: %s", run, release, listOf(runs)))
	}
	return r, err
}

// missing says which record there is not, in full, and is fs.ErrNotExist.
type missing string

func (m missing) Error() string        { return string(m) }
func (m missing) Is(target error) bool { return target == fs.ErrNotExist }

func (s *Store) dirOf(namespace, release string) string {
	// Both are names of objects of the API. A caller from outside may make
	// up others; nothing but a name below the directory is ever touched.
	return filepath.Join(s.dir, filepath.Base(filepath.Clean("/"+namespace)), filepath.Base(filepath.Clean("/"+release)))
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
