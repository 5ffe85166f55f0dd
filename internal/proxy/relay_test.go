package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/test/ports"
)

// tcpService is a service on port 80 that carries bytes.
func tcpService(name mesh.ServiceName, addresses ...string) *mesh.Service {
	s := service(name, addresses...)
	s.Ports[0].Protocol = mesh.TCP
	return s
}

// upstreamOf opens a listener for one service.
func (r *rig) upstreamOf(name mesh.ServiceName) *Listener {
	r.t.Helper()
	l, err := r.ListenUpstream("127.0.0.1:0", mesh.Caller{Workload: caller}, name, 80)
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

// echo sends back what it gets.
func echo(_ int, c net.Conn, in *bufio.Reader) {
	io.Copy(c, in)
	c.(*net.TCPConn).CloseWrite()
}

// greets speaks first, then says what it heard when its peer has ended.
func greets(name string) func(int, net.Conn, *bufio.Reader) {
	return func(_ int, c net.Conn, in *bufio.Reader) {
		io.WriteString(c, name+"\n")
		heard, _ := io.ReadAll(in)
		io.WriteString(c, "heard "+string(heard))
	}
}

// endWrite ends the test's direction of a connection.
func (c *conn) endWrite() {
	c.t.Helper()
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

// line reads one line.
func (c *conn) line() string {
	c.t.Helper()
	s, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Fatalf("after %q: %v", s, err)
	}
	return strings.TrimSuffix(s, "\n")
}

// rest reads until the other side has ended.
func (c *conn) rest() string {
	c.t.Helper()
	b, err := io.ReadAll(c.in)
	if err != nil {
		c.t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}

// isClosed reads until the connection is over, by an end or a reset, and
// expects no byte.
func (c *conn) isClosed() {
	c.t.Helper()
	if b, _ := io.ReadAll(c.in); len(b) > 0 {
		c.t.Errorf("read %q from a connection that was to be closed", b)
	}
}

func TestAConnectionIsCarriedBothWaysAndRecordedOnce(t *testing.T) {
	r := newRig(t, Config{})
	app := r.rawApp(greets("db"))
	r.apply(tcpService("db.default", app))
	c := r.dialTo(r.upstreamOf("db.default"))
	if got := c.line(); got != "db" {
		t.Errorf("the server's greeting = %q", got)
	}
	c.send("hello")
	c.endWrite()
	if got := c.rest(); got != "heard hello" {
		t.Errorf("the answer to half a close = %q", got)
	}
	want := telemetry.Request{
		Reporter: telemetry.SourceSide, Protocol: telemetry.TCP, Source: caller, Service: "db.default", Backend: "db.default",
		Destination: mesh.Workload{Namespace: "default", Name: "app", Version: "v1", Pod: "app-v1"},
		Snapshot:    1, Upstream: app, Attempts: 1, Read: 5, Sent: int64(len("db\nheard hello")),
	}
	if diff := cmp.Diff(want, r.recorded(), cmpopts.IgnoreFields(telemetry.Request{}, "Start", "Duration")); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if n := len(r.records); n != 0 {
		t.Errorf("%d more records", n)
	}
}

// TestALargeTransferWaitsForItsReader: what a slow reader has not taken is held
// by the kernel, and the sender waits.
func TestALargeTransferWaitsForItsReader(t *testing.T) {
	r := newRig(t, Config{})
	const size = 32 << 20
	sent := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(sent)
	wrote := make(chan error, 1)
	r.apply(tcpService("db.default", r.rawApp(func(_ int, c net.Conn, _ *bufio.Reader) {
		_, err := c.Write(sent)
		wrote <- err
	})))
	c := r.dialTo(r.upstreamOf("db.default"))
	got := make([]byte, 0, size)
	piece := make([]byte, 64<<10)
	for len(got) < size {
		n, err := c.in.Read(piece[:1+rand.IntN(len(piece))])
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(got), err)
		}
		if got = append(got, piece[:n]...); len(got) < 1<<20 {
			select {
			case err := <-wrote:
				t.Fatalf("32 MiB are written when %d bytes were read: %v", len(got), err)
			default:
			}
		}
	}
	if err := <-wrote; err != nil || !bytes.Equal(got, sent) {
		t.Errorf("the bytes are not those that were sent (%v)", err)
	}
}

