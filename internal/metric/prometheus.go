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

// prometheus asks by instant queries, as do Thanos, Mimir and VictoriaMetrics.
// Secret: token, or username and password.
// (https://prometheus.io/docs/prometheus/latest/querying/api/)
type prometheus struct{ *asker }

func newPrometheus(c Config) (Provider, error) {
	a, err := newAsker(c, "")
	if err != nil {
		return nil, err
	}
	return prometheus{a}, a.login(c)
}

func (p prometheus) Query(ctx context.Context, query string) (float64, error) {
	body, err := p.get(ctx, "api/v1/query", url.Values{"query": {strings.TrimSpace(query)}})
	if err != nil {
		return 0, err
	}
	return p.result(parsePrometheus(body))
}

func (p prometheus) Online(ctx context.Context) error {
	_, err := p.Query(ctx, "vector(1)")
	return err
}

func parsePrometheus(body []byte) (float64, error) {
	var answer struct {
		Status string
		Error  string
		Data   struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	if err := decode(body, &answer); err != nil {
		return 0, err
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("status %q: %s: check the query", answer.Status, clip(answer.Error))
	}
	switch kind := answer.Data.ResultType; kind {
	case "vector":
		var series []struct{ Value *sample } // nil where there is a histogram
		if err := decode(answer.Data.Result, &series); err != nil {
			return 0, err
		}
		var values []float64
		for _, s := range series {
			if s.Value == nil {
				return 0, errors.New("the query gives a histogram: want one number, such as by histogram_quantile")
			}
			values = append(values, float64(*s.Value))
		}
		return measuredOnly(values)
	case "scalar":
		var s sample
		if err := decode(answer.Data.Result, &s); err != nil {
			return 0, err
		}
		return measured(float64(s))
	case "matrix":
		return 0, errors.New("the query gives a range of time: give it one value, such as by rate(…[1m])")
	default:
		return 0, fmt.Errorf("the query gives a %s: want one number", clip(strconv.Quote(kind)))
	}
}

// sample is the value of a pair [time, "value"].
type sample float64

func (s *sample) UnmarshalJSON(data []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(data, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("a sample of %d parts", len(pair))
	}
	var text string
	if err := json.Unmarshal(pair[1], &text); err != nil {
		return err
	}
	v, err := strconv.ParseFloat(text, 64)
	*s = sample(v)
	return err
}
