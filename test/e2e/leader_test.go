package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// takeOver is how long a stand-by may take after the leader was killed: the
// lease of 10 s and a start, on a loaded machine.
const takeOver = time.Minute

// startEtcd runs an etcd that several Serins share, and returns its URL.
func startEtcd(t *testing.T) string {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	free := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = free, free
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = free, free
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	<-etcd.Server.ReadyNotify()
	return "http://" + etcd.Clients[0].Addr().String()
}

// peer is one of the Serins that share an etcd.
type peer struct {
	*killScene
	leads chan struct{} // closed when it is ready, which is when it leads
}

// startPeer returns when the Serin leads or stands by.
func startPeer(t *testing.T, tools tools, dataDir, etcd string) *peer {
	t.Helper()
	p := &peer{&killScene{t: t, tools: tools, dataDir: dataDir}, make(chan struct{})}
	env := append(os.Environ(), "HOME="+dataDir, "KUBECONFIG=")
	var err error
	if p.process, err = launchSerin(tools.serin, dataDir, env, []string{"--etcd-servers", etcd}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.process.stop(syscall.SIGTERM) // it may have been killed by now
		t.Logf("[serin up in %s]\n%s", filepath.Base(dataDir), p.process.output.String())
	})
	go func() {
		a, err := p.process.ready(filepath.Join(dataDir, "addresses.json"), 10*time.Minute)
		if err != nil {
			return // the test ends it
		}
		p.address = a
		p.gateway.Store(&a.Gateway)
		close(p.leads)
	}()
	p.until(startTime, func() bool {
		select {
		case <-p.leads:
			return true
		default:
			return strings.Contains(p.process.output.String(), "Standing by: ")
		}
	})
	return p
}

// until waits for what tells nobody when it happens.
func (s *killScene) until(limit time.Duration, happened func() bool) {
	s.t.Helper()
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	tooLong := time.After(limit)
	for !happened() {
		select {
		case <-tick.C:
		case <-tooLong:
			s.t.Fatalf("not within %v\n[serin up]\n%s", limit, s.process.output.String())
		}
	}
}

func (p *peer) waitToLead() time.Duration {
	p.t.Helper()
	begun := time.Now()
	select {
	case <-p.leads:
	case <-time.After(takeOver):
		p.t.Fatalf("it does not lead after %v\n%s", takeOver, p.process.output.String())
	}
	return time.Since(begun)
}

// hookCalls counts calls of a webhook by the key that one call has for ever.
type hookCalls struct {
	mu    sync.Mutex
	byKey map[string]int
}

func (h *hookCalls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byKey[r.Header.Get("Idempotency-Key")]++
	// The caller may have been killed.
	_, _ = io.WriteString(w, "ok")
}

// Two Serins on one etcd: one leads, the other stands by. The leader is killed
// during a run, and the other goes on from there. Then the leader is only
// stopped for a while, and finds that it may not act any more.
func TestAStandByGoesOnWhereTheLeaderEnded(t *testing.T) {
	tools, etcd := findTools(t), startEtcd(t)
	hooks := &hookCalls{byKey: map[string]int{}}
	receiver := httptest.NewServer(hooks)
	defer receiver.Close()

	dirs := [2]string{t.TempDir(), t.TempDir()}
	first := startPeer(t, tools, dirs[0], etcd)
	first.waitToLead()
	second := startPeer(t, tools, dirs[1], etcd)
	first.apply("v0", 0)
	first.kubectl("patch", "release", "music", "--type=merge", "-p", `{"spec":{"hold":"4s","webhooks":[{"name":"prepare","type":"pre-rollout","url":"`+receiver.URL+`"}]}}`)
	first.kubectl("wait", "release/music", "--for=condition=Ready", "--timeout=60s")

	var gateway atomic.Pointer[string]
	gateway.Store(&first.address.Gateway)
	calls := startCalls(&gateway)
	defer calls.stop()

	// Killed at the second step.
	before := first.status()
	first.apply("v1", 0)
	first.until(startTime, func() bool { s := first.status(); return s.Phase == "Progressing" && s.Step == 2 })
	first.crash()
	t.Logf("the stand-by was ready %v after the leader was killed", second.waitToLead().Round(10*time.Millisecond))
	gateway.Store(&second.address.Gateway)
	after := second.ended(before)
	if last := after.History[0]; len(after.History) != 1 || last.Number != 1 || last.Outcome != "promoted" || last.To.Label != "v1" {
		t.Fatalf("history %+v; want the run that was begun, promoted", after.History)
	}
	hooks.mu.Lock()
	for key, n := range hooks.byKey {
		if n != 1 || len(hooks.byKey) != 1 || !strings.HasSuffix(key, "/run-1/pre-rollout/prepare/1") {
			t.Errorf("webhook calls %v; want one", hooks.byKey)
		}
	}
	if len(hooks.byKey) == 0 {
		t.Error("the webhook was not called")
	}
	hooks.mu.Unlock()

	// Stopped for a while at the first step of a bad version. The other one takes
	// it back, and this one, woken up, ends without undoing that.
	third := startPeer(t, tools, dirs[0], etcd)
	calls.reset()
	second.apply("v2", 0)
	second.until(startTime, func() bool { return second.status().Phase == "Progressing" })
	if err := second.process.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	third.waitToLead()
	gateway.Store(&third.address.Gateway)
	third.kubectl("annotate", "release", "music", "serin.dev/command=abort", "serin.dev/command-id=1")
	third.ended(after)
	if err := second.process.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-second.process.exited:
	case <-time.After(takeOver):
		t.Fatalf("it goes on without the lease\n%s", second.process.output.String())
	}
	if out := second.process.output.String(); second.process.err == nil || !strings.Contains(out, "lease: it was not renewed in time") {
		t.Errorf("it ended with %v, and does not say why:\n%s", second.process.err, out)
	}
	if now := third.status(); now.Phase != "Idle" || now.Stable.Label != "v1" || now.History[0].Number != 2 || now.History[0].Outcome == "promoted" || len(now.History) != 2 {
		t.Errorf("status %+v; want v1 stable after run 2 was taken back", now)
	}
	var route struct {
		Spec struct {
			HTTP []struct{ Route []struct{ Weight int } }
		}
	}
	if err := json.Unmarshal(third.kubectl("get", "virtualservice", "music", "-o", "json"), &route); err != nil {
		t.Fatal(err)
	}
	if r := route.Spec.HTTP[0].Route; len(r) > 1 && r[1].Weight != 0 {
		t.Errorf("the route gives the canary %d", r[1].Weight)
	}
}
