package proxy

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/test/ports"
)

// checkedApp is an application that is well or not, and counts its checks and
// calls.
type checkedApp struct {
	address string
	ill     atomic.Bool
	checks  chan *http.Request
	calls   atomic.Int32
}

func (r *rig) checkedApp() *checkedApp {
	a := &checkedApp{checks: make(chan *http.Request, 10_000)}
	a.address = r.app(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/health" {
			if a.ill.Load() {
				w.WriteHeader(503)
			}
			a.checks <- q
			return
		}
		a.calls.Add(1)
		fmt.Fprint(w, q.Host)
	})
	return a
}

// checkedService has its endpoints checked each 5 ms.
func checkedService(path string, addresses ...string) *mesh.Service {
	s := service("music.default", addresses...)
	s.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {Balancer: mesh.RoundRobin, Health: &mesh.HealthCheck{
		Path: path, Interval: 5 * time.Millisecond, Timeout: time.Minute, UnhealthyAfter: 2, HealthyAfter: 3,
	}}}
	return s
}

// awaitHealthy waits until so many endpoints of music.default may be called.
func (r *rig) awaitHealthy(want int) {
	r.t.Helper()
	r.awaitHealthyIn("", want)
}

func (r *rig) awaitHealthyIn(subset string, want int) {
	r.t.Helper()
	g := r.table.Load().groups[groupKey{"music.default", 80, subset}]
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		g.mu.Lock()
		n := len(filter(g.current.members, (*member).healthy))
		g.mu.Unlock()
		if n == want {
			return
		}
		select {
		case <-tick.C:
		case <-r.t.Context().Done():
			r.t.Fatalf("%d endpoints are healthy, want %d", n, want)
		}
	}
}

func TestHealthChecksTurnAnEndpointOffAndOn(t *testing.T) {
	r := newRig(t, Config{})
	one, two := r.checkedApp(), r.checkedApp()
	r.apply(checkedService("/health", one.address, two.address))
	_, client := r.outbound()
	q := <-one.checks
	if q.Host != "music.default" || q.Method != "GET" || q.UserAgent() != telemetry.CheckerAgent || !telemetry.IsProbe(q.UserAgent()) {
		t.Errorf("check = %s %s by %s", q.Method, q.Host, q.UserAgent())
	}
	one.ill.Store(true)
	r.awaitHealthy(1)
	before := one.calls.Load()
	for range 10 {
		if code, _ := r.get(client, "http://music/"); code != 200 {
			t.Errorf("a call = %d", code)
		}
	}
	if n := one.calls.Load() - before; n != 0 {
		t.Errorf("%d calls of an ill endpoint", n)
	}
	one.ill.Store(false)
	r.awaitHealthy(2)
	for range 10 {
		r.get(client, "http://music/")
	}
	if n := one.calls.Load() - before; n != 5 {
		t.Errorf("%d of 10 calls of one that is well again, want 5", n)
	}
	for range 20 {
		if q := r.recorded(); q.Probe {
			t.Errorf("a check is recorded: %+v", q)
		}
	}
	if n := len(r.records); n != 0 {
		t.Errorf("%d records of checks", n)
	}
}

// TestAnEndpointThatDoesNotAnswerIsIll: by its address, its silence or its
// bytes.
func TestAnEndpointThatDoesNotAnswerIsIll(t *testing.T) {
	r := newRig(t, Config{})
	well := r.checkedApp()
	silent := r.rawApp(func(_ int, _ net.Conn, in *bufio.Reader) { in.WriteTo(new(nothing)) })
	garbage := r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
		if _, err := http.ReadRequest(in); err == nil {
			fmt.Fprint(c, "SSH-2.0-OpenSSH\r\n\r\n")
		}
	})
	svc := checkedService("/health", well.address, ports.Reserve(t), silent, garbage)
	svc.Policies[mesh.PolicyScope{}].Health.Timeout = 200 * time.Millisecond
	svc.Policies[mesh.PolicyScope{}].Health.Host = "health.example.org"
	r.apply(svc)
	r.outbound()
	r.awaitHealthy(1)
	if q := <-well.checks; q.Host != "health.example.org" {
		t.Errorf("Host = %q", q.Host)
	}
}

