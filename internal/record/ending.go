package record

import (
	"errors"
	"fmt"
	"io/fs"
)

// maxEndings is how many bytes of endings are kept at most. One has tens of
// kilobytes where it brings the state along, else some hundred bytes.
const maxEndings = 16 << 20

// ending is the last look of a run, encoded, that could not be written when it
// came. No later look can say that it is missing, so it is kept. One of each
// name is: that of a later run replaces it, and it is given up when a later run
// has a record.
type ending struct {
	open  func() (*file, error) // in which the lines are next
	lines []byte
}

// keep keeps the lines of a last look that were not written because of err. They
// were encoded for f, which is without a path where none could be opened.
func (s *Store) keep(f *file, h Header, began bool, lines []byte, err error) error {
	dir := s.dirOf(h.Kind(), h.Namespace, h.Name())
	size := len(lines)
	for other, e := range s.endings {
		if other != dir {
			size += len(e.lines)
		}
	}
	if size > s.maxEndings {
		return err
	}
	e := ending{lines: lines, open: func() (*file, error) { return s.begin(h, began) }}
	if path := f.path; path != "" {
		e.open = func() (*file, error) { return reopen(path, s.maxBytes) }
	}
	s.endings[dir] = e
	return fmt.Errorf("its last look is kept, to be written later: %w", err)
}

// Retry writes the last look of a run that could not be written when it came, if
// there is one. It takes as long as adding a look, and is to be called now and
// then, as often as one likes: each call tries one run's. What was not written
// when the process ends is missing; the record then has no end, and says so.
func (s *Store) Retry() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for dir := range s.endings { // in any order, so that none is in the way of the others
		s.retry(dir)
		return
	}
}

func (s *Store) retry(dir string) {
	e, waits := s.endings[dir]
	if !waits {
		return
	}
	f, err := e.open()
	if err == nil {
		if err = f.append(e.lines); err == nil {
			s.packing.Go(f.pack)
		} else {
			f.f.Close() // the next try opens it again
		}
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) { // its file was removed, to make room
		delete(s.endings, dir)
	}
}
