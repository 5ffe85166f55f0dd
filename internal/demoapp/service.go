package demoapp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	versionHeader = "X-App-Version"
	maxBody       = 4 << 10 // of a request
	maxAnswer     = 1 << 20 // of an upstream: more than a full table of the largest records
)

// propagated headers are copied from a request to the calls made for it, so
// that traces and routing rules span several hops.
var propagated = [...]string{
	"X-Request-Id",
	"Traceparent", "Tracestate", "Baggage", // W3C
	"B3", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Parentspanid", "X-B3-Sampled", "X-B3-Flags",
	"X-Amzn-Trace-Id",
	"End-User", "Cookie", "Authorization", "User-Agent", // what routes are matched on
}

// config is an application's settings from its environment.
type config struct {
	pod          string
	version      string
	percentError float64
	delay        time.Duration
	seed         uint64
	upstreams    map[string]string // base address by name, without "/" at the end
}

func readConfig(a app, getenv func(string) string) (config, error) {
	c := config{pod: getenv("POD_NAME"), version: getenv("SERIN_VERSION"), seed: rand.Uint64(), upstreams: map[string]string{}}
	if c.version == "" {
		c.version = "v1"
	}
	if s := getenv("PERCENT_ERROR"); s != "" {
		p, err := strconv.ParseFloat(s, 64)
		if err != nil || !(p >= 0 && p <= 100) {
			return config{}, fmt.Errorf("PERCENT_ERROR=%s: want a number from 0 to 100", s)
		}
		c.percentError = p
	}
	if s := getenv("DELAY"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return config{}, fmt.Errorf("DELAY=%s: want a duration such as 50ms", s)
		}
		c.delay = d
	}
	if s := getenv("SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return config{}, fmt.Errorf("SEED=%s: want a whole number from 0", s)
		}
		c.seed = n
	}
	for name, address := range a.calls {
		key := strings.ToUpper(name) + "_URL"
		if s := getenv(key); s != "" {
			u, err := url.Parse(s)
			if err != nil || u.Scheme != "http" || u.Host == "" {
				return config{}, fmt.Errorf("%s=%s: want an address such as %s", key, s, address)
			}
			address = strings.TrimSuffix(s, "/")
		}
		c.upstreams[name] = address
	}
	return c, nil
}

// service is a running application.
type service struct {
	config
	client *http.Client
	log    *slog.Logger

	mu      sync.Mutex
	draws   *rand.Rand
	answers map[int]int // by status code
}

// newHandler makes the application's HTTP side: its routes, GET /healthz, GET
// /metrics and the request log.
func newHandler(a app, cfg config, transport http.RoundTripper, log *slog.Logger) http.Handler {
	s := &service{
		config: cfg,
		client: &http.Client{Transport: transport},
		log:    log,
		draws:  rand.New(rand.NewPCG(cfg.seed, 0)),

		answers: map[int]int{},
	}
	mux := http.NewServeMux()
	a.routes(s, mux)
	health := http.NewServeMux() // outside of the log: probes would fill it
	health.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		s.reply(w, http.StatusOK, record{"status": "ok"})
	})
	health.HandleFunc("GET /metrics", s.metrics)
	health.Handle("/", s.logged(mux))
	return health
}

// record is a JSON object.
type record map[string]any

// failure is an error with the status code that the caller gets.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(code int, format string, args ...any) error {
	return &failure{code, fmt.Errorf(format, args...)}
}

// handle makes a handler of a function that returns what to answer. The status
// code is 200 (201 for a POST), or a failure's, or 500.
func (s *service) handle(f func(*http.Request) (record, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := f(r)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		code := http.StatusOK
		if r.Method == http.MethodPost {
			code = http.StatusCreated
		}
		s.reply(w, code, body)
	}
}

