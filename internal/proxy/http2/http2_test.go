package http2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
)

// patience is how long a test waits for what must happen at once.
const patience = 20 * time.Second

// group starts event loops that end with the test.
func group(t testing.TB, n int) *loop.Group {
	t.Helper()
	g, err := loop.NewGroup(n, loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := g.Stop(ctx); err != nil {
			t.Errorf("stop the loops: %v", err)
		}
	})
	return g
}

// serve starts a server on loops and returns its address.
func serve(t testing.TB, limits Limits, handle func(*Stream)) string {
	t.Helper()
	g := group(t, 2)
	var mu sync.Mutex
	open := map[*loop.Loop][]*loop.Conn{}
	ln, err := g.Listen("127.0.0.1:0", func(c *loop.Conn) {
		mu.Lock()
		open[c.Loop()] = append(open[c.Loop()], c)
		mu.Unlock()
		s := NewServer(c, c.Loop(), limits, handle, func(*wire.Head, int) {})
		c.Loop().Go(func(task *loop.Task) { s.Serve(task, nil) })
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		defer mu.Unlock()
		for l, conns := range open {
			l.Post(func() {
				for _, c := range conns {
					c.Interrupt(net.ErrClosed)
				}
			})
		}
	})
	return ln.Addr().String()
}

// goClient speaks HTTP/2 with prior knowledge.
func goClient(t testing.TB) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// echo answers with what the request was: its head in fields, its body, and
// its trailers.
func echo(s *Stream) {
	defer s.Close()
	h := s.Head()
	answer := wire.Head{Status: 200, Body: wire.Chunked}
	answer.Add("x-line", h.Method+" "+h.Scheme+" "+h.Authority+" "+h.Path)
	for _, f := range h.Fields {
		answer.Add("got-"+f.Name, f.Value)
	}
	if s.Answer(&answer, false) != nil {
		return
	}
	for {
		p, err := s.Next()
		if err != nil {
			break
		}
		if s.Write(p) != nil {
			return
		}
	}
	trailers := append([]wire.Field{{Name: "x-end", Value: "yes"}}, s.Trailers()...)
	if err := s.End(trailers); err != nil {
		return
	}
}

