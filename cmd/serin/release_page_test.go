package main

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/live"
	tests "serin.dev/serin/test/story"
)

// TestReleasesAreShown holds the pages of testdata/page: each file has
// Releases, and what list, get (of the first one) and history print of them at
// noon, named "<command> <width>"; width 0 is no terminal.
func TestReleasesAreShown(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 30, 0, time.UTC)
	tests.EachArchive(t, "testdata/page/*.txtar", func(t *testing.T, told *txtar.Archive) {
		var releases []v1alpha1.Release
		for i := range told.Files {
			f := &told.Files[i]
			if f.Name == "releases.yaml" {
				if err := yaml.UnmarshalStrict(f.Data, &releases); err != nil {
					t.Fatal(err)
				}
				continue
			}
			command, columns, _ := strings.Cut(f.Name, " ")
			width, err := strconv.Atoi(columns)
			if err != nil {
				t.Fatalf("file %q: want a command and a width", f.Name)
			}
			var lines []string
			switch command {
			case "list":
				lines = releaseTable(releases, false, false, width, now)
			case "list-A":
				lines = releaseTable(releases, true, false, width, now)
			case "list-wide":
				lines = releaseTable(releases, false, true, width, now)
			case "get":
				lines = releasePage(live.View{Release: &releases[0], Now: now, Width: width})
			case "history":
				lines = historyTable(releases[0].Status.History, width, now)
			default:
				t.Fatalf("file %q: no such command", f.Name)
			}
			for _, l := range lines {
				if n := len([]rune(l)); width > 0 && n > width {
					t.Errorf("%s: a line of %d columns: %q", f.Name, n, l)
				}
			}
			f.Data = []byte(strings.Join(lines, "\n") + "\n")
		}
	})
}

func TestBannerNamesTheMetricsThatWereAskedFor(t *testing.T) {
	a := addresses{Kubeconfig: "/data/kubeconfig", API: "https://127.0.0.1:6443", Gateway: "http://127.0.0.1:8080", XDS: "127.0.0.1:15010"}
	if got := banner(a, time.Second, "/data"); strings.Contains(got, "metrics") {
		t.Errorf("nobody asked for metrics:\n%s", got)
	}
	a.Metrics = "127.0.0.1:7070"
	const want = "  xDS      127.0.0.1:15010\n  metrics  http://127.0.0.1:7070/metrics\n  data     /data\n"
	if got := banner(a, time.Second, "/data"); !strings.Contains(got, want) {
		t.Errorf("want\n%sin\n%s", want, got)
	}
}
