package http1

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// scriptConn is a peer that has said everything in advance: segments, each of
// which is at most one read, and then an end. What is written to it is kept.
type scriptConn struct {
	segments []string
	end      error // what Read returns behind the segments
	wrote    []string
	writeErr error
	ended    string    // how the connection was closed
	deadline time.Time // for reading
	limits   []string  // deadlines set, as durations from the loop's now
	onWrite  func()
}

func (c *scriptConn) Read(p []byte) (int, error) {
	if len(c.segments) == 0 {
		return 0, c.end
	}
	n := copy(p, c.segments[0])
	if c.segments[0] = c.segments[0][n:]; c.segments[0] == "" {
		c.segments = c.segments[1:]
	}
	return n, nil
}

func (c *scriptConn) Write(p []byte) (int, error) { return len(p), c.WriteTwo(p, nil) }

func (c *scriptConn) WriteTwo(a, b []byte) error {
	if c.writeErr != nil {
		return c.writeErr
	}
	c.wrote = append(c.wrote, string(a)+string(b))
	if c.onWrite != nil {
		c.onWrite()
	}
	return nil
}

func (c *scriptConn) SetReadDeadline(t time.Time) error {
	c.deadline = t
	if t.IsZero() {
		c.limits = append(c.limits, "none")
	} else {
		c.limits = append(c.limits, t.Sub(testNow).String())
	}
	return nil
}

func (c *scriptConn) Close() error {
	c.ended = "close"
	return nil
}

func (c *scriptConn) CloseGently(limit time.Duration) {
	c.ended = "close gently within " + limit.String()
}

var testNow = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// testLoop lends buffers and knows which are out.
type testLoop struct {
	size int
	soil bool // fill what comes back with garbage, so that a view kept too long shows
	free [][]byte
	out  int
}

func (l *testLoop) Buffer() []byte {
	l.out++
	if n := len(l.free) - 1; n >= 0 {
		b := l.free[n]
		l.free = l.free[:n]
		return b
	}
	return make([]byte, l.size)
}

func (l *testLoop) Release(b []byte) {
	if cap(b) != l.size {
		return
	}
	b = b[:l.size]
	if l.soil {
		copy(b, bytes.Repeat([]byte("?"), len(b)))
	}
	l.out--
	l.free = append(l.free, b)
}

func (l *testLoop) Now() time.Time { return testNow }

// parseScript reads what a peer says: lines with Go's escapes, whose ends mean
// nothing; "#" is a comment, "~" begins another segment, "~N TEXT" repeats TEXT
// N times, and "!eof", "!reset" or "!silence" is the end.
func parseScript(t *testing.T, text string) *scriptConn {
	c := &scriptConn{end: io.EOF}
	segment := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case line == "~":
			c.segments = append(c.segments, segment)
			segment = ""
		case strings.HasPrefix(line, "~"):
			count, what, _ := strings.Cut(line[1:], " ")
			n, err := strconv.Atoi(count)
			if err != nil {
				t.Fatalf("script: line %q: %v", line, err)
			}
			segment += strings.Repeat(unquote(t, what), n)
		case line == "!eof":
		case line == "!reset":
			c.end = os.NewSyscallError("read", syscall.ECONNRESET)
		case line == "!silence":
			c.end = os.ErrDeadlineExceeded
		default:
			segment += unquote(t, line)
		}
	}
	c.segments = slices.DeleteFunc(append(c.segments, segment), func(s string) bool { return s == "" })
	return c
}

func unquote(t *testing.T, s string) string {
	u, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("script: %q: %v", s, err)
	}
	return u
}

// splits are the same bytes, cut in other places: in one, singly, and in two at
// every position.
func splits(segments []string, yield func([]string) bool) {
	all := strings.Join(segments, "")
	if all == "" || !yield([]string{all}) || !yield(strings.Split(all, "")) {
		return
	}
	step := 1 + len(all)/2000 // positions in a long body are all alike
	for i := 1; i < len(all); i += step {
		if !yield([]string{all[:i], all[i:]}) {
			return
		}
	}
}

var errTest = errors.New("interrupted by the test")
