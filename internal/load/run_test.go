package load

import (
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/test/ports"
)

// server is a fake one that takes its time and always answers 200.
type server struct {
	takes func(n int) time.Duration // to answer the n-th request; nil: none

	mu         sync.Mutex
	first      time.Time
	started    []time.Duration // when requests arrived, since the first
	open, most int             // requests under way, now and at once
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	n := s.enter()
	defer s.leave()
	if s.takes != nil {
		select {
		case <-time.After(s.takes(n)):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
}

func (s *server) enter() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.IsZero() {
		s.first = time.Now()
	}
	s.started = append(s.started, time.Since(s.first))
	s.open++
	s.most = max(s.most, s.open)
	return len(s.started) - 1
}

func (s *server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

// play runs a Spec against a fake server.
func play(t *testing.T, ctx context.Context, spec Spec, s *server) Report {
	t.Helper()
	spec.URLs = []string{"http://test"}
	spec, err := spec.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	report, err := newRunner(spec, s, nil).run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestRequestsStartWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		report := play(t, t.Context(), Spec{Rate: 5, Duration: time.Second}, s)
		want := []time.Duration{0, 200e6, 400e6, 600e6, 800e6}
		if diff := cmp.Diff(want, s.started); diff != "" {
			t.Errorf("5 requests per second for 1 s (-want +got):\n%s", diff)
		}
		if report.Requests != 5 || report.Codes[200] != 5 || report.Unsent != 0 || report.Elapsed != time.Second {
			t.Errorf("report %v; want 5 × 200 in 1s", report)
		}
	})
}

func TestTwoThousandPerSecondAreTwoThousand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		if report := play(t, t.Context(), Spec{Rate: 2000, Duration: 30 * time.Second}, s); report.Requests != 60_000 {
			t.Errorf("%d requests; want 60000", report.Requests)
		}
	})
}

func TestSlowAnswersDoNotSlowTheRequestsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{takes: func(int) time.Duration { return 3 * time.Second }}
		report := play(t, t.Context(), Spec{Rate: 10, Duration: 2 * time.Second}, s)
		if got := s.started[len(s.started)-1]; got != 1900*time.Millisecond || s.most != 20 {
			t.Errorf("last request at %v, %d under way at once; want 1.9s, 20", got, s.most)
		}
		if report.Latency.P50 != 3*time.Second || report.Elapsed != 4900*time.Millisecond {
			t.Errorf("p50 %v, elapsed %v; want 3s, 4.9s: the run waits for its answers", report.Latency.P50, report.Elapsed)
		}
	})
}

// One request of 1 s behind one slot: those due in the meantime waited for up
// to 1 s, and their latencies say so.
func TestWaitingForASlotCountsAsLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{takes: func(n int) time.Duration {
			if n == 0 {
				return time.Second
			}
			return time.Microsecond
		}}
		report := play(t, t.Context(), Spec{Rate: 10, Count: 20, Concurrency: 1}, s)
		if s.most != 1 {
			t.Errorf("%d requests under way at once; want 1", s.most)
		}
		// Latencies: 1 s, then 0.9 s, 0.8 s … 0.1 s, then ten short ones.
		if got, want := report.Latency.Mean, 275*time.Millisecond; got < want || got > want+time.Millisecond {
			t.Errorf("mean %v; want %v: the sum of the waits", got, want)
		}
		if got := report.Latency.P90; got < 800*time.Millisecond || got > 810*time.Millisecond {
			t.Errorf("p90 %v; want about 0.8s", got)
		}
	})
}

func TestWhatFoundNoSlotInTimeIsUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{takes: func(int) time.Duration { return time.Minute }}
		report := play(t, t.Context(), Spec{Rate: 10, Duration: 2 * time.Second, Concurrency: 3, Timeout: 5 * time.Second}, s)
		if report.Requests != 3 || report.Errors["timeout"] != 3 || report.Unsent != 17 {
			t.Errorf("report %v; want 3 × timeout, 17 not sent in time", report)
		}
	})
}

func TestClosedLoopKeepsTheSlotsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{takes: func(int) time.Duration { return 100 * time.Millisecond }}
		report := play(t, t.Context(), Spec{Duration: time.Second, Concurrency: 1}, s)
		if report.Requests != 10 || report.Unsent != 0 {
			t.Errorf("report %v; want 10 requests, each after the one before", report)
		}
		if report.Latency.Max != 100*time.Millisecond {
			t.Errorf("max %v; want 100ms: a closed loop does not wait", report.Latency.Max)
		}
	})
}

func TestEndOfContextEndsTheRunAndDropsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1050*time.Millisecond)
		defer cancel()
		s := &server{takes: func(n int) time.Duration {
			if n == 9 {
				return time.Minute
			}
			return time.Millisecond
		}}
		report := play(t, ctx, Spec{Rate: 10}, s)
		if len(s.started) != 11 || report.Requests != 10 || len(report.Errors) != 0 {
			t.Errorf("%d started, report %v; want 11 started, 10 × 200 and no error", len(s.started), report)
		}
	})
}

