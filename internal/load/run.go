package load

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Result is one request that ended.
type Result struct {
	URL   string
	Begin time.Time // when it was due
	// Duration from Begin to the last byte of the answer, or to the error.
	Duration time.Duration
	Code     int         // 0 without an answer
	Header   http.Header // of the answer
	Err      error
}

// Run sends requests until the Spec's limits are reached or ctx ends, and
// waits for the answers; the end of ctx breaks requests under way off, which
// then do not count. Both ends are no error: an error is a Spec that cannot be
// run. onResult may be nil; it is called once per request, by one goroutine at
// a time, and must return quickly.
func Run(ctx context.Context, spec Spec, onResult func(Result)) (Report, error) {
	spec, err := spec.withDefaults()
	if err != nil {
		return Report{}, fmt.Errorf("load: %w", err)
	}
	transport := &http.Transport{
		Proxy:               spec.Proxy,
		MaxIdleConns:        spec.Concurrency,
		MaxIdleConnsPerHost: spec.Concurrency,
		DisableKeepAlives:   spec.DisableKeepAlive,
		DisableCompression:  spec.DisableCompression,
	}
	defer transport.CloseIdleConnections()
	return newRunner(spec, transport, onResult).run(ctx)
}

// runner is one run.
type runner struct {
	spec     Spec
	client   *http.Client
	requests []*http.Request // one per URL, to be cloned
	onResult func(Result)

	mu     sync.Mutex
	report Report
	hist   histogram
}

func newRunner(spec Spec, transport http.RoundTripper, onResult func(Result)) *runner {
	r := &runner{
		spec:     spec,
		client:   &http.Client{Transport: transport, Timeout: spec.Timeout},
		onResult: onResult,
		report:   Report{Codes: map[int]int64{}, Errors: map[string]int64{}},
	}
	if spec.DisableRedirects {
		r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return r
}

func (r *runner) run(ctx context.Context) (Report, error) {
	for _, address := range r.spec.URLs {
		req, err := http.NewRequestWithContext(ctx, r.spec.Method, address, nil)
		if err != nil {
			return Report{}, fmt.Errorf("load: %w", err)
		}
		for k, v := range r.spec.Header {
			req.Header[http.CanonicalHeaderKey(k)] = v
		}
		req.Host = r.spec.Host
		r.requests = append(r.requests, req)
	}
	start := time.Now()
	r.pace(ctx, start)
	r.report.Elapsed = time.Since(start)
	r.report.Latency = r.hist.quantiles()
	return r.report, nil
}

// pace starts each request when it is due, and returns when all have ended.
func (r *runner) pace(ctx context.Context, start time.Time) {
	var underWay sync.WaitGroup
	defer underWay.Wait()
	slots := make(chan struct{}, r.spec.Concurrency)
	due := arrivals(r.spec, start)
	which := order(r.spec)
	end := endOf(r.spec, start)
	defer end.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C

	for n := 0; r.spec.Count == 0 || n < r.spec.Count; n++ {
		begin := due()
		if r.spec.Duration > 0 && begin.Sub(start) >= r.spec.Duration {
			select { // the run lasts as long as it is said to
			case <-end.C:
			case <-ctx.Done():
			}
			return
		}
		if wait := time.Until(begin); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
			begin = time.Now() // our timer's lateness is not the server's
		}
		if !take(ctx, slots, end.C) {
			if ctx.Err() == nil {
				r.report.Unsent = r.countUnsent(start, n, begin, due)
			}
			return
		}
		if r.spec.Rate == 0 {
			begin = time.Now() // it was due as soon as there was a slot
		}
		url := which(n)
		underWay.Go(func() {
			defer func() { <-slots }()
			r.send(ctx, url, begin)
		})
	}
}

// take waits for a slot, and reports whether it got one before the end.
func take(ctx context.Context, slots chan<- struct{}, end <-chan time.Time) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case slots <- struct{}{}: // a free slot wins over an end that is due as well
		return true
	default:
	}
	select {
	case slots <- struct{}{}:
		return true
	case <-end:
	case <-ctx.Done():
	}
	return false
}

// countUnsent counts the requests from the n-th on that were due before the
// end. A closed loop owes none.
func (r *runner) countUnsent(start time.Time, n int, begin time.Time, due func() time.Time) int64 {
	if r.spec.Rate == 0 {
		return 0
	}
	var unsent int64
	for begin.Sub(start) < r.spec.Duration && (r.spec.Count == 0 || n < r.spec.Count) {
		unsent++
		n++
		begin = due()
	}
	return unsent
}

// endOf is a timer that fires at the end of the Spec's duration; without one
// it never does.
func endOf(spec Spec, start time.Time) *time.Timer {
	if spec.Duration == 0 {
		t := time.NewTimer(time.Hour)
		t.Stop()
		return t
	}
	return time.NewTimer(time.Until(start.Add(spec.Duration)))
}

// arrivals returns a function that says when the next request is due.
func arrivals(spec Spec, start time.Time) func() time.Time {
	after := func(seconds float64) time.Time {
		return start.Add(time.Duration(seconds * float64(time.Second)))
	}
	switch {
	case spec.Rate == 0:
		return time.Now
	case spec.Arrivals == Poisson:
		draws := rand.New(rand.NewPCG(spec.Seed, 0))
		at := 0.0
		return func() time.Time {
			at += draws.ExpFloat64() / spec.Rate
			return after(at)
		}
	default:
		n := -1
		return func() time.Time {
			n++
			return after(float64(n) / spec.Rate)
		}
	}
}

// order returns a function that says which URL the n-th request is for.
func order(spec Spec) func(n int) int {
	urls := len(spec.URLs)
	if !spec.AtRandom {
		return func(n int) int { return n % urls }
	}
	draws := rand.New(rand.NewPCG(spec.Seed, 1))
	return func(int) int { return draws.IntN(urls) }
}

func (r *runner) send(ctx context.Context, which int, begin time.Time) {
	req := r.requests[which].Clone(ctx)
	if len(r.spec.Body) > 0 {
		req.ContentLength = int64(len(r.spec.Body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.spec.Body)), nil }
		req.Body = io.NopCloser(bytes.NewReader(r.spec.Body))
	}
	res := Result{URL: r.spec.URLs[which], Begin: begin}
	resp, err := r.client.Do(req)
	if err == nil {
		res.Code, res.Header = resp.StatusCode, resp.Header
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if err != nil {
		if ctx.Err() != nil {
			return // broken off by us, which says nothing about the server
		}
		res.Code, res.Err = 0, err
	}
	res.Duration = time.Since(begin)

	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.add(res)
	r.hist.add(res.Duration)
	if r.onResult != nil {
		r.onResult(res)
	}
}
