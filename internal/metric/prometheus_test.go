package metric

import (
	"net/http"
	"testing"
)

// prometheusServer answers as Prometheus' HTTP API does: errors have a type and
// a message, and status 400 or 422.
func prometheusServer(authorized func(*http.Request) bool) http.HandlerFunc {
	answers := map[string]string{
		"vector(1)":      `{"resultType":"vector","result":[{"metric":{},"value":[1435781451.781,"1"]}]}`,
		"errors":         `{"resultType":"vector","result":[{"metric":{"__name__":"errors"},"value":[1435781451.781,"0.42"]}]}`,
		"scalar(errors)": `{"resultType":"scalar","result":[1435781451.781,"3"]}`,
		"1/0":            `{"resultType":"scalar","result":[1435781451.781,"+Inf"]}`,
		"0/0":            `{"resultType":"vector","result":[{"metric":{},"value":[1435781451.781,"NaN"]}]}`,
		"nothing":        `{"resultType":"vector","result":[]}`,
		"by (pod)":       `{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1,"1"]},{"metric":{"pod":"b"},"value":[1,"2"]}]}`,
		"errors[1m]":     `{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"],[2,"1"]]}]}`,
		"native":         `{"resultType":"vector","result":[{"metric":{},"histogram":[1435781451.781,{"count":"60","sum":"33","buckets":[[1,"-0.5","-0.2","60"]]}]}]}`,
		`"text"`:         `{"resultType":"string","result":[1435781451.781,"text"]}`,
	}
	return func(w http.ResponseWriter, r *http.Request) {
		data, known := answers[r.FormValue("query")]
		switch {
		case !authorized(r):
			answer(w, http.StatusUnauthorized, "Unauthorized")
		case r.Method != http.MethodGet || r.URL.Path != "/prom/api/v1/query":
			http.NotFound(w, r)
		case !known:
			answer(w, http.StatusBadRequest, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:5: parse error: unexpected end of input"}`)
		default:
			answer(w, http.StatusOK, `{"status":"success","data":`+data+`}`)
		}
	}
}

func TestPrometheus(t *testing.T) {
	c := Config{Type: "prometheus", Credentials: secret("username", "anna", "password", "correct horse\n"), Headers: http.Header{"X-Scope-OrgID": {"shop"}}}
	c.Address = serve(t, prometheusServer(func(r *http.Request) bool {
		username, password, ok := r.BasicAuth()
		return ok && username == "anna" && password == "correct horse" && r.Header.Get("X-Scope-OrgID") == "shop"
	})) + "/prom/"
	stories{
		{"one series", "  errors\n", "0.42"},
		{"scalar", "scalar(errors)", "3"},
		{"infinite", "1/0", "+Inf"},
		{"not a number", "0/0", "prometheus at ADDRESS: no values"},
		{"empty", "nothing", "prometheus at ADDRESS: no values"},
		{"several series", "by (pod)", "prometheus at ADDRESS: the query gives 2 series, want one: aggregate them, such as by sum or avg"},
		{"a range", "errors[1m]", "prometheus at ADDRESS: the query gives a range of time: give it one value, such as by rate(…[1m])"},
		{"a native histogram", "native", "prometheus at ADDRESS: the query gives a histogram: want one number, such as by histogram_quantile"},
		{"a string", `"text"`, `prometheus at ADDRESS: the query gives a "string": want one number`},
		{"refused query", "sum(", `prometheus at ADDRESS: 400 Bad Request: invalid parameter "query": 1:5: parse error: unexpected end of input: check the query`},
	}.tell(t, c)
	if got := online(t, c); got != "online" {
		t.Error(got)
	}
	c.Credentials["password"] = []byte("wrong")
	want := "prometheus at ADDRESS: 401 Unauthorized: Unauthorized: check the credentials in the Secret, and what they allow"
	if got := online(t, c); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestPrometheusByToken(t *testing.T) {
	c := Config{Type: "prometheus", Credentials: secret("token", "ey1234")}
	c.Address = serve(t, prometheusServer(func(r *http.Request) bool {
		return r.Header.Get("Authorization") == "Bearer ey1234"
	})) + "/prom"
	if got := ask(t, c, "errors"); got != "0.42" {
		t.Error(got)
	}
}
