package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/live"
)

// serin runs one command line in this process to its end.
func serin(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(args, genericiooptions.IOStreams{In: strings.NewReader(""), Out: &o, ErrOut: &e})
	return code, o.String(), e.String()
}

// session is a command that runs in the background of a test.
type session struct {
	t      *testing.T
	lines  *bufio.Scanner
	errOut bytes.Buffer
	code   chan int
}

func start(t *testing.T, args ...string) *session {
	t.Helper()
	r, w := io.Pipe()
	s := &session{t: t, lines: bufio.NewScanner(r), code: make(chan int, 1)}
	s.lines.Buffer(nil, 1<<20)
	go func() {
		code := run(args, genericiooptions.IOStreams{In: strings.NewReader(""), Out: w, ErrOut: &s.errOut})
		w.Close()
		s.code <- code
	}()
	return s
}

// next returns the next line that was printed.
func (s *session) next() string {
	s.t.Helper()
	if !s.lines.Scan() {
		s.t.Fatalf("no more lines; exit code %d, error %q", <-s.code, s.errOut.String())
	}
	return s.lines.Text()
}

// expect reads lines until one matches, and fails when the command ends before.
func (s *session) expect(pattern string) string {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	var seen []string
	for s.lines.Scan() {
		if re.MatchString(s.lines.Text()) {
			return s.lines.Text()
		}
		seen = append(seen, s.lines.Text())
	}
	s.t.Fatalf("no line matches %q; exit code %d, error %q, lines:\n%s", pattern, <-s.code, s.errOut.String(), strings.Join(seen, "\n"))
	return ""
}

// end waits for the command's end, reading what it still prints.
func (s *session) end() int {
	for s.lines.Scan() {
	}
	return <-s.code
}

const (
	idle = `{phase: Idle, reason: v1 serves users, stable: {revision: aaaa, label: v1}}`

	progressing = `
phase: Progressing
reason: collecting evidence
stable: {revision: aaaa, label: v1}
canary: {revision: bbbb, label: v2}
step: 1
stepText: 1/2
split: {asked: "10", acked: "10", measured: "9.8"}
samples: {canary: {requests: 12, failures: 6}, stable: {requests: 108, failures: 0}}
verdict: Collecting
evidence: 12 of about 40 requests
`
	ended = `
phase: Idle
reason: serves users
stable: {revision: aaaa, label: v1}
history:
- number: 1
  from: {revision: aaaa, label: v1}
  to: {revision: bbbb, label: v2}
  outcome: OUTCOME
  started: "2026-03-04T12:00:00Z"
  ended: "2026-03-04T12:00:20Z"
  canary: {requests: 14, failures: 7}
  cost: {failedRequests: 7}
  canaryRequestsAfterEffect: 0
  reason: so it was decided
`
)

func endedBy(outcome string) string { return strings.ReplaceAll(ended, "OUTCOME", outcome) }

func (w *world) status(t *testing.T, namespace, status string) {
	t.Helper()
	if err := w.setStatus(t.Context(), namespace, "music", status); err != nil {
		t.Fatal(err)
	}
}

func (w *world) testWatchLines(t *testing.T) {
	const ns = "watch-lines"
	w.enter(t, ns, "v2")
	w.status(t, ns, idle)
	s := start(t, "release", "watch", "music")
	s.expect(`music  Idle at v1; v1 serves users$`)

	w.status(t, ns, progressing)
	s.expect(`music  Progressing v1 → v2 step 1/2: asked 10%, acked 10%, measured 9.8%; failed 6 of 12 canary, 0 of 108 stable; Collecting: 12 of about 40 requests; collecting evidence$`)

	w.event(t, ns, "StepReached", "v2 gets 10 % of the traffic")
	s.expect(`music  event StepReached: v2 gets 10 % of the traffic$`)

	w.status(t, ns, endedBy("rolled-back"))
	s.expect(`music  ✗ rolled back at .* after 20s: v2 is out, v1 serves users$`)
	s.expect(`music    why: so it was decided$`)
	s.expect(`music    cost: 7 of 14 requests to v2 failed, about 7 because of the release; 0 requests after that$`)
	if code := s.end(); code != exitRolledBack || s.errOut.Len() > 0 {
		t.Errorf("exit code %d, error %q; want %d and no error", code, s.errOut.String(), exitRolledBack)
	}
}

