package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"serin.dev/serin/internal/mesh"
)

// overHTTP2 returns a client that speaks HTTP/2 with prior knowledge and calls
// every host through the listener.
func (r *rig) overHTTP2(l *Listener) *http.Client {
	r.t.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: &protocols, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		},
	}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// call sends a request whose answer is read by the test.
func (r *rig) call(c *http.Client, method, target string, body io.Reader) (*http.Response, error) {
	r.t.Helper()
	q, err := http.NewRequestWithContext(r.t.Context(), method, target, body)
	if err != nil {
		r.t.Fatal(err)
	}
	return c.Do(q)
}

func TestCallersSpeakHTTP2(t *testing.T) {
	r := newRig(t, Config{})
	app := r.app(func(w http.ResponseWriter, q *http.Request) {
		b, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Trailer", "sum")
		fmt.Fprintf(w, "%s %s %s %q", q.Proto, q.Method, q.Host, b)
		w.Header().Set("sum", q.Trailer.Get("count"))
	})
	r.apply(service("music.default", app), weighted("music.default", 1))
	l, _ := r.outbound()
	c := r.overHTTP2(l)

	if status, got := r.get(c, "http://music/a?b=1"); status != 200 || got != `HTTP/1.1 GET music ""` {
		t.Errorf("GET: %d %s", status, got)
	}
	rec := r.recorded()
	if rec.Protocol != "HTTP/2" || rec.Service != "music.default" || rec.Code != 200 || rec.Path != "/a" {
		t.Errorf("record: %+v", rec)
	}

	body, in := io.Pipe()
	q, err := http.NewRequestWithContext(t.Context(), "POST", "http://music/", body)
	if err != nil {
		t.Fatal(err)
	}
	q.Trailer = http.Header{"Count": nil}
	go func() {
		fmt.Fprint(in, "one, ")
		fmt.Fprint(in, "two")
		q.Trailer.Set("Count", "2")
		in.Close()
	}()
	res, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil || string(b) != `HTTP/1.1 POST music "one, two"` || res.Trailer.Get("sum") != "2" {
		t.Errorf("POST: %s %v, trailers %v", b, err, res.Trailer)
	}
	if rec := r.recorded(); rec.Read != 8 {
		t.Errorf("%d bytes were recorded, want 8", rec.Read)
	}

	if status, got := r.do(c, "HEAD", "http://music/", nil); status != 200 || got != "" {
		t.Errorf("HEAD: %d %q", status, got)
	}
	r.recorded()
	if status, got := r.get(c, "http://music:81/"); status != 404 || !strings.Contains(got, "NR") {
		t.Errorf("unknown port: %d %q", status, got)
	}
	r.recorded()
}

func TestRequestsOfOneHTTP2CallerAreServedAtOnce(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{Streams: 20}})
	const n = 20
	var arrived sync.WaitGroup
	arrived.Add(n)
	app := r.app(func(w http.ResponseWriter, q *http.Request) {
		arrived.Done()
		arrived.Wait() // none is answered before all are there
		fmt.Fprint(w, q.URL.Path)
	})
	r.apply(service("music.default", app), weighted("music.default", 1))
	l, _ := r.outbound()
	c := r.overHTTP2(l)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			path := fmt.Sprintf("/%d", i)
			if status, got := r.get(c, "http://music"+path); status != 200 || got != path {
				t.Errorf("%s: %d %s", path, status, got)
			}
		})
	}
	wg.Wait()
	if open := l.open.Load(); open > 2 {
		t.Errorf("%d connections, want 1 or the one more that net/http may open", open)
	}
}

// TestBrokenAnswersResetTheStream: what is not whole must not look so.
func TestBrokenAnswersResetTheStream(t *testing.T) {
	r := newRig(t, Config{})
	app := r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
		if _, err := http.ReadRequest(in); err != nil {
			return
		}
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
	})
	r.apply(service("music.default", app), weighted("music.default", 1))
	l, _ := r.outbound()
	res, err := r.call(r.overHTTP2(l), "GET", "http://music/", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if string(b) != "half" || err == nil || err == io.EOF {
		t.Errorf("%q, %v, want the half and an error", b, err)
	}
	if rec := r.recorded(); rec.Code != 200 || rec.Flags != flagProtocol {
		t.Errorf("record: %d %s", rec.Code, rec.Flags)
	}
}

