package e2e

import (
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var proxyAddress = regexp.MustCompile(`(?m)^Proxy .* is ready \(.*? at ([0-9.:]+)`)

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
