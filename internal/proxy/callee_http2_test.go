package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"serin.dev/serin/internal/mesh"
)

// appHTTP2 is an application that speaks HTTP/2 alone, with prior knowledge. It
// counts its connections.
func (r *rig) appHTTP2(h http.HandlerFunc) (address string, conns *atomic.Int64) {
	r.t.Helper()
	conns = new(atomic.Int64)
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	r.t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String(), conns
}

// serviceHTTP2 is a service whose endpoints speak HTTP/2.
func serviceHTTP2(addresses ...string) *mesh.Service {
	s := service("music.default", addresses...)
	s.Ports[0].Protocol = mesh.HTTP2
	return s
}

func TestEndpointsSpeakHTTP2(t *testing.T) {
	r := newRig(t, Config{Loops: 1})
	app, conns := r.appHTTP2(func(w http.ResponseWriter, q *http.Request) {
		b, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Trailer", "sum")
		http.NewResponseController(w).Flush() // or there is a length, which HTTP/1.1 has no trailers behind
		fmt.Fprintf(w, "%s %s %s %q", q.Proto, q.Method, q.Host, b)
		w.Header().Set("sum", q.Trailer.Get("count"))
	})
	r.apply(serviceHTTP2(app), weighted("music.default", 1))
	l, old := r.outbound()
	for _, c := range []*http.Client{old, r.overHTTP2(l)} {
		if status, got := r.get(c, "http://music/a?b=1"); status != 200 || got != `HTTP/2.0 GET music ""` {
			t.Errorf("GET: %d %s", status, got)
		}
		q, err := http.NewRequestWithContext(t.Context(), "POST", "http://music/", io.MultiReader(strings.NewReader("one, two")))
		if err != nil {
			t.Fatal(err)
		}
		q.Trailer = http.Header{"Count": {"2"}}
		res, err := c.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil || string(b) != `HTTP/2.0 POST music "one, two"` || res.Trailer.Get("sum") != "2" {
			t.Errorf("POST: %s %v, trailers %v", b, err, res.Trailer)
		}
		if status, got := r.do(c, "HEAD", "http://music/", nil); status != 200 || got != "" {
			t.Errorf("HEAD: %d %q", status, got)
		}
		for range 3 {
			if rec := r.recorded(); rec.Code != 200 || rec.Upstream != app || rec.Flags != "" {
				t.Errorf("record: %+v", rec)
			}
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestRequestsShareADial: those that come while a connection is being opened
// wait for it, and more are opened only when streams run out.
func TestRequestsShareADial(t *testing.T) {
	const n = 30
	for _, tt := range []struct {
		limit uint32
		want  int64
	}{{0, 1}, {10, 3}, {1, n}} {
		r := newRig(t, Config{Loops: 1})
		var arrived sync.WaitGroup
		arrived.Add(n)
		app, conns := r.appHTTP2(func(http.ResponseWriter, *http.Request) {
			arrived.Done()
			arrived.Wait()
		})
		svc := serviceHTTP2(app)
		svc.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {Pool: mesh.Pool{ConcurrentStreams: tt.limit}}}
		r.apply(svc, weighted("music.default", 1))
		_, c := r.outbound()
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				if status, got := r.get(c, "http://music/"); status != 200 {
					t.Errorf("%d %s", status, got)
				}
			})
		}
		wg.Wait()
		if got := conns.Load(); got != tt.want {
			t.Errorf("at most %d streams: %d connections, want %d", tt.limit, got, tt.want)
		}
	}
}

func TestConnectionsEndAfterTheirRequests(t *testing.T) {
	r := newRig(t, Config{Loops: 1})
	plain := new(atomic.Int64)
	s := httptest.NewUnstartedServer(says("hi"))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			plain.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	app, shared := r.appHTTP2(says("hi"))
	two, one := serviceHTTP2(app), service("one.default", s.Listener.Addr().String())
	two.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {Pool: mesh.Pool{RequestsPerConn: 3}}}
	one.Policies = two.Policies
	r.apply(two, one)
	_, c := r.outbound()
	for range 9 {
		for _, host := range []string{"music", "one"} {
			if status, got := r.get(c, "http://"+host+"/"); status != 200 {
				t.Errorf("%d %s", status, got)
			}
		}
	}
	if shared.Load() != 3 || plain.Load() != 3 {
		t.Errorf("%d connections of HTTP/2 and %d of HTTP/1.1, want 3 each", shared.Load(), plain.Load())
	}
}

