package live

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/test/story"
)

// day is the date of every story; their files give times of day.
const day = "2026-03-04T"

// TestViewDraws holds the pictures of testdata/view. Each file has a Release,
// perhaps events, and pictures named "<width>" or "<width> color".
func TestViewDraws(t *testing.T) {
	story.EachArchive(t, "testdata/view/*.txtar", func(t *testing.T, told *txtar.Archive) {
		var v View
		for i := range told.Files {
			f := &told.Files[i]
			switch f.Name {
			case "release.yaml":
				v.Release = decode[v1alpha1.Release](t, f)
			case "events.yaml":
				v.Events = *decode[[]Event](t, f)
			case "notice":
				v.Notice = strings.TrimSpace(string(f.Data))
			default:
				width, style, _ := strings.Cut(f.Name, " ")
				var err error
				if v.Width, err = strconv.Atoi(width); err != nil {
					t.Fatalf("file %q: want a width", f.Name)
				}
				v.Color = style == "color"
				v.Now = clock(t, "12:00:30")
				lines := v.Lines()
				for _, l := range lines {
					if n := len([]rune(strip(l))); v.Width > 0 && n > v.Width {
						t.Errorf("a line of %d columns at width %d: %q", n, v.Width, l)
					}
				}
				f.Data = visible(lines)
			}
		}
	})
}

// TestLogTells holds the stories of testdata/log: files "<time>" hold a
// status at that time, and what the log says to it follows as "says".
func TestLogTells(t *testing.T) {
	story.EachArchive(t, "testdata/log/*.txtar", func(t *testing.T, told *txtar.Archive) {
		var log Log
		var v View
		var said []string
		for i := range told.Files {
			f := &told.Files[i]
			switch f.Name {
			case "release.yaml":
				v.Release = decode[v1alpha1.Release](t, f)
			case "notice":
				v.Notice = strings.TrimSpace(string(f.Data))
				said = log.Lines(v)
			case "event.yaml":
				said = []string{log.Event(v, *decode[Event](t, f))}
			case "says":
				f.Data = visible(said)
			default:
				v.Now = clock(t, f.Name)
				v.Notice = ""
				v.Release = v.Release.DeepCopy()
				if len(bytes.TrimSpace(f.Data)) > 0 {
					v.Release.Status = *decode[v1alpha1.ReleaseStatus](t, f)
				}
				said = log.Lines(v)
			}
		}
	})
}

func decode[T any](t *testing.T, f *txtar.File) *T {
	t.Helper()
	var out T
	if err := yaml.UnmarshalStrict(f.Data, &out); err != nil {
		t.Fatalf("%s: %v", f.Name, err)
	}
	return &out
}

func clock(t *testing.T, timeOfDay string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, day+timeOfDay+"Z")
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// visible shows escape characters, and where lines are empty.
func visible(lines []string) []byte {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintln(&b, strings.ReplaceAll(l, "\x1b", "␛"))
	}
	return []byte(b.String())
}

// strip removes paint.
func strip(s string) string {
	for {
		before, rest, found := strings.Cut(s, "\x1b[")
		if !found {
			return s
		}
		_, after, _ := strings.Cut(rest, "m")
		s = before + after
	}
}

func TestViewOfEmptyReleaseIsSafe(t *testing.T) {
	for _, phase := range []string{"", "Idle", "Initializing", "Starting", "Progressing", "Promoting", "Finalizing", "RollingBack", "NewPhase"} {
		for _, width := range []int{0, 1, 2, 10, 500} {
			r := &v1alpha1.Release{Status: v1alpha1.ReleaseStatus{Phase: phase, Step: 9, History: []v1alpha1.Run{{Cause: &v1alpha1.Cause{Endpoint: "x", Example: &v1alpha1.Example{}}}}}}
			for _, l := range (View{Release: r, Width: width}).Lines() {
				if width > 0 && utf8.RuneCountInString(l) > width {
					t.Errorf("phase %q width %d: %q is too long", phase, width, l)
				}
			}
		}
	}
}

