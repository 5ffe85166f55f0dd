package metric

import (
	"bytes"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const exposition = `# HELP orders_total Orders taken.
# TYPE orders_total counter
orders_total{shop="berlin",state="paid"} 7
orders_total{shop="berlin",state="failed"} 2
orders_total{shop="rome",state="failed"} 4
# TYPE queue_length gauge
queue_length 12
# TYPE idle_seconds gauge
idle_seconds{thread="1"} 3
idle_seconds{thread="2"} NaN
unknown_total 3
unknown 5
# TYPE took_seconds histogram
took_seconds_bucket{le="0.1"} 8
took_seconds_bucket{le="+Inf"} 10
took_seconds_sum 1.5
took_seconds_count 10
`

func TestSum(t *testing.T) {
	s, err := parseScrape(strings.NewReader(exposition))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		labels  map[string]string
		sum     float64
		counter bool
		err     error
	}{
		{"orders_total", nil, 13, true, nil},
		{"orders_total", map[string]string{"state": "failed"}, 6, true, nil},
		{"orders_total", map[string]string{"state": "failed", "shop": "berlin"}, 2, true, nil},
		{"orders_total", map[string]string{"state": "lost"}, 0, true, ErrNoSeries},
		{"queue_length", nil, 12, false, nil},
		{"idle_seconds", nil, 0, false, ErrNoValues},
		{"idle_seconds", map[string]string{"thread": "1"}, 3, false, nil},
		{"unknown_total", nil, 3, true, nil},
		{"unknown", nil, 5, false, nil},
		{"took_seconds_sum", nil, 1.5, true, nil},
		{"took_seconds_count", nil, 10, true, nil},
		{"took_seconds", nil, 0, false, ErrNoSeries},
		{"queue_length_sum", nil, 0, false, ErrNoSeries},
		{"nothing", nil, 0, false, ErrNoSeries},
	} {
		sum, counter, err := s.Sum(tc.name, tc.labels)
		if sum != tc.sum || err != tc.err || err == nil && counter != tc.counter {
			t.Errorf("%s %v: got %v, counter %v, %v", tc.name, tc.labels, sum, counter, err)
		}
	}
}

func TestScrape(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			w.Write([]byte(exposition))
		case "/page":
			w.Write([]byte("<html>no metrics</html>"))
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	s, err := Scrape(t.Context(), server.Client(), server.URL+"/metrics")
	if sum, _, _ := s.Sum("queue_length", nil); err != nil || sum != 12 {
		t.Errorf("got %v, %v", sum, err)
	}
	for path, want := range map[string]string{"/page": "metrics of " + server.URL + "/page: text format parsing error", "/none": "404 Not Found"} {
		if _, err := Scrape(t.Context(), server.Client(), server.URL+path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
	server.Close()
	if _, err := Scrape(t.Context(), server.Client(), server.URL+"/metrics"); err == nil || !strings.HasPrefix(err.Error(), "metrics: Get ") {
		t.Errorf("got %v", err)
	}
}

func FuzzScrape(f *testing.F) {
	f.Add([]byte(exposition), "orders_total")
	f.Add([]byte("a 1\n# TYPE a summary\na_sum NaN\n"), "a_sum")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		s, err := parseScrape(bytes.NewReader(text))
		if err != nil {
			return
		}
		if sum, _, err := s.Sum(name, nil); math.IsNaN(sum) || err != nil && sum != 0 {
			t.Errorf("sum %v, %v", sum, err)
		}
	})
}
