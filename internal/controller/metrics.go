package controller

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

// Metrics tells Prometheus of the releases. All but two are read from the
// Releases themselves, at each scrape; the counters begin with the process.
type Metrics struct {
	releases func() ([]*v1alpha1.Release, error)
	runs     *prometheus.CounterVec
	hooks    *prometheus.CounterVec
}

// NewMetrics makes the metrics of what releases returns.
func NewMetrics(releases func() ([]*v1alpha1.Release, error)) *Metrics {
	return &Metrics{
		releases: releases,
		runs:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "serin_release_runs_total", Help: "Runs that ended, by outcome and by what the judge found."}, []string{"outcome", "kind"}),
		hooks:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "serin_release_hook_calls_total", Help: "Webhook calls that ended, retries not counted, by type and result."}, []string{"type", "result"}),
	}
}

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(m, m.runs, m.hooks)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// ended counts a run.
func (m *Metrics) ended(r *rollout.Run) {
	if m != nil {
		m.runs.WithLabelValues(string(r.Outcome), string(r.Evidence.Kind)).Inc()
	}
}

// called counts the call of a webhook.
func (m *Metrics) called(of rollout.HookType, ok bool) {
	if m == nil {
		return
	}
	result := "failed"
	if ok {
		result = "succeeded"
	}
	m.hooks.WithLabelValues(string(of), result).Inc()
}

// gauge makes the description of one metric; each has the release's labels
// first.
func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("serin_release_"+name, help, append([]string{"namespace", "release"}, labels...), nil)
}

// releaseGauges are the metrics that are read from Releases.
type releaseGauges struct {
	phase, verdict, run, step, share, duration, cost, requests, failures, needed,
	logE, logLimit, checkValue, checkBound, checkRequests, checkVerdict *prometheus.Desc
}

func newGauges() releaseGauges {
	return releaseGauges{
		phase:         gauge("phase", "1 for the phase that the release is in.", "phase"),
		verdict:       gauge("verdict", "1 for the judge's verdict on the present run.", "verdict"),
		run:           gauge("run", "Number of the present run, or of the last one."),
		step:          gauge("step", "Present step, from 1; 0 between runs."),
		share:         gauge("share_percent", "The canary's share: asked, acked by every proxy, measured since.", "kind"),
		duration:      gauge("run_duration_seconds", "How long the present run lasts, or the last one did."),
		cost:          gauge("failed_requests", "About how many requests of users failed because of the present run, or the last one."),
		requests:      gauge("requests", "Requests on which the verdict rests, by side and by who sent them.", "side", "sender"),
		failures:      gauge("failures", "Failed ones among these requests.", "side", "sender"),
		needed:        gauge("requests_needed", "About how many canary requests the run needs in all, or users where they stay with a version; 0: not to be said."),
		logE:          gauge("log_e_value", "Natural logarithm of the e-value against the canary, by question.", "question", "endpoint"),
		logLimit:      gauge("log_e_limit", "Where log_e_value rolls the canary back.", "question", "endpoint"),
		checkValue:    gauge("check_value", "What the latest look at a check saw.", "number", "metric", "side"),
		checkBound:    gauge("check_bound", "Between which bounds the canary's value had to be.", "number", "metric", "bound"),
		checkRequests: gauge("check_requests", "Requests of the canary that the look rests on.", "number", "metric"),
		checkVerdict:  gauge("check_verdict", "1 for the verdict of the latest look.", "number", "metric", "verdict"),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	g := newGauges()
	for _, d := range []*prometheus.Desc{
		g.phase, g.verdict, g.run, g.step, g.share, g.duration, g.cost, g.requests, g.failures, g.needed,
		g.logE, g.logLimit, g.checkValue, g.checkBound, g.checkRequests, g.checkVerdict,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	g := newGauges()
	all, err := m.releases()
	if err != nil {
		to <- prometheus.NewInvalidMetric(g.phase, err)
		return
	}
	now := time.Now()
	for _, r := range all {
		g.collect(r, now, func(d *prometheus.Desc, value float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{r.Namespace, r.Name}, labels...)...)
		})
	}
}

// collect tells of one Release. Evidence is read from the journal, where it is
// in numbers; of one that cannot be read nothing is told.
func (g *releaseGauges) collect(r *v1alpha1.Release, now time.Time, tell func(*prometheus.Desc, float64, ...string)) {
	status := &r.Status
	tell(g.phase, 1, status.Phase)
	tell(g.step, float64(status.Step))
	tell(g.cost, float64(status.Cost.FailedRequests))
	split := status.Split
	for _, share := range [][2]string{{"asked", split.Asked}, {"acked", split.Acked}, {"measured", split.Measured}} {
		if v, err := strconv.ParseFloat(share[1], 64); err == nil { // "" = nobody knows
			tell(g.share, v, share[0])
		}
	}
	var j journal
	if status.Journal == nil || json.Unmarshal(status.Journal.Raw, &j) != nil {
		return
	}
	run := &j.State.Run
	tell(g.run, float64(run.Number))
	if !run.Started.IsZero() {
		end := run.Ended
		if end.IsZero() {
			end = now
		}
		tell(g.duration, end.Sub(run.Started).Seconds())
	}
	if run.Number > 0 {
		g.evidence(&j.State.Evidence, tell)
	}
}

func (g *releaseGauges) evidence(e *analysis.Evidence, tell func(*prometheus.Desc, float64, ...string)) {
	tell(g.verdict, 1, e.Verdict.String())
	tell(g.needed, float64(e.Needed))
	all, own := e.Counts, e.Own
	for _, c := range []struct {
		side, sender       string
		requests, failures int64
	}{
		{"canary", "users", all.CanaryRequests - own.CanaryRequests, all.CanaryFailures - own.CanaryFailures},
		{"canary", "serin", own.CanaryRequests, own.CanaryFailures},
		{"stable", "users", all.StableRequests - own.StableRequests, all.StableFailures - own.StableFailures},
		{"stable", "serin", own.StableRequests, own.StableFailures},
	} {
		tell(g.requests, float64(c.requests), c.side, c.sender)
		tell(g.failures, float64(c.failures), c.side, c.sender)
	}
	for _, q := range e.Questions {
		tell(g.logE, q.LogE, string(q.Kind), q.Stratum)
		tell(g.logLimit, q.Limit, string(q.Kind), q.Stratum)
	}
	for i := range e.Checks {
		c := &e.Checks[i]
		number, name := strconv.Itoa(i+1), string(c.Metric)
		tell(g.checkVerdict, 1, number, name, c.Verdict.String())
		if c.Verdict == analysis.NoData {
			continue
		}
		tell(g.checkValue, float64(c.Canary), number, name, "canary")
		tell(g.checkRequests, float64(c.Requests), number, name)
		optional := func(d *prometheus.Desc, v *analysis.Value, label string) {
			if v != nil {
				tell(d, float64(*v), number, name, label)
			}
		}
		optional(g.checkValue, c.Stable, "stable")
		optional(g.checkBound, c.Least, "least")
		optional(g.checkBound, c.Most, "most")
	}
}