func (w *world) event(t *testing.T, namespace, reason, message string) {
	t.Helper()
	now := metav1.Now()
	e := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: strings.ToLower(reason)},
		InvolvedObject: corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Release", Namespace: namespace, Name: "music"},
		Reason:         reason, Message: message, Type: corev1.EventTypeNormal,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}
	if _, err := w.client.core.CoreV1().Events(namespace).Create(t.Context(), e, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) testWatchJSON(t *testing.T) {
	const ns = "watch-json"
	w.enter(t, ns, "v2")
	w.status(t, ns, `{phase: Idle, stable: {revision: aaaa}, journal: {secret: 1}}`)
	s := start(t, "release", "watch", "music", "-o", "json")
	read := func() (r v1alpha1.Release) {
		t.Helper()
		line := s.next()
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		return r
	}
	if r := read(); r.Kind != "Release" || r.Name != "music" || r.Status.Phase != "Idle" || r.Status.Journal != nil || r.ManagedFields != nil {
		t.Errorf("first object: %+v", r)
	}
	w.status(t, ns, progressing)
	if r := read(); r.Status.Samples.Canary.Failures != 6 {
		t.Errorf("second object: %+v", r)
	}
	w.status(t, ns, endedBy("promoted"))
	if r := read(); len(r.Status.History) != 1 {
		t.Errorf("third object: %+v", r)
	}
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d after a promotion: %s", code, s.errOut.String())
	}
}

// testWatchExitCodes looks at what watch makes of a release at its start.
func (w *world) testWatchExitCodes(t *testing.T) {
	const ns = "watch-codes"
	w.enter(t, ns, "v2")
	asked := w.revisionNow(t, ns)
	for _, c := range []struct {
		name, status string
		code         int
		says         string
	}{
		{"nothing to do: the version asked for serves users",
			`{phase: Idle, stable: {revision: ASKED, label: v2}}`, 0, "Idle at v2"},
		{"the version asked for was rolled back before",
			strings.ReplaceAll(endedBy("rolled-back"), "bbbb", "ASKED"), exitRolledBack, "rolled back"},
		{"the version asked for was aborted before",
			strings.ReplaceAll(endedBy("aborted"), "bbbb", "ASKED"), exitRolledBack, "aborted"},
		{"another version was rolled back, and this one is taken back",
			strings.ReplaceAll(endedBy("rolled-back"), "aaaa", "ASKED"), 0, "Idle at v1"},
		{"a run is about to begin",
			endedBy("rolled-back"), exitFailure, "timed out after 2s"},
		{"the release was not looked at yet",
			`{}`, exitFailure, "timed out after 2s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.status(t, ns, strings.ReplaceAll(c.status, "ASKED", asked))
			timeout := "1m" // for what is seen at once, on a busy machine
			if c.code == exitFailure {
				timeout = "2s"
			}
			code, out, errOut := serin(t, "release", "watch", "music", "--timeout", timeout)
			if code != c.code || !strings.Contains(out+errOut, c.says) {
				t.Errorf("exit code %d, want %d; printed %q, want %q in it; error %q", code, c.code, out, c.says, errOut)
			}
		})
	}
}

// obey plays the controller: it ends the run of music as the command says, or
// with the outcome given.
func (w *world) obey(t *testing.T, namespace, outcome string) {
	updates := make(chan update)
	go func() {
		if err := w.client.follow(t.Context(), namespace, "music", updates); t.Context().Err() == nil {
			t.Error(err)
		}
	}()
	go func() {
		for {
			select {
			case <-t.Context().Done():
				return
			case u := <-updates:
				if u.release == nil || u.release.Annotations[v1alpha1.AnnotationCommandID] == "" {
					continue
				}
				if err := w.setStatus(t.Context(), namespace, "music", endedBy(outcome)); err != nil && t.Context().Err() == nil {
					t.Error(err)
				}
				return
			}
		}
	}()
}