func TestCancelledRequestsResetTheEndpointsStream(t *testing.T) {
	r := newRig(t, Config{Loops: 1})
	begun, gone := make(chan bool), make(chan bool)
	app, conns := r.appHTTP2(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/slow" {
			begun <- true
			<-q.Context().Done()
			gone <- true
		}
	})
	r.apply(serviceHTTP2(app), weighted("music.default", 1))
	l, old := r.outbound()
	for _, c := range []*http.Client{old, r.overHTTP2(l)} {
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
		if status, got := r.get(c, "http://music/"); status != 200 {
			t.Errorf("the next request: %d %s", status, got)
		}
		r.recorded()
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1: a stream's end is not the connection's", n)
	}
}

// peer is the endpoint's side of HTTP/2, frame by frame.
type peer struct {
	*http2.Framer
	conn net.Conn
	out  strings.Builder
	enc  *hpack.Encoder
}

// framedApp serves HTTP/2 connections by a function, which is called for each
// request's HEADERS.
func (r *rig) framedApp(serve func(p *peer, n int, stream uint32) error) string {
	r.t.Helper()
	var requests atomic.Int64
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { ln.Close() })
	one := func(c net.Conn) error {
		defer c.Close()
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return err
		}
		p := &peer{Framer: http2.NewFramer(c, c), conn: c}
		p.enc = hpack.NewEncoder(&p.out)
		if err := p.WriteSettings(); err != nil {
			return err
		}
		for {
			f, err := p.ReadFrame()
			if err != nil {
				return err
			}
			if f, ok := f.(*http2.HeadersFrame); ok {
				if err := serve(p, int(requests.Add(1)), f.StreamID); err != nil {
					return err
				}
			}
		}
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				// How it ends is for the proxy to see.
				_ = one(c)
			}()
		}
	}()
	return ln.Addr().String()
}

// answer sends a head of status 200.
func (p *peer) answer(stream uint32, end bool) error {
	return p.fields(stream, end, ":status", "200")
}

// fields sends HEADERS of names and values.
func (p *peer) fields(stream uint32, end bool, pairs ...string) error {
	p.out.Reset()
	for i := 0; i < len(pairs); i += 2 {
		if err := p.enc.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}); err != nil {
			return err
		}
	}
	return p.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte(p.out.String()), EndHeaders: true, EndStream: end})
}