func TestPoissonArrivalsAreIndependentAndRepeatable(t *testing.T) {
	gaps := func(seed uint64) []float64 {
		due := arrivals(Spec{Rate: 100, Arrivals: Poisson, Seed: seed}, time.Unix(0, 0))
		last := time.Unix(0, 0)
		var out []float64
		for range 20_000 {
			at := due()
			out = append(out, at.Sub(last).Seconds())
			last = at
		}
		return out
	}
	got := gaps(7)
	var sum, squares float64
	for _, g := range got {
		sum += g
		squares += g * g
	}
	n := float64(len(got))
	mean := sum / n
	deviation := math.Sqrt(squares/n - mean*mean)
	// Gaps of a Poisson process have mean and deviation 1/rate; of 20,000
	// of them the mean is off by 0.7 %, the deviation by 1 %.
	if math.Abs(mean-0.01) > 0.0003 || math.Abs(deviation-0.01) > 0.0005 {
		t.Errorf("gaps have mean %.5f s and deviation %.5f s; want 0.01 for both", mean, deviation)
	}
	if !slices.Equal(got, gaps(7)) || slices.Equal(got, gaps(8)) {
		t.Error("a seed must give the same arrivals again, another seed others")
	}
}

func TestRequestsCarryWhatTheSpecSays(t *testing.T) {
	type seen struct{ Method, Host, Path, User, Body string }
	var got []seen
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = append(got, seen{r.Method, r.Host, r.URL.Path, r.Header.Get("End-User"), string(body)})
		w.Header().Set("X-App-Version", "v7")
		if r.URL.Path == "/b" {
			w.WriteHeader(503)
		}
	}))
	defer web.Close()
	var versions []string
	report, err := Run(t.Context(), Spec{
		URLs: []string{web.URL + "/a", web.URL + "/b"}, Method: "POST", Host: "shop.example",
		Header: http.Header{"end-user": {"jason"}}, Body: []byte("hello"), Count: 3, Concurrency: 1,
	}, func(res Result) { versions = append(versions, res.Header.Get("X-App-Version")) })
	if err != nil {
		t.Fatal(err)
	}
	want := []seen{
		{"POST", "shop.example", "/a", "jason", "hello"},
		{"POST", "shop.example", "/b", "jason", "hello"},
		{"POST", "shop.example", "/a", "jason", "hello"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if !maps.Equal(report.Codes, map[int]int64{200: 2, 503: 1}) || report.Failed() != 1 {
		t.Errorf("report %v; want 2 × 200, 1 × 503", report)
	}
	if diff := cmp.Diff([]string{"v7", "v7", "v7"}, versions); diff != "" {
		t.Errorf("versions seen by onResult (-want +got):\n%s", diff)
	}
}

func TestErrorsAreCountedByKind(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if r.URL.Path == "/half" {
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"); err != nil {
				t.Error(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}))
	defer web.Close()
	nobody := "http://" + ports.Reserve(t)
	report, err := Run(t.Context(), Spec{URLs: []string{web.URL, web.URL + "/half", nobody}, Count: 3, Concurrency: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"connection closed early": 2, "connection refused": 1}
	if diff := cmp.Diff(want, report.Errors); diff != "" || len(report.Codes) != 0 {
		t.Errorf("errors (-want +got), codes %v:\n%s", report.Codes, diff)
	}
}

func TestProxyIsAskedForTheURL(t *testing.T) {
	var asked string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = r.URL.String() }))
	defer proxy.Close()
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	spec := Spec{URLs: []string{"http://reviews-canary.default:9080/health"}, Count: 1, Proxy: http.ProxyURL(address)}
	if _, err := Run(t.Context(), spec, nil); err != nil {
		t.Fatal(err)
	}
	if want := spec.URLs[0]; asked != want {
		t.Errorf("the proxy was asked for %q; want %q", asked, want)
	}
}

func TestBadSpecSaysWhatToChange(t *testing.T) {
	ok := []string{"http://test"}
	for want, spec := range map[string]Spec{
		"load: no URL: give at least one":                                                     {},
		"load: rate -1: want 0 to 1000000 requests per second":                                {URLs: ok, Rate: -1},
		"load: rate NaN: want 0 to 1000000 requests per second":                               {URLs: ok, Rate: math.NaN()},
		"load: concurrency 20000: want 1 to 10000":                                            {URLs: ok, Concurrency: 20_000},
		"load: count -1: want 0 or more":                                                      {URLs: ok, Count: -1},
		"load: duration -1s: want 0 or more":                                                  {URLs: ok, Duration: -time.Second},
		"load: timeout -1s: want more than 0":                                                 {URLs: ok, Timeout: -time.Second},
		`load: URL "music:30001": want one such as http://music.default:30001/api/v1/music/1`: {URLs: []string{"music:30001"}},
		`load: URL "http://a b/": parse "http://a b/": invalid character " " in host name`:    {URLs: []string{"http://a b/"}},
		`load: net/http: invalid method "GET /"`:                                              {URLs: ok, Method: "GET /"},
	} {
		if _, err := Run(t.Context(), spec, nil); err == nil || err.Error() != want {
			t.Errorf("Run: %v\nwant %s", err, want)
		}
	}
}

