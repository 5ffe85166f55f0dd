package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/metric"
)

// source is what measures a check.
type source string

const (
	byTemplate source = "template" // a provider is asked
	byScrape   source = "scrape"   // the pods are
	byUsage    source = "usage"    // the API is, for what it knows of the pods
)

// The metrics of pods that need nothing but their name.
const (
	cpuMetric      = "cpu"
	memoryMetric   = "memory"
	restartsMetric = "restarts"
)

// measuredBy says what measures a check; "" = the judge does.
func measuredBy(c *v1alpha1.Check) source {
	switch {
	case c.Template != nil:
		return byTemplate
	case c.Scrape != nil:
		return byScrape
	case c.Metric == cpuMetric, c.Metric == memoryMetric, c.Metric == restartsMetric:
		return byUsage
	}
	return ""
}

// sources finds meters in the API.
type sources struct{ api *kube.Client }

func (s sources) meter(rel *kube.Delivery, c *v1alpha1.Check, interval time.Duration, last meter) meter {
	pods := func(deployment string) ([]kube.Pod, error) { return s.api.Pods(rel, deployment) }
	switch measuredBy(c) {
	case byTemplate:
		return newTemplateMeter(s.api.MetricTemplate, rel, c, interval)
	case byScrape:
		return newScrapeMeter(pods, c.Scrape, last)
	case byUsage:
		return usageMeter{c.Metric, pods, func(ctx context.Context, deployment string) (map[string]kube.Usage, error) {
			return s.api.Usage(ctx, rel, deployment)
		}}
	}
	return nil
}

// templateMeter asks a provider.
type templateMeter struct {
	// read finds a template with its credentials.
	read     func(ctx context.Context, namespace, name string) (metric.Template, error)
	template v1alpha1.ObjectRef
	vars     metric.Vars // Target and Canary are left to the question
}

func newTemplateMeter(read func(context.Context, string, string) (metric.Template, error), rel *kube.Delivery, c *v1alpha1.Check, interval time.Duration) templateMeter {
	m := templateMeter{
		read: read, template: *c.Template,
		vars: metric.Vars{
			Name: rel.Release.Name, Namespace: rel.Release.Namespace,
			Service: rel.Names.Service, Route: rel.Names.Service,
			Stable:   rel.Names.Stable,
			Interval: wholeUnits(interval), Variables: c.Variables,
		},
	}
	if m.template.Namespace == "" {
		m.template.Namespace = rel.Release.Namespace
	}
	return m
}

func (m templateMeter) measure(ctx context.Context, deployment string) (float64, bool, error) {
	t, err := m.read(ctx, m.template.Namespace, m.template.Name)
	if err != nil {
		return 0, false, err
	}
	vars := m.vars
	vars.Target, vars.Canary = deployment, deployment
	text, err := metric.Render(t.Query, vars)
	if err != nil {
		return 0, false, err
	}
	t.Config.Interval = vars.Interval
	provider, err := metric.New(t.Config)
	if err != nil {
		return 0, false, err
	}
	value, err := provider.Query(ctx, text)
	if errors.Is(err, metric.ErrNoValues) {
		return 0, false, nil
	}
	return value, err == nil, err
}

