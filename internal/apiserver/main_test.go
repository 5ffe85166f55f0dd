package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// childDir, when set, makes the test binary a server process on that data
// directory, for tests that kill it.
const childDir = "SERIN_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	TuneProcess(slog.New(slog.DiscardHandler))
	GrowMemory() // most of what the tests do is to start servers
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(serveAsChild(dir))
	}
	os.Exit(m.Run())
}

func serveAsChild(dir string) int {
	s, err := Start(context.Background(), Config{DataDir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	// The parent holds standard input: when it goes, this process goes.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println(s.Wait())
	return 1
}

// start runs a server for one test.
func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	if cfg.DataDir == "" {
		cfg.DataDir = t.TempDir()
	}
	cfg.Listen = "127.0.0.1:0"
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return s
}

// kubectlPath finds a stock kubectl: where the environment says, in the
// repository's tools, or in PATH.
func kubectlPath(t *testing.T) string {
	t.Helper()
	candidates := []string{os.Getenv("SERIN_TEST_KUBECTL"), "../../.tools/bin/kubectl"}
	if found, err := exec.LookPath("kubectl"); err == nil {
		candidates = append(candidates, found)
	}
	for _, c := range candidates {
		if path, err := filepath.Abs(c); err == nil && c != "" {
			if _, err := os.Stat(path); err == nil {
				return path
			}
		}
	}
	const advice = "kubectl not found: set SERIN_TEST_KUBECTL or run make tools"
	if os.Getenv("CI") == "true" {
		t.Fatal(advice)
	}
	t.Skip(advice)
	return ""
}

// fakeLogs serves the lines it holds; a followed log ends when it is told to.
type fakeLogs map[string]string

func (f fakeLogs) Open(ctx context.Context, namespace, pod string, opts *corev1.PodLogOptions) (io.ReadCloser, error) {
	text, ok := f[namespace+"/"+pod+"/"+opts.Container]
	if !ok {
		return nil, fmt.Errorf("container %q in pod %q is waiting to start: no log yet", opts.Container, pod)
	}
	if opts.TailLines != nil {
		lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
		text = strings.Join(lines[max(0, len(lines)-int(*opts.TailLines)):], "") + "\n"
	}
	if !opts.Follow {
		return io.NopCloser(strings.NewReader(text)), nil
	}
	r, w := io.Pipe()
	go func() {
		_, err := io.WriteString(w, text)
		w.CloseWithError(errors.Join(err, ctx.Err()))
	}()
	return r, nil
}
