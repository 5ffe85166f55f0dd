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
		found   bool
	}{
		{"orders_total", nil, 13, true, true},
		{"orders_total", map[string]string{"state": "failed"}, 6, true, true},
		{"orders_total", map[string]string{"state": "failed", "shop": "berlin"}, 2, true, true},
		{"orders_total", map[string]string{"state": "lost"}, 0, true, false},
		{"queue_length", nil, 12, false, true},
		{"unknown_total", nil, 3, true, true},
		{"unknown", nil, 5, false, true},
		{"took_seconds_sum", nil, 1.5, true, true},
		{"took_seconds_count", nil, 10, true, true},
		{"took_seconds", nil, 0, false, false},
		{"queue_length_sum", nil, 0, false, false},
		{"nothing", nil, 0, false, false},
	} {
		sum, counter, found := s.Sum(tc.name, tc.labels)
		if sum != tc.sum || found != tc.found || found && counter != tc.counter {
			t.Errorf("%s %v: got %v, counter %v, found %v", tc.name, tc.labels, sum, counter, found)
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
		if sum, _, found := s.Sum(name, nil); !found && sum != 0 && !math.IsNaN(sum) {
			t.Errorf("%v of no series", sum)
		}
	})
}
