package metric

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// maxScrape bounds the answer of one application, in bytes.
const maxScrape = 16 << 20

// Scraped are the metrics that one process showed at one moment.
type Scraped struct{ families map[string]*dto.MetricFamily }

// Scrape reads the metrics that an application shows at a URL, in the text
// format of Prometheus (prometheus.io/docs/instrumenting/exposition_formats).
func Scrape(ctx context.Context, client *http.Client, url string) (Scraped, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Scraped{}, fmt.Errorf("metrics of %s: %w", url, err)
	}
	req.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	resp, err := client.Do(req)
	if err != nil {
		return Scraped{}, fmt.Errorf("metrics: %w", err) // it says GET and the URL
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Scraped{}, fmt.Errorf("metrics of %s: %s", url, resp.Status)
	}
	s, err := parseScrape(io.LimitReader(resp.Body, maxScrape))
	if err != nil {
		return Scraped{}, fmt.Errorf("metrics of %s: %w", url, err)
	}
	return s, nil
}

func parseScrape(text io.Reader) (Scraped, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(text)
	return Scraped{families}, err
}

// ErrNoSeries says that a process shows no such series.
var ErrNoSeries = errors.New("no such series")

// Sum adds the series of a metric that have all of the labels. counter says
// that it only ever grows, until its process starts anew: by its type, or where
// it has none by its name. Of a histogram or summary, NAME_sum and NAME_count
// are counters. The error is ErrNoSeries, or ErrNoValues where the sum is NaN,
// by which a process shows that it does not know; the sum is 0 with either.
func (s Scraped) Sum(name string, labels map[string]string) (sum float64, counter bool, err error) {
	value, family := s.series(name)
	err = ErrNoSeries
	for _, m := range family.GetMetric() {
		if hasLabels(m, labels) {
			sum, err = sum+value(m), nil
		}
	}
	switch family.GetType() {
	case dto.MetricType_GAUGE:
		counter = false
	case dto.MetricType_UNTYPED:
		counter = strings.HasSuffix(name, "_total")
	case dto.MetricType_COUNTER, dto.MetricType_SUMMARY, dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		counter = true
	}
	if err == nil {
		sum, err = measured(sum)
	}
	return sum, counter, err
}

// series returns the family that has the name, and how to read it.
func (s Scraped) series(name string) (func(*dto.Metric) float64, *dto.MetricFamily) {
	if f := s.families[name]; f != nil {
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			return func(m *dto.Metric) float64 { return m.GetCounter().GetValue() }, f
		case dto.MetricType_GAUGE:
			return func(m *dto.Metric) float64 { return m.GetGauge().GetValue() }, f
		case dto.MetricType_UNTYPED:
			return func(m *dto.Metric) float64 { return m.GetUntyped().GetValue() }, f
		case dto.MetricType_SUMMARY, dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
			return nil, nil // several numbers: one of the names below is meant
		}
	}
	if of, ok := strings.CutSuffix(name, "_sum"); ok {
		return func(m *dto.Metric) float64 { return m.GetHistogram().GetSampleSum() + m.GetSummary().GetSampleSum() }, s.distribution(of)
	}
	if of, ok := strings.CutSuffix(name, "_count"); ok {
		return func(m *dto.Metric) float64 {
			return float64(m.GetHistogram().GetSampleCount() + m.GetSummary().GetSampleCount())
		}, s.distribution(of)
	}
	return nil, nil
}

func (s Scraped) distribution(name string) *dto.MetricFamily {
	f := s.families[name]
	if t := f.GetType(); t == dto.MetricType_HISTOGRAM || t == dto.MetricType_SUMMARY {
		return f
	}
	return nil
}

func hasLabels(m *dto.Metric, want map[string]string) bool {
	have := map[string]string{}
	for _, l := range m.GetLabel() {
		have[l.GetName()] = l.GetValue()
	}
	for name, value := range want {
		if have[name] != value {
			return false
		}
	}
	return true
}
