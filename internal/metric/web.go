package metric

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"
)

// web asks any API that answers with JSON. The query is a [webQuery] in YAML.
// Secret: token, or username and password, or header.NAME for the value of any
// header.
type web struct{ *asker }

// webQuery says what to ask below the address, and where in the answer the
// value is.
type webQuery struct {
	Path    string            `json:"path"`    // below the address; may have a query
	Method  string            `json:"method"`  // GET unless told otherwise; POST with a body
	Headers map[string]string `json:"headers"` // none is secret: these are for the Secret
	Body    string            `json:"body"`

	// JSONPath leads to the value, as in kubectl: {.data.errors}. A number
	// counts as it is, also in quotes; true is 1 and false is 0. Empty: the
	// whole answer is the value.
	JSONPath string `json:"jsonPath"`

	// Success makes a number of a value that is none: 1 when it equals this,
	// else 0.
	Success any `json:"success"`
}

func newWeb(c Config) (Provider, error) {
	a, err := newAsker(c, "")
	if err != nil {
		return nil, err
	}
	headers := false
	for key := range c.Credentials {
		if name, ok := strings.CutPrefix(key, "header."); ok {
			a.header.Set(name, c.credential(key))
			a.hide(strings.Fields(c.credential(key))...)
			headers = true
		}
	}
	if headers && c.credential("token") == "" && c.credential("username") == "" {
		return web{a}, nil
	}
	return web{a}, a.login(c)
}

func (p web) Query(ctx context.Context, query string) (float64, error) {
	q, err := parseWebQuery(query)
	if err != nil {
		return 0, p.fail(err)
	}
	where, err := url.Parse(q.Path)
	if err != nil || where.IsAbs() || where.Host != "" {
		return 0, p.fail(fmt.Errorf("path %q: write what follows the address, such as /stats?app=music", q.Path))
	}
	values, err := url.ParseQuery(where.RawQuery)
	if err != nil {
		return 0, p.fail(fmt.Errorf("path %q: %w", q.Path, err))
	}
	req, err := http.NewRequestWithContext(ctx, q.Method, p.url(where.Path, values), strings.NewReader(q.Body))
	if err != nil {
		return 0, p.fail(err)
	}
	for name, v := range q.Headers {
		req.Header.Set(name, v)
	}
	if q.Body != "" && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	body, err := p.send(req)
	if err != nil {
		return 0, err
	}
	return p.result(q.value(body))
}

func (p web) Online(ctx context.Context) error {
	_, err := p.get(ctx, "", nil)
	return err
}

func parseWebQuery(query string) (webQuery, error) {
	q := webQuery{Method: http.MethodGet}
	if err := yaml.UnmarshalStrict([]byte(query), &q); err != nil {
		return q, fmt.Errorf("query: %s: write it as YAML with path, method, headers, body, jsonPath and success",
			strings.TrimPrefix(clip(err.Error()), "error unmarshaling JSON: while decoding JSON: json: "))
	}
	if q.Body != "" && q.Method == http.MethodGet {
		q.Method = http.MethodPost
	}
	if q.JSONPath != "" && !strings.HasPrefix(q.JSONPath, "{") {
		q.JSONPath = "{" + q.JSONPath + "}"
	}
	if strings.Contains(q.JSONPath, "{range") {
		return q, errors.New("query: jsonPath: {range} gives several values: lead to one")
	}
	if err := jsonpath.New("jsonPath").Parse(q.JSONPath); err != nil {
		return q, fmt.Errorf("query: jsonPath: %w: write it as kubectl has it, such as {.data.errors}", err)
	}
	return q, nil
}

// value finds the number in an answer.
func (q webQuery) value(body []byte) (float64, error) {
	var doc any
	if err := decode(body, &doc); err != nil {
		return 0, err
	}
	found := []any{doc}
	if q.JSONPath != "" {
		var err error
		if found, err = follow(q.JSONPath, doc); err != nil {
			return 0, err
		}
	}
	switch {
	case len(found) == 0 || len(found) == 1 && found[0] == nil:
		return 0, ErrNoValues
	case len(found) > 1:
		return 0, fmt.Errorf("jsonPath leads to %d values: lead it to one", len(found))
	}
	if q.Success != nil {
		if reflect.DeepEqual(found[0], q.Success) {
			return 1, nil
		}
		return 0, nil
	}
	switch v := found[0].(type) {
	case float64:
		return v, nil
	case bool:
		if v {
			return 1, nil
		}
		return 0, nil
	case string:
		if n, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
			return measured(n)
		}
	}
	text, err := json.Marshal(found[0])
	if err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("the value is %s, no number: correct jsonPath, or say in success which value is good", clip(string(text)))
}

// follow returns what is at the end of a path.
func follow(path string, doc any) ([]any, error) {
	p := jsonpath.New("jsonPath").AllowMissingKeys(true)
	if err := p.Parse(path); err != nil {
		return nil, err
	}
	results, err := p.FindResults(doc)
	if err != nil {
		return nil, fmt.Errorf("jsonPath: %w", err)
	}
	var found []any
	for _, list := range results {
		for _, v := range list {
			if v.IsValid() && v.CanInterface() {
				found = append(found, v.Interface())
			}
		}
	}
	return found, nil
}
