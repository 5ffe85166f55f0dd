package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var proxyAddress = regexp.MustCompile(`(?m)^Proxy .* is ready \(.*? at ([0-9.:]+)`)

var envoy = filepath.Join("..", "..", ".tools", "bin", "envoy")

// startEnvoy starts an Envoy with the configuration that serin proxy bootstrap
// makes of the flags. Whether it runs the routes, the objects tell. It is ended
// with the script.
func startEnvoy(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	if neg || len(args) < 2 || s.running == nil {
		ts.Fatalf("usage: envoy NAME FLAG..., while serin up runs")
	}
	program, err := filepath.Abs(envoy)
	ts.Check(err)
	bootstrap := exec.Command(s.tools.serin, append([]string{"proxy", "bootstrap", "--id", args[0], "--xds", ts.Getenv("XDS")}, args[1:]...)...)
	bootstrap.Env = s.environment(ts)
	config, err := bootstrap.Output()
	ts.Check(err)
	file := ts.MkAbs(args[0] + ".json")
	ts.Check(os.WriteFile(file, config, 0o600))
	p := &process{exited: make(chan struct{})}
	p.cmd = exec.Command(program, "-c", file, "--use-dynamic-base-id", "--log-level", "warn", "--concurrency", "1")
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	ts.Check(p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	ts.Defer(func() {
		err := p.stop(syscall.SIGTERM)
		ts.Logf("[envoy %s: %v]\n%s", args[0], err, p.output.String())
	})
}

// loopback is an address of this machine that no other script has: Envoy must
// be told its port, and here every port is free.
func loopback(script int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 200+script%50, 1+pid/250%250, 1+pid%250)
}

// startProxy starts serin proxy beside the running serin up and waits until it
// serves. It is ended with the script.
func startProxy(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	if neg || len(args) < 2 || s.running == nil {
		ts.Fatalf("usage: proxy NAME FLAG..., while serin up runs")
	}
	p := &process{exited: make(chan struct{})}
	p.cmd = exec.Command(s.tools.serin, append([]string{"proxy", "--xds", ts.Getenv("XDS")}, args[1:]...)...)
	p.cmd.Env = s.environment(ts)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	ts.Check(p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	ts.Defer(func() {
		err := p.stop(syscall.SIGTERM)
		ts.Logf("[serin proxy %s: %v]\n%s", args[0], err, p.output.String())
	})
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	tooLong := time.After(startTime)
	for {
		if found := proxyAddress.FindStringSubmatch(p.output.String()); found != nil {
			ts.Setenv(strings.ToUpper(args[0]), found[1])
			return
		}
		select {
		case <-p.exited:
			ts.Fatalf("serin proxy ended before it was ready: %v\n%s", p.err, p.output.String())
		case <-tooLong:
			ts.Fatalf("serin proxy is not ready after %v\n%s", startTime, p.output.String())
		case <-tick.C:
		}
	}
}