func TestPlainKeepsTerminalsFromObeying(t *testing.T) {
	for in, want := range map[string]string{
		"GET /a?b=\x1b[2J\x07":      "GET /a?b=�[2J�",
		"two\nlines\tand\u009b31m":  "two lines and�31m",
		"right\u202eto left":        "right�to left",
		"broken \xff utf-8":         "broken � utf-8",
		"plain ünïcode → 完 stays 🙂": "plain ünïcode → 完 stays 🙂",
	} {
		if got := Plain(in); got != want {
			t.Errorf("Plain(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestRateKeepsTheDigitsThatMatter(t *testing.T) {
	for _, c := range []struct {
		requests, failures int64
		want               string
	}{
		{0, 0, "-"},
		{10, 0, "0%"},
		{10, 10, "100%"},
		{12, 6, "50.0%"},
		{1000, 3, "0.30%"},
		{1_000_000, 1, "<0.01%"},
		{100_000, 99_999, "99.9%"}, // never rounded to 100%
	} {
		if got := Rate(v1alpha1.Count{Requests: c.requests, Failures: c.failures}); got != c.want {
			t.Errorf("Rate(%d of %d) = %q, want %q", c.failures, c.requests, got, c.want)
		}
	}
}

func TestSpanIsShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                              "0s",
		340 * time.Millisecond:         "340ms",
		3*time.Second + 100e6:          "3.1s",
		59 * time.Second:               "59s",
		8*time.Minute + 12*time.Second: "8m12s",
		10 * time.Minute:               "10m",
		20 * time.Minute:               "20m",
		90 * time.Minute:               "1h30m",
		2 * time.Hour:                  "2h",
		50 * time.Hour:                 "50h",
	} {
		if got := Span(d); got != want {
			t.Errorf("Span(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestVersionNamesTellVersionsApart(t *testing.T) {
	v := func(revision, label, image string) v1alpha1.Version {
		return v1alpha1.Version{Revision: revision, Label: label, Image: image}
	}
	for _, c := range []struct {
		a, b         v1alpha1.Version
		wantA, wantB string
	}{
		{v("1111111111", "v1", "i:v1"), v("2222222222", "v2", "i:v2"), "v1", "v2"},
		{v("1111111111", "v1", ""), v("2222222222", "v1", ""), "v1@1111111", "v1@2222222"},
		{v("1111111111", "v1", ""), v("1111111111", "v1", ""), "v1", "v1"},
		{v("1111111111", "", "i"), v("", "", ""), "i", ""},
		{v("1111111111", "", ""), v("22", "", ""), "1111111", "22"},
	} {
		a, b := VersionNames(c.a, c.b)
		if a != c.wantA || b != c.wantB {
			t.Errorf("VersionNames(%v, %v) = %q, %q; want %q, %q", c.a, c.b, a, b, c.wantA, c.wantB)
		}
	}
}

// What is cut out of a reason takes along what it was joined by.
func TestAReasonReadsAsASentence(t *testing.T) {
	const told = "collecting evidence: 5 of about 71 canary requests, about 2m4s left"
	for _, tt := range []struct{ reason, want string }{
		{"step 1 of 1 (50 %): " + told + ", own load fills in", "own load fills in"},
		{"step 1 of 1 (50 %): " + told + ", the 30 requests of own load are used up", "the 30 requests of own load are used up"},
		{"test (no users): not enough evidence: " + told + ", own load fills in", "own load fills in"},
		{"step 1 of 1 (50 %): frozen: audit; " + told, "frozen: audit"},
		{"step 1 of 1 (50 %): " + told, ""},
	} {
		if got := reason(&v1alpha1.ReleaseStatus{Step: 1, Reason: tt.reason, Evidence: told}); got != tt.want {
			t.Errorf("of %q: %q, want %q", tt.reason, got, tt.want)
		}
	}
}