func TestAConnectionGoesToTheNextEndpointWhenOneFails(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(tcpService("db.default", ports.Reserve(t), ports.Reserve(t), r.rawApp(greets("third"))))
	l := r.upstreamOf("db.default")
	for range 20 {
		c := r.dialTo(l)
		if got := c.line(); got != "third" {
			t.Fatalf("reached %q", got)
		}
		c.endWrite()
		c.rest()
		if q := r.recorded(); q.Flags != "" || q.Destination.Version != "v3" || q.Attempts > maxConnects {
			t.Fatalf("record = %+v", q)
		}
	}
}

func TestAConnectionWithNowhereToGoIsClosedAndFlagged(t *testing.T) {
	r := newRig(t, Config{})
	denied := tcpService("denied.default", ports.Reserve(t))
	denied.Access = []mesh.Access{{Deny: true}}
	ghost := mesh.VirtualHost{Hosts: []string{"ghost.default"}, Streams: []mesh.Stream{{Split: []mesh.Destination{{Service: "down.default", Subset: "v9", Weight: 1}}}}}
	nowhere := mesh.VirtualHost{Hosts: []string{"nowhere.default"}, Streams: []mesh.Stream{{}}}
	r.apply(ghost, nowhere, denied, tcpService("down.default", ports.Reserve(t), ports.Reserve(t), ports.Reserve(t), ports.Reserve(t)), tcpService("empty.default"),
		tcpService("ghost.default"), tcpService("nowhere.default"))
	for name, want := range map[mesh.ServiceName]struct {
		flags    string
		attempts uint32
	}{
		"down.default":    {"UF,URX", 3},
		"empty.default":   {"UH", 0},
		"denied.default":  {"UAEX", 0},
		"ghost.default":   {"NC", 0},
		"nowhere.default": {"NR", 0},
	} {
		c := r.dialTo(r.upstreamOf(name))
		c.isClosed()
		if q := r.recorded(); q.Flags != want.flags || q.Attempts != want.attempts || q.Service != name {
			t.Errorf("%s: recorded %s after %d tries, want %s after %d", name, q.Flags, q.Attempts, want.flags, want.attempts)
		}
	}
}

func TestConnectionsAreSplit(t *testing.T) {
	r := newRig(t, Config{Seed: 1})
	split := mesh.VirtualHost{Hosts: []string{"db.default"}, Streams: []mesh.Stream{{
		Origin: mesh.Origin{Kind: "VirtualService", Namespace: "default", Name: "db"},
		Split:  []mesh.Destination{{Service: "db.default", Subset: "v1", Weight: 80}, {Service: "db.default", Subset: "v2", Weight: 20}},
	}}}
	r.apply(split, tcpService("db.default", r.rawApp(greets("v1")), r.rawApp(greets("v2"))))
	l := r.upstreamOf("db.default")
	counts := map[string]int{}
	for range 500 {
		c := r.dialTo(l)
		version := c.line()
		counts[version]++
		c.endWrite()
		c.rest()
		if q := r.recorded(); q.Destination.Version != version || !q.Split || q.Route.Name != "db" {
			t.Fatalf("record of a connection to %s = %+v", version, q)
		}
	}
	// 500 draws with p = 0.2: the standard deviation is 9.
	if n := counts["v2"]; n < 64 || n > 136 {
		t.Errorf("%d of 500 connections went to v2, want about 100", n)
	}
}

