// Package xdstest runs a real Envoy beside a test and has it fed by a server of
// snapshots, for tests of what Envoy makes of them.
//
// It must not be imported by anything but tests. Read next: internal/xds, which
// makes what Envoy gets.
package xdstest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"serin.dev/serin/internal/xds"
	"serin.dev/serin/test/parts"
)

// Envoy is a running one.
type Envoy struct {
	Admin string // URL of its administration interface, such as http://127.0.0.1:9901
	log   *logBuffer
	ended chan struct{}
}

// Start starts an Envoy for a node, which gets its configuration from the
// server at host:port, and stops it when the test ends. It returns as soon as
// the administration interface answers; what the node listens on, it will
// answer when it has its first snapshot. An Envoy cannot say which port it took
// of its own choice: ports.Reserve gives it some. The test is skipped without
// Envoy.
func Start(t testing.TB, node xds.Node, server string, o xds.BootstrapOptions) *Envoy {
	t.Helper()
	program := parts.Envoy(t)
	dir := t.TempDir()
	o.Admin = "127.0.0.1:0"
	config, err := xds.Bootstrap(&node, server, o)
	if err != nil {
		t.Fatal(err)
	}
	configPath, adminPath := filepath.Join(dir, "bootstrap"), filepath.Join(dir, "admin")
	if err := os.WriteFile(configPath, config, 0o600); err != nil {
		t.Fatal(err)
	}
	e := &Envoy{log: &logBuffer{}, ended: make(chan struct{})}
	// One thread: what is counted or drawn is then counted and drawn once.
	cmd := exec.Command(program, "-c", configPath, "--admin-address-path", adminPath, "--use-dynamic-base-id",
		"--concurrency", "1", "--log-level", "info", "--drain-time-s", "1", "--parent-shutdown-time-s", "1")
	cmd.Stdout, cmd.Stderr = e.log, e.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(e.ended)
		if err := cmd.Wait(); err != nil {
			fmt.Fprintln(e.log, "envoy ended:", err)
		}
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err == nil {
			<-e.ended
		}
		if t.Failed() {
			t.Logf("envoy %s:\n%s", node.ID, e.log.tail())
		}
	})
	e.await(t, "writes its admin address", func() bool {
		address, err := os.ReadFile(adminPath)
		e.Admin = "http://" + string(address)
		return err == nil && len(address) > 0
	})
	return e
}

// Get returns a page of the administration interface.
func (e *Envoy) Get(t testing.TB, page string) string {
	t.Helper()
	answer, err := http.Get(e.Admin + page)
	if err != nil {
		t.Fatalf("envoy: %v\n%s", err, e.log.tail())
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// Log is what the Envoy has written so far.
func (e *Envoy) Log() string { return e.log.String() }

// await asks again and again until something holds that Envoy tells nobody.
func (e *Envoy) await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-e.ended:
			t.Fatalf("envoy ended before it %s:\n%s", what, e.log.tail())
		case <-deadline.C:
			t.Fatalf("envoy never %s:\n%s", what, e.log.tail())
		}
	}
}

// logBuffer takes what a process writes.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tail is the end of the log.
func (l *logBuffer) tail() string {
	lines := strings.Split(l.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}
