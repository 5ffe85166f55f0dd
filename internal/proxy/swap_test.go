package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
)

// TestASwapLosesAndMisroutesNoRequest swaps snapshots that have only v1 or
// only v2 under load. Each request must succeed and reach the version of a
// snapshot that was in force between its beginning and its end; and once the
// old version is drained, it must not see another request.
func TestASwapLosesAndMisroutesNoRequest(t *testing.T) {
	const swaps, enough, callers = 1500, 4000, 4
	r := newRig(t, Config{})
	var stopped [2]atomic.Bool
	app := func(i int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if stopped[i].Load() {
				w.WriteHeader(http.StatusTeapot)
			}
			fmt.Fprintf(w, "v%d", i+1)
		}
	}
	both := service("music.default", r.app(app(0)), r.app(app(1)))
	only := func(version mesh.SnapshotVersion) *mesh.Snapshot {
		svc := *both
		i := version % 2
		svc.Endpoints = both.Endpoints[i : i+1]
		return snapshot(version, &svc)
	}
	versionOf := func(s mesh.SnapshotVersion) string { return fmt.Sprintf("v%d", s%2+1) }
	stopped[0].Store(true) // snapshot 1 has v2 alone
	if err := r.Apply(only(1)); err != nil {
		t.Fatal(err)
	}
	l, _ := r.outbound()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var requests atomic.Int64
	type seen struct{ before, after mesh.SnapshotVersion }
	var bounds sync.Map // by request ID
	for id := range callers {
		client := r.clientOf(l)
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("%d-%d", id, n)
				before := r.Acked().Version
				code, body, err := named(t, client, "music", name)
				after := r.Acked().Version
				requests.Add(1)
				bounds.Store(name, seen{before, after})
				switch {
				case err != nil || code != 200:
					t.Errorf("request %s is lost: %d %q %v", name, code, body, err)
					return
				case before == after && body != versionOf(before):
					t.Errorf("request %s reached %s under snapshot %d", name, body, before)
					return
				}
			}
		})
	}
	last := mesh.SnapshotVersion(1)
	for v := last + 1; (v <= swaps || requests.Load() < enough) && !t.Failed(); v++ {
		last = v
		in, out := v%2, 1-v%2
		stopped[in].Store(false)
		if err := r.Apply(only(v)); err != nil {
			t.Fatal(err)
		}
		if err := r.Drained(t.Context(), pod(int(out)+1)); err != nil {
			t.Fatal(err)
		}
		stopped[out].Store(true)
	}
	stop()
	wg.Wait()
	if t.Failed() {
		return
	}
	for range requests.Load() {
		q := r.recorded()
		b, ok := bounds.Load(q.ID)
		if !ok {
			t.Fatalf("a record of no request: %+v", q)
		}
		if s := b.(seen); q.Snapshot < s.before || q.Snapshot > s.after || q.Destination.Version != versionOf(q.Snapshot) {
			t.Fatalf("request %s recorded under snapshot %d at %s; in force were %d to %d", q.ID, q.Snapshot, q.Destination.Version, s.before, s.after)
		}
	}
	t.Logf("%d requests during %d swaps", requests.Load(), last)
}