func TestAnEndpointThatRefusesConnectionsIsEjected(t *testing.T) {
	r := newRig(t, Config{})
	svc := tcpService("db.default", ports.Reserve(t), r.rawApp(greets("v2")))
	svc.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {Balancer: mesh.RoundRobin, Outlier: &mesh.Outlier{Consecutive5xx: 2, MaxPercent: 100}}}
	r.apply(svc)
	l := r.upstreamOf("db.default")
	tries := uint32(0)
	for range 20 {
		c := r.dialTo(l)
		if got := c.line(); got != "v2" {
			t.Fatalf("reached %q", got)
		}
		c.endWrite()
		c.rest()
		tries += r.recorded().Attempts
	}
	if tries != 22 {
		t.Errorf("%d tries for 20 connections, want 2 more until the endpoint is ejected", tries)
	}
}

func TestConnectionsBeyondTheLimitAreClosed(t *testing.T) {
	r := newRig(t, Config{})
	svc := tcpService("db.default", r.rawApp(greets("db")))
	svc.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {Pool: mesh.Pool{MaxConnections: 2}}}
	r.apply(svc)
	l := r.upstreamOf("db.default")
	first, second := r.dialTo(l), r.dialTo(l)
	first.line()
	second.line()
	r.dialTo(l).isClosed()
	if q := r.recorded(); q.Flags != "UO" || q.Attempts != 0 {
		t.Errorf("record of the third = %+v", q)
	}
	first.endWrite()
	first.rest()
	r.recorded()
	if got := r.dialTo(l).line(); got != "db" {
		t.Errorf("when there is room again: %q", got)
	}
}

func TestADrainWaitsForConnections(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(tcpService("db.default", r.rawApp(echo)))
	l := r.upstreamOf("db.default")
	c := r.dialTo(l)
	c.send("one\n")
	c.line()
	r.apply(tcpService("db.default"))
	over, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.Drained(over, pod(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Drained with a connection = %v, want to wait", err)
	}
	c.send("two\n")
	if got := c.line(); got != "two" {
		t.Errorf("after the swap: %q", got)
	}
	r.dialTo(l).isClosed()
	c.endWrite()
	if err := r.Drained(t.Context(), pod(1)); err != nil {
		t.Error(err)
	}
}

// TestAPodsOwnAddressCarriesBytes: for callers that do not use the mesh.
func TestAPodsOwnAddressCarriesBytes(t *testing.T) {
	r := newRig(t, Config{})
	app := r.rawApp(greets("db"))
	workload := mesh.Workload{Namespace: "default", Name: "db", Version: "v1", Pod: "db-1"}
	l, err := r.ListenInbound("127.0.0.1:0", "db.default", workload, app)
	if err != nil {
		t.Fatal(err)
	}
	svc := tcpService("db.default", app)
	svc.Endpoints[0].Address = netip.MustParseAddrPort(l.Addr().String())
	r.apply(svc)
	c := r.dialTo(l)
	if got := c.line(); got != "db" {
		t.Errorf("greeting = %q", got)
	}
	c.endWrite()
	c.rest()
	q := r.recorded()
	if q.Protocol != telemetry.TCP || q.Reporter != telemetry.DestinationSide || q.Service != "db.default" || q.Backend != "db.default" || q.Destination != workload {
		t.Errorf("record = %+v", q)
	}
}

func TestAQuietConnectionIsClosed(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{StreamIdle: unhurried}})
	r.apply(tcpService("db.default", r.rawApp(echo)))
	c := r.dialTo(r.upstreamOf("db.default"))
	c.send("one\n")
	c.line()
	c.isClosed()
	if q := r.recorded(); q.Flags != "SI" || q.Read != 4 || q.Sent != 4 {
		t.Errorf("record = %+v", q)
	}
}

func TestAListenerThatIsClosedCutsConnectionsOff(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(tcpService("db.default", r.rawApp(echo)))
	l := r.upstreamOf("db.default")
	c := r.dialTo(l)
	c.send("one\n")
	c.line()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c.isClosed()
	if q := r.recorded(); q.Flags != "DC" {
		t.Errorf("record = %+v", q)
	}
}

func TestAnEndpointThatResetsIsFlagged(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(tcpService("db.default", r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
		in.ReadByte()
		c.(*net.TCPConn).SetLinger(0)
	})))
	c := r.dialTo(r.upstreamOf("db.default"))
	c.send("x")
	c.isClosed()
	if q := r.recorded(); q.Flags != "UC" {
		t.Errorf("record = %+v", q)
	}
}