func TestEndpointsThatReset(t *testing.T) {
	once := &mesh.Retry{}
	refusedAgain := &mesh.Retry{Attempts: 1, On: mesh.RetryRefusedStream}
	for _, tt := range []struct {
		name  string
		retry *mesh.Retry
		serve func(p *peer, n int, stream uint32) error
		code  int
		flags string
	}{
		{"reset before the answer", once, func(p *peer, _ int, s uint32) error {
			return p.WriteRSTStream(s, http2.ErrCodeInternal)
		}, 503, flagRemoteReset},
		{"refused", once, func(p *peer, _ int, s uint32) error {
			return p.WriteRSTStream(s, http2.ErrCodeRefusedStream)
		}, 503, flagRemoteReset},
		{"refused once", once, func(p *peer, n int, s uint32) error {
			if n == 1 {
				return p.WriteRSTStream(s, http2.ErrCodeRefusedStream)
			}
			return p.answer(s, true)
		}, 200, ""},
		{"refused by GOAWAY once", once, func(p *peer, n int, s uint32) error {
			if n == 1 {
				return p.WriteGoAway(0, http2.ErrCodeNo, nil)
			}
			return p.answer(s, true)
		}, 200, ""},
		{"refused twice and retried", refusedAgain, func(p *peer, n int, s uint32) error {
			if n <= 2 {
				return p.WriteRSTStream(s, http2.ErrCodeRefusedStream)
			}
			return p.answer(s, true)
		}, 200, ""},
		{"GOAWAY that lets the request finish", once, func(p *peer, _ int, s uint32) error {
			return errors.Join(p.WriteGoAway(s, http2.ErrCodeNo, nil), p.answer(s, true))
		}, 200, ""},
		{"connection closed", once, func(*peer, int, uint32) error { return io.EOF }, 503, flagReset},
		{"malformed", once, func(p *peer, _ int, s uint32) error {
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: s, EndHeaders: true})
		}, 502, flagProtocol},
		{"101, which HTTP/2 does not have", once, func(p *peer, _ int, s uint32) error {
			return p.fields(s, false, ":status", "101")
		}, 502, flagProtocol},
		{"100 before the answer", once, func(p *peer, _ int, s uint32) error {
			return errors.Join(p.fields(s, false, ":status", "100"), p.answer(s, true))
		}, 200, ""},
		{"no frames", once, func(p *peer, _ int, _ uint32) error {
			_, err := io.WriteString(p.conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			return err
		}, 502, flagProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			host := weighted("music.default", 1)
			host.Routes[0].Retry = tt.retry
			r.apply(serviceHTTP2(r.framedApp(tt.serve)), host)
			_, c := r.outbound()
			status, got := r.do(c, "POST", "http://music/", strings.NewReader("x"))
			rec := r.recorded()
			if status != tt.code || rec.Code != tt.code || rec.Flags != tt.flags {
				t.Errorf("%d %s, recorded %d %q; want %d %q", status, got, rec.Code, rec.Flags, tt.code, tt.flags)
			}
		})
	}
}

// TestARefusedRequestIsRepeatedOnAnotherConnection once, with its body, unless
// that is longer than what is kept.
func TestARefusedRequestIsRepeatedOnAnotherConnection(t *testing.T) {
	var heard string
	conns := map[*peer]bool{}
	serve := func(p *peer, n int, s uint32) error {
		conns[p] = true
		if n%2 == 1 {
			return p.WriteRSTStream(s, http2.ErrCodeRefusedStream)
		}
		heard = ""
		for {
			f, err := p.ReadFrame()
			if err != nil {
				return err
			}
			if d, ok := f.(*http2.DataFrame); ok {
				if heard += string(d.Data()); d.StreamEnded() {
					return p.answer(s, true)
				}
			}
		}
	}
	r := newRig(t, Config{Loops: 1, Limits: Limits{RetryBuffer: 1000}})
	host := weighted("music.default", 1)
	host.Routes[0].Retry = &mesh.Retry{}
	r.apply(serviceHTTP2(r.framedApp(serve)), host)
	_, c := r.outbound()
	body := strings.Repeat("song ", 200)
	if status, got := r.do(c, "POST", "http://music/", strings.NewReader(body)); status != 200 || heard != body || len(conns) != 2 {
		t.Errorf("%d %s; the endpoint heard %d bytes on %d connections", status, got, len(heard), len(conns))
	}
	if rec := r.recorded(); rec.Flags != "" || rec.Read != 1000 {
		t.Errorf("recorded %+v", rec)
	}
	if status, got := r.do(c, "POST", "http://music/", strings.NewReader(body+"x")); status != 503 {
		t.Errorf("a body that is not kept: %d %s", status, got)
	}
}

// TestEndpointsResetWithinAnAnswer: the caller must learn that it is not whole.
func TestEndpointsResetWithinAnAnswer(t *testing.T) {
	r := newRig(t, Config{})
	app := r.framedApp(func(p *peer, _ int, s uint32) error {
		return errors.Join(p.answer(s, false), p.WriteData(s, false, []byte("half")), p.WriteRSTStream(s, http2.ErrCodeInternal))
	})
	r.apply(serviceHTTP2(app), weighted("music.default", 1))
	l, old := r.outbound()
	for _, c := range []*http.Client{old, r.overHTTP2(l)} {
		res, err := r.call(c, "GET", "http://music/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%q was taken for a whole answer", b)
		}
		if rec := r.recorded(); rec.Code != 200 || rec.Flags != flagRemoteReset {
			t.Errorf("record: %d %s", rec.Code, rec.Flags)
		}
	}
}