func TestQuantilesAreCloseToTheTrueOnes(t *testing.T) {
	draws := rand.New(rand.NewPCG(1, 2))
	var h histogram
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(math.Exp(draws.NormFloat64()*3) * float64(time.Millisecond))
		all = append(all, d)
		h.add(d)
	}
	slices.Sort(all)
	for _, q := range []float64{0.0001, 0.1, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[int(math.Ceil(q*float64(len(all))))-1]
		got := h.quantile(q)
		if got < want || float64(got-want) > float64(want)/128+float64(time.Microsecond) {
			t.Errorf("quantile %v: %v; want %v to 0.8 %% more", q, got, want)
		}
	}
	if got := (&histogram{}).quantiles(); got != (Quantiles{}) {
		t.Errorf("quantiles of nothing: %v; want zeros", got)
	}
}

func TestBucketsJoinWithoutGaps(t *testing.T) {
	for b := range buckets - 1 {
		top := topOf(b)
		if got := bucketOf(uint64(top.Microseconds())); got != b {
			t.Fatalf("top of bucket %d, %v, lies in bucket %d", b, top, got)
		}
		if got := bucketOf(uint64(top.Microseconds()) + 1); got != b+1 {
			t.Fatalf("1 µs above bucket %d lies in bucket %d; want the next", b, got)
		}
	}
	var h histogram
	h.add(-time.Second)
	h.add(100 * time.Hour)
	if h.n != 2 || h.max != maxDuration {
		t.Errorf("durations out of range: n %d, max %v; want 2, %v", h.n, h.max, maxDuration)
	}
}

func TestReportReads(t *testing.T) {
	r := Report{
		Requests: 10, Codes: map[int]int64{500: 3, 200: 6}, Errors: map[string]int64{"timeout": 1}, Unsent: 2, Elapsed: 2 * time.Second,
		Latency: Quantiles{Mean: 3 * time.Millisecond, P50: 1234567, P90: 2 * time.Millisecond, P95: 2 * time.Millisecond, P99: 5 * time.Second, Max: 5 * time.Second},
	}
	want := "10 requests in 2s (5.0/s): 6 × 200, 3 × 500, 1 × timeout, 2 not sent in time, p50 1.23ms, p90 2ms, p99 5s, max 5s"
	if got := r.String(); got != want {
		t.Errorf("String: %s\nwant %s", got, want)
	}
	data, err := r.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	want = `{"requests":10,"failed":4,"codes":{"200":6,"500":3},"errors":{"timeout":1},"unsent":2,"elapsedMillis":2000,"rate":5,` +
		`"latencyMillis":{"mean":3,"p50":1.234,"p90":2,"p95":2,"p99":5000,"max":5000}}`
	if string(data) != want {
		t.Errorf("JSON: %s\nwant %s", data, want)
	}
	if got := (Report{}).String(); strings.Contains(got, "NaN") || !strings.HasPrefix(got, "0 requests") {
		t.Errorf("empty report: %s", got)
	}
}

func TestUnknownErrorsHaveAKindToo(t *testing.T) {
	for kind, err := range map[string]error{
		"other error":  errors.New("odd"),
		"unknown host": &url.Error{Op: "Get", URL: "http://x", Err: &net.DNSError{Err: "no such host", IsNotFound: true}},
		"timeout":      &url.Error{Op: "Get", URL: "http://x", Err: context.DeadlineExceeded},
	} {
		if got := errorKind(err); got != kind {
			t.Errorf("errorKind(%v) = %q; want %q", err, got, kind)
		}
	}
}

// BenchmarkRun sends b.N requests as fast as it can over real connections; the
// server's work is in the figure too.
func BenchmarkRun(b *testing.B) {
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer web.Close()
	b.ReportAllocs()
	if _, err := Run(b.Context(), Spec{URLs: []string{web.URL}, Count: b.N, Concurrency: 8}, nil); err != nil {
		b.Fatal(err)
	}
}

func TestURLsAtRandomAreDrawnByAnEvenChance(t *testing.T) {
	draw := func(seed uint64) (out []int) {
		which := order(Spec{URLs: []string{"a", "b"}, AtRandom: true, Seed: seed})
		for n := range 10_000 {
			out = append(out, which(n))
		}
		return out
	}
	got, ones, same := draw(7), 0, 0
	for n, url := range got {
		ones += url
		if n > 0 && got[n-1] == url {
			same++
		}
	}
	// The deviation is 50 of 5,000, for either number.
	if math.Abs(float64(ones-5000)) > 200 || math.Abs(float64(same-5000)) > 200 {
		t.Errorf("%d of 10,000 are for the second URL, %d for the one before; want 5,000 ± 200 each", ones, same)
	}
	if !slices.Equal(got, draw(7)) || slices.Equal(got, draw(8)) {
		t.Error("a seed must give the same order again, another seed others")
	}
	if which := order(Spec{URLs: []string{"a", "b", "c"}}); which(3) != 0 || which(4) != 1 {
		t.Error("otherwise they are asked in turn")
	}
}
