package e2e

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/template"
	"time"
)

var (
	kills    = flag.Int("kills", 8, "releases during which TestKilledAtAnyMoment kills serin up")
	killSeed = flag.Uint64("kill-seed", 1, "seed of the moments")
)

// killManifests is the music service with a plan that runs in seconds: it
// needs few requests per step, and has two.
const killManifests = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: music}
spec:
  selector: {matchLabels: {app: music}}
  template:
    metadata: {labels: {app: music}}
    spec:
      containers:
      - name: music
        image: serin.dev/demo/music:{{.Version}}
        ports: [{containerPort: 30001}]
        readinessProbe: {httpGet: {path: /healthz, port: 30001}}
        env: [{name: PERCENT_ERROR, value: "{{.PercentError}}"}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: db}
spec:
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers:
      - name: db
        image: serin.dev/demo/db:v1
        ports: [{containerPort: 30002}]
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {selector: {app: db}, ports: [{port: 30002}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public}
spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {name: music}
spec:
  target: {name: music}
  service: {port: 30001, gateways: [public], hosts: ["*"]}
  steps: [10, 50]
  hold: 500ms
  judge: {tolerance: "20"}
`

var killTemplate = template.Must(template.New("").Parse(killManifests))

// releaseStatus is what the test reads of a Release.
type releaseStatus struct {
	Phase   string `json:"phase"`
	Stable  struct{ Label string }
	Step    int
	History []struct {
		Number   int
		Outcome  string
		To       struct{ Label string }
		Canary   struct{ Requests int }
		Reason   string
		AfterCut int `json:"canaryRequestsAfterEffect"`
	}
}

// killScene is one serin up that is killed and started again.
type killScene struct {
	t       *testing.T
	tools   tools
	dataDir string
	process *process
	address addresses
	gateway atomic.Pointer[string]
}

// A release is killed at a random moment, again and again, while users call.
// Whatever the moment: a bad version is never promoted, it never gets more
// than its first step, and every run comes to an end.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	s := &killScene{t: t, tools: findTools(t), dataDir: t.TempDir()}
	s.up()
	defer func() { _ = s.process.stop(syscall.SIGTERM) }()
	s.apply("v0", 0)
	s.kubectl("wait", "release/music", "--for=condition=Ready", "--timeout=120s")

	calls := startCalls(&s.gateway)
	defer calls.stop()
	random := rand.New(rand.NewPCG(*killSeed, 0))
	for run := 1; run <= *kills; run++ {
		bad := run%2 == 0
		version, percent := fmt.Sprintf("v%d", run), 0
		if bad {
			percent = 50
		}
		before := s.status()
		calls.reset()
		s.apply(version, percent)
		moment := time.Duration(random.Int64N(int64(5 * time.Second)))
		<-time.After(moment) // the moment is what is under test
		s.crash()
		s.up()
		after := s.ended(before)
		last := after.History[0]
		t.Logf("%s (%d %% errors) killed after %v: %s; %d canary requests, %d of %d answers by the canary", version, percent,
			moment.Round(time.Millisecond), last.Outcome, last.Canary.Requests, calls.of(version), calls.all())
		if last.To.Label != version {
			t.Fatalf("the last run released %s, want %s", last.To.Label, version)
		}
		if bad {
			if last.Outcome == "promoted" || after.Stable.Label == version {
				t.Fatalf("%s fails half of its requests and was promoted: %s", version, last.Reason)
			}
			// 10 % of the requests, and five standard deviations of chance.
			n := float64(calls.all())
			if got, most := float64(calls.of(version)), 0.1*n+5*0.3*math.Sqrt(n)+1; got > most {
				t.Errorf("the canary answered %.0f of %.0f requests at a step of 10 %%, want at most %.0f", got, n, most)
			}
		}
		if last.AfterCut != 0 {
			t.Errorf("%d requests reached the canary after the proxies had acknowledged the cut", last.AfterCut)
		}
	}
}

func (s *killScene) up() {
	s.t.Helper()
	env := append(os.Environ(), "HOME="+s.dataDir, "KUBECONFIG=")
	p, a, err := startSerin(s.tools.serin, s.dataDir, env, nil)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, p.output.String())
	}
	s.process, s.address = p, a
	s.gateway.Store(&a.Gateway)
}

func (s *killScene) crash() {
	s.t.Helper()
	_ = s.process.stop(syscall.SIGKILL) // "signal: killed" is what is meant
}

func (s *killScene) kubectl(args ...string) []byte {
	s.t.Helper()
	out, err := s.command(nil, args...)
	if err != nil {
		s.t.Fatalf("kubectl %s: %v\n%s\n[serin up]\n%s", strings.Join(args, " "), err, out, s.process.output.String())
	}
	return out
}

func (s *killScene) command(stdin io.Reader, args ...string) ([]byte, error) {
	cmd := exec.Command(s.tools.kubectl, append([]string{"--kubeconfig", s.address.Kubeconfig}, args...)...)
	cmd.Stdin = stdin
	cmd.Env = append(os.Environ(), "HOME="+s.dataDir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return errs.Bytes(), err
	}
	return out.Bytes(), nil
}

func (s *killScene) apply(version string, percentError int) {
	s.t.Helper()
	var text bytes.Buffer
	if err := killTemplate.Execute(&text, map[string]any{"Version": version, "PercentError": percentError}); err != nil {
		s.t.Fatal(err)
	}
	if out, err := s.command(&text, "apply", "-f", "-"); err != nil {
		s.t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
}

func (s *killScene) status() releaseStatus {
	s.t.Helper()
	var r struct{ Status releaseStatus }
	if err := json.Unmarshal(s.kubectl("get", "release", "music", "-o", "json"), &r); err != nil {
		s.t.Fatal(err)
	}
	return r.Status
}

// ended waits until one run more has ended than before.
func (s *killScene) ended(before releaseStatus) releaseStatus {
	s.t.Helper()
	tick := time.NewTicker(programPause)
	defer tick.Stop()
	tooLong := time.After(untilTime)
	for {
		now := s.status()
		if now.Phase == "Idle" && len(now.History) > 0 && (len(before.History) == 0 || now.History[0].Number > before.History[0].Number) {
			return now
		}
		select {
		case <-tick.C:
		case <-tooLong:
			s.t.Fatalf("the run does not end: %+v\n[serin up]\n%s", now, s.process.output.String())
		}
	}
}

// calls is a steady stream of requests, 60 per second, counted by the version
// that answered.
type calls struct {
	quit, done chan struct{}

	mu        sync.Mutex
	byVersion map[string]int
	epoch     int // counts begin anew with each; late answers are dropped
}

func startCalls(gateway *atomic.Pointer[string]) *calls {
	c := &calls{quit: make(chan struct{}), done: make(chan struct{}), byVersion: map[string]int{}}
	go func() {
		defer close(c.done)
		tick := time.NewTicker(time.Second / 60)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-c.quit:
				return
			case <-tick.C:
				c.call(fmt.Sprintf("%s/api/v1/music/%d", *gateway.Load(), 1+i%3))
			}
		}
	}()
	return c
}

func (c *calls) call(url string) {
	c.mu.Lock()
	epoch := c.epoch
	c.mu.Unlock()
	resp, err := http.Get(url)
	if err != nil {
		return // serin up is down
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch == epoch {
		c.byVersion[resp.Header.Get("X-App-Version")]++
	}
}

func (c *calls) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.byVersion = map[string]int{}
}

func (c *calls) of(version string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byVersion[version]
}

func (c *calls) all() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := 0
	for _, n := range c.byVersion {
		sum += n
	}
	return sum
}

func (c *calls) stop() {
	close(c.quit)
	<-c.done
}
