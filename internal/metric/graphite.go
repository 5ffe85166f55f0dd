package metric

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// graphite asks the render API. The query is that of a URL, target=… and, best,
// &from=-5min; its newest point with a value counts. Secret: username and password.
// (https://graphite.readthedocs.io/en/stable/render_api.html)
type graphite struct{ *asker }

func newGraphite(c Config) (Provider, error) {
	a, err := newAsker(c, "")
	if err != nil {
		return nil, err
	}
	return graphite{a}, a.loginBasic(c)
}

func (p graphite) Query(ctx context.Context, query string) (float64, error) {
	values, err := url.ParseQuery(strings.Join(strings.Fields(query), " "))
	if err != nil {
		return 0, p.fail(fmt.Errorf("the query is not that of a URL (%w): write target=…", err))
	}
	if values.Get("target") == "" {
		return 0, p.fail(errors.New("the query has no target: begin it with target="))
	}
	values.Set("format", "json")
	body, err := p.get(ctx, "render", values)
	if err != nil {
		return 0, err
	}
	return p.result(parseGraphite(body))
}

func (p graphite) Online(ctx context.Context) error {
	_, err := p.get(ctx, "render", url.Values{"target": {"test"}, "format": {"json"}})
	return err
}

func parseGraphite(body []byte) (float64, error) {
	var answer []struct{ Datapoints []point }
	if err := decode(body, &answer); err != nil {
		return 0, err
	}
	var values []float64
	for _, series := range answer {
		for i := len(series.Datapoints) - 1; i >= 0; i-- {
			if p := series.Datapoints[i]; p.given {
				values = append(values, p.value)
				break
			}
		}
	}
	return measuredOnly(values)
}

// point is the value of a pair [value, time]. Some servers write the value as
// text.
type point struct {
	value float64
	given bool
}

func (p *point) UnmarshalJSON(data []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(data, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("a point of %d parts", len(pair))
	}
	text := strings.Trim(string(pair[0]), `"`)
	if text == "null" {
		return nil
	}
	v, err := strconv.ParseFloat(text, 64)
	*p = point{v, v == v} // NaN is no value
	return err
}
