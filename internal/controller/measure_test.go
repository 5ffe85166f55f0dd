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

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/metric"
	"serin.dev/serin/internal/rollout"
)

// A provider that knows one number for each Deployment and interval.
func provider(t *testing.T) *httptest.Server {
	values := map[string]string{"music 1m": "7", "music-stable 1m": "5", "music 10s": "3"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query().Get("query")
		if q == "down" {
			http.Error(w, "down", http.StatusInternalServerError)
			return
		}
		result := ""
		if v, ok := values[q]; ok {
			result = fmt.Sprintf(`{"metric":{},"value":[1,"%s"]}`, v)
		}
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[%s]}}`, result)
	}))
	t.Cleanup(server.Close)
	return server
}

// templates reads the templates of checks; none is measured otherwise.
type templates func(ctx context.Context, namespace, name string) (metric.Template, error)

func (t templates) meter(rel *kube.Delivery, c *v1alpha1.Check, interval time.Duration, _ meter) meter {
	return newTemplateMeter(t, rel, c, interval)
}

func TestMetricsAreMeasuredForBothSidesAtTheirIntervals(t *testing.T) {
	server := provider(t)
	queries := map[string]string{"latency": "{{ target }} {{ interval }}", "nothing": "none of {{ canary }}", "broken": "down"}
	values := make(chan struct{}, 10)
	m := &measures{
		wake: func() { values <- struct{}{} },
		from: templates(func(_ context.Context, namespace, name string) (metric.Template, error) {
			query, ok := queries[name]
			if !ok {
				return metric.Template{}, errors.New("no template " + namespace + "/" + name)
			}
			return metric.Template{Name: name, Query: query, Config: metric.Config{Type: "prometheus", Address: server.URL}}, nil
		}),
	}
	r := &v1alpha1.Release{Spec: *spec(t, strings.Replace(goodSpec, "interval: 10s", `interval: 10s, checks: [
		{metric: success-rate, min: "99"},
		{metric: latency, max: "9", toStable: {max: "+3"}, interval: 1m, template: {name: latency}},
		{metric: latency-now, max: "9", template: {name: latency}},
		{metric: nothing, max: "9", template: {name: nothing}},
		{metric: broken, max: "9", template: {name: broken}},
		{metric: missing, max: "9", template: {name: missing, namespace: elsewhere}}]`, 1))}
	r.Name, r.Namespace = "music", "shop"
	rel := &kube.Delivery{Release: r, Names: kube.NamesOf(r)}
	began := time.Unix(1000, 0)
	s := rollout.State{Phase: rollout.Progressing, Run: rollout.Run{Number: 1}, Acked: began}
	at := func(seconds int, want ...analysis.Measured) {
		t.Helper()
		for range 3 { // what is under way or was asked is not asked again
			m.due(t.Context(), rel, &s, began.Add(time.Duration(seconds)*time.Second))
		}
		for range want {
			<-values
		}
		inOrder := cmpopts.SortSlices(func(a, b analysis.Measured) bool { return a.Check < b.Check })
		if diff := cmp.Diff(want, m.take(), inOrder, cmpopts.IgnoreFields(analysis.Measured{}, "At"), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("after %d s (-want +got):\n%s", seconds, diff)
		}
	}
	soon := []analysis.Measured{
		{Check: 2, Canary: 3, HasCanary: true},
		{Check: 3},
		{Check: 4, Err: "prometheus at " + server.URL + ": 500 Internal Server Error: down"},
		{Check: 5, Err: "no template elsewhere/missing"},
	}
	at(9)
	at(10, soon...)
	at(19)
	at(20, soon...)
	at(60, append(soon, analysis.Measured{Check: 1, Canary: 7, HasCanary: true, Stable: 5, HasStable: true})...)

	s.Phase, s.Run.Number = rollout.RollingBack, 2
	at(120)
	s.Phase, s.Acked = rollout.Testing, began.Add(115*time.Second) // of another run
	at(120)
	at(125, soon...)
}

func TestIntervalsAreWrittenAsInQueries(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h", 10 * time.Second: "10s", 10 * time.Minute: "10m", 61 * time.Minute: "1h1m",
	} {
		if got := wholeUnits(d); got != want {
			t.Errorf("%v is written %s, want %s", d, got, want)
		}
	}
}