type nothing struct{}

func (*nothing) Write(p []byte) (int, error) { return len(p), nil }

func TestAConnectionIsCheckEnoughWithoutAPath(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(checkedService("", r.rawApp(echo), ports.Reserve(t)))
	r.outbound()
	r.awaitHealthy(1)
}

// TestChecksFollowTheSnapshot: of an endpoint that is gone they end, one that
// joins waits for its first, and a group without checks has no ill endpoints.
func TestChecksFollowTheSnapshot(t *testing.T) {
	r := newRig(t, Config{})
	one, two := r.checkedApp(), r.checkedApp()
	one.ill.Store(true)
	two.ill.Store(true)
	r.outbound()
	r.apply(checkedService("/health", one.address))
	r.awaitHealthy(0)
	two.ill.Store(false)
	r.apply(checkedService("/health", one.address, two.address))
	r.awaitHealthy(1)
	r.apply(service("music.default", one.address, two.address))
	r.awaitHealthy(2)
	r.mu.Lock()
	left := len(r.checks)
	r.mu.Unlock()
	if left != 0 {
		t.Errorf("%d checks are left", left)
	}
	for _, w := range r.workers {
		over := make(chan struct{})
		w.loop.Post(func() { close(over) }) // behind the end of the checks
		<-over
	}
	r.apply()
	if err := r.Drained(t.Context(), pod(1)); err != nil {
		t.Error(err)
	}
}

// TestIntervalsAreSpread: by at most a tenth, and not all the same way.
func TestIntervalsAreSpread(t *testing.T) {
	var c check
	early := 0
	for range 1000 {
		d := c.pause(time.Second)
		if d < 900*time.Millisecond || d > 1100*time.Millisecond {
			t.Fatalf("a pause of %v", d)
		}
		if d < time.Second {
			early++
		}
	}
	if early < 420 || early > 580 { // the standard deviation is 16
		t.Errorf("%d of 1000 pauses are shorter, want half of them", early)
	}
}

// TestAnEndpointIsCheckedOnceForAllSubsets that want to know the same, and once
// more for one that asks otherwise; each learns what it asked for.
func TestAnEndpointIsCheckedOnceForAllSubsets(t *testing.T) {
	r := newRig(t, Config{})
	app := r.checkedApp()
	svc := checkedService("/health", app.address)
	own := *svc.Policies[mesh.PolicyScope{}]
	own.Health = &mesh.HealthCheck{Path: "/", Interval: time.Hour, Timeout: time.Minute, UnhealthyAfter: 1, HealthyAfter: 1}
	for _, subset := range []string{"same", "alike", "other"} {
		svc.Subsets[subset] = mesh.Labels{"version": "v1"}
	}
	svc.Policies[mesh.PolicyScope{Subset: "other"}] = &own
	r.outbound()
	routed := func(subsets ...string) mesh.VirtualHost {
		var split []mesh.Destination
		for _, subset := range subsets {
			split = append(split, mesh.Destination{Service: "music.default", Subset: subset, Weight: 1})
		}
		return mesh.VirtualHost{Hosts: []string{"music.default"}, Routes: []mesh.Route{{Split: split}}}
	}
	r.apply(svc, routed("", "same", "alike", "other"))
	checks := func() (n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.checks)
	}
	if n := checks(); n != 2 {
		t.Errorf("%d checks, want 2", n)
	}
	app.ill.Store(true)
	for _, subset := range []string{"", "same", "alike"} {
		r.awaitHealthyIn(subset, 0)
	}
	r.awaitHealthyIn("other", 1)
	// A subset that is new takes part in the check under way, and does not wait.
	app.ill.Store(false)
	r.awaitHealthyIn("same", 1)
	later := *svc
	later.Subsets = maps.Clone(svc.Subsets)
	later.Subsets["new"] = mesh.Labels{"version": "v1"}
	r.apply(&later, routed("", "same", "alike", "other", "new"))
	if n := checks(); n != 2 {
		t.Errorf("%d checks with another subset, want 2", n)
	}
	r.awaitHealthyIn("new", 1)
}
