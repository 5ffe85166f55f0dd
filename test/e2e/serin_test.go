package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// startTime is how long serin up may take to get ready. It needs less
	// than a second; a loaded machine in CI takes longer.
	startTime = 3 * time.Minute
	// untilTime is how long something may take to come true. What the scripts
	// wait for takes seconds; a loaded machine takes longer.
	untilTime = 2 * time.Minute
	// stopTime is how long it may take to end its pods and itself.
	stopTime = 10 * time.Second
	// pollTime is the pause between two looks at something that tells nobody
	// when it changes.
	pollTime = 50 * time.Millisecond
	// programPause is that pause where looking means to run a program, which
	// costs a tenth of a second of a processor that the others need.
	programPause = 300 * time.Millisecond
)

// tools are the programs that scripts run.
type tools struct{ serin, kubectl string }

// findTools returns $SERIN_BIN, or else builds the program once, and the
// kubectl of `make tools`. Without that kubectl the test is skipped, or fails
// in CI.
func findTools(t *testing.T) tools {
	t.Helper()
	kubectl, err := filepath.Abs("../../.tools/bin/kubectl")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kubectl); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: run `make tools`", err)
		}
		t.Skipf("%v: run `make tools`", err)
	}
	serin := os.Getenv("SERIN_BIN")
	if serin == "" {
		serin = filepath.Join(t.TempDir(), "serin")
		build := exec.Command("go", "build", "-o", serin, "../../cmd/serin")
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build serin: %v\n%s", err, out)
		}
	}
	// A look at the file makes a cached result depend on it.
	if _, err := os.Stat(serin); err != nil {
		t.Fatalf("%v: run `make build`", err)
	}
	return tools{serin: serin, kubectl: kubectl}
}

// addresses is what serin up writes into addresses.json when it is ready.
type addresses struct {
	Kubeconfig string `json:"kubeconfig"`
	API        string `json:"api"`
	Gateway    string `json:"gateway"`
	XDS        string `json:"xds"`
	PID        int    `json:"pid"`
}

// process is one serin up.
type process struct {
	cmd    *exec.Cmd
	output output
	exited chan struct{} // closed once err is set
	err    error
}

// output collects what a process writes; it may be read meanwhile.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// startSerin starts serin up and returns when it is ready, has given up, or
// has taken too long. In each case the process is returned.
func startSerin(bin, dataDir string, env, flags []string) (*process, addresses, error) {
	p, err := launchSerin(bin, dataDir, env, flags)
	if err != nil {
		return p, addresses{}, err
	}
	a, err := p.ready(filepath.Join(dataDir, "addresses.json"), startTime)
	return p, a, err
}

// launchSerin starts serin up and does not wait for it.
func launchSerin(bin, dataDir string, env, flags []string) (*process, error) {
	args := append([]string{"up", "--data-dir", dataDir, "--api-address", "127.0.0.1:0", "--gateway-address", "127.0.0.1:0", "--xds-address", "127.0.0.1:0"}, flags...)
	p := &process{cmd: exec.Command(bin, args...), exited: make(chan struct{})}
	p.cmd.Env = env
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := p.cmd.Start(); err != nil {
		close(p.exited)
		return p, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// ready waits until the process has written its addresses; the file may be one
// that an earlier process could not remove.
func (p *process) ready(file string, limit time.Duration) (addresses, error) {
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	tooLong := time.After(limit)
	for {
		if data, err := os.ReadFile(file); err == nil {
			var a addresses
			if err := json.Unmarshal(data, &a); err != nil {
				return a, fmt.Errorf("%s: %w", file, err)
			}
			if a.PID == p.cmd.Process.Pid {
				return a, nil
			}
		}
		select {
		case <-p.exited:
			return addresses{}, fmt.Errorf("serin up ended before it was ready: %w", p.err)
		case <-tooLong:
			return addresses{}, fmt.Errorf("serin up is not ready after %v", limit)
		case <-tick.C:
		}
	}
}

// stop sends the signal and waits for the end. It returns how the process
// ended, or an error when it did not and had to be killed.
func (p *process) stop(signal os.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		return p.err
	case <-time.After(stopTime):
	}
	if err := p.cmd.Process.Signal(syscall.SIGQUIT); err != nil { // its stacks go into the output
		return err
	}
	select {
	case <-p.exited:
	case <-time.After(stopTime):
		if err := p.cmd.Process.Kill(); err != nil {
			return err
		}
		<-p.exited
	}
	return fmt.Errorf("serin up did not end within %v after %v", stopTime, signal)
}
