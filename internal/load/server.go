package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	maxPayload  = 64 << 10
	maxRunning  = 50        // loads at once: more are a mistake somewhere
	longestLoad = time.Hour // as Flagger's load tester allows by default
)

// Server answers Flagger's load-test webhooks (docs.flagger.app, "Webhooks"):
// POST / with the name and namespace of a canary and a hey command in
// metadata.cmd starts that load in the background and answers 202 at once. A
// call that repeats a load which still runs makes it go on until its duration
// has passed since that call, so that calls once per duration make a load
// without gaps. GET /healthz answers 200.
//
// It also keeps gates, for the webhooks that confirm: POST /gate/open and
// /gate/close with the name and namespace of a canary set one, POST /gate/check
// answers 200 when it is open and 403 when it is not; /rollback/open, close and
// check are another one. /gate/approve always answers 200, /gate/halt 403.
type Server struct {
	ctx   context.Context // of the loads
	proxy func(*http.Request) (*url.URL, error)
	send  func(context.Context, Spec, func(Result)) (Report, error) // Run
	log   *slog.Logger
	mux   *http.ServeMux
	gates gates

	loads   sync.WaitGroup
	mu      sync.Mutex
	running map[task]time.Time // when they were asked for last
}

// task identifies a load.
type task struct{ namespace, name, command string }

// NewServer makes a Server whose loads are sent through proxy (as in
// http.Transport; nil is none) and end when ctx ends.
func NewServer(ctx context.Context, proxy func(*http.Request) (*url.URL, error), log *slog.Logger) *Server {
	s := &Server{ctx: ctx, proxy: proxy, send: Run, log: log, mux: http.NewServeMux(), running: map[task]time.Time{}}
	s.mux.HandleFunc("POST /{$}", s.start)
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "OK")
	})
	s.gates.handle(s.mux)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Wait returns when no load runs any more.
func (s *Server) Wait() { s.loads.Wait() }

func (s *Server) start(w http.ResponseWriter, r *http.Request) {
	t, spec, err := readTask(http.MaxBytesReader(w, r.Body, maxPayload))
	if err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	if spec.Proxy == nil {
		spec.Proxy = s.proxy
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, runs := s.running[t]
	switch {
	case s.ctx.Err() != nil:
		answer(w, http.StatusServiceUnavailable, "the load generator is stopping")
	case runs:
		s.running[t] = time.Now()
		answer(w, http.StatusAccepted, "this load is running already")
	case len(s.running) >= maxRunning:
		answer(w, http.StatusTooManyRequests, fmt.Sprintf("%d loads are running, which is all there may be: wait for one to end", maxRunning))
	default:
		s.running[t] = time.Now()
		s.loads.Go(func() { s.run(t, spec) })
		answer(w, http.StatusAccepted, "started")
	}
}

func (s *Server) run(t task, spec Spec) {
	log := s.log.With("canary", t.name+"."+t.namespace, "cmd", t.command)
	log.Info("load started")
	ctx, cancel := context.WithTimeout(s.ctx, longestLoad)
	defer cancel()
	for again := true; again; {
		report, err := s.send(ctx, spec, nil)
		if err != nil {
			log.Error("load failed", "error", err.Error())
		} else {
			log.Info("load ended", "report", report.String())
		}
		spec.Duration, again = s.ended(t, spec.Duration, err == nil && ctx.Err() == nil)
	}
}

// ended says for how long a load that was asked for again while it ran goes
// on; otherwise it forgets the load.
func (s *Server) ended(t task, duration time.Duration, more bool) (left time.Duration, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if more && duration > 0 {
		left = duration - time.Since(s.running[t])
	}
	if left <= 0 {
		delete(s.running, t)
		return 0, false
	}
	return left, true
}

// readTask decodes a webhook's payload, and says what to change in it.
func readTask(body io.Reader) (task, Spec, error) {
	var payload struct {
		Name, Namespace string
		Metadata        struct{ Type, Cmd string }
	}
	if err := json.NewDecoder(body).Decode(&payload); err != nil {
		return task{}, Spec{}, fmt.Errorf("the body must be a webhook's JSON with name, namespace and metadata: %w", err)
	}
	m := payload.Metadata
	if m.Type != "" && m.Type != "cmd" {
		return task{}, Spec{}, fmt.Errorf("metadata.type %q is not supported: leave it out, and give a hey command as metadata.cmd", m.Type)
	}
	if m.Cmd == "" {
		return task{}, Spec{}, fmt.Errorf("metadata.cmd is missing: set it to a command such as hey -z 1m -q 10 -c 2 http://host:port/path")
	}
	spec, err := ParseHey(m.Cmd)
	if err != nil {
		return task{}, Spec{}, fmt.Errorf("metadata.cmd: %w", err)
	}
	return task{payload.Namespace, payload.Name, m.Cmd}, spec, nil
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	// An error here is the caller's having gone away: nothing to do about it.
	fmt.Fprintln(w, text)
}
