package proxy

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
)

// routedTo routes a host by one route to music.default.
func routedTo(host string, r mesh.Route) mesh.VirtualHost {
	if r.Redirect == nil && r.Direct == nil && r.Split == nil {
		r.Split = []mesh.Destination{{Service: "music.default"}}
	}
	return mesh.VirtualHost{Hosts: []string{host}, Routes: []mesh.Route{r}}
}

// failing answers with the statuses in turn, the last one ever after, and with
// the request's body.
func failing(calls *atomic.Int64, statuses ...int) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		n := int(calls.Add(1))
		body, err := io.ReadAll(q.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(statuses[min(n, len(statuses))-1])
		fmt.Fprintf(w, "%d bytes at try %d", len(body), n)
	}
}

func TestRoutesEditRequestsAndAnswers(t *testing.T) {
	r := newRig(t, Config{})
	path := "/v2/"
	seen := func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("X-Internal", "secret")
		fmt.Fprint(w, q.Host, " ", q.RequestURI, " ", q.Header.Get("X-Set"), " ", q.Header.Values("X-Add"), " ", q.Header.Get("X-Gone"), q.Header.Get("X-Request-Id") != "")
	}
	r.apply(service("music.default", r.app(seen)), routedTo("music.default", mesh.Route{
		Matches: []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Prefix, Value: "/api/"}}},
		Rewrite: &mesh.Rewrite{Path: &path, Authority: "inner.example"},
		Split: []mesh.Destination{{Service: "music.default", Headers: &mesh.HeaderEdits{
			Request: mesh.HeaderEdit{Add: []mesh.Header{{Name: "x-add", Value: "2"}}},
			Answer:  mesh.HeaderEdit{Set: []mesh.Header{{Name: "x-version", Value: "v1"}}},
		}}},
		Headers: &mesh.HeaderEdits{
			Request: mesh.HeaderEdit{Remove: []string{"x-gone"}, Set: []mesh.Header{{Name: "x-set", Value: "yes"}}, Add: []mesh.Header{{Name: "x-add", Value: "1"}}},
			Answer:  mesh.HeaderEdit{Remove: []string{"x-internal"}},
		},
	}))
	_, client := r.outbound()
	for range 2 { // the second time over a kept connection
		q, err := http.NewRequest("GET", "http://music/api/songs?n=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("X-Gone", "x")
		res, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if want := "inner.example /v2/songs?n=1 yes [1 2] true"; err != nil || string(body) != want {
			t.Errorf("the destination saw %q, %v; want %q", body, err, want)
		}
		if res.Header.Get("X-Version") != "v1" || res.Header.Get("X-Internal") != "" {
			t.Errorf("the caller saw %v", res.Header)
		}
		if got := r.recorded(); got.Path != "/api/songs" || got.Host != "music" {
			t.Errorf("recorded %s %s, want what was called", got.Host, got.Path)
		}
	}
}

func TestFailedTriesAreRepeatedAsTheRouteSays(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	on := func(attempts uint32, conditions mesh.RetryOn) *mesh.Retry {
		return &mesh.Retry{Attempts: attempts, On: conditions, Base: time.Millisecond}
	}
	tests := []struct {
		name     string
		retry    *mesh.Retry
		statuses []int
		body     string
		code     int
		answer   string
		flags    string
	}{
		{"until it is answered", on(3, mesh.Retry5xx), []int{503, 500, 200}, "hello", 200, "5 bytes at try 3", ""},
		{"no more often than allowed", on(1, mesh.Retry5xx), []int{503, 503, 200}, "hello", 503, "5 bytes at try 2", "URX"},
		{"only under its conditions", on(3, mesh.RetryGatewayError), []int{500, 200}, "", 500, "0 bytes at try 1", ""},
		{"for a status by name", &mesh.Retry{Attempts: 1, Codes: []int{418}, Base: time.Millisecond}, []int{418, 200}, "", 200, "0 bytes at try 2", ""},
		{"but not with a body that was too long to keep", on(3, mesh.Retry5xx), []int{503, 200}, long, 503, "102400 bytes at try 1", ""},
		{"by default not when there was an answer", nil, []int{503, 200}, "", 503, "0 bytes at try 1", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, Config{})
			var calls atomic.Int64
			r.apply(service("music.default", r.app(failing(&calls, test.statuses...))), routedTo("music.default", mesh.Route{Retry: test.retry}))
			_, client := r.outbound()
			res, err := client.Post("http://music/", "text/plain", strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			got := r.recorded()
			if err != nil || res.StatusCode != test.code || string(body) != test.answer || got.Flags != test.flags || int64(got.Attempts) != calls.Load() {
				t.Errorf("%d %q, %v, recorded %q after %d tries of %d; want %d %q, %q", res.StatusCode, body, err, got.Flags, got.Attempts, calls.Load(), test.code, test.answer, test.flags)
			}
		})
	}
}

