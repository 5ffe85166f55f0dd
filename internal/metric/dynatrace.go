package metric

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// dynatrace asks the Metrics API v2 for one value over the last ten intervals.
// Secret: dynatrace_token, which needs the scope metrics.read.
// (https://docs.dynatrace.com/docs/dynatrace-api/environment-api/metric-v2/get-data-points)
type dynatrace struct {
	*asker
	window time.Duration
}

func newDynatrace(c Config) (Provider, error) {
	a, err := newAsker(c, "")
	if err != nil {
		return nil, err
	}
	keys, err := c.need("dynatrace_token")
	if err != nil {
		return nil, err
	}
	a.header.Set("Authorization", "Api-Token "+keys[0])
	w, err := wideWindow(c)
	return dynatrace{a, w}, err
}

func (p dynatrace) Query(ctx context.Context, query string) (float64, error) {
	now := time.Now()
	body, err := p.get(ctx, "api/v2/metrics/query", url.Values{
		"metricSelector": {strings.TrimSpace(query)},
		"resolution":     {"Inf"}, // one point for all of the time
		"from":           {strconv.FormatInt(now.Add(-p.window).UnixMilli(), 10)},
		"to":             {strconv.FormatInt(now.UnixMilli(), 10)},
	})
	if err != nil {
		return 0, err
	}
	return p.result(parseDynatrace(body))
}

func (p dynatrace) Online(ctx context.Context) error {
	_, err := p.get(ctx, "api/v2/metrics", url.Values{"pageSize": {"1"}})
	return err
}

func parseDynatrace(body []byte) (float64, error) {
	var answer struct {
		NextPageKey *string
		Result      []struct {
			Data []struct{ Values []*float64 }
		}
	}
	if err := decode(body, &answer); err != nil {
		return 0, err
	}
	if answer.NextPageKey != nil && *answer.NextPageKey != "" {
		return 0, errors.New("the query gives pages of series, want one: aggregate them, such as by :splitBy()")
	}
	var values []float64
	for _, r := range answer.Result {
		for _, series := range r.Data {
			for i := len(series.Values) - 1; i >= 0; i-- {
				if v := series.Values[i]; v != nil {
					values = append(values, *v)
					break
				}
			}
		}
	}
	return measuredOnly(values)
}