// wholeUnits writes a time as queries do: 1m, not 1m0s.
func wholeUnits(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// usageMeter knows what the API says of pods.
type usageMeter struct {
	metric string
	pods   func(deployment string) ([]kube.Pod, error)
	usage  func(ctx context.Context, deployment string) (map[string]kube.Usage, error)
}

func (m usageMeter) begin(ctx context.Context, deployments []string) {
	if m.metric == cpuMetric {
		for _, d := range deployments {
			// It begins the time over which the next question is answered; if it
			// fails, that one says so.
			_, _ = m.usage(ctx, d)
		}
	}
}

func (m usageMeter) measure(ctx context.Context, deployment string) (float64, bool, error) {
	if m.metric == restartsMetric {
		pods, err := m.pods(deployment)
		restarts := int32(0)
		for _, p := range pods {
			restarts += p.Restarts
		}
		return float64(restarts), err == nil && len(pods) > 0, err
	}
	usage, err := m.usage(ctx, deployment)
	if err != nil || len(usage) == 0 {
		return 0, false, err
	}
	sum := 0.0
	for _, u := range usage {
		if m.metric == cpuMetric {
			sum += u.Millicores
		} else {
			sum += u.MiB
		}
	}
	return sum / float64(len(usage)), true, nil
}

// scrapeMeter reads what pods show, and remembers it for the next time.
type scrapeMeter struct {
	pods   func(deployment string) ([]kube.Pod, error)
	spec   v1alpha1.Scrape
	client *http.Client
	now    func() time.Time
	// before is what each pod showed the last time, by its UID.
	before map[string]shown
}

// shown is what a pod shows at one moment.
type shown struct {
	at             time.Time
	sum, per       float64
	counter, found bool
}

func newScrapeMeter(pods func(string) ([]kube.Pod, error), spec *v1alpha1.Scrape, last meter) *scrapeMeter {
	m := &scrapeMeter{pods: pods, spec: *spec, client: http.DefaultClient, now: time.Now, before: map[string]shown{}}
	if last, ok := last.(*scrapeMeter); ok {
		m.before = last.before
	}
	return m
}

func (m *scrapeMeter) begin(ctx context.Context, deployments []string) {
	for _, d := range deployments {
		// Where it fails the next question does, too, or has no value.
		_, _, _ = m.measure(ctx, d)
	}
}

func (m *scrapeMeter) measure(ctx context.Context, deployment string) (value float64, ok bool, err error) {
	pods, err := m.pods(deployment)
	if err != nil {
		return 0, false, err
	}
	type answer struct {
		shown
		err error
	}
	answers := make([]answer, len(pods))
	var all sync.WaitGroup
	for i := range pods {
		all.Go(func() { answers[i].shown, answers[i].err = m.read(ctx, &pods[i]) })
	}
	all.Wait()
	sum, over := 0.0, 0.0
	for i, a := range answers {
		if a.err != nil { // a pod that just ends is no reason to leave the others out
			err = a.err
			continue
		}
		if !a.found {
			continue
		}
		if !a.counter {
			sum, over = sum+a.sum, over+1
			continue
		}
		before, known := m.before[pods[i].UID]
		m.before[pods[i].UID] = a.shown
		if !known {
			continue
		}
		sum += growth(before.sum, a.sum)
		if m.spec.Per != "" {
			over += growth(before.per, a.per)
		} else {
			over += a.at.Sub(before.at).Seconds()
		}
	}
	if value = sum / over; over <= 0 || math.IsNaN(value) { // as of counters that are infinite
		return 0, false, err
	}
	return value, true, nil
}

// growth of a counter, which begins at 0 when its process starts anew.
func growth(before, after float64) float64 {
	if after < before {
		return after
	}
	return after - before
}

// read asks one pod. A counter of which no series is there yet is 0 where the
// counter to divide by is: client libraries show a series when it first counts.
func (m *scrapeMeter) read(ctx context.Context, p *kube.Pod) (shown, error) {
	s, err := metric.Scrape(ctx, m.client, "http://"+p.Address(uint16(m.spec.Port))+cmp.Or(m.spec.Path, "/metrics"))
	if err != nil {
		return shown{}, fmt.Errorf("pod %s: %w", p.Name, err)
	}
	out := shown{at: m.now()}
	var sumErr error
	out.sum, out.counter, sumErr = s.Sum(m.spec.Name, m.spec.Labels)
	out.found = sumErr == nil
	if m.spec.Per != "" {
		per, counter, perErr := s.Sum(m.spec.Per, nil)
		if perErr == nil && !counter || out.found && !out.counter {
			return shown{}, fmt.Errorf("pod %s: %s and %s must both be counters to divide the one by the other", p.Name, m.spec.Name, m.spec.Per)
		}
		out.per, out.counter = per, true
		out.found = perErr == nil && !errors.Is(sumErr, metric.ErrNoValues)
	}
	return out, nil
}