func TestWithoutAWordAnotherEndpointIsTriedWhenOneCannotBeReached(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(service("music.default", "127.0.0.1:1", r.app(says("second"))))
	_, client := r.outbound()
	tries := map[int]int{}
	for range 40 {
		if code, body := r.get(client, "http://music/"); code != 200 || body != "second" {
			t.Fatalf("%d %q", code, body)
		}
		tries[int(r.recorded().Attempts)]++
	}
	if tries[1] == 0 || tries[2] == 0 || tries[1]+tries[2] != 40 {
		t.Errorf("requests by number of tries: %v, want some of 1 and of 2, and no others", tries)
	}
}

func TestTimeIsLimitedAsTheRouteSays(t *testing.T) {
	r := newRig(t, Config{})
	var calls atomic.Int64
	slowOnce := func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/retried" || calls.Add(1) == 1 {
			<-q.Context().Done() // the proxy lets go of it
			return
		}
		fmt.Fprint(w, "in time")
	}
	path := func(exact string, route mesh.Route) mesh.Route {
		route.Matches = []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Exact, Value: exact}}}
		route.Split = []mesh.Destination{{Service: "music.default"}}
		return route
	}
	r.apply(service("music.default", r.app(slowOnce)), mesh.VirtualHost{Hosts: []string{"music.default"}, Routes: []mesh.Route{
		path("/late", mesh.Route{Timeout: 20 * time.Millisecond}),
		path("/idle", mesh.Route{IdleTimeout: 20 * time.Millisecond}),
		path("/tries", mesh.Route{Retry: &mesh.Retry{Attempts: 1, On: mesh.RetryReset, PerTryTimeout: 20 * time.Millisecond, Base: time.Millisecond}}),
		path("/retried", mesh.Route{Timeout: time.Minute, Retry: &mesh.Retry{Attempts: 1, On: mesh.RetryReset, PerTryTimeout: unhurried, Base: time.Millisecond}}),
	}})
	_, client := r.outbound()
	for _, test := range []struct {
		path     string
		code     int
		flags    string
		attempts int
	}{
		{"/late", 504, "UT", 1},
		{"/idle", 504, "SI", 1},
		{"/tries", 504, "UT,URX", 2},
		{"/retried", 200, "", 2},
	} {
		code, body := r.get(client, "http://music"+test.path)
		if got := r.recorded(); code != test.code || got.Flags != test.flags || int(got.Attempts) != test.attempts {
			t.Errorf("%s: %d %q, recorded %q after %d tries; want %d, %q, %d", test.path, code, body, got.Flags, got.Attempts, test.code, test.flags, test.attempts)
		}
	}
}

func TestRequestsBeyondTheLimitAreTurnedAway(t *testing.T) {
	r := newRig(t, Config{})
	arrived, release := make(chan struct{}), make(chan struct{})
	music := service("music.default", r.app(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	music.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {Pool: mesh.Pool{MaxRequests: 1}}}
	r.apply(music)
	_, client := r.outbound()
	first := make(chan int)
	go func() {
		code, _ := r.get(client, "http://music/")
		first <- code
	}()
	<-arrived
	if code, body := r.get(client, "http://music/"); code != 503 || !strings.Contains(body, "UO") {
		t.Errorf("the second request: %d %q", code, body)
	}
	if got := r.recorded(); got.Flags != "UO" {
		t.Errorf("recorded %q, want UO", got.Flags)
	}
	release <- struct{}{}
	if code := <-first; code != 200 {
		t.Errorf("the first request: %d", code)
	}
	go func() { <-arrived; release <- struct{}{} }()
	if code, _ := r.get(client, "http://music/"); code != 200 {
		t.Errorf("when the first is over: %d", code)
	}
}

func TestEndpointsThatFailAreLeftOut(t *testing.T) {
	r := newRig(t, Config{})
	var good, bad atomic.Int64
	music := service("music.default", r.app(failing(&good, 200)), r.app(failing(&bad, 500)))
	music.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {
		Balancer: mesh.RoundRobin,
		Outlier:  &mesh.Outlier{Consecutive5xx: 3, MaxPercent: 50, BaseEjection: time.Hour},
	}}
	r.apply(music)
	_, client := r.outbound()
	for range 40 {
		r.get(client, "http://music/")
	}
	if good.Load() != 37 || bad.Load() != 3 {
		t.Errorf("answered %d by the good endpoint and %d by the bad one, want 37 and 3", good.Load(), bad.Load())
	}
}