// TestTheLastWordsOfAServerArrive: it answers and closes while its caller is
// still sending.
func TestTheLastWordsOfAServerArrive(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(tcpService("db.default", r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
		in.ReadByte()
		io.WriteString(c, "go away")
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, in)
	})))
	c := r.dialTo(r.upstreamOf("db.default"))
	c.send("x")
	if got := c.rest(); got != "go away" {
		t.Errorf("read %q", got)
	}
	c.send("more")
	c.endWrite()
	if q := r.recorded(); q.Flags != "" || q.Read != 5 || q.Sent != 7 {
		t.Errorf("record = %+v", q)
	}
}

func TestTheAccessLogTellsOfConnections(t *testing.T) {
	var out bytes.Buffer
	r := newRig(t, Config{AccessLog: AccessLog{Format: AccessLogText, To: &out}})
	app := r.rawApp(greets("db"))
	r.apply(tcpService("db.default", app))
	c := r.dialTo(r.upstreamOf("db.default"))
	c.line()
	c.endWrite()
	c.rest()
	q := r.recorded()
	if err := r.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	line := out.String()
	for _, want := range []string{`"- - TCP"`, ` 0 - - - "-" 0 9 `, `"` + q.Upstream + `" outbound|80||db.default 127.0.0.1:`} {
		if !strings.Contains(line, want) {
			t.Errorf("the line lacks %q:\n%s", want, line)
		}
	}
}

// TestAPortForOneServiceWaitsForTheFirstSnapshot: nobody knows what it speaks.
func TestAPortForOneServiceWaitsForTheFirstSnapshot(t *testing.T) {
	r := newRig(t, Config{Loops: 1})
	db, music := r.upstreamOf("db.default"), r.upstreamOf("music.default")
	listens, calls := r.dialTo(db), r.dialTo(music)
	calls.send("GET / HTTP/1.1\r\nHost: music\r\n\r\n")
	for db.open.Load() == 0 || music.open.Load() == 0 {
		runtime.Gosched()
	}
	r.apply(tcpService("db.default", r.rawApp(greets("db"))), service("music.default", r.app(says("music"))))
	if got := listens.line(); got != "db" {
		t.Errorf("greeting = %q", got)
	}
	if res, body := calls.answer("GET"); res.StatusCode != 200 || body != "music" {
		t.Errorf("answer = %d %q", res.StatusCode, body)
	}

	r = newRig(t, Config{Limits: Limits{HeaderTime: 20 * time.Millisecond}})
	r.dialTo(r.upstreamOf("db.default")).isClosed() // as there never was one
	for _, stop := range []func(*Listener) error{(*Listener).Close, func(l *Listener) error { return l.Shutdown(t.Context()) }} {
		r = newRig(t, Config{})
		l := r.upstreamOf("db.default")
		c := r.dialTo(l)
		for l.open.Load() == 0 {
			runtime.Gosched()
		}
		if err := stop(l); err != nil {
			t.Error(err)
		}
		c.isClosed()
	}
}

// TestAStreamWithNowhereToGoIsClosed: it must not be answered as if it carried
// requests.
func TestAStreamWithNowhereToGoIsClosed(t *testing.T) {
	r := newRig(t, Config{})
	nowhere := mesh.Gateway{Name: "default/db", Port: 5432, Streams: []mesh.Stream{{Origin: mesh.Origin{Kind: "VirtualService", Name: "db"}}}}
	r.apply(tcpService("db.default"), nowhere)
	l, err := r.ListenGateway("127.0.0.1:0", 5432)
	if err != nil {
		t.Fatal(err)
	}
	c := r.dialTo(l)
	c.send("GET / HTTP/1.1\r\nHost: db\r\n\r\n")
	c.isClosed()
	if q := r.recorded(); q.Protocol != telemetry.TCP || q.Flags != flagNoRoute || q.Route.Name != "db" {
		t.Errorf("record = %+v", q)
	}
}