// TestEndpointsLeavingLoseNothing: endpoints that end their connections in good
// order, again and again, cost no request.
func TestEndpointsLeavingLoseNothing(t *testing.T) {
	r := newRig(t, Config{})
	app := r.framedApp(func(p *peer, n int, s uint32) error {
		if n%7 == 0 {
			// This one and all before are answered, what follows is refused.
			if err := p.WriteGoAway(s, http2.ErrCodeNo, nil); err != nil {
				return err
			}
		}
		return p.answer(s, true)
	})
	host := weighted("music.default", 1)
	host.Routes[0].Retry = &mesh.Retry{Attempts: 10, On: mesh.RetryRefusedStream}
	r.apply(serviceHTTP2(app), host)
	l, _ := r.outbound()
	c := r.overHTTP2(l)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 30 {
				if status, got := r.do(c, "POST", "http://music/", strings.NewReader("x")); status != 200 {
					t.Errorf("%d %s", status, got)
				}
			}
		})
	}
	wg.Wait()
}

// TestRequestsWaitForConnections where there may be no more, and are turned
// away where too many wait.
func TestRequestsWaitForConnections(t *testing.T) {
	for _, two := range []bool{false, true} {
		r := newRig(t, Config{Loops: 1})
		busy, arrived := make(chan bool), make(chan bool, 12)
		var conns sync.Map
		h := func(w http.ResponseWriter, q *http.Request) {
			conns.Store(q.RemoteAddr, true)
			arrived <- true
			<-busy
		}
		address := ""
		if two {
			address, _ = r.appHTTP2(h)
		} else {
			address = r.app(h)
		}
		svc := service("music.default", address)
		svc.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {Pool: mesh.Pool{MaxConnections: 2, MaxPending: 3, HTTP2: two}}}
		r.apply(svc, weighted("music.default", 1))
		_, c := r.outbound()
		const n = 12
		codes := make(chan int, n)
		for i := range n {
			go func() {
				res, err := r.call(c, "GET", "http://music/", nil)
				if err != nil {
					t.Error(err)
					codes <- 0
					return
				}
				res.Body.Close()
				codes <- res.StatusCode
			}()
			if !two && i < 2 {
				<-arrived // a request whose connection is being opened waits, too
			}
		}
		over := 0
		if !two { // HTTP/2 has room for all on one connection, once that is open
			for range n - 2 - 3 {
				if code := <-codes; code != 503 {
					t.Errorf("one too many: %d", code)
				}
				over++
			}
		}
		close(busy)
		for range n - over {
			if code := <-codes; code == 503 {
				over++
			} else if code != 200 {
				t.Errorf("status %d", code)
			}
		}
		for range n {
			if rec := r.recorded(); (rec.Flags == flagOverflow) != (rec.Code == 503) {
				t.Errorf("%d %q", rec.Code, rec.Flags)
			}
		}
		count := 0
		conns.Range(func(any, any) bool { count++; return true })
		// Those for whom connections are being opened wait, too.
		if !two && (count != 2 || over > n-3) || two && count != 1 {
			t.Errorf("HTTP/2 %t: %d connections, %d turned away", two, count, over)
		}
	}
}

// TestTrailersBehindNothing: that an answer has no body must not end it before
// its trailers.
func TestTrailersBehindNothing(t *testing.T) {
	r := newRig(t, Config{})
	app := r.framedApp(func(p *peer, _ int, s uint32) error {
		return errors.Join(p.fields(s, false, ":status", "200", "content-length", "0"), p.fields(s, true, "sum", "7"))
	})
	r.apply(serviceHTTP2(app), weighted("music.default", 1))
	l, old := r.outbound()
	for _, c := range []*http.Client{old, r.overHTTP2(l)} {
		res, err := r.call(c, "GET", "http://music/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); err != nil || len(b) > 0 || res.Trailer.Get("sum") != "7" {
			t.Errorf("%s: %q %v, trailers %v", res.Proto, b, err, res.Trailer)
		}
	}
}
