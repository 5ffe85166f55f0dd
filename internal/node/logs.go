package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxLogFile = 8 << 20  // bytes; with its predecessor at most twice this per run of a container
	maxLogLine = 16 << 10 // bytes; longer lines are kept in parts, as by container runtimes
	tailBytes  = 2048     // Kubernetes' limit for a termination message taken from the log
	tailLines  = 10
	keepEnded  = 20 // pods whose logs are kept after their end: what did the rolled-back version say?
)

// LogSource keeps the output of containers in files and reads it back. The
// node writes it, the API server reads it: they share one LogSource.
//
// A file holds lines "<time> <stdout|stderr> <F|P> <text>", the format of
// container runtimes; P is a part of a line that goes on.
type LogSource struct {
	dir string

	mu   sync.Mutex
	live map[string]*logWriter // by path of the current file
	pods map[string]*loggedPod // by namespace/name
}

// loggedPod is a pod that exists.
type loggedPod struct {
	dir        string
	containers []string
}

// NewLogSource keeps logs in dir, which is made when the first line comes.
func NewLogSource(dir string) *LogSource {
	return &LogSource{dir: dir, live: map[string]*logWriter{}, pods: map[string]*loggedPod{}}
}

// open announces a pod and the containers that may be asked for.
func (s *LogSource) open(namespace, pod, uid string, containers []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods[namespace+"/"+pod] = &loggedPod{dir: s.podDir(namespace, pod, uid), containers: containers}
}

func (s *LogSource) podDir(namespace, pod, uid string) string {
	// A file name may have 255 bytes.
	return filepath.Join(s.dir, namespace+"_"+pod[:min(len(pod), 150)]+"_"+uid)
}

// end forgets a pod that is gone, and removes the logs of those that went
// long ago.
func (s *LogSource) end(namespace, pod, uid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, dir := namespace+"/"+pod, s.podDir(namespace, pod, uid)
	if p := s.pods[key]; p != nil && p.dir == dir {
		delete(s.pods, key)
	}
	existing := map[string]bool{}
	for _, p := range s.pods {
		existing[p.dir] = true
	}
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	type ended struct {
		dir string
		at  time.Time
	}
	var old []ended
	for _, e := range entries {
		path := filepath.Join(s.dir, e.Name())
		if fi, err := e.Info(); err == nil && !existing[path] {
			old = append(old, ended{path, fi.ModTime()})
		}
	}
	slices.SortFunc(old, func(a, b ended) int { return b.at.Compare(a.at) })
	var errs []error
	for _, e := range old[min(keepEnded, len(old)):] {
		errs = append(errs, os.RemoveAll(e.dir))
	}
	return errors.Join(errs...)
}

// logFile is the path of one run of a container.
func logFile(podDir, container string, run int) string {
	return filepath.Join(podDir, container+"."+strconv.Itoa(run)+".log")
}

// runs lists the runs of a container that have a log, oldest first.
func runs(podDir, container string) []int {
	// The pattern is well-formed: names of containers are DNS labels.
	files, _ := filepath.Glob(filepath.Join(podDir, container+".*.log"))
	var out []int
	for _, f := range files {
		n := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), container+"."), ".log")
		if run, err := strconv.Atoi(n); err == nil {
			out = append(out, run)
		}
	}
	slices.Sort(out)
	return out
}

// create opens the log of the next run of a container. Only the run before it
// is kept.
func (s *LogSource) create(namespace, pod, uid, container string) (*logWriter, error) {
	dir := s.podDir(namespace, pod, uid)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep logs: %w", err)
	}
	run := 0
	before := runs(dir, container)
	if n := len(before); n > 0 {
		run = before[n-1] + 1
		for _, old := range before[:n-1] {
			path := logFile(dir, container, old)
			for _, p := range []string{path, path + ".1"} {
				if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
					return nil, fmt.Errorf("remove an old log: %w", err)
				}
			}
		}
	}
	path := logFile(dir, container, run)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep logs: %w", err)
	}
	w := &logWriter{source: s, path: path, file: f, grown: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[path] = w
	return w, nil
}

// logWriter is the log of one run of a container.
type logWriter struct {
	source *LogSource
	path   string

	mu      sync.Mutex
	file    *os.File
	size    int64
	rotated int           // how often the file was replaced
	grown   chan struct{} // closed and replaced when there is more to read
	closed  bool
	tail    []string
	lost    int // lines that could not be written, because of a full disk
}

// stream returns a writer for stdout or stderr. It must be closed to get the
// last line when it has no newline.
func (w *logWriter) stream(name string) *lineWriter { return &lineWriter{log: w, name: name} }

// lineWriter cuts output into lines.
type lineWriter struct {
	log  *logWriter
	name string
	rest []byte
}

// Write never fails: a process must not die because its log cannot be kept.
func (l *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, after, whole := bytes.Cut(p, []byte{'\n'})
		room := maxLogLine - len(l.rest)
		switch {
		case len(line) > room:
			l.rest = append(l.rest, p[:room]...)
			l.log.add(l.name, "P", l.rest)
			l.rest, p = l.rest[:0], p[room:]
			continue
		case !whole:
			l.rest = append(l.rest, line...)
			return n, nil
		}
		l.rest = append(l.rest, line...)
		l.log.add(l.name, "F", l.rest)
		l.rest, p = l.rest[:0], after
	}
	return n, nil
}

// flush writes the last line when the process did not end it.
func (l *lineWriter) flush() {
	if len(l.rest) > 0 {
		l.log.add(l.name, "F", l.rest)
		l.rest = nil
	}
}

func (w *logWriter) add(stream, tag string, text []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tail = append(w.tail, string(text))
	w.tail = w.tail[max(0, len(w.tail)-tailLines):]
	line := fmt.Appendf(nil, "%s %s %s %s\n", time.Now().UTC().Format(time.RFC3339Nano), stream, tag, text)
	if w.size+int64(len(line)) > maxLogFile {
		w.rotate()
	}
	n, err := w.file.Write(line)
	w.size += int64(n)
	if err != nil {
		w.lost++
	}
	close(w.grown)
	w.grown = make(chan struct{})
}

// rotate starts a new file and keeps one old one. When that fails, the current
// one grows on.
func (w *logWriter) rotate() {
	if os.Rename(w.path, w.path+".1") != nil {
		return
	}
	f, err := os.OpenFile(w.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	w.file.Close()
	w.file, w.size = f, 0
	w.rotated++
}

// close ends the log. It returns its last lines, and an error when lines were
// lost.
func (w *logWriter) close() (tail string, err error) {
	w.source.mu.Lock()
	delete(w.source.live, w.path)
	w.source.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	close(w.grown)
	tail = strings.Join(w.tail, "\n")
	tail = tail[max(0, len(tail)-tailBytes):]
	err = w.file.Close()
	if w.lost > 0 {
		err = errors.Join(err, fmt.Errorf("%d lines of output are missing from %s: is the disk full?", w.lost, w.path))
	}
	return strings.ToValidUTF8(tail, ""), err
}

// state tells a reader where the log stands: how often it was rotated, a
// channel that closes when there is more, and whether there will be more.
func (w *logWriter) state() (rotated int, grown <-chan struct{}, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rotated, w.grown, w.closed
}

var _ io.Writer = (*lineWriter)(nil)
