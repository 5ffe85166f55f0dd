package metric

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// datadogServer has points every 20 s, as Datadog has for a window of ten
// minutes. The last one is still being collected.
func datadogServer(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("DD-API-KEY") != "api" || r.Header.Get("DD-APPLICATION-KEY") != "app" {
			answer(w, http.StatusForbidden, `{"errors":["Forbidden","no such key"]}`)
			return
		}
		if r.URL.Path == "/api/v1/validate" {
			answer(w, http.StatusOK, `{"valid":true}`)
			return
		}
		from, err := strconv.ParseInt(r.FormValue("from"), 10, 64)
		to, err2 := strconv.ParseInt(r.FormValue("to"), 10, 64)
		if r.URL.Path != "/api/v1/query" || err != nil || err2 != nil || to-from != 600 || time.Since(time.Unix(to, 0)) > time.Minute {
			t.Errorf("asked for %s", r.URL)
		}
		at := func(secondsAgo int64) int64 { return (to - secondsAgo) * 1000 }
		series := map[string]string{
			"errors":   fmt.Sprintf(`{"interval":20,"pointlist":[[%d,1],[%d,2],[%d,3]]}`, at(50), at(30), at(10)),
			"gap":      fmt.Sprintf(`{"interval":20,"pointlist":[[%d,1],[%d,null],[null,null]]}`, at(50), at(30)),
			"new":      fmt.Sprintf(`{"interval":20,"pointlist":[[%d,3]]}`, at(10)),
			"none":     `{"interval":20,"pointlist":[]}`,
			"by {pod}": fmt.Sprintf(`{"interval":1,"pointlist":[[%d,1]]},{"interval":1,"pointlist":[[%[1]d,2]]}`, at(50)),
			"unknown":  "",
		}
		if data, ok := series[r.FormValue("query")]; ok {
			answer(w, http.StatusOK, `{"status":"ok","res_type":"time_series","series":[`+data+`]}`)
			return
		}
		answer(w, http.StatusOK, `{"status":"error","error":"Rule 'scope_expr' didn't match"}`)
	}
}

func TestDatadog(t *testing.T) {
	c := Config{Type: "datadog", Interval: "1m", Credentials: secret("datadog_api_key", "api", "datadog_application_key", "app")}
	c.Address = serve(t, datadogServer(t))
	stories{
		{"newest complete point", "errors", "2"},
		{"gaps are passed over", "gap", "1"},
		{"nothing complete yet", "new", "datadog at ADDRESS: no values"},
		{"no points", "none", "datadog at ADDRESS: no values"},
		{"no series", "unknown", "datadog at ADDRESS: no values"},
		{"several series", "by {pod}", "datadog at ADDRESS: the query gives 2 series, want one: aggregate them, such as by sum or avg"},
		{"refused query", "sum:", "datadog at ADDRESS: Rule 'scope_expr' didn't match: check the query"},
	}.tell(t, c)
	if got := online(t, c); got != "online" {
		t.Error(got)
	}
	c.Credentials = secret("datadog_api_key", "other", "datadog_application_key", "app")
	want := "datadog at ADDRESS: 403 Forbidden: Forbidden; no such key: check the credentials in the Secret, and what they allow"
	if got := online(t, c); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}
