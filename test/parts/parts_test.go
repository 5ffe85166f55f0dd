package parts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestTheEnvoyThatTestsRunIsThePinnedOne(t *testing.T) {
	out, err := exec.Command(Envoy(t), "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "/1.40.0/") {
		t.Errorf("envoy --version: %v\n%s", err, out)
	}
}

func TestAMissingPartSkipsAndInCIFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for ci, want := range map[string]string{"": "skipped: no envoy", "true": "failed: no envoy"} {
		t.Setenv("CI", ci)
		if got := endOf(t, func(t testing.TB) { Envoy(t) }); !strings.HasPrefix(got, want) {
			t.Errorf("CI=%q: %q, want %q", ci, got, want)
		}
	}
}

// endOf runs f as a test of its own and returns how it ended.
func endOf(t testing.TB, f func(testing.TB)) string {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.end
}

type recorder struct {
	testing.TB
	end string
}

func (r *recorder) Skipf(format string, args ...any) {
	r.end = "skipped: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.end = "failed: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}