// read is handle for reads: each takes DELAY longer, and PERCENT_ERROR fail.
func (s *service) read(f func(*http.Request) (record, error)) http.HandlerFunc {
	return s.handle(func(r *http.Request) (record, error) {
		select {
		case <-time.After(s.delay):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
		if err := s.luck(r); err != nil {
			return nil, err
		}
		return f(r)
	})
}

// luck is an error for PERCENT_ERROR of its calls.
func (s *service) luck(r *http.Request) error {
	s.mu.Lock()
	unlucky := s.draws.Float64()*100 < s.percentError
	s.mu.Unlock()
	if !unlucky {
		return nil
	}
	s.log.Error("read broke", "request_id", r.Header.Get("X-Request-Id"),
		"error", fmt.Sprintf("drawn to fail by PERCENT_ERROR=%v", s.percentError), "stack", string(debug.Stack()))
	return errors.New("internal error while reading")
}

// refuse answers with the status code of a failure, or 500.
func (s *service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	code := http.StatusInternalServerError
	if f, ok := errors.AsType[*failure](err); ok {
		code = f.code
	}
	s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "code", code,
		"request_id", r.Header.Get("X-Request-Id"), "error", err.Error())
	s.reply(w, code, record{"error": err.Error()})
}

// reply writes body with the service's version added, in JSON and as a header.
func (s *service) reply(w http.ResponseWriter, code int, body record) {
	answer := record{"version": s.version}
	for k, v := range body {
		answer[k] = v
	}
	s.write(w, code, "application/json", marshal(answer))
}

func marshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("demoapp: an answer must marshal: " + err.Error())
	}
	return append(data, '\n')
}

// write answers with data and the service's version as a header.
func (s *service) write(w http.ResponseWriter, code int, contentType string, data []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set(versionHeader, s.version)
	w.WriteHeader(code)
	if _, err := w.Write(data); err != nil {
		s.log.Warn("caller went away", "error", err.Error())
	}
}

// call asks an upstream on behalf of r and returns its answer. The upstream's
// refusals (4xx) keep their code; anything else that goes wrong is a 502.
func (s *service) call(ctx context.Context, r *http.Request, method, upstream, path string, body record) (record, error) {
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("call %s: %w", upstream, err)
		}
		payload = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.upstreams[upstream]+path, payload)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", upstream, err)
	}
	for _, h := range propagated {
		if v := r.Header.Values(h); len(v) > 0 {
			req.Header[h] = v
		}
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fail(http.StatusBadGateway, "call %s: %w", upstream, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fail(http.StatusBadGateway, "call %s: read answer: %w", upstream, err)
	}
	var answer record
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, fail(http.StatusBadGateway, "call %s: status %d with a body that is not a JSON object", upstream, resp.StatusCode)
	}
	delete(answer, "version") // the upstream's, not ours
	switch {
	case resp.StatusCode < 300:
		return answer, nil
	case resp.StatusCode >= 400 && resp.StatusCode < 500:
		return nil, fail(resp.StatusCode, "%v", answer["error"])
	default:
		return nil, fail(http.StatusBadGateway, "call %s: status %d: %v", upstream, resp.StatusCode, answer["error"])
	}
}

// decode reads a JSON object from a request's body.
func decode(r *http.Request) (record, error) {
	data, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return nil, fail(http.StatusBadRequest, "read body: %w", err)
	}
	var body record
	if err := json.Unmarshal(data, &body); err != nil || body == nil {
		return nil, fail(http.StatusBadRequest, "the body must be a JSON object, such as {\"title\": \"…\"}")
	}
	return body, nil
}

// metrics shows the answers so far in Prometheus' text format.
func (s *service) metrics(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintln(w, "# HELP http_requests_total Requests answered.\n# TYPE http_requests_total counter")
	for _, code := range slices.Sorted(maps.Keys(s.answers)) {
		fmt.Fprintf(w, "http_requests_total{code=\"%d\"} %d\n", code, s.answers[code])
	}
}

// logged writes one line per request, and counts it.
func (s *service) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		sw := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(sw, r)
		s.mu.Lock()
		s.answers[sw.code]++
		s.mu.Unlock()
		s.log.Info("request", "method", r.Method, "path", r.URL.Path, "code", sw.code,
			"duration_ms", float64(time.Since(start).Microseconds())/1000,
			"request_id", r.Header.Get("X-Request-Id"), "traceparent", r.Header.Get("Traceparent"))
	})
}

type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}
