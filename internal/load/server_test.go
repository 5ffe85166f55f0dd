package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// target is a service under load that answers when it is told to.
type target struct {
	*httptest.Server
	requests atomic.Int64
	arrived  chan bool // one value per request
	release  chan bool // closed: answer
}

func newTarget(t *testing.T) *target {
	g := &target{arrived: make(chan bool, 1000), release: make(chan bool)}
	g.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		g.requests.Add(1)
		g.arrived <- true
		select {
		case <-g.release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(g.Close)
	return g
}

func post(t *testing.T, s *Server, body string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(body)))
	return w.Code, strings.TrimSpace(w.Body.String())
}

func hook(name, cmd string) string {
	data, err := json.Marshal(cmd)
	if err != nil {
		panic(err) // a string marshals
	}
	return fmt.Sprintf(`{"name":%q,"namespace":"default","phase":"Progressing","checksum":"1","metadata":{"cmd":%s,"logCmdOutput":"true"}}`, name, data)
}

func TestWebhookStartsItsLoadOnceAtATime(t *testing.T) {
	g := newTarget(t)
	var log strings.Builder
	s := NewServer(t.Context(), nil, slog.New(slog.NewTextHandler(&log, nil)))
	cmd := "hey -n 2 -c 2 " + g.URL + "/health"
	want := func(body string, code int, text string) {
		t.Helper()
		if gotCode, got := post(t, s, body); gotCode != code || got != text {
			t.Errorf("POST %s: %d %s; want %d %s", body, gotCode, got, code, text)
		}
	}
	want(hook("reviews", cmd), 202, "started")
	<-g.arrived
	<-g.arrived
	want(hook("reviews", cmd), 202, "this load is running already")
	want(hook("ratings", cmd), 202, "started")
	<-g.arrived
	<-g.arrived
	close(g.release)
	s.Wait()
	if n := g.requests.Load(); n != 4 {
		t.Errorf("%d requests; want 2 for each of the two canaries", n)
	}
	want(hook("reviews", cmd), 202, "started")
	s.Wait()
	if n := g.requests.Load(); n != 6 {
		t.Errorf("%d requests; want 2 more from the load started anew", n)
	}
	if got := strings.Count(log.String(), "2 × 200"); got != 3 {
		t.Errorf("%d reports in the log; want 3:\n%s", got, log.String())
	}
}

func TestALoadThatIsAskedForAgainHasNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []time.Duration
		s := NewServer(t.Context(), nil, slog.New(slog.DiscardHandler))
		s.send = func(_ context.Context, spec Spec, _ func(Result)) (Report, error) {
			sent = append(sent, spec.Duration)
			time.Sleep(spec.Duration)
			return Report{}, nil
		}
		body := hook("reviews", "hey -z 1m -q 10 -c 2 http://reviews-canary.default:9080/health")
		start := time.Now()
		post(t, s, body)
		time.Sleep(time.Minute - time.Millisecond) // the load is about to end
		post(t, s, body)
		s.Wait()
		if d := time.Since(start); d != 2*time.Minute-time.Millisecond || len(sent) != 2 {
			t.Errorf("loads of %v, over after %v; want 1m after the second call", sent, d)
		}
	})
}

func TestEndOfTheServerEndsItsLoads(t *testing.T) {
	g := newTarget(t)
	ctx, cancel := context.WithCancel(t.Context())
	s := NewServer(ctx, nil, slog.New(slog.DiscardHandler))
	if code, text := post(t, s, hook("reviews", "hey -z 1h -c 1 "+g.URL)); code != 202 {
		t.Fatalf("%d %s", code, text)
	}
	<-g.arrived
	cancel()
	s.Wait() // returns, or the test runs out of time
	if code, text := post(t, s, hook("reviews", "hey "+g.URL)); code != 503 {
		t.Errorf("after the end: %d %s; want 503", code, text)
	}
}

func TestWebhookThatCannotBeRunIsRefused(t *testing.T) {
	s := NewServer(t.Context(), nil, slog.New(slog.DiscardHandler))
	for body, want := range map[string]string{
		`{`: "the body must be a webhook's JSON with name, namespace and metadata: unexpected EOF",
		`{"name":"reviews","namespace":"default"}`:  "metadata.cmd is missing: set it to a command such as hey -z 1m -q 10 -c 2 http://host:port/path",
		`{"metadata":{"type":"bash","cmd":"ls"}}`:   `metadata.type "bash" is not supported: leave it out, and give a hey command as metadata.cmd`,
		hook("reviews", "ls"):                       "metadata.cmd: only hey can be run: write a command such as hey -z 1m -q 10 -c 2 http://host:port/path",
		`"` + strings.Repeat("x", maxPayload) + `"`: "the body must be a webhook's JSON with name, namespace and metadata: http: request body too large",
	} {
		if code, got := post(t, s, body); code != 400 || got != want {
			t.Errorf("POST %.80s: %d %s\nwant 400 %s", body, code, got, want)
		}
	}
	s.Wait()
}

func TestTooManyLoadsAreRefused(t *testing.T) {
	g := newTarget(t)
	s := NewServer(t.Context(), nil, slog.New(slog.DiscardHandler))
	for i := range maxRunning + 1 {
		want := 202
		if i == maxRunning {
			want = 429
		}
		if code, text := post(t, s, hook(fmt.Sprint("canary-", i), "hey -n 1 -c 1 "+g.URL)); code != want {
			t.Fatalf("load %d: %d %s; want %d", i+1, code, text, want)
		}
	}
	close(g.release)
	s.Wait()
}

func TestOtherPathsAreNotFound(t *testing.T) {
	s := NewServer(t.Context(), nil, slog.New(slog.DiscardHandler))
	for request, want := range map[string]int{"GET /healthz": 200, "GET /": 405, "POST /gate/ajar": 404} {
		method, path, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
		if _, err := io.Copy(io.Discard, w.Body); err != nil || w.Code != want {
			t.Errorf("%s: %d, %v; want %d", request, w.Code, err, want)
		}
	}
}
