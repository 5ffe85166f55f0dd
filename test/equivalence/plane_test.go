package equivalence

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy"
	"serin.dev/serin/internal/telemetry"
)

// The caller whose calls a sidecar carries in all tests.
var caller = mesh.Caller{
	Workload: mesh.Workload{Namespace: "default", Name: "web", Version: "v1", Pod: "web-1"},
	Labels:   mesh.Labels{"app": "web", "version": "v1"},
}

// place is where the planes run.
var place = mesh.Place{Region: "eu", Zone: "west", Subzone: "rack1"}

// What the planes listen for, all the time.
const outboundListener = "outbound"

var (
	gatewayPorts = []uint16{80, 443, 5432}
	upstreams    = []upstreamPort{
		{"db.default", 5432}, {"reviews.default", 9080}, {"secure.default", 8443},
		{"db.data", 5432}, {"db.data", 443}, {"web.shop", 5432}, {"web.shop", 443}, // of random snapshots
	}
	inboundPorts = []uint16{80, 5432} // of appService
)

// appService is the service under which the planes' own application is called.
const appService mesh.ServiceName = "app.default"

var appWorkload = mesh.Workload{Namespace: "default", Name: "app-v1", Version: "v1", Pod: "app-v1"}

type upstreamPort struct {
	service mesh.ServiceName
	port    uint16
}

func gatewayListener(port uint16) string { return fmt.Sprintf("gateway:%d", port) }

func upstreamListener(u upstreamPort) string { return fmt.Sprintf("upstream:%s:%d", u.service, u.port) }

func inboundListener(port uint16) string { return fmt.Sprintf("inbound:%d", port) }

// plane is a data plane under test.
type plane interface {
	name() string
	// apply returns when every new request is routed by the snapshot.
	apply(t testing.TB, s *mesh.Snapshot)
	// address is where one of its listeners is.
	address(listener string) string
	// record returns what was recorded of a request.
	record(id string) (telemetry.Request, bool)
}

// recordTime is how late a record may be: an Envoy sends them ten times a
// second.
const recordTime = time.Minute

// recorder keeps the records of requests by their ids.
type recorder struct {
	mu      sync.Mutex
	byID    map[string]telemetry.Request
	changed chan struct{}
}

func newRecorder() *recorder {
	return &recorder{byID: map[string]telemetry.Request{}, changed: make(chan struct{})}
}

// Record implements telemetry.Recorder.
func (r *recorder) Record(q *telemetry.Request) {
	if q.ID == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := q.Clone()
	r.byID[kept.ID] = *kept
	close(r.changed)
	r.changed = make(chan struct{})
}

// take waits for a record and removes it.
func (r *recorder) take(id string, patience time.Duration) (telemetry.Request, bool) {
	timeout := time.After(patience)
	for {
		r.mu.Lock()
		q, ok := r.byID[id]
		delete(r.byID, id)
		changed := r.changed
		r.mu.Unlock()
		if ok {
			return q, true
		}
		select {
		case <-changed:
		case <-timeout:
			return q, false
		}
	}
}

// serin is our proxy, as sidecar and gateway in one.
type serin struct {
	*proxy.Proxy
	listeners map[string]string
	records   *recorder
}

func startSerin(t testing.TB, application string) *serin {
	s := &serin{listeners: map[string]string{}, records: newRecorder()}
	s.Proxy = proxy.New(proxy.Config{Recorder: s.records, Seed: 1, Loops: 1, Place: place})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Logf("our proxy cut requests off at the end: %v", err)
		}
	})
	listen := func(name string, l *proxy.Listener, err error) {
		if err != nil {
			t.Fatal(err)
		}
		s.listeners[name] = l.Addr().String()
	}
	l, err := s.ListenOutbound("127.0.0.1:0", caller)
	listen(outboundListener, l, err)
	for _, port := range gatewayPorts {
		l, err := s.ListenGateway("127.0.0.1:0", port)
		listen(gatewayListener(port), l, err)
	}
	for _, u := range upstreams {
		l, err := s.ListenUpstream("127.0.0.1:0", caller, u.service, u.port)
		listen(upstreamListener(u), l, err)
	}
	for _, port := range inboundPorts {
		l, err := s.ListenInbound("127.0.0.1:0", appService, appWorkload, application)
		listen(inboundListener(port), l, err)
	}
	return s
}

func (s *serin) name() string { return "serin" }

func (s *serin) apply(t testing.TB, snapshot *mesh.Snapshot) {
	t.Helper()
	if err := s.Apply(snapshot); err != nil {
		t.Fatalf("our proxy: %v", err)
	}
}

func (s *serin) address(listener string) string { return s.listeners[listener] }

func (s *serin) record(id string) (telemetry.Request, bool) { return s.records.take(id, recordTime) }
