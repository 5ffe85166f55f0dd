package node

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// logged is a source with one pod of one container, and its log.
func logged(t *testing.T) (*LogSource, *logWriter) {
	t.Helper()
	s := NewLogSource(t.TempDir())
	s.open("shop", "music", "u1", []string{"app"})
	return s, nextRun(t, s)
}

func nextRun(t *testing.T, s *LogSource) *logWriter {
	t.Helper()
	w, err := s.create("shop", "music", "u1", "app")
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s *LogSource, opts *corev1.PodLogOptions) string {
	t.Helper()
	r, err := s.Open(t.Context(), "shop", "music", opts)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestLogsAreReadAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := logged(t)
		out, errs := w.stream("stdout"), w.stream("stderr")
		write(t, out, "one\ntw")
		write(t, errs, "bad\n")
		write(t, out, "o\n\n")
		time.Sleep(10 * time.Second) // of fake time
		write(t, out, "three")
		out.flush()
		long := strings.Repeat("x", maxLogLine+5)
		write(t, out, long+"\n")
		number := func(n int64) *int64 { return &n }
		text := func(s string) *string { return &s }
		since := metav1.NewTime(time.Now().Add(-time.Second))
		whole := "one\nbad\ntwo\n\nthree\n" + long + "\n"
		for _, c := range []struct {
			name string
			opts corev1.PodLogOptions
			want string
		}{
			{"all", corev1.PodLogOptions{}, whole},
			{"by container", corev1.PodLogOptions{Container: "app"}, whole},
			{"tail", corev1.PodLogOptions{TailLines: number(4)}, "\nthree\n" + long + "\n"}, // the long line has two parts
			{"tail of nothing", corev1.PodLogOptions{TailLines: number(0)}, ""},
			{"since seconds", corev1.PodLogOptions{SinceSeconds: number(5)}, "three\n" + long + "\n"},
			{"since time", corev1.PodLogOptions{SinceTime: &since}, "three\n" + long + "\n"},
			{"limit", corev1.PodLogOptions{LimitBytes: number(6)}, "one\nba"},
			{"stderr", corev1.PodLogOptions{Stream: text("Stderr")}, "bad\n"},
		} {
			if diff := cmp.Diff(c.want, read(t, s, &c.opts)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
		}
		got := read(t, s, &corev1.PodLogOptions{Timestamps: true, LimitBytes: number(80)})
		if ok, err := regexp.MatchString(`^2000-01-01T00:00:00Z one\n2000-01-01T00:00:00Z bad\n`, got); !ok || err != nil {
			t.Errorf("timestamps: %q", got)
		}
	})
}

func TestLogsThatAreNotThereSayWhy(t *testing.T) {
	s := NewLogSource(t.TempDir())
	s.open("shop", "music", "u1", []string{"app", "helper"})
	both := int64(1)
	now := metav1.Now()
	for _, c := range []struct {
		pod  string
		opts corev1.PodLogOptions
		want string
	}{
		{"other", corev1.PodLogOptions{}, `pods "other" not found`},
		{"music", corev1.PodLogOptions{}, "a container name must be specified for pod music, choose one of: [app helper]"},
		{"music", corev1.PodLogOptions{Container: "x"}, "container x is not valid for pod music, choose one of: [app helper]"},
		{"music", corev1.PodLogOptions{Container: "app"}, `container "app" in pod "music" is waiting to start`},
		{"music", corev1.PodLogOptions{SinceSeconds: &both, SinceTime: &now}, "at most one of sinceTime or sinceSeconds may be specified"},
	} {
		_, err := s.Open(t.Context(), "shop", c.pod, &c.opts)
		if err == nil || err.Error() != c.want || apierrors.ReasonForError(err) == metav1.StatusReasonUnknown {
			t.Errorf("%s %+v: error %v; want the API error %s", c.pod, c.opts, err, c.want)
		}
	}
	w := nextRun(t, s)
	defer w.close()
	_, err := s.Open(t.Context(), "shop", "music", &corev1.PodLogOptions{Container: "app", Previous: true})
	if want := `previous terminated container "app" in pod "music" not found`; err == nil || err.Error() != want {
		t.Errorf("error %v; want %s", err, want)
	}
}

