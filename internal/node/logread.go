package node

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Open reads the log of a container of a pod that exists. The reader must be
// closed.
//
// All of opts is honoured but the TLS options, which are about kubelets. With
// Follow the reader ends when the run of the container ends or ctx does; a run
// that comes later has a log of its own. Errors are API errors: BadRequest
// when the options don't fit the pod, NotFound when it never ran here.
func (s *LogSource) Open(ctx context.Context, namespace, pod string, opts *corev1.PodLogOptions) (io.ReadCloser, error) {
	if opts == nil {
		opts = &corev1.PodLogOptions{}
	}
	f, err := newLogFilter(opts, time.Now())
	if err != nil {
		return nil, err
	}
	path, writer, err := s.find(namespace, pod, opts)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(ctx)
	stopped := context.AfterFunc(ctx, func() { w.CloseWithError(io.EOF) })
	go func() {
		defer stopped()
		err := copyLog(ctx, w, path, writer, opts, f)
		if errors.Is(err, errLimit) || ctx.Err() != nil {
			err = nil
		}
		w.CloseWithError(err)
	}()
	return &logReader{PipeReader: r, cancel: cancel}, nil
}

// logReader stops its writer when it is closed.
type logReader struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (r *logReader) Close() error {
	r.cancel()
	return r.PipeReader.Close()
}

// find picks the file that the options ask for. writer is nil when its run has
// ended.
func (s *LogSource) find(namespace, pod string, opts *corev1.PodLogOptions) (path string, writer *logWriter, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pods[namespace+"/"+pod]
	if p == nil {
		return "", nil, apierrors.NewNotFound(corev1.Resource("pods"), pod)
	}
	name := opts.Container
	switch {
	case name == "" && len(p.containers) == 1:
		name = p.containers[0]
	case name == "":
		return "", nil, apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod, strings.Join(p.containers, " ")))
	case !slices.Contains(p.containers, name):
		return "", nil, apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s, choose one of: [%s]", name, pod, strings.Join(p.containers, " ")))
	}
	all := runs(p.dir, name)
	if len(all) == 0 {
		return "", nil, apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start", name, pod))
	}
	last := len(all) - 1
	if opts.Previous {
		if last--; last < 0 {
			return "", nil, apierrors.NewBadRequest(fmt.Sprintf("previous terminated container %q in pod %q not found", name, pod))
		}
	}
	path = logFile(p.dir, name, all[last])
	return path, s.live[path], nil
}

// logFilter is which lines to show, and how.
type logFilter struct {
	since      time.Time
	stream     string // "" : both
	timestamps bool
	limit      int64 // bytes left to write; negative: no limit
}

func newLogFilter(opts *corev1.PodLogOptions, now time.Time) (*logFilter, error) {
	f := &logFilter{timestamps: opts.Timestamps, limit: -1}
	switch {
	case opts.SinceTime != nil && opts.SinceSeconds != nil:
		return nil, apierrors.NewBadRequest("at most one of sinceTime or sinceSeconds may be specified")
	case opts.SinceTime != nil:
		f.since = opts.SinceTime.Time
	case opts.SinceSeconds != nil:
		f.since = now.Add(-time.Duration(*opts.SinceSeconds) * time.Second)
	}
	if opts.TailLines != nil && *opts.TailLines < 0 {
		return nil, apierrors.NewBadRequest("tailLines must not be negative")
	}
	if opts.LimitBytes != nil {
		if *opts.LimitBytes < 1 {
			return nil, apierrors.NewBadRequest("limitBytes must be greater than 0")
		}
		f.limit = *opts.LimitBytes
	}
	if opts.Stream != nil && *opts.Stream != corev1.LogStreamAll {
		f.stream = strings.ToLower(*opts.Stream)
	}
	return f, nil
}

// errLimit says that limitBytes are written.
var errLimit = errors.New("limit of bytes reached")

// write shows one line of a log file.
func (f *logFilter) write(w io.Writer, line []byte) error {
	at, stream, tag, text, ok := parseLine(line)
	if !ok || at.Before(f.since) || f.stream != "" && f.stream != stream {
		return nil
	}
	var out []byte
	if f.timestamps {
		out = at.AppendFormat(out, time.RFC3339Nano)
		out = append(out, ' ')
	}
	out = append(out, text...)
	if tag == "F" {
		out = append(out, '\n')
	}
	if f.limit >= 0 {
		out = out[:min(int64(len(out)), f.limit)]
		f.limit -= int64(len(out))
	}
	if _, err := w.Write(out); err != nil {
		return err
	}
	if f.limit == 0 {
		return errLimit
	}
	return nil
}

// parseLine takes a line of a log file apart.
func parseLine(line []byte) (at time.Time, stream, tag string, text []byte, ok bool) {
	parts := bytes.SplitN(bytes.TrimSuffix(line, []byte{'\n'}), []byte{' '}, 4)
	if len(parts) != 4 {
		return time.Time{}, "", "", nil, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(parts[0]))
	return at, string(parts[1]), string(parts[2]), parts[3], err == nil
}

// copyLog writes what is in the log, and with Follow what comes.
func copyLog(ctx context.Context, w io.Writer, path string, writer *logWriter, opts *corev1.PodLogOptions, f *logFilter) error {
	rotated := 0
	var grown <-chan struct{}
	closed := true
	if writer != nil {
		// Asked before reading, so that nothing is missed afterwards.
		rotated, grown, closed = writer.state()
	}
	skip, err := linesToSkip(path, opts.TailLines)
	if err != nil {
		return err
	}
	if err := copyFile(w, path+".1", &skip, f); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer func() { file.Close() }()
	lines := bufio.NewReader(file)
	var rest []byte
	for {
		if rest, err = copyLines(w, lines, rest, &skip, f); err != nil {
			return err
		}
		if closed || !opts.Follow {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil
		}
		var now int
		now, grown, closed = writer.state()
		if now == rotated {
			continue
		}
		// The rest of the file that was moved away, then the new one.
		if rest, err = copyLines(w, lines, rest, &skip, f); err != nil {
			return err
		}
		next, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		rotated = now
		if sameFile(file, next) { // it was moved before we opened it
			next.Close()
			continue
		}
		file.Close()
		file = next
		lines.Reset(file)
	}
}

func sameFile(a, b *os.File) bool {
	fa, errA := a.Stat()
	fb, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(fa, fb)
}

func copyFile(w io.Writer, path string, skip *int, f *logFilter) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = copyLines(w, bufio.NewReader(file), nil, skip, f)
	return err
}

// copyLines shows whole lines up to the end of the file, and returns the
// beginning of a line that is still being written.
func copyLines(w io.Writer, lines *bufio.Reader, rest []byte, skip *int, f *logFilter) ([]byte, error) {
	for {
		part, err := lines.ReadBytes('\n')
		rest = append(rest, part...)
		if errors.Is(err, io.EOF) {
			return rest, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		if *skip > 0 {
			*skip--
		} else if err := f.write(w, rest); err != nil {
			return nil, err
		}
		rest = nil
	}
}

// linesToSkip counts the lines before the last tail ones, over both files.
func linesToSkip(path string, tail *int64) (int, error) {
	if tail == nil {
		return 0, nil
	}
	total := 0
	for _, p := range []string{path + ".1", path} {
		n, err := countLines(p)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, fmt.Errorf("read the log: %w", err)
		}
		total += n
	}
	return int(max(0, int64(total)-*tail)), nil
}

func countLines(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	lines := 0
	for {
		n, err := f.Read(buf)
		lines += bytes.Count(buf[:n], []byte{'\n'})
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
