package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// serve runs a server that reports the states of its connections.
func serve(t *testing.T, s *http.Server, states chan<- http.ConnState) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.ConnState = func(_ net.Conn, state http.ConnState) { states <- state }
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return ln.Addr().String()
}

func awaitClosed(t *testing.T, states <-chan http.ConnState, n int) {
	t.Helper()
	for n > 0 {
		select {
		case s := <-states:
			if s == http.StateClosed {
				n--
			}
		case <-t.Context().Done():
			t.Fatalf("%d connections are still open", n)
		}
	}
}

func TestATakenAddressIsSaid(t *testing.T) {
	r := newRig(t, Config{})
	l, _ := r.outbound()
	_, err := r.ListenGateway(l.Addr().String(), 80)
	if err == nil || !strings.Contains(err.Error(), "listen on "+l.Addr().String()) || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("err = %v", err)
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	r := newRig(t, Config{})
	arrived, release := make(chan struct{}), make(chan struct{})
	r.apply(service("music.default", r.app(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		fmt.Fprint(w, "finished")
	})))
	l, client := r.outbound()
	answer := make(chan string)
	go func() {
		_, body := r.get(client, "http://music/")
		answer <- body
	}()
	<-arrived
	down := make(chan error)
	go func() { down <- l.Shutdown(t.Context()) }()
	<-l.Stopped() // it stops accepting at once, while the request goes on
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		c.Close()
		t.Error("a listener that has stopped accepts")
	}
	close(release)
	if body := <-answer; body != "finished" {
		t.Errorf("answer = %q", body)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	// The address can be taken again.
	again, err := r.ListenGateway(l.Addr().String(), 80)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if err := again.Close(); err != nil {
		t.Errorf("closing again = %v", err)
	}
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	r := newRig(t, Config{})
	arrived := make(chan struct{})
	r.apply(service("music.default", r.app(func(_ http.ResponseWriter, q *http.Request) {
		arrived <- struct{}{}
		<-q.Context().Done()
	})))
	l, client := r.outbound()
	failed := make(chan error)
	go func() {
		res, err := client.Get("http://music/")
		if err == nil {
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
		}
		failed <- err
	}()
	<-arrived
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown = %v, want the context's error", err)
	}
	if err := <-failed; err == nil {
		t.Error("the request was answered although the listener was closed at once")
	}
	if got := r.recorded(); got.Code != 0 {
		t.Errorf("record = %+v", got)
	}
}

func TestAProxyThatIsShutDownTakesNothing(t *testing.T) {
	r := newRig(t, Config{})
	l, _ := r.outbound()
	waits := make(chan error)
	go func() {
		_, err := r.AwaitAck(t.Context(), 0)
		waits <- err
	}()
	if err := r.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; !errors.Is(err, ErrClosed) {
		t.Errorf("AwaitAck = %v", err)
	}
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		c.Close()
		t.Error("a listener accepts after Shutdown")
	}
	if err := r.Apply(snapshot(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Apply = %v", err)
	}
	if _, err := r.ListenGateway("127.0.0.1:0", 80); !errors.Is(err, ErrClosed) {
		t.Errorf("ListenGateway = %v", err)
	}
}
