package metric

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// newRelic asks by NRQL. The window of the check is added to a query that has
// none. Secret: newrelic_account_id and either newrelic_api_key, a user key for
// NerdGraph, or newrelic_query_key for the older Insights API, as Flagger has it.
// (https://docs.newrelic.com/docs/apis/nerdgraph/examples/nerdgraph-nrql-tutorial/ and
// https://docs.newrelic.com/docs/apis/insights-apis/query-insights-event-data-api/)
type newRelic struct {
	*asker
	account string
	graph   bool // NerdGraph
	window  time.Duration
}

func newNewRelic(c Config) (Provider, error) {
	own, key, header := "https://api.newrelic.com", "newrelic_api_key", "API-Key"
	graph := c.credential("newrelic_api_key") != "" || c.credential("newrelic_query_key") == ""
	if !graph {
		own, key, header = "https://insights-api.newrelic.com", "newrelic_query_key", "X-Query-Key"
	}
	a, err := newAsker(c, own)
	if err != nil {
		return nil, err
	}
	keys, err := c.need("newrelic_account_id", key)
	if err != nil {
		return nil, err
	}
	if _, err := strconv.Atoi(keys[0]); err != nil {
		return nil, errors.New("newrelic_account_id is no number: correct the Secret")
	}
	a.header.Set(header, keys[1])
	w, err := window(c)
	return newRelic{a, keys[0], graph, w}, err
}

func (p newRelic) Query(ctx context.Context, query string) (float64, error) {
	query = strings.TrimSpace(query)
	if !slices.Contains(strings.Fields(strings.ToUpper(query)), "SINCE") {
		query = fmt.Sprintf("%s SINCE %d seconds ago", query, int(p.window.Seconds()))
	}
	body, err := p.post(ctx, query)
	if err != nil {
		return 0, err
	}
	if p.graph {
		return p.result(parseNerdGraph(body))
	}
	return p.result(parseNewRelic(body))
}

func (p newRelic) Online(ctx context.Context) error {
	_, err := p.Query(ctx, "SELECT count(*) FROM Metric SINCE 1 minute ago")
	if errors.Is(err, ErrNoValues) {
		return nil
	}
	return err
}

// post sends a query to the API that the key is for.
func (p newRelic) post(ctx context.Context, query string) ([]byte, error) {
	if !p.graph {
		return p.get(ctx, "v1/accounts/"+p.account+"/query", url.Values{"nrql": {query}})
	}
	question, err := json.Marshal(map[string]any{
		"query":     "query($account: Int!, $nrql: Nrql!) { actor { account(id: $account) { nrql(query: $nrql) { results } } } }",
		"variables": map[string]any{"account": json.Number(p.account), "nrql": query},
	})
	if err != nil {
		return nil, p.fail(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url("graphql", nil), bytes.NewReader(question))
	if err != nil {
		return nil, p.fail(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return p.send(req)
}

// parseNerdGraph finds the results in an answer of NerdGraph, whose errors come
// with status 200.
func parseNerdGraph(body []byte) (float64, error) {
	var answer struct {
		Errors []struct{ Message string }
		Data   struct {
			Actor struct {
				Account struct {
					NRQL struct{ Results []map[string]any }
				}
			}
		}
	}
	if err := decode(body, &answer); err != nil {
		return 0, err
	}
	if len(answer.Errors) > 0 {
		return 0, fmt.Errorf("%s: check query and account", clip(answer.Errors[0].Message))
	}
	return onlyNumber(answer.Data.Actor.Account.NRQL.Results)
}

// parseNewRelic finds the results in an answer of Insights.
func parseNewRelic(body []byte) (float64, error) {
	var answer struct{ Results []map[string]any }
	if err := decode(body, &answer); err != nil {
		return 0, err
	}
	return onlyNumber(answer.Results)
}

// onlyNumber takes the number of a result, which is named for the function that
// made it: {"result": 1}, {"average": 1}, {"percentiles": {"95": 1}}.
func onlyNumber(results []map[string]any) (float64, error) {
	switch len(results) {
	case 0:
		return 0, ErrNoValues
	case 1:
	default:
		return 0, errors.New("the query selects several values or facets, want one: SELECT one number")
	}
	found := map[string]float64{}
	for name, v := range results[0] {
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
