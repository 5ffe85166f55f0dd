package controller

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

func scrape(t *testing.T, m *Metrics) (code int, lines []string) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "serin_release_"))
		}
	}
	return w.Code, lines
}

func TestMetricsOfARelease(t *testing.T) {
	least, stable := analysis.Value(99), analysis.Value(99.5)
	begun := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	j := journal{State: rollout.State{
		Run: rollout.Run{Number: 3, Started: begun, Ended: begun.Add(90 * time.Second)},
		Evidence: analysis.Evidence{
			Verdict: analysis.Collecting, Needed: 400,
			Counts:    analysis.Counts{CanaryRequests: 212, CanaryFailures: 5, StableRequests: 900, StableFailures: 2},
			Own:       analysis.Counts{CanaryRequests: 200, CanaryFailures: 4, StableRequests: 190, StableFailures: 1},
			Questions: []analysis.Question{{Kind: analysis.Failures, LogE: 0.5, Limit: 7}, {Kind: analysis.Latency, Stratum: "GET /", LogE: 1, Limit: 12}},
			Checks: []analysis.CheckResult{
				{Metric: analysis.SuccessRate, Verdict: analysis.Pass, Canary: 99.2, Stable: &stable, Least: &least, Requests: 40},
				{Metric: analysis.SuccessRate},
			},
		},
	}}
	data, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	r := &v1alpha1.Release{}
	r.Namespace, r.Name = "shop", "cart"
	r.Status = v1alpha1.ReleaseStatus{
		Phase: "Progressing", Step: 2, Split: v1alpha1.Split{Asked: "25", Acked: "10"},
		Cost: v1alpha1.Cost{FailedRequests: 6}, Journal: v1alpha1.Raw(data),
	}
	m := NewMetrics(func() ([]*v1alpha1.Release, error) { return []*v1alpha1.Release{r}, nil })
	m.ended(&rollout.Run{Outcome: rollout.RolledBack, Evidence: analysis.Evidence{Kind: analysis.Failures}})
	m.ended(&rollout.Run{Outcome: rollout.Promoted})
	m.called(rollout.HookRollout, true)
	m.called(rollout.HookRollout, false)
	want := strings.Split(strings.TrimSpace(strings.ReplaceAll(`
check_bound{bound="least",metric="success-rate",number="1",+} 99
check_requests{metric="success-rate",number="1",+} 40
check_value{metric="success-rate",number="1",+,side="canary"} 99.2
check_value{metric="success-rate",number="1",+,side="stable"} 99.5
check_verdict{metric="success-rate",number="1",+,verdict="Pass"} 1
check_verdict{metric="success-rate",number="2",+,verdict="NoData"} 1
failed_requests{+} 6
failures{+,sender="serin",side="canary"} 4
failures{+,sender="serin",side="stable"} 1
failures{+,sender="users",side="canary"} 1
failures{+,sender="users",side="stable"} 1
hook_calls_total{result="failed",type="rollout"} 1
hook_calls_total{result="succeeded",type="rollout"} 1
log_e_limit{endpoint="",+,question="failures"} 7
log_e_limit{endpoint="GET /",+,question="latency"} 12
log_e_value{endpoint="",+,question="failures"} 0.5
log_e_value{endpoint="GET /",+,question="latency"} 1
phase{+,phase="Progressing"} 1
requests{+,sender="serin",side="canary"} 200
requests{+,sender="serin",side="stable"} 190
requests{+,sender="users",side="canary"} 12
requests{+,sender="users",side="stable"} 710
requests_needed{+} 400
run{+} 3
run_duration_seconds{+} 90
runs_total{kind="",outcome="promoted"} 1
runs_total{kind="failures",outcome="rolled-back"} 1
share_percent{kind="acked",+} 10
share_percent{kind="asked",+} 25
step{+} 2
verdict{+,verdict="Collecting"} 1
`, "+", `@`)), "\n")
	code, got := scrape(t, m)
	for i := range got { // the labels of the release, wherever they are sorted to
		got[i] = regexp.MustCompile(`namespace="shop",?`).ReplaceAllString(got[i], "")
		got[i] = strings.ReplaceAll(got[i], `release="cart"`, "@")
	}
	unordered := func(lines []string) []string {
		for i, line := range lines { // the order of labels is the library's
			if name, rest, ok := strings.Cut(line, "{"); ok {
				labels, value, _ := strings.Cut(rest, "} ")
				each := regexp.MustCompile(`(\w+="[^"]*"|@)`).FindAllString(labels, -1)
				slices.Sort(each)
				lines[i] = name + "{" + strings.Join(each, ",") + "} " + value
			}
		}
		slices.Sort(lines)
		return lines
	}
	if diff := cmp.Diff(unordered(want), unordered(got)); code != http.StatusOK || diff != "" {
		t.Errorf("%d (-want +got):\n%s", code, diff)
	}
}

func TestReleasesThatCannotBeReadFailTheScrape(t *testing.T) {
	m := NewMetrics(func() ([]*v1alpha1.Release, error) { return nil, errors.New("no API") })
	if code, _ := scrape(t, m); code != http.StatusInternalServerError {
		t.Errorf("answered %d; want 500, as nothing would look like no releases", code)
	}
	var none *Metrics
	none.called(rollout.HookEvent, true)
	none.ended(&rollout.Run{})
}

// TestTheTableOfMetricsIsWhole holds docs/metrics.md to what there is.
func TestTheTableOfMetricsIsWhole(t *testing.T) {
	data, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(serin_release_[a-z_]+)` \\|").FindAllStringSubmatch(string(data), -1) {
		told = append(told, row[1])
	}
	m := NewMetrics(nil)
	descs := make(chan *prometheus.Desc, 100)
	m.Describe(descs)
	m.runs.Describe(descs)
	m.hooks.Describe(descs)
	close(descs)
	var there []string
	for d := range descs {
		there = append(there, regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1])
	}
	slices.Sort(told)
	slices.Sort(there)
	if diff := cmp.Diff(there, told); diff != "" {
		t.Errorf("-there +in docs/metrics.md:\n%s", diff)
	}
}