// TestManySnapshotsOfManyServicesLoseAndMisrouteNoRequest swaps snapshots of 1,000
// services under load. Each moves all calls of one service to its other version,
// and is made anew, as by a controller; every tenth changes all services too.
// Each request must succeed, and reach the version of a snapshot that was in
// force between its beginning and its end.
func TestManySnapshotsOfManyServicesLoseAndMisrouteNoRequest(t *testing.T) {
	const swaps, enough, callers, services, called, every = 100, 2000, 4, 1000, 20, 10
	r := newRig(t, Config{})
	apps := [...]string{r.app(says("v1")), r.app(says("v2"))}
	host := func(i int) string { return fmt.Sprintf("service-%d.default", i*services/called) }
	// Snapshot s moves service s%called.
	toSecond := func(i int, s mesh.SnapshotVersion) bool { return (int(s)+called-i)/called%2 == 1 }
	anew := func(version mesh.SnapshotVersion) *mesh.Snapshot {
		s := manyServices(version, services, 10)
		for _, svc := range s.Services {
			for j := range svc.Endpoints {
				svc.Endpoints[j].Dial, svc.Endpoints[j].Weight = apps[j%2], 1+uint32(version/every)
			}
		}
		for i := range called {
			split := s.Hosts[i*services/called].Routes[0].Split
			split[0].Weight, split[1].Weight = 1, 0
			if toSecond(i, version) {
				split[0].Weight, split[1].Weight = 0, 1
			}
		}
		return s
	}
	if err := r.Apply(anew(1)); err != nil {
		t.Fatal(err)
	}
	l, _ := r.outbound()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var requests atomic.Int64
	for id := range callers {
		client := r.clientOf(l)
		wg.Go(func() {
			for n := id; ctx.Err() == nil; n++ {
				i := n % called
				before := r.Acked().Version
				code, body, err := named(t, client, host(i), fmt.Sprintf("%d-%d", id, n))
				after := r.Acked().Version
				requests.Add(1)
				right := false
				for s := before; s <= after; s++ {
					right = right || body == map[bool]string{false: "v1", true: "v2"}[toSecond(i, s)]
				}
				if err != nil || code != 200 || !right {
					t.Errorf("a request to %s under snapshots %d to %d is answered %d %q %v", host(i), before, after, code, body, err)
					return
				}
			}
		})
	}
	last := mesh.SnapshotVersion(1)
	for ; (last < swaps || requests.Load() < enough) && !t.Failed(); last++ {
		if err := r.Apply(anew(last + 1)); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.upstreams); n != services*10 {
		t.Errorf("%d upstreams are remembered, want %d", n, services*10)
	}
	t.Logf("%d requests during %d swaps", requests.Load(), last)
}

// TestARequestCaughtBySwapIsRoutedAnew: the snapshot changes after the request
// looked up its target and before its endpoint was counted.
func TestARequestCaughtBySwapIsRoutedAnew(t *testing.T) {
	r := newRig(t, Config{})
	both := service("music.default", "127.0.0.1:1", "127.0.0.1:2")
	old, fresh := *both, *both
	old.Endpoints, fresh.Endpoints = both.Endpoints[:1], both.Endpoints[1:]
	r.apply(&old)
	picks := 0
	var under *table
	h := wire.Head{Method: "GET", Path: "/", Authority: "music"}
	c := call{head: &h, host: "music", port: 80, path: "/", scheme: "http"}
	u := r.acquire(func(tb *table) *upstream {
		dec := tb.inMesh("default", "music").decide(&c, new(draws))
		m := dec.pick(c.now, new(draws), nil)
		if under = tb; picks == 0 {
			r.apply(&fresh)
		}
		picks++
		return m.upstream
	})
	if under.version != 2 || u.dial != "127.0.0.1:2" || picks != 2 {
		t.Errorf("routed under snapshot %d to %s after %d picks; want 2, 127.0.0.1:2, 2", under.version, u.dial, picks)
	}
	if err := r.Drained(t.Context(), pod(1)); err != nil {
		t.Errorf("the endpoint that was not used: %v", err)
	}
	r.release(u)
}

// named makes one request with a name; it is used off the test's goroutine.
func named(t *testing.T, c *http.Client, host, name string) (int, string, error) {
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+"/", nil)
	if err != nil {
		return 0, "", err
	}
	q.Header.Set("X-Request-Id", name)
	res, err := c.Do(q)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	var body [16]byte
	n, err := res.Body.Read(body[:])
	if err != nil && n == 0 {
		return res.StatusCode, "", err
	}
	return res.StatusCode, string(body[:n]), nil
}

func TestARequestUnderWayFinishesAfterItsEndpointIsGone(t *testing.T) {
	r := newRig(t, Config{})
	arrived, release := make(chan struct{}), make(chan struct{})
	r.apply(service("music.default", r.app(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		fmt.Fprint(w, "finished")
	})))
	_, client := r.outbound()
	answer := make(chan string)
	go func() {
		code, body := r.get(client, "http://music/")
		answer <- strconv.Itoa(code) + " " + body
	}()
	<-arrived
	r.apply(service("music.default"))
	drained := make(chan error, 1)
	go func() { drained <- r.Drained(t.Context(), pod(1)) }()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Drained(over, pod(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Drained with a request under way = %v, want to wait", err)
	}
	select {
	case err := <-drained:
		t.Errorf("Drained = %v with a request under way", err)
	default:
	}
	close(release)
	if got := <-answer; got != "200 finished" {
		t.Errorf("answer = %q", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if q := r.recorded(); q.Snapshot != 1 {
		t.Errorf("recorded under snapshot %d, want the one it was routed under", q.Snapshot)
	}
	if code, _ := r.get(client, "http://music/"); code != 503 {
		t.Errorf("afterwards = %d, want 503", code)
	}
}

// TestAnEndpointThatIsGoneKeepsNoConnections: neither idle ones nor, after its
// last request, the one that was in use.
func TestAnEndpointThatIsGoneKeepsNoConnections(t *testing.T) {
	r := newRig(t, Config{})
	arrived, release := make(chan struct{}), make(chan struct{})
	states := make(chan http.ConnState, 100)
	app := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/slow" {
			arrived <- struct{}{}
			<-release
		}
	})}
	address := serve(t, app, states)
	r.apply(service("music.default", address))
	_, client := r.outbound()
	done := make(chan struct{})
	go func() {
		r.get(client, "http://music/slow")
		close(done)
	}()
	<-arrived
	r.get(client, "http://music/fast") // a second connection, idle from now on
	r.apply()
	awaitClosed(t, states, 1)
	close(release)
	<-done
	awaitClosed(t, states, 1)
	if err := r.Drained(t.Context(), pod(1)); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.upstreams); n != 0 {
		t.Errorf("%d upstreams are remembered, want 0", n)
	}
}