func TestGoClientsAreServed(t *testing.T) {
	address := serve(t, Limits{}, echo)
	client := goClient(t)
	for _, size := range []int{0, 1, 1000, 16 << 10, 300 << 10, 3 << 20} {
		body := bytes.Repeat([]byte("serin"), size/5+1)[:size]
		req, err := http.NewRequest("POST", "http://"+address+"/a/b?c=d", io.NopCloser(bytes.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Color", "yellow")
		req.Header.Add("Cookie", "a=1")
		req.Header.Add("Cookie", "b=2")
		req.Trailer = http.Header{"X-Sum": {"42"}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("body of %d: %v", size, err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("body of %d: came back as %d bytes, %v", size, len(got), err)
		}
		want := map[string]string{
			"X-Line":      "POST http " + address + " /a/b?c=d",
			"Got-X-Color": "yellow",
			"Got-Cookie":  "a=1; b=2",
		}
		for name, value := range want {
			if resp.Header.Get(name) != value {
				t.Errorf("body of %d: %s = %q, want %q", size, name, resp.Header.Get(name), value)
			}
		}
		if resp.Trailer.Get("X-End") != "yes" || resp.Trailer.Get("X-Sum") != "42" {
			t.Errorf("body of %d: trailers %v", size, resp.Trailer)
		}
		resp.Body.Close()
	}
}

func TestManyStreamsShareAConnection(t *testing.T) {
	address := serve(t, Limits{}, echo)
	client := goClient(t)
	var wg sync.WaitGroup
	errs := make([]error, 64)
	for i := range errs {
		wg.Go(func() {
			for n := range 20 {
				body := strings.Repeat(fmt.Sprint(i, n), 1+n*500)
				resp, err := client.Post("http://"+address+"/", "text/plain", strings.NewReader(body))
				if err != nil {
					errs[i] = err
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(got) != body {
					errs[i] = fmt.Errorf("request %d: %d bytes came back of %d: %w", n, len(got), len(body), err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// goServer is net/http's own server, with prior knowledge.
func goServer(t testing.TB, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: h, Protocols: protocols}
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// onLoop runs f in a task and waits for it.
func onLoop(t testing.TB, f func(*loop.Task) error) {
	t.Helper()
	l := group(t, 1).Loops()[0]
	done := make(chan error, 1)
	l.Post(func() { l.Go(func(task *loop.Task) { done <- f(task) }) })
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func dial(task *loop.Task, to netip.AddrPort) (*Client, error) {
	conn, err := task.Loop().Dial(to, patience)
	if err != nil {
		return nil, err
	}
	return NewClient(conn, task.Loop(), Limits{}, func() {}), nil
}

func TestGoServersAreCalled(t *testing.T) {
	to := goServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Line", r.Method+" "+r.Host+" "+r.RequestURI+" "+r.Header.Get("X-Color"))
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(201)
		n, err := io.Copy(w, r.Body)
		w.Header().Set("X-Sum", fmt.Sprint(n, err, r.Trailer.Get("X-End")))
	})
	onLoop(t, func(task *loop.Task) error {
		client, err := dial(task, to)
		if err != nil {
			return err
		}
		defer client.Close()
		for _, size := range []int{0, 5, 100 << 10, 2 << 20} {
			if err := callOnce(task, client, size); err != nil {
				return fmt.Errorf("body of %d: %w", size, err)
			}
		}
		return nil
	})
}

func callOnce(task *loop.Task, client *Client, size int) error {
	h := wire.Head{Method: "PUT", Scheme: "http", Authority: "music", Path: "/x?y", Body: wire.Chunked, TrailersOK: true}
	h.Add("x-color", "yellow")
	h.Add("trailer", "x-end") // net/http drops trailers that were not announced
	s, err := client.Open(&h, false)
	if err != nil {
		return err
	}
	defer s.Close()
	var uploaded error
	task.Loop().Go(func(*loop.Task) {
		if uploaded = s.Write(bytes.Repeat([]byte{'x'}, size)); uploaded == nil {
			uploaded = s.End([]wire.Field{{Name: "x-end", Value: "yes"}})
		}
	})
	var statuses []int
	for {
		head, err := s.AnswerHead()
		if err != nil {
			return err
		}
		statuses = append(statuses, head.Status)
		if head.Status >= 200 {
			if line, _ := head.Get("x-line"); line != "PUT music /x?y yellow" {
				return fmt.Errorf("the server saw %q", line)
			}
			break
		}
	}
	if !slices.Equal(statuses, []int{103, 201}) {
		return fmt.Errorf("statuses %v", statuses)
	}
	got := 0
	for {
		p, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		got += len(p)
	}
	want := wire.Field{Name: "x-sum", Value: fmt.Sprintf("%d <nil>yes", size)}
	if got != size || !slices.Contains(s.Trailers(), want) {
		return fmt.Errorf("%d bytes, trailers %v, upload %v", got, s.Trailers(), uploaded)
	}
	return uploaded
}

func TestCallersWhoLeaveAreNoticed(t *testing.T) {
	arrived, gone := make(chan struct{}), make(chan error, 1)
	address := serve(t, Limits{}, func(s *Stream) {
		defer s.Close()
		task := s.conn.loop.Current()
		s.OnGone(task.Wake)
		close(arrived)
		task.Park()
		gone <- s.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-arrived
		cancel()
	}()
	if resp, err := goClient(t).Do(req); err == nil {
		resp.Body.Close()
		t.Fatal("the canceled request was answered")
	}
	select {
	case err := <-gone:
		var reset *StreamError
		if !errors.As(err, &reset) || reset.Code != Cancel || !reset.Remote {
			t.Errorf("the stream ended with %v, want the peer's CANCEL", err)
		}
	case <-t.Context().Done():
	}
}

func TestAnAnswerBeforeTheBodyEndsTheUpload(t *testing.T) {
	address := serve(t, Limits{}, func(s *Stream) {
		defer s.Close()
		s.Answer(&wire.Head{Status: 413}, true)
	})
	endless, w := io.Pipe()
	defer w.Close()
	go w.Write(make([]byte, 1<<20))
	resp, err := goClient(t).Post("http://"+address+"/", "text/plain", endless)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("status %d, want 413", resp.StatusCode)
	}
}

func TestLostConnectionsFailTheirStreams(t *testing.T) {
	arrived := make(chan struct{})
	release := make(chan struct{})
	to := goServer(t, func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
		panic(http.ErrAbortHandler)
	})
	onLoop(t, func(task *loop.Task) error {
		client, err := dial(task, to)
		if err != nil {
			return err
		}
		defer client.Close()
		s, err := client.Open(&wire.Head{Method: "GET", Authority: "a", Path: "/"}, true)
		if err != nil {
			return err
		}
		defer s.Close()
		task.Offload(func() { <-arrived; close(release) })
		_, err = s.AnswerHead()
		var reset *StreamError
		if !errors.As(err, &reset) || !reset.Remote {
			return fmt.Errorf("a reset stream fails with %v", err)
		}
		return nil
	})
}