func TestThePreviousRunIsKeptAndNoEarlierOne(t *testing.T) {
	s, w := logged(t)
	for i := range 3 {
		out := w.stream("stdout")
		write(t, out, fmt.Sprintf("run %d\n", i))
		if tail, err := w.close(); err != nil || tail != fmt.Sprintf("run %d", i) {
			t.Errorf("close = %q, %v", tail, err)
		}
		w = nextRun(t, s)
	}
	if got := read(t, s, &corev1.PodLogOptions{Previous: true}); got != "run 2\n" {
		t.Errorf("previous = %q; want run 2", got)
	}
	if _, err := w.close(); err != nil {
		t.Error(err)
	}
	if files, err := filepath.Glob(filepath.Join(s.dir, "*", "*")); len(files) != 2 || err != nil {
		t.Errorf("files %v, %v; want those of two runs", files, err)
	}
}

func TestFollowSeesEveryLineAcrossRotationsAndEndsWithTheRun(t *testing.T) {
	s, w := logged(t)
	out := w.stream("stdout")
	write(t, out, "line 0\n")
	r, err := s.Open(t.Context(), "shop", "music", &corev1.PodLogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	lines := bufio.NewReader(r)
	padding := strings.Repeat("x", maxLogLine/2)
	next := 0
	see := func(upTo int) {
		for ; next < upTo; next++ {
			line, err := lines.ReadString('\n')
			if want := fmt.Sprintf("line %d", next); err != nil || strings.TrimSuffix(strings.TrimSpace(line), padding) != want {
				t.Fatalf("read %.20q, %v; want %s", line, err, want)
			}
		}
	}
	see(1)
	count := 2*maxLogFile/len(padding) + 10 // two rotations
	for i := 1; i < count; i++ {
		write(t, out, fmt.Sprintf("line %d%s\n", i, padding))
		if i%100 == 0 {
			see(i)
		}
	}
	see(count)
	if _, err := w.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := lines.ReadByte(); err != io.EOF {
		t.Errorf("after the end: %v; want EOF", err)
	}
	size := int64(0)
	files, err := filepath.Glob(filepath.Join(s.dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		fi, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += fi.Size()
	}
	if size > 2*maxLogFile {
		t.Errorf("%d bytes are kept; want at most %d", size, 2*maxLogFile)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	s, w := logged(t)
	defer w.close()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := s.Open(ctx, "shop", "music", &corev1.PodLogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel()
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after cancel: %v; want EOF", err)
	}
}

func TestOnlyTheLastEndedPodsKeepTheirLogs(t *testing.T) {
	s := NewLogSource(t.TempDir())
	s.open("shop", "alive", "u", []string{"app"})
	w, err := s.create("shop", "alive", "u", "app")
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(s.podDir("shop", "alive", "u"), old, old); err != nil {
		t.Fatal(err)
	}
	for i := range keepEnded + 5 {
		uid := fmt.Sprintf("u%02d", i)
		s.open("shop", "music", uid, []string{"app"})
		w, err := s.create("shop", "music", uid, "app")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.close(); err != nil {
			t.Fatal(err)
		}
		at := old.Add(time.Duration(i) * time.Second)
		if err := os.Chtimes(s.podDir("shop", "music", uid), at, at); err != nil {
			t.Fatal(err)
		}
		if err := s.end("shop", "music", uid); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != keepEnded+1 || entries[0].Name() != "shop_alive_u" || entries[1].Name() != "shop_music_u05" {
		t.Errorf("%d directories from %v on; want the living pod and the last %d", len(entries), entries[:2], keepEnded)
	}
}
