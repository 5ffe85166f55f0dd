package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/proxy"
)

func TestLimitsAreReadByName(t *testing.T) {
	var f limitsFlag
	for _, text := range []string{"head-bytes=128Ki", "fields=200", "idle-time=30s", "connections=1k", "fields=300"} {
		if err := f.Set(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if diff := cmp.Diff(proxy.Limits{HeadBytes: 128 << 10, Fields: 300, IdleTime: 30 * time.Second, Connections: 1000}, f.Limits); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	for text, want := range map[string]string{
		"fields=0":        `"0" is not a number above 0`,
		"fields=1500m":    `"1500m" is not a number`,
		"head-bytes=big":  `"big" is not a number`,
		"head-bytes=99Ei": `"99Ei" is not a number`,
		"idle-time=5":     `"5" is not a time`,
		"idle-time=-1s":   `"-1s" is not a time`,
		"bodies=5":        `"bodies" is no limit: there are connections, fields, head-bytes, head-time, `,
		"fields":          `"" is not a number`,
	} {
		if err := f.Set(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want an error that begins with %s", text, err, want)
		}
	}
}

// TestThePageOnProxiesHasEveryLimit, by the name that the flag has for it.
func TestThePageOnProxiesHasEveryLimit(t *testing.T) {
	page, err := os.ReadFile("../../docs/proxies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Limits\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var rows, names []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(section, -1) {
		rows = append(rows, m[1])
	}
	var f limitsFlag
	for name := range f.numbers() {
		names = append(names, name)
	}
	for name := range f.times() {
		names = append(names, name)
	}
	slices.Sort(rows)
	slices.Sort(names)
	if diff := cmp.Diff(names, rows); diff != "" {
		t.Errorf("rows of the table (-limits +rows):\n%s", diff)
	}
}
