package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/kube"
)

// Two pods of one Deployment that show what a test lets them; the value of a
// pod that is down is an error.
type shop struct {
	server *httptest.Server
	shows  map[string]string // by pod
	now    time.Time
}

func newShop(t *testing.T) *shop {
	s := &shop{shows: map[string]string{}, now: time.Unix(1000, 0)}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := s.shows[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, text)
	}))
	t.Cleanup(s.server.Close)
	return s
}

// RoundTrip sends what is meant for a pod to the test's server, which knows the
// pod by its path.
func (s *shop) RoundTrip(r *http.Request) (*http.Response, error) {
	pod, _, _ := strings.Cut(r.URL.Host, ":")
	return s.server.Client().Get(s.server.URL + "/" + pod)
}

func (s *shop) meter(spec v1alpha1.Scrape, pods ...string) *scrapeMeter {
	m := newScrapeMeter(func(string) ([]kube.Pod, error) {
		var out []kube.Pod
		for _, name := range pods {
			out = append(out, kube.NewPod(name, name))
		}
		return out, nil
	}, &spec, nil)
	m.client, m.now = &http.Client{Transport: s}, func() time.Time { return s.now }
	return m
}

func TestScrapes(t *testing.T) {
	counters := func(failed, total int) string {
		return fmt.Sprintf("# TYPE orders_total counter\norders_total{state=\"failed\"} %d\norders_total{state=\"paid\"} %d\n", failed, total-failed)
	}
	failed := v1alpha1.Scrape{Name: "orders_total", Labels: map[string]string{"state": "failed"}, Port: 80}
	perOrder := failed
	perOrder.Per = "orders_total"
	type look struct {
		a, b string // what the pods show; "" = down
		want string // value, "none" or the end of an error
	}
	for name, tc := range map[string]struct {
		spec  v1alpha1.Scrape
		looks []look // ten seconds apart
	}{
		"growth per second and pod": {failed, []look{
			{counters(5, 100), counters(7, 200), "none"},
			{counters(15, 150), counters(17, 250), "1"},
			{counters(3, 3), counters(17, 260), "0.15"}, // one began anew
		}},
		"growth per order": {perOrder, []look{
			{counters(5, 100), counters(7, 200), "none"},
			{counters(15, 150), counters(17, 250), "0.2"},
			{counters(15, 150), counters(17, 250), "none"}, // no orders
		}},
		"a counter that has not counted yet": {perOrder, []look{
			{"orders_total{state=\"paid\"} 10\n", "orders_total{state=\"paid\"} 10\n", "none"},
			{"orders_total{state=\"paid\"} 20\n", counters(5, 30), "0.16666666666666666"},
		}},
		"a gauge is the mean": {v1alpha1.Scrape{Name: "queue", Port: 80}, []look{
			{"# TYPE queue gauge\nqueue 4\n", "# TYPE queue gauge\nqueue 8\n", "6"},
			{"# TYPE queue gauge\nqueue 4\n", "", "4"}, // one pod ends
			{"", "", "503 Service Unavailable"},
			{"other 1\n", "other 1\n", "none"},
		}},
		"a gauge that one pod does not know": {v1alpha1.Scrape{Name: "queue", Port: 80}, []look{
			{"# TYPE queue gauge\nqueue NaN\n", "# TYPE queue gauge\nqueue 8\n", "8"},
			{"# TYPE queue gauge\nqueue NaN\n", "# TYPE queue gauge\nqueue NaN\n", "none"},
			{"# TYPE queue gauge\nqueue +Inf\n", "# TYPE queue gauge\nqueue 8\n", "+Inf"},
			{"# TYPE queue gauge\nqueue +Inf\n", "# TYPE queue gauge\nqueue -Inf\n", "none"},
		}},
		"a counter that is no number": {v1alpha1.Scrape{Name: "paid_total", Per: "orders_total", Port: 80}, []look{
			{"orders_total 10\npaid_total 5\n", "orders_total 10\npaid_total NaN\n", "none"},
			{"orders_total 20\npaid_total 9\n", "orders_total 30\npaid_total NaN\n", "0.4"},
			{"orders_total 20\npaid_total +Inf\n", "orders_total 30\npaid_total NaN\n", "none"},
			{"orders_total 30\npaid_total +Inf\n", "orders_total 30\npaid_total NaN\n", "none"},
		}},
		"a gauge cannot be divided by": {v1alpha1.Scrape{Name: "orders_total", Per: "queue", Port: 80}, []look{
			{"orders_total 1\n# TYPE queue gauge\nqueue 4\n", "orders_total 1\n# TYPE queue gauge\nqueue 4\n", "orders_total and queue must both be counters to divide the one by the other"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			m := s.meter(tc.spec, "a", "b")
			for i, look := range tc.looks {
				for pod, text := range map[string]string{"a": look.a, "b": look.b} {
					if s.shows[pod] = text; text == "" {
						delete(s.shows, pod)
					}
				}
				value, ok, err := m.measure(t.Context(), "shop")
				got := "none"
				if ok {
					got = fmt.Sprint(value)
				}
				if err != nil {
					got = err.Error()
				}
				if got != look.want && (err == nil || !strings.HasSuffix(got, look.want)) {
					t.Errorf("look %d: got %s, want %s", i, got, look.want)
				}
				s.now = s.now.Add(10 * time.Second)
			}
		})
	}
}

// What a meter remembers passes to the next one of the same check.
func TestAScrapeGoesOnWithTheNextMeter(t *testing.T) {
	s := newShop(t)
	spec := v1alpha1.Scrape{Name: "orders_total", Port: 80}
	first := s.meter(spec, "a")
	s.shows["a"] = "orders_total 5\n"
	first.begin(t.Context(), []string{"shop"})
	s.now = s.now.Add(5 * time.Second)
	s.shows["a"] = "orders_total 15\n"
	next := newScrapeMeter(first.pods, &spec, first)
	next.client, next.now = first.client, first.now
	if value, ok, err := next.measure(t.Context(), "shop"); value != 2 || !ok || err != nil {
		t.Errorf("got %v, %v, %v", value, ok, err)
	}
}

func TestUsageIsThatOfAPodOnAverage(t *testing.T) {
	usage := map[string]kube.Usage{"a": {Millicores: 100, MiB: 30}, "b": {Millicores: 300, MiB: 50}}
	var failure error
	meter := func(metric string) usageMeter {
		return usageMeter{metric,
			func(string) ([]kube.Pod, error) {
				a, b := kube.NewPod("a", "a"), kube.NewPod("b", "b")
				a.Restarts, b.Restarts = 1, 2
				return []kube.Pod{a, b}, nil
			},
			func(context.Context, string) (map[string]kube.Usage, error) { return usage, failure },
		}
	}
	for metric, want := range map[string]float64{"cpu": 200, "memory": 40, "restarts": 3} {
		if got, ok, err := meter(metric).measure(t.Context(), "music"); got != want || !ok || err != nil {
			t.Errorf("%s: got %v, %v, %v, want %v", metric, got, ok, err, want)
		}
	}
	usage = nil
	if _, ok, err := meter("cpu").measure(t.Context(), "music"); ok || err != nil {
		t.Errorf("a usage that nobody knows is %v, %v", ok, err)
	}
	failure = errors.New("metrics.k8s.io is not served here")
	if _, ok, err := meter("memory").measure(t.Context(), "music"); ok || !errors.Is(err, failure) {
		t.Errorf("got %v, %v", ok, err)
	}
}
