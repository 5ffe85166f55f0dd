package metric

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// datadog asks for the points of the last ten intervals and takes the newest
// that is complete. (Flagger takes the oldest, which may be of a time before
// the canary.) Secret: datadog_api_key and datadog_application_key.
// (https://docs.datadoghq.com/api/latest/metrics/query-timeseries-points/)
type datadog struct {
	*asker
	window time.Duration
}

func newDatadog(c Config) (Provider, error) {
	a, err := newAsker(c, "https://api.datadoghq.com")
	if err != nil {
		return nil, err
	}
	keys, err := c.need("datadog_api_key", "datadog_application_key")
	if err != nil {
		return nil, err
	}
	a.header.Set("DD-API-KEY", keys[0])
	a.header.Set("DD-APPLICATION-KEY", keys[1])
	w, err := wideWindow(c)
	return datadog{a, w}, err
}

func (p datadog) Query(ctx context.Context, query string) (float64, error) {
	now := time.Now()
	body, err := p.get(ctx, "api/v1/query", url.Values{
		"query": {strings.TrimSpace(query)},
		"from":  {strconv.FormatInt(now.Add(-p.window).Unix(), 10)},
		"to":    {strconv.FormatInt(now.Unix(), 10)},
	})
	if err != nil {
		return 0, err
	}
	return p.result(parseDatadog(body, now))
}

func (p datadog) Online(ctx context.Context) error {
	body, err := p.get(ctx, "api/v1/validate", nil)
	if err != nil {
		return err
	}
	var answer struct{ Valid bool }
	if err := decode(body, &answer); err != nil {
		return p.fail(err)
	}
	if !answer.Valid {
		return p.fail(errors.New("the key is not valid: correct datadog_api_key in the Secret"))
	}
	return nil
}

func parseDatadog(body []byte, now time.Time) (float64, error) {
	var answer struct {
		Status, Error string
		Series        []struct {
			Interval  float64       // of a point, in seconds
			Pointlist [][2]*float64 // milliseconds since 1970, value
		}
	}
	if err := decode(body, &answer); err != nil {
		return 0, err
	}
	if answer.Status == "error" || answer.Error != "" {
		return 0, fmt.Errorf("%s: check the query", clip(answer.Error))
	}
	var values []float64
	for _, s := range answer.Series {
		var newest float64
		found := false
		for _, p := range s.Pointlist {
			if p[0] == nil || p[1] == nil {
				continue
			}
			if end := *p[0]/1000 + s.Interval; end <= float64(now.Unix()) {
				newest, found = *p[1], true
			}
		}
		if found {
			values = append(values, newest)
		}
	}
	return measuredOnly(values)
}