func TestAnswersOfTheProxyItself(t *testing.T) {
	r := newRig(t, Config{})
	var calls atomic.Int64
	music := service("music.default", r.app(failing(&calls, 200)))
	host := func(name string, route mesh.Route) mesh.VirtualHost { return routedTo(name+".default", route) }
	r.apply(music,
		host("moved", mesh.Route{Redirect: &mesh.Redirect{Code: 308, Authority: "elsewhere.example"}}),
		host("fixed", mesh.Route{Direct: &mesh.DirectAnswer{Status: 418, Body: "short and stout"}}),
		host("broken", mesh.Route{Fault: &mesh.Fault{Abort: &mesh.Abort{Share: mesh.Everything, Status: 555}}}),
		host("late", mesh.Route{Fault: &mesh.Fault{Delay: &mesh.Delay{Share: mesh.Everything, Time: 30 * time.Millisecond}}}),
		host("rare", mesh.Route{RateLimit: &mesh.RateLimit{Burst: 1, Fill: 1, Per: time.Hour}}),
	)
	_, client := r.outbound()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, test := range []struct {
		host  string
		code  int
		flags string
	}{{"moved", 308, ""}, {"fixed", 418, ""}, {"broken", 555, "FI"}, {"late", 200, "DI"}, {"rare", 200, ""}, {"rare", 429, "RL"}} {
		code, body := r.get(client, "http://"+test.host+"/")
		got := r.recorded()
		if code != test.code || got.Flags != test.flags {
			t.Errorf("%s: %d %q, recorded %q; want %d, %q", test.host, code, body, got.Flags, test.code, test.flags)
		}
		// Both are counted from the turn of the loop in which the request was read.
		if test.host == "late" && got.Duration < 30*time.Millisecond {
			t.Errorf("late: answered after %v", got.Duration)
		}
	}
	if calls.Load() != 2 {
		t.Errorf("%d requests reached the service, want 2", calls.Load())
	}
}

// TestTheTimeOfATryDoesNotRunBetweenTries: the wait for the next one may be
// longer.
func TestTheTimeOfATryDoesNotRunBetweenTries(t *testing.T) {
	r := newRig(t, Config{Seed: 16}) // draws nearly the longest wait
	var calls atomic.Int64
	app := r.app(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(503)
		}
	})
	const try = unhurried
	r.apply(service("music.default", app), routedTo("music.default", mesh.Route{Retry: &mesh.Retry{Attempts: 1, On: mesh.Retry5xx, Base: try * 3 / 2, PerTryTimeout: try}}))
	_, client := r.outbound()
	begun := time.Now()
	if code, body := r.get(client, "http://music/"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	if got := r.recorded(); got.Flags != "" || got.Attempts != 2 || time.Since(begun) < try {
		t.Errorf("recorded %+v after %v", got, time.Since(begun))
	}
}

func TestABudgetBoundsRetries(t *testing.T) {
	r := newRig(t, Config{})
	var calls atomic.Int64
	music := service("music.default", r.app(failing(&calls, 503)))
	music.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {Pool: mesh.Pool{MaxRetries: 1}}}
	r.apply(music, routedTo("music.default", mesh.Route{Retry: &mesh.Retry{Attempts: 2, On: mesh.Retry5xx, Base: time.Millisecond}}))
	_, client := r.outbound()
	if code, _ := r.get(client, "http://music/"); code != 503 || calls.Load() != 3 {
		t.Errorf("%d after %d tries: one retry at a time was allowed", code, calls.Load())
	}
	if got := r.recorded(); !slices.Contains(strings.Split(got.Flags, ","), "URX") {
		t.Errorf("recorded %q, want URX", got.Flags)
	}
}

// TestALabelCountsFromTheNextRequest of a caller whose listener stays open.
func TestALabelCountsFromTheNextRequest(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(service("music.default"), mesh.VirtualHost{Hosts: []string{"music.default"}, Routes: []mesh.Route{
		{Matches: []mesh.Match{{SourceLabels: mesh.Labels{"tester": "yes"}}}, Direct: &mesh.DirectAnswer{Status: 418}},
		{Direct: &mesh.DirectAnswer{Status: 204}},
	}})
	l, client := r.outbound()
	for _, labels := range []mesh.Labels{nil, {"tester": "yes"}, {"tester": "yes", "app": "user"}, {"app": "user"}} {
		l.SetCaller(mesh.Caller{Workload: caller, Labels: labels})
		want := 204
		if labels["tester"] != "" {
			want = 418
		}
		if code, _ := r.get(client, "http://music.default/"); code != want {
			t.Errorf("with %v: %d, want %d", labels, code, want)
		}
		if got := r.recorded(); got.Source != caller {
			t.Errorf("with %v: the record names %+v", labels, got.Source)
		}
	}
}