func TestHTTP2CallerThatCancelsEndsItsRequestAlone(t *testing.T) {
	r := newRig(t, Config{})
	begun, gone := make(chan bool), make(chan bool)
	app := r.app(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/slow" {
			begun <- true
			<-q.Context().Done()
			gone <- true
			return
		}
		fmt.Fprint(w, "well")
	})
	r.apply(service("music.default", app), weighted("music.default", 1))
	l, _ := r.outbound()
	c := r.overHTTP2(l)
	ctx, cancel := context.WithCancel(t.Context())
	q, err := http.NewRequestWithContext(ctx, "GET", "http://music/slow", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-begun
		cancel()
	}()
	if _, err := c.Do(q); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	<-gone
	if rec := r.recorded(); rec.Flags != flagCallerGone {
		t.Errorf("flags %q, want DC", rec.Flags)
	}
	if status, got := r.get(c, "http://music/"); status != 200 || got != "well" {
		t.Errorf("the next request: %d %s", status, got)
	}
	if n := l.open.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestShutdownDrainsHTTP2Callers(t *testing.T) {
	r := newRig(t, Config{})
	begun, finish := make(chan bool), make(chan bool)
	app := r.app(func(w http.ResponseWriter, _ *http.Request) {
		begun <- true
		<-finish
		fmt.Fprint(w, "whole")
	})
	r.apply(service("music.default", app), weighted("music.default", 1))
	l, _ := r.outbound()
	c := r.overHTTP2(l)
	var wg sync.WaitGroup
	wg.Go(func() {
		if status, got := r.get(c, "http://music/"); status != 200 || got != "whole" {
			t.Errorf("the request under way: %d %s", status, got)
		}
	})
	<-begun
	ended := make(chan error)
	go func() { ended <- l.Shutdown(t.Context()) }()
	<-l.Stopped()
	finish <- true
	wg.Wait()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestHTTP2IsToldFromPieces(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{HeaderTime: unhurried}})
	r.apply(service("music.default", r.app(says("hi"))), weighted("music.default", 1))
	l, _ := r.outbound()

	c := r.dialTo(l)
	for _, piece := range []string{"PR", "I * HTTP/2.0\r\n", "\r\nSM\r\n\r\n"} {
		c.send(piece)
	}
	framer := http2.NewFramer(c, c.in)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if f, err := framer.ReadFrame(); err != nil || f.Header().Type != http2.FrameSettings {
		t.Errorf("%v %v, want settings", f, err)
	}

	c = r.dialTo(l)
	c.send("PR")
	if res, _ := c.answer("PRI"); res.StatusCode != 408 {
		t.Errorf("half of the preface: %d, want 408", res.StatusCode)
	}

	c = r.dialTo(l)
	c.send("P")
	c.send("UT http://music/ HTTP/1.1\r\nhost: music\r\n\r\n")
	if res, body := c.answer("PUT"); res.StatusCode != 200 || body != "hi" {
		t.Errorf("PUT: %d %s", res.StatusCode, body)
	}
}

func TestIdleHTTP2CallersAreLetGo(t *testing.T) {
	// A caller that is slower than this to begin is reset instead.
	r := newRig(t, Config{Limits: Limits{IdleTime: unhurried}})
	l, err := r.ListenOutbound("127.0.0.1:0", mesh.Caller{Workload: caller})
	if err != nil {
		t.Fatal(err)
	}
	c := r.dialTo(l)
	c.send(http2.ClientPreface)
	framer := http2.NewFramer(c, c.in)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	away := false
	for {
		f, err := framer.ReadFrame()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		_, is := f.(*http2.GoAwayFrame)
		away = away || is
	}
	if !away {
		t.Error("the connection ended without GOAWAY")
	}
	// That this side does not close as well holds up nobody.
	if err := l.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