func TestAnIdleEndpointThatIsGoneIsForgottenAtOnce(t *testing.T) {
	r := newRig(t, Config{})
	states := make(chan http.ConnState, 100)
	address := serve(t, &http.Server{Handler: says("music")}, states)
	r.apply(service("music.default", address))
	_, client := r.outbound()
	r.get(client, "http://music/")
	r.recorded() // the request is over for the proxy too
	r.apply()
	r.mu.Lock()
	n := len(r.upstreams)
	r.mu.Unlock()
	if n != 0 {
		t.Errorf("%d upstreams are remembered, want 0", n)
	}
	awaitClosed(t, states, 1)
}

func TestAnEndpointThatComesBackKeepsItsRequests(t *testing.T) {
	r := newRig(t, Config{})
	arrived, release := make(chan struct{}), make(chan struct{})
	svc := service("music.default", r.app(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	r.apply(svc)
	_, client := r.outbound()
	done := make(chan struct{})
	go func() {
		r.get(client, "http://music/")
		close(done)
	}()
	<-arrived
	r.apply()
	r.apply(svc)
	r.mu.Lock()
	for _, u := range r.upstreams {
		if n := u.active.Load(); n != 1 || u.retired.Load() {
			t.Errorf("active = %d, retired = %t; want the request that is still under way", n, u.retired.Load())
		}
	}
	r.mu.Unlock()
	close(release)
	<-done
}

func TestASnapshotIsRefusedWhole(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(service("music.default", r.app(says("music"))))
	_, client := r.outbound()
	bad := snapshot(2, service("user.default"), weighted("user.default", 1, 1))
	bad.Hosts[0].Routes[0].Matches = []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Regex, Value: "("}}}
	for want, s := range map[string]*mesh.Snapshot{
		`apply snapshot: virtual host "user.default": route 0 (VirtualService default/music): match 0: uri: error parsing regexp`: bad,
		"apply snapshot 1: not newer than 1, which is in force":                                                                   snapshot(1),
		"apply snapshot: snapshot: version 0 means none; count from 1":                                                            snapshot(0),
		"apply snapshot: snapshot: none given":                                                                                    nil,
	} {
		if err := r.Apply(s); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Apply = %v, want %q", err, want)
		}
	}
	if code, body := r.get(client, "http://music/"); code != 200 || body != "music" {
		t.Errorf("after refused snapshots = %d %q", code, body)
	}
	if v := r.Acked().Version; v != 1 {
		t.Errorf("acked %d, want 1", v)
	}
}

func TestAcksAreAwaited(t *testing.T) {
	r := newRig(t, Config{})
	if a := r.Acked(); a != (mesh.Ack{}) {
		t.Errorf("acked %+v before the first snapshot", a)
	}
	got := make(chan mesh.Ack)
	go func() {
		a, err := r.AwaitAck(t.Context(), 1)
		if err != nil {
			t.Error(err)
		}
		got <- a
	}()
	r.apply()
	r.apply()
	if a := <-got; a.Version != 2 || a.At.IsZero() || a != r.Acked() {
		t.Errorf("ack = %+v, want version 2", a)
	}
	over, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no time"))
	if _, err := r.AwaitAck(over, 2); err == nil || err.Error() != "wait for a snapshot newer than 2: no time" {
		t.Errorf("AwaitAck = %v", err)
	}
	if err := r.Drained(t.Context(), pod(9)); err != nil {
		t.Errorf("Drained of a pod that never was = %v", err)
	}
}
