package metric

import (
	"net/http"
	"strconv"
	"testing"
)

func TestDynatrace(t *testing.T) {
	answers := map[string]string{
		"builtin:service.response.time:percentile(95)": `"nextPageKey":null,"result":[{"metricId":"m","data":[{"dimensions":[],"timestamps":[1],"values":[1250.5]}]}]`,
		"null":    `"result":[{"data":[{"timestamps":[1],"values":[null]}]}]`,
		"none":    `"totalCount":0,"result":[{"metricId":"m","data":[]}]`,
		"by host": `"result":[{"data":[{"values":[1]},{"values":[2]}]}]`,
		"pages":   `"nextPageKey":"AAA","result":[{"data":[{"values":[1]}]}]`,
	}
	c := Config{Type: "dynatrace", Interval: "1m", Credentials: secret("dynatrace_token", "dt0c01")}
	c.Address = serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, known := answers[r.FormValue("metricSelector")]
		from, err := strconv.ParseInt(r.FormValue("from"), 10, 64)
		to, err2 := strconv.ParseInt(r.FormValue("to"), 10, 64)
		switch {
		case r.Header.Get("Authorization") != "Api-Token dt0c01":
			answer(w, http.StatusUnauthorized, `{"error":{"code":401,"message":"Token Authentication failed"}}`)
		case r.URL.Path == "/e/env/api/v2/metrics" && r.FormValue("pageSize") == "1":
			answer(w, http.StatusOK, `{"totalCount":0,"metrics":[]}`)
		case r.URL.Path != "/e/env/api/v2/metrics/query" || r.FormValue("resolution") != "Inf" || err != nil || err2 != nil || to-from != 600_000:
			t.Errorf("asked for %s", r.URL)
		case !known:
			answer(w, http.StatusBadRequest, `{"error":{"code":400,"message":"The metric selector is malformed"}}`)
		default:
			answer(w, http.StatusOK, "{"+body+"}")
		}
	}) + "/e/env"
	stories{
		{"one value", "builtin:service.response.time:percentile(95)\n", "1250.5"},
		{"null", "null", "dynatrace at ADDRESS: no values"},
		{"none", "none", "dynatrace at ADDRESS: no values"},
		{"several series", "by host", "dynatrace at ADDRESS: the query gives 2 series, want one: aggregate them, such as by sum or avg"},
		{"pages of series", "pages", "dynatrace at ADDRESS: the query gives pages of series, want one: aggregate them, such as by :splitBy()"},
		{"refused", "(", "dynatrace at ADDRESS: 400 Bad Request: The metric selector is malformed: check the query"},
	}.tell(t, c)
	if got := online(t, c); got != "online" {
		t.Error(got)
	}
	c.Credentials["dynatrace_token"] = []byte("other")
	want := "dynatrace at ADDRESS: 401 Unauthorized: Token Authentication failed: check the credentials in the Secret, and what they allow"
	if got := online(t, c); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}
