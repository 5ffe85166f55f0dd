package metric

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzAnswers gives arbitrary bytes to all that reads answers. A value is never
// NaN, and an error never comes with one.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}`,
		`{"status":"success","data":{"resultType":"scalar","result":[1,"NaN"]}}`,
		`{"status":"ok","series":[{"interval":20,"pointlist":[[1000,1],[null,2]]}]}`,
		`{"results":[{"percentiles":{"95":1}}]}`,
		`{"data":{"actor":{"account":{"nrql":{"results":[{"count":1}]}}}},"errors":[{"message":"no"}]}`,
		`[{"datapoints":[["1",2],[null,3]]}]`,
		`{"result":[{"data":[{"values":[1,null]}]}]}`,
		influxHeader + ",_result,0,2026-01-01T00:00:00Z,NaN,a\n",
		"#datatype,string,string\n,error,reference\n,bad,897\n",
		`<GetMetricDataResponse><GetMetricDataResult><MetricDataResults><member><Id>a</Id><Values><member>NaN</member></Values></member></MetricDataResults></GetMetricDataResult></GetMetricDataResponse>`,
		`{"error":{"message":"no"}}`, `{"errors":["no"]}`, `"NaN"`, "7",
	} {
		f.Add([]byte(seed))
	}
	parsers := map[string]func([]byte) (float64, error){
		"prometheus": parsePrometheus,
		"datadog":    func(b []byte) (float64, error) { return parseDatadog(b, time.Unix(1_800_000_000, 0)) },
		"newrelic":   parseNewRelic,
		"nerdgraph":  parseNerdGraph,
		"graphite":   parseGraphite,
		"influxdb":   parseInfluxDB,
		"dynatrace":  parseDynatrace,
		"web":        webQuery{}.value,
		"success":    webQuery{Success: map[string]any{"a": 1.0}}.value,
		"cloudwatch": func(b []byte) (float64, error) {
			page, err := parseCloudWatch(b)
			if err != nil || len(page.results) == 0 || len(page.results[0].values) == 0 {
				return 0, err
			}
			return measured(page.results[0].values[0])
		},
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for name, parse := range parsers {
			v, err := parse(body)
			if math.IsNaN(v) || err != nil && v != 0 {
				t.Errorf("%s gives %v, %v", name, v, err)
			}
		}
		if d := detail(body); len(d) > maxDetail+len(ellipsis) || !utf8.ValidString(d) || strings.Contains(d, "\n") {
			t.Errorf("detail %q", d)
		}
	})
}

// FuzzWebQuery gives arbitrary queries and answers to the way from one to the
// value in the other.
func FuzzWebQuery(f *testing.F) {
	f.Add("jsonPath: .a.b", `{"a":{"b":1}}`)
	f.Add("jsonPath: '{.a[?(@.n==\"x\")].v}'", `{"a":[{"n":"x","v":true}]}`)
	f.Add("jsonPath: '{..v}'\nsuccess: [1]", `{"a":[{"v":[1]}]}`)
	f.Add("jsonPath: '{.a[-1:]}'", `{"a":[1,2]}`)
	f.Fuzz(func(t *testing.T, query, body string) {
		q, err := parseWebQuery(query)
		if err != nil {
			return
		}
		if v, err := q.value([]byte(body)); math.IsNaN(v) || err != nil && v != 0 {
			t.Errorf("%v, %v", v, err)
		}
	})
}
