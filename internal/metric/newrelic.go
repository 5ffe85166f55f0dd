package metric

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// newRelic asks the Insights API by NRQL. The window of the check is added to a
// query that has none. Secret: newrelic_account_id and newrelic_query_key.
// (https://docs.newrelic.com/docs/apis/insights-apis/query-insights-event-data-api/)
type newRelic struct {
	*asker
	path   string
	window time.Duration
}

func newNewRelic(c Config) (Provider, error) {
	a, err := newAsker(c, "https://insights-api.newrelic.com")
	if err != nil {
		return nil, err
	}
	keys, err := c.need("newrelic_account_id", "newrelic_query_key")
	if err != nil {
		return nil, err
	}
	a.header.Set("X-Query-Key", keys[1])
	w, err := window(c)
	return newRelic{a, "v1/accounts/" + url.PathEscape(keys[0]) + "/query", w}, err
}

func (p newRelic) Query(ctx context.Context, query string) (float64, error) {
	query = strings.TrimSpace(query)
	if !slices.Contains(strings.Fields(strings.ToUpper(query)), "SINCE") {
		query = fmt.Sprintf("%s SINCE %d seconds ago", query, int(p.window.Seconds()))
	}
	body, err := p.get(ctx, p.path, url.Values{"nrql": {query}})
	if err != nil {
		return 0, err
	}
	return p.result(parseNewRelic(body))
}

func (p newRelic) Online(ctx context.Context) error {
	_, err := p.get(ctx, p.path, url.Values{"nrql": {"SELECT count(*) FROM Metric SINCE 1 minute ago"}})
	return err
}

// parseNewRelic takes the number of a result, which is named for the function
// that made it: {"result": 1}, {"average": 1}, {"percentiles": {"95": 1}}.
func parseNewRelic(body []byte) (float64, error) {
	var answer struct{ Results []map[string]any }
	if err := decode(body, &answer); err != nil {
		return 0, err
	}
	switch len(answer.Results) {
	case 0:
		return 0, ErrNoValues
	case 1:
	default:
		return 0, errors.New("the query selects several values or facets, want one: SELECT one number")
	}
	found := map[string]float64{}
	for name, v := range answer.Results[0] {
		switch v := v.(type) {
		case float64:
			found[name] = v
		case map[string]any:
			for inner, v := range v {
				if v, ok := v.(float64); ok {
					found[name+"."+inner] = v
				}
			}
		}
	}
	if v, ok := found["result"]; ok {
		return measured(v)
	}
	names := slices.Sorted(maps.Keys(found))
	if len(names) > 1 {
		return 0, fmt.Errorf("the query selects %s, want one: SELECT one number", clip(strings.Join(names, ", ")))
	}
	for _, v := range found {
		return measured(v)
	}
	return 0, ErrNoValues
}
