//go:build linux

package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"serin.dev/serin/test/parts"
)

func TestMain(m *testing.M) {
	// What the program starts of itself, its tests start of themselves.
	if len(os.Args) > 1 && (os.Args[1] == "backend" || os.Args[1] == "reverseproxy") {
		if err := run(os.Args[1:]); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// Figures of a proxy that does less than the others would be worthless.
func TestEveryContenderDoesTheWholeJob(t *testing.T) {
	dir := t.TempDir()
	id, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	core, load, err := cores()
	if err != nil {
		t.Fatal(err)
	}
	backend, ports, err := startBackend(load, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer backend.stop()
	for _, c := range contenders {
		t.Run(strings.ReplaceAll(c.name, "/", "-"), func(t *testing.T) {
			switch {
			case c.name == "envoy":
				t.Setenv("PATH", filepath.Dir(parts.Envoy(t)))
			case c.fed && os.Getenv("SERIN_BIN") == "":
				t.Setenv("SERIN_BIN", buildSerin(t))
			}
			p, err := c.run(core, dir, id, ports)
			if errors.Is(err, exec.ErrNotFound) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer p.stop()
			for _, w := range workloads {
				if err := w.verify(p.plan, id.roots); err != nil {
					t.Errorf("%s: %v", w.name, err)
				}
			}
			release, err := hold(p.address("http1"), 10)
			defer release()
			if err != nil {
				t.Error(err)
			}
			if u, err := p.usage(); err != nil || u.memory < 1e6 {
				t.Errorf("usage: %+v, %v", u, err)
			}
		})
	}
}

// buildSerin makes the program where `make test` has not.
func buildSerin(t *testing.T) string {
	t.Helper()
	serin := filepath.Join(t.TempDir(), "serin")
	build := exec.Command("go", "build", "-o", serin, "../../cmd/serin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build serin: %v\n%s", err, out)
	}
	return serin
}

// A proxy that stalls holds up more requests than there are connections. All
// of them count, also those that could not even be sent.
func TestLatencyCountsWhatAStallHeldUp(t *testing.T) {
	const rate, stall = 500, 400 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	goOn := make(chan struct{})
	var requests atomic.Int64
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n := requests.Add(1); n > rate { // after a second
			if n == rate+1 {
				time.AfterFunc(stall, func() { close(goOn) })
			}
			<-goOn
		}
		if _, err := io.WriteString(w, strings.Repeat("x", small)); err != nil {
			t.Error(err)
		}
	})}
	go server.Serve(l)
	defer server.Close()
	p := &plan{Doors: []door{{Name: "http1", Port: l.Addr().(*net.TCPAddr).Port}}}
	took, err := workload{door: "http1", path: pathSmall, size: small, rate: rate}.pacedLoad(p, nil, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	slow := 0
	for _, d := range took {
		if d > stall/4 {
			slow++
		}
	}
	if want := 2 * connections; slow < want {
		t.Errorf("%d of %d requests were slow, want %d and more: %d connections, and a stall of %v at %d requests/s", slow, len(took), want, connections, stall, rate)
	}
}

func TestResultsOfLoadGeneratorsAreRead(t *testing.T) {
	const wrk = `Running 3s test @ http://127.0.0.1:38475/512
  1 threads and 50 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.21ms  402.31us  12.01ms   92.50%
    Req/Sec    41.57k     1.61k   44.30k    73.33%
  124112 requests in 3.01s, 72.20MB read
%sRequests/sec:  41233.55
Transfer/sec:     23.99MB
`
	const h2load = `starting benchmark...
finished in 3.00s, 21987.67 req/s, 12.30MB/s
requests: 65963 total, 66027 started, 65963 done, 65963 succeeded, %s failed, 0 errored, 0 timeout
status codes: 65963 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 36.90MB (38692041) total, 322.31KB (330047) headers (space savings 95.45%%), 32.21MB (33773056) data
`
	for _, c := range []struct {
		name string
		read func([]byte) (int64, error)
		out  string
		want int64 // 0: an error
	}{
		{"wrk", readWrk, strings.ReplaceAll(wrk, "%s", ""), 124112},
		{"wrk, refused", readWrk, strings.ReplaceAll(wrk, "%s", "  Non-2xx or 3xx responses: 7\n"), 0},
		{"wrk, broken", readWrk, strings.ReplaceAll(wrk, "%s", "  Socket errors: connect 0, read 3, write 0, timeout 0\n"), 0},
		{"wrk, silent", readWrk, "", 0},
		{"h2load", readH2load, strings.ReplaceAll(h2load, "%s", "0"), 65963},
		{"h2load, failed", readH2load, strings.ReplaceAll(h2load, "%s", "3"), 0},
		{"h2load, silent", readH2load, "", 0},
	} {
		if got, err := c.read([]byte(c.out)); got != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%s: %d, %v; want %d", c.name, got, err, c.want)
		}
	}
}

func TestAWordThatChoosesNothingIsRefused(t *testing.T) {
	for _, o := range []options{{}, {cases: "http1,idle"}, {proxies: "serin,nginx"}} {
		if err := o.check(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for want, o := range map[string]options{
		`-cases: nothing has "keep" in its name; there are ` + idleCase: {cases: "http1,keep"},
		`-proxies: nothing has "nosuch" in its name; there are serin, `: {proxies: "nosuch"},
	} {
		if err := o.check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want an error that begins with %s", o, err, want)
		}
	}
}

func TestReportTellsMediansRatiosAndWhatIsMissing(t *testing.T) {
	r := &report{idle: 1000, notes: []string{"a machine"}, others: []float64{0.04, 0.9, 0.05}}
	for _, cpu := range []float64{40, 10, 20} {
		r.add("http1-512B", "serin", figures{cpu: cpu, rps: 50000, core: 0.99, p50: 100, p99: 200, p999: 300})
		r.add("http1-512B", "envoy", figures{cpu: 2 * cpu, rps: 20000, core: 0.50, p50: 110, p99: 210, p999: 310})
		r.add("http1-512B", "nginx", figures{cpu: 1})
	}
	r.add(idleCase, "serin", figures{empty: 20, memory: 25})
	r.missing("nginx", "http1-512B", errors.New("wrk: requests\nfailed"))
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	const want = `
http1-512B: HTTP/1.1, connections are kept, 512 B; latency at 2500 requests/s
  proxy  CPU µs/request  / Envoy  / best  requests/s  core busy  p50 µs  p99 µs  p99.9 µs
  serin            20.0     0.50    1.00       50000       99 %     100     200       300
  envoy            40.0     1.00    2.00     ≥ 20000       50 %     110     210       310

idle-connections: memory of a fresh process without and with 1000 idle connections
  proxy  MB without  MB with  KB each
  serin          20       25      5.0

a machine
not measured: nginx in http1-512B: wrk: requests failed
between the runs the cores were busy with other things for 5 % of the time: on a busy machine latency and requests/s say little, and CPU per request is higher
≥: the proxy was not the limit: load generator, backend or neighbours were
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
