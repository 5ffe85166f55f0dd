package metric

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Vectors that AWS publishes: two of its test suite, and the worked example of
// its documentation.
func TestSignaturesAreAWSOwn(t *testing.T) {
	keys := awsKeys{id: "AKIDEXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
	now := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	for _, v := range []struct{ method, url, service, contentType, signature string }{
		{"GET", "https://example.amazonaws.com/", "service", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"POST", "https://example.amazonaws.com/", "service", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		{"GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", "iam", "application/x-www-form-urlencoded; charset=utf-8", "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"},
	} {
		req := httptest.NewRequest(v.method, v.url, nil)
		if v.contentType != "" {
			req.Header.Set("Content-Type", v.contentType)
		}
		keys.sign(req, "", "us-east-1", v.service, now)
		if got := req.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature="+v.signature) {
			t.Errorf("%s %s: %s; want %s", v.method, v.url, got, v.signature)
		}
	}
}

// cloudWatchServer answers as the Query API of CloudWatch: a form signed with
// the right keys in, XML out, with pages.
type cloudWatchServer struct {
	t    *testing.T
	keys awsKeys
}

const cloudWatchQuery = `[
  {"Id": "%s", "Expression": "m1 / m2", "Label": "ErrorRate"},
  {"Id": "m1", "MetricStat": {"Metric": {"Namespace": "Shop", "MetricName": "Errors",
     "Dimensions": [{"Name": "app", "Value": "music"}]}, "Period": 60, "Stat": "Sum"}, "ReturnData": false}
]`

func (s cloudWatchServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	fault := func(code int, name, message string) {
		answer(w, code, "<ErrorResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\">\n<Error><Type>Sender</Type><Code>"+
			name+"</Code><Message>"+message+"</Message></Error><RequestId>4711</RequestId></ErrorResponse>")
	}
	if !s.signed(r, string(body)) {
		fault(http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		s.t.Error(err)
	}
	start, err1 := time.Parse(time.RFC3339, form.Get("StartTime"))
	end, err2 := time.Parse(time.RFC3339, form.Get("EndTime"))
	if err1 != nil || err2 != nil || end.Sub(start) != 10*time.Minute || form.Get("Action") != "GetMetricData" || form.Get("Version") != "2010-08-01" {
		s.t.Errorf("asked for %v", form)
	}
	result := func(id, values string) string {
		return "<member><Id>" + id + "</Id><Label>ErrorRate</Label><StatusCode>Complete</StatusCode><Values>" + values + "</Values></member>"
	}
	var results, next string
	switch id := form.Get("MetricDataQueries.member.1.Id"); id {
	case "rate":
		const second = "MetricDataQueries.member.2."
		if form.Get(second+"MetricStat.Metric.Dimensions.member.1.Value") != "music" || form.Get(second+"MetricStat.Period") != "60" || form.Get(second+"ReturnData") != "false" {
			s.t.Errorf("asked for %v", form)
		}
		results = result(id, "<member>0.25</member><member>0.5</member>")
	case "paged":
		results, next = result(id, ""), "page2"
		if form.Get("NextToken") == "page2" {
			results, next = result(id, "<member>7</member>"), ""
		}
	case "endless":
		results, next = result(id, ""), "again"
	case "none", "online":
		results = result(id, "")
	case "two":
		results = result("two", "<member>1</member>") + result("m1", "<member>2</member>")
	case "broken":
		results = "<member><Id>broken</Id><StatusCode>InternalError</StatusCode><Messages><member><Code>ArithmeticError</Code><Value>One or more data-points have been dropped</Value></member></Messages></member>"
	default:
		fault(http.StatusBadRequest, "ValidationError", "The value for parameter MetricDataQueries.member.1.Id is required")
		return
	}
	fmt.Fprintf(w, `<GetMetricDataResponse xmlns="http://monitoring.amazonaws.com/doc/2010-08-01/"><GetMetricDataResult><MetricDataResults>%s</MetricDataResults><NextToken>%s</NextToken></GetMetricDataResult></GetMetricDataResponse>`, results, next)
}

// signed signs what arrived once more and compares.
func (s cloudWatchServer) signed(r *http.Request, body string) bool {
	given := r.Header.Get("Authorization")
	names := regexp.MustCompile(`SignedHeaders=([^,]*)`).FindStringSubmatch(given)
	now, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if names == nil || err != nil || time.Since(now).Abs() > 5*time.Minute || r.Header.Get("X-Amz-Security-Token") != s.keys.session {
		return false
	}
	again := httptest.NewRequest(r.Method, "http://"+r.Host+r.URL.String(), nil)
	for name := range strings.SplitSeq(names[1], ";") {
		if name != "host" {
			again.Header.Set(name, r.Header.Get(name))
		}
	}
	s.keys.sign(again, body, "eu-central-1", "monitoring", now)
	return given == again.Header.Get("Authorization")
}

func TestCloudWatch(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	keys := awsKeys{"AKIDEXAMPLE", "secretkey", "sessiontoken"}
	server := httptest.NewServer(cloudWatchServer{t, keys})
	t.Cleanup(server.Close)
	c := Config{Type: "cloudwatch", Address: server.URL, Region: "eu-central-1", Interval: "1m",
		Credentials: secret("aws_access_key_id", keys.id, "aws_secret_access_key", keys.secret, "aws_session_token", keys.session)}
	query := func(id string) string { return fmt.Sprintf(cloudWatchQuery, id) }
	stories{
		{"newest value", query("rate"), "0.25"},
		{"on the second page", query("paged"), "7"},
		{"nothing", query("none"), "cloudwatch at ADDRESS: no values"},
		{"two return data", query("two"), "cloudwatch at ADDRESS: two, m1 return data, want one: set ReturnData to false on the others"},
		{"an error of one metric", query("broken"), "cloudwatch at ADDRESS: broken: InternalError: ArithmeticError: One or more data-points have been dropped: check the query and what the keys allow"},
		{"refused", "[{}]", "cloudwatch at ADDRESS: 400 Bad Request: ValidationError: The value for parameter MetricDataQueries.member.1.Id is required: check the query"},
		{"no JSON", "m1/m2", "cloudwatch at ADDRESS: the query is no list of MetricDataQueries in JSON (invalid character 'm' looking for beginning of value): write [{\"Id\": …}]"},
		{"empty", "[]", "cloudwatch at ADDRESS: the query is an empty list: write [{\"Id\": …}]"},
		{"pages without end", query("endless"), "cloudwatch at ADDRESS: 10 pages without an end: no values"},
	}.tell(t, c)
	if got := online(t, c); got != "online" {
		t.Error(got)
	}
	c.Credentials["aws_secret_access_key"] = []byte("another")
	want := "cloudwatch at ADDRESS: 403 Forbidden: SignatureDoesNotMatch: The request signature we calculated does not match the signature you provided.: check the credentials in the Secret, and what they allow"
	if got := online(t, c); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}

	c.Credentials = nil
	want = "cloudwatch: no keys: put aws_access_key_id and aws_secret_access_key into the Secret, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY into the environment"
	if got := online(t, c); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", keys.id)
	t.Setenv("AWS_SECRET_ACCESS_KEY", keys.secret)
	t.Setenv("AWS_SESSION_TOKEN", keys.session)
	if got := ask(t, c, query("rate")); got != "0.25" {
		t.Errorf("with keys of the environment: %s", got)
	}
}

// TestRegionsHaveTheirAddress: nothing is asked; only where it would be.
func TestRegionsHaveTheirAddress(t *testing.T) {
	for region, want := range map[string]string{
		"eu-central-1": "https://monitoring.eu-central-1.amazonaws.com",
		"cn-north-1":   "https://monitoring.cn-north-1.amazonaws.com.cn",
	} {
		p, err := New(Config{Type: "cloudwatch", Region: region, Interval: "1m", Credentials: secret("aws_access_key_id", "a", "aws_secret_access_key", "b")})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.(cloudWatch).place(); got != want {
			t.Errorf("%s is at %s, want %s", region, got, want)
		}
	}
}
