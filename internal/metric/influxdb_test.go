package metric

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

const influxHeader = "#datatype,string,long,dateTime:RFC3339,double,string\n,result,table,_time,_value,host\n"

func TestInfluxDB(t *testing.T) {
	answers := map[string]string{
		"mean":                     influxHeader + ",_result,0,2026-01-01T00:00:00Z,1.5,a\n,_result,0,2026-01-01T00:01:00Z,2.5,a\n\n",
		"count":                    "#datatype,string,long,long\n,result,table,_value\n,count,0,12\n\n",
		"empty":                    "",
		"null":                     influxHeader + ",_result,0,2026-01-01T00:00:00Z,,a\n",
		"by host":                  influxHeader + ",_result,0,2026-01-01T00:00:00Z,1,a\n,_result,1,2026-01-01T00:00:00Z,2,b\n",
		"two yields":               influxHeader + ",one,0,2026-01-01T00:00:00Z,1,a\n\n" + influxHeader + ",two,0,2026-01-01T00:00:00Z,2,a\n",
		"text":                     "#datatype,string,long,string\n,result,table,_value\n,_result,0,down\n",
		"breaks":                   influxHeader + ",_result,0,2026-01-01T00:00:00Z,1,a\n\n#datatype,string,string\n,error,reference\n,query terminated: memory limit exceeded,897\n",
		"page":                     "<html>\n",
		"quote":                    "\"",
		"buckets() |> limit(n: 1)": "#datatype,string,long,string\n,result,table,name\n,_result,0,default\n",
	}
	c := Config{Type: "influxdb", Credentials: secret("token", "my-token", "org", "shop")}
	c.Address = serve(t, func(w http.ResponseWriter, r *http.Request) {
		var question struct {
			Query, Type string
			Dialect     struct{ Annotations []string }
		}
		if err := json.NewDecoder(r.Body).Decode(&question); err != nil {
			t.Error(err)
		}
		body, known := answers[question.Query]
		switch {
		case r.Header.Get("Authorization") != "Token my-token":
			answer(w, http.StatusUnauthorized, `{"code":"unauthorized","message":"unauthorized access"}`)
		case r.FormValue("org") != "shop":
			answer(w, http.StatusNotFound, `{"code":"not found","message":"organization name \"`+r.FormValue("org")+`\" not found"}`)
		case r.Method != http.MethodPost || r.URL.Path != "/api/v2/query" || question.Type != "flux" || len(question.Dialect.Annotations) != 1:
			t.Errorf("%s %s %+v", r.Method, r.URL, question)
		case !known:
			answer(w, http.StatusBadRequest, `{"code":"invalid","message":"compilation failed: error at @1:1-1:5: undefined identifier"}`)
		default:
			answer(w, http.StatusOK, strings.ReplaceAll(body, "\n", "\r\n"))
		}
	})
	stories{
		{"newest row", "mean", "2.5"},
		{"a whole number", "count", "12"},
		{"empty", "empty", "influxdb at ADDRESS: no values"},
		{"null", "null", "influxdb at ADDRESS: no values"},
		{"several tables", "by host", "influxdb at ADDRESS: the query gives 2 series, want one: aggregate them, such as by sum or avg"},
		{"several results", "two yields", "influxdb at ADDRESS: the query gives 2 series, want one: aggregate them, such as by sum or avg"},
		{"text", "text", `influxdb at ADDRESS: _value is "down": let the query give a number`},
		{"an error after the first rows", "breaks", "influxdb at ADDRESS: query terminated: memory limit exceeded: check the query"},
		{"refused", "nonsense", "influxdb at ADDRESS: 400 Bad Request: compilation failed: error at @1:1-1:5: undefined identifier: check the query"},
		{"another server", "page", "influxdb at ADDRESS: the answer is not annotated CSV: check type and address"},
		{"no CSV", "quote", `influxdb at ADDRESS: the answer is not that of this kind of provider (parse error on line 1, column 2: extraneous or missing " in quoted-field): check type and address`},
	}.tell(t, c)
	if got := online(t, c); got != "online" {
		t.Error(got)
	}
	c.Credentials["org"] = []byte("other")
	want := `influxdb at ADDRESS: 404 Not Found: organization name "***" not found: check the address`
	if got := online(t, c); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	c.Credentials = nil
	want = "influxdb at ADDRESS: 401 Unauthorized: unauthorized access: check the credentials in the Secret, and what they allow"
	if got := online(t, c); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}