func (w *world) testCommandsWait(t *testing.T) {
	for _, c := range []struct {
		verb, ends string
		code       int
		out, err   string
	}{
		{"promote", "promoted", 0, "release music: v2 promoted\n", ""},
		{"abort", "aborted", 0, "release music: v2 aborted\n", ""},
		{"promote", "rolled-back", exitFailure, "", "error: release music: asked to promote v2: the run ended otherwise: rolled-back: so it was decided\n"},
		{"abort", "promoted", exitFailure, "", "error: release music: asked to abort v2: the run ended otherwise: promoted: so it was decided\n"},
	} {
		t.Run(c.verb+" ends "+c.ends, func(t *testing.T) {
			ns := c.verb + "-" + c.ends
			w.enter(t, ns, "v2")
			w.status(t, ns, progressing)
			w.obey(t, ns, c.ends)
			code, out, errOut := serin(t, "release", c.verb, "music", "--reason", "I say so")
			if code != c.code || out != c.out || errOut != c.err {
				t.Errorf("exit code %d, out %q, error %q; want %d, %q, %q", code, out, errOut, c.code, c.out, c.err)
			}
			r, err := w.client.get(t.Context(), ns, "music")
			if err != nil {
				t.Fatal(err)
			}
			if a := r.Annotations; a[v1alpha1.AnnotationCommand] != c.verb || a[v1alpha1.AnnotationCommandReason] != "I say so" {
				t.Errorf("annotations %v", a)
			}
		})
	}
	t.Run("nobody obeys", func(t *testing.T) {
		w.enter(t, "nobody-obeys", "v2")
		w.status(t, "nobody-obeys", progressing)
		before := time.Now()
		code, _, errOut := serin(t, "release", "abort", "music", "--timeout", "2s")
		if code != exitFailure || !strings.Contains(errOut, "no effect yet: timed out after 2s") || time.Since(before) < 2*time.Second {
			t.Errorf("exit code %d, error %q after %v", code, errOut, time.Since(before))
		}
	})
}

// TestWatchKeepsTheEventsOfTheRun: an API that was restarted tells all events
// again, in any order, with those of earlier runs.
func TestWatchKeepsTheEventsOfTheRun(t *testing.T) {
	begin := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	event := func(uid types.UID, second int, reason string) releaseEvent {
		return releaseEvent{uid: uid, Event: live.Event{Time: begin.Add(time.Duration(second) * time.Second), Reason: reason, Message: "m"}}
	}
	old, started := event("a", 1, "Initialized"), event("b", 5, "RunStarted")
	step, again := event("c", 5, "StepReached"), event("d", 9, "HeldUp")
	var out bytes.Buffer
	w := &watching{follow: true, show: &logShow{w: &out}}
	take := func(events ...releaseEvent) {
		t.Helper()
		for _, e := range events {
			if _, err := w.take(t.Context(), update{event: &e}); err != nil {
				t.Fatal(err)
			}
		}
	}
	take(again, step, started, old)
	r := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: "music"}, Status: v1alpha1.ReleaseStatus{Phase: "Progressing"}}
	if _, err := w.take(t.Context(), update{release: r}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), " event "); n != 3 {
		t.Errorf("%d events told at first, want RunStarted, StepReached and HeldUp:\n%s", n, out.String())
	}
	take(step, again, started)
	again.Time = begin.Add(12 * time.Second) // it happened once more
	take(again)

	var reasons []string
	for _, e := range w.view.Events {
		reasons = append(reasons, e.Reason)
	}
	if diff := cmp.Diff([]string{"RunStarted", "StepReached", "HeldUp"}, reasons); diff != "" {
		t.Errorf("events in view (-want +got):\n%s", diff)
	}
	if n := strings.Count(out.String(), "StepReached"); n != 1 {
		t.Errorf("StepReached was told %d times:\n%s", n, out.String())
	}
	if n := strings.Count(out.String(), "HeldUp"); n != 2 {
		t.Errorf("HeldUp was told %d times:\n%s", n, out.String())
	}
	if strings.Contains(out.String(), "Initialized") {
		t.Errorf("an event from before the run was told:\n%s", out.String())
	}
}
