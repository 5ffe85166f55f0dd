package metric

import (
	"net/http"
	"testing"
)

func TestGraphite(t *testing.T) {
	answers := map[string]string{
		"asPercent(sumSeries( a.*.count ), b)": `[{"target":"a","datapoints":[[1,100],[90.5,160],[null,220]]}]`,
		"text":                                 `[{"target":"a","datapoints":[["3.5","100"]]}]`,
		"nulls":                                `[{"target":"a","datapoints":[[null,100],[NaN,160]]}]`,
		"gaps":                                 `[{"target":"a","datapoints":[[null,100]]},{"target":"b","datapoints":[[5,100]]}]`,
		"several":                              `[{"target":"a","datapoints":[[4,100]]},{"target":"b","datapoints":[[5,100]]}]`,
		"none":                                 `[]`,
		"test":                                 `[]`,
	}
	c := Config{Type: "graphite", Credentials: secret("username", "anna", "password", "pass")}
	c.Address = serve(t, func(w http.ResponseWriter, r *http.Request) {
		username, password, _ := r.BasicAuth()
		series, known := answers[r.FormValue("target")]
		switch {
		case username != "anna" || password != "pass":
			answer(w, http.StatusUnauthorized, "")
		case r.URL.Path != "/render" || r.FormValue("format") != "json":
			http.NotFound(w, r)
		case !known:
			answer(w, http.StatusBadRequest, "Invalid target: "+r.FormValue("target"))
		case r.FormValue("target") == "text" && r.FormValue("from") != "-1min":
			answer(w, http.StatusBadRequest, "no from")
		default:
			answer(w, http.StatusOK, series)
		}
	})
	stories{
		{"newest point with a value", "target=asPercent(sumSeries(\n   a.*.count\n ), b)", "90.5"},
		{"values as text", "target=text&from=-1min", "3.5"},
		{"not a number is no JSON", "target=nulls", "graphite at ADDRESS: the answer is not that of this kind of provider (invalid character 'N' looking for beginning of value): check type and address"},
		{"one of two series has values", "target=gaps", "5"},
		{"several series", "target=several", "graphite at ADDRESS: the query gives 2 series, want one: aggregate them, such as by sum or avg"},
		{"none", "target=none", "graphite at ADDRESS: no values"},
		{"refused", "target=(", "graphite at ADDRESS: 400 Bad Request: Invalid target: (: check the query"},
		{"no target", "a.b.c", "graphite at ADDRESS: the query has no target: begin it with target="},
		{"no query of a URL", "target=%zz", `graphite at ADDRESS: the query is not that of a URL (invalid URL escape "%zz"): write target=…`},
	}.tell(t, c)
	if got := online(t, c); got != "online" {
		t.Error(got)
	}
	c.Credentials["password"] = []byte("other")
	if got, want := online(t, c), "graphite at ADDRESS: 401 Unauthorized: check the credentials in the Secret, and what they allow"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}
