package metric

import (
	"encoding/json"
	"net/http"
	"testing"
)

func TestNewRelic(t *testing.T) {
	answers := map[string]string{
		"SELECT filter(sum(a), WHERE b) / sum(a) FROM Metric SINCE 60 seconds ago": `{"result":1.5}`,
		"SELECT average(duration) FROM T SINCE 1 hour ago":                         `{"average":0.25}`,
		"SELECT percentile(d, 95) FROM T SINCE 60 seconds ago":                     `{"percentiles":{"95":7}}`,
		"SELECT percentile(d, 95, 99) FROM T SINCE 60 seconds ago":                 `{"percentiles":{"95":7,"99":8}}`,
		"SELECT null SINCE 60 seconds ago":                                         `{"result":null}`,
		"SELECT count(*), max(d) FROM T SINCE 60 seconds ago":                      `{"count":1},{"max":2}`,
		"SELECT none SINCE 60 seconds ago":                                         ``,
		"SELECT count(*) FROM Metric SINCE 1 minute ago":                           `{"count":0}`,
	}
	c := Config{Type: "newrelic", Interval: "1m", Credentials: secret("newrelic_account_id", "4711", "newrelic_query_key", "key")}
	c.Address = serve(t, func(w http.ResponseWriter, r *http.Request) {
		results, known := answers[r.FormValue("nrql")]
		switch {
		case r.Header.Get("X-Query-Key") != "key":
			answer(w, http.StatusUnauthorized, `{"error":"Invalid query key"}`)
		case r.URL.Path != "/v1/accounts/4711/query":
			http.NotFound(w, r)
		case !known:
			answer(w, http.StatusBadRequest, `{"error":"NRQL Syntax Error: Error at line 1 position 1, unexpected 'SELEC'"}`)
		default:
			answer(w, http.StatusOK, `{"results":[`+results+`],"metadata":{}}`)
		}
	})
	stories{
		{"a window is added", "SELECT filter(sum(a), WHERE b) / sum(a) FROM Metric", "1.5"},
		{"unless there is one", "SELECT average(duration) FROM T\nsince 1 hour ago", "newrelic at ADDRESS: 400 Bad Request: NRQL Syntax Error: Error at line 1 position 1, unexpected 'SELEC': check the query"},
		{"named for its function", "SELECT average(duration) FROM T SINCE 1 hour ago", "0.25"},
		{"a percentile", "SELECT percentile(d, 95) FROM T", "7"},
		{"two percentiles", "SELECT percentile(d, 95, 99) FROM T", "newrelic at ADDRESS: the query selects percentiles.95, percentiles.99, want one: SELECT one number"},
		{"null", "SELECT null", "newrelic at ADDRESS: no values"},
		{"no result", "SELECT none", "newrelic at ADDRESS: no values"},
		{"two results", "SELECT count(*), max(d) FROM T", "newrelic at ADDRESS: the query selects several values or facets, want one: SELECT one number"},
	}.tell(t, c)
	if got := online(t, c); got != "online" {
		t.Error(got)
	}
	c.Credentials["newrelic_query_key"] = []byte("other")
	want := "newrelic at ADDRESS: 401 Unauthorized: Invalid query key: check the credentials in the Secret, and what they allow"
	if got := online(t, c); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestNewRelicByNerdGraph(t *testing.T) {
	answers := map[string]string{
		"SELECT average(duration) FROM T SINCE 60 seconds ago": `{"average.duration":0.25}`,
		"SELECT percentile(d, 95) FROM T SINCE 60 seconds ago": `{"percentile.d":{"95":7}}`,
		"SELECT count(*) FROM T FACET a SINCE 60 seconds ago":  `{"count":1,"facet":"x"},{"count":2,"facet":"y"}`,
		"SELECT average(none) FROM T SINCE 60 seconds ago":     `{"average.none":null}`,
		"SELECT count(*) FROM Metric SINCE 1 minute ago":       `{"count":0}`,
	}
	c := Config{Type: "newrelic", Interval: "1m", Credentials: secret("newrelic_account_id", "4711", "newrelic_api_key", "NRAK-key")}
	c.Address = serve(t, func(w http.ResponseWriter, r *http.Request) {
		var question struct {
			Query     string
			Variables struct {
				Account int
				NRQL    string
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&question); err != nil {
			t.Error(err)
		}
		results, known := answers[question.Variables.NRQL]
		switch {
		case r.Header.Get("API-Key") != "NRAK-key":
			answer(w, http.StatusUnauthorized, `{"errors":[{"message":"Invalid credentials provided"}]}`)
		case r.Method != http.MethodPost || r.URL.Path != "/graphql" || question.Variables.Account != 4711:
			t.Errorf("%s %s %+v", r.Method, r.URL, question)
		case !known:
			answer(w, http.StatusOK, `{"data":{"actor":{"account":{"nrql":null}}},"errors":[{"message":"NRQL Syntax Error: unexpected 'SELEC'"}]}`)
		default:
			answer(w, http.StatusOK, `{"data":{"actor":{"account":{"nrql":{"results":[`+results+`]}}}}}`)
		}
	})
	stories{
		{"one number", "SELECT average(duration) FROM T", "0.25"},
		{"a percentile", "SELECT percentile(d, 95) FROM T", "7"},
		{"facets", "SELECT count(*) FROM T FACET a", "newrelic at ADDRESS: the query selects several values or facets, want one: SELECT one number"},
		{"null", "SELECT average(none) FROM T", "newrelic at ADDRESS: no values"},
		{"refused query", "SELEC", "newrelic at ADDRESS: NRQL Syntax Error: unexpected 'SELEC': check query and account"},
	}.tell(t, c)
	if got := online(t, c); got != "online" {
		t.Error(got)
	}
	c.Credentials["newrelic_api_key"] = []byte("other")
	want := "newrelic at ADDRESS: 401 Unauthorized: Invalid credentials provided: check the credentials in the Secret, and what they allow"
	if got := online(t, c); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	c.Credentials["newrelic_account_id"] = []byte("my account")
	if got, want := online(t, c), "newrelic: newrelic_account_id is no number: correct the Secret"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}
