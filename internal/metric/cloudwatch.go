package metric

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cloudWatch asks for metric data of the last ten intervals and takes the
// newest value. The query is a list of MetricDataQueries in JSON, of which one
// returns data.
//
// Secret: aws_access_key_id, aws_secret_access_key and, for keys that expire,
// aws_session_token. Without a Secret the variables of the environment that
// AWS's own tools read are taken: AWS_ACCESS_KEY_ID and so on.
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html)
type cloudWatch struct {
	*asker
	keys   awsKeys
	region string
	window time.Duration
}

const (
	cloudWatchVersion = "2010-08-01" // of the API; there is no other

	// maxPages bounds how often it is asked for more. A page without values is
	// rare, a second one a fault.
	maxPages = 10
)

func newCloudWatch(c Config) (Provider, error) {
	if c.Region == "" {
		return nil, errors.New("no region: set it to that of the metrics, such as eu-central-1")
	}
	own := "https://monitoring." + c.Region + ".amazonaws.com"
	if strings.HasPrefix(c.Region, "cn-") {
		own += ".cn"
	}
	a, err := newAsker(c, own)
	if err != nil {
		return nil, err
	}
	keys := awsKeys{os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")}
	if c.Credentials != nil {
		keys = awsKeys{c.credential("aws_access_key_id"), c.credential("aws_secret_access_key"), c.credential("aws_session_token")}
	}
	if keys.id == "" || keys.secret == "" {
		return nil, errors.New("no keys: put aws_access_key_id and aws_secret_access_key into the Secret, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY into the environment")
	}
	a.hide(keys.id, keys.secret, keys.session)
	w, err := wideWindow(c)
	return cloudWatch{a, keys, c.Region, w}, err
}

func (p cloudWatch) Query(ctx context.Context, query string) (float64, error) {
	form, err := cloudWatchForm(query)
	if err != nil {
		return 0, p.fail(err)
	}
	now := time.Now()
	form.Set("StartTime", now.Add(-p.window).UTC().Format(time.RFC3339))
	form.Set("EndTime", now.UTC().Format(time.RFC3339))
	form.Set("ScanBy", "TimestampDescending")
	var ids []string
	for range maxPages {
		body, err := p.post(ctx, form)
		if err != nil {
			return 0, err
		}
		page, err := parseCloudWatch(body)
		if err != nil {
			return 0, p.fail(err)
		}
		for _, r := range page.results {
			if !slices.Contains(ids, r.id) {
				ids = append(ids, r.id)
			}
		}
		if len(ids) > 1 {
			return 0, p.fail(fmt.Errorf("%s return data, want one: set ReturnData to false on the others", clip(strings.Join(ids, ", "))))
		}
		for _, r := range page.results {
			if len(r.values) > 0 {
				return p.result(measured(r.values[0]))
			}
		}
		if page.next == "" {
			return 0, p.fail(ErrNoValues)
		}
		form.Set("NextToken", page.next)
	}
	return 0, p.fail(fmt.Errorf("%d pages without an end: %w", maxPages, ErrNoValues))
}

// Online asks for the metric that CloudWatch keeps of itself; whether there is
// one is all the same.
func (p cloudWatch) Online(ctx context.Context) error {
	_, err := p.Query(ctx, `[{"Id": "online", "MetricStat": {"Metric": {"Namespace": "AWS/Usage", "MetricName": "CallCount"}, "Period": 60, "Stat": "Sum"}}]`)
	if errors.Is(err, ErrNoValues) {
		return nil
	}
	return err
}

func (p cloudWatch) post(ctx context.Context, form url.Values) ([]byte, error) {
	form.Set("Action", "GetMetricData")
	form.Set("Version", cloudWatchVersion)
	body := form.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url("", nil), strings.NewReader(body))
	if err != nil {
		return nil, p.fail(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	p.keys.sign(req, body, p.region, "monitoring", time.Now())
	return p.send(req)
}

// cloudWatchForm writes a query in JSON as AWS's parameters: members of lists
// are numbered from 1.
func cloudWatchForm(query string) (url.Values, error) {
	var list []map[string]any
	d := json.NewDecoder(strings.NewReader(query))
	d.UseNumber()
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf("the query is no list of MetricDataQueries in JSON (%w): write [{\"Id\": …}]", err)
	}
	if len(list) == 0 {
		return nil, errors.New("the query is an empty list: write [{\"Id\": …}]")
	}
	form := url.Values{}
	for i, q := range list {
		flatten(form, "MetricDataQueries.member."+strconv.Itoa(i+1), q)
	}
	return form, nil
}

func flatten(form url.Values, name string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			flatten(form, name+"."+key, inner)
		}
	case []any:
		for i, inner := range v {
			flatten(form, name+".member."+strconv.Itoa(i+1), inner)
		}
	case nil:
	default:
		form.Set(name, fmt.Sprint(v))
	}
}

type cloudWatchPage struct {
	results []cloudWatchResult
	next    string
}

type cloudWatchResult struct {
	id     string
	values []float64 // newest first
}

func parseCloudWatch(body []byte) (cloudWatchPage, error) {
	var answer struct {
		XMLName xml.Name `xml:"GetMetricDataResponse"`
		Result  struct {
			NextToken string
			Results   []struct {
				ID         string `xml:"Id"`
				StatusCode string
				Values     []float64                      `xml:"Values>member"`
				Messages   []struct{ Code, Value string } `xml:"Messages>member"`
			} `xml:"MetricDataResults>member"`
		} `xml:"GetMetricDataResult"`
	}
	if err := xml.Unmarshal(body, &answer); err != nil {
		return cloudWatchPage{}, fmt.Errorf("the answer is not that of this kind of provider (%w): check type and address", err)
	}
	page := cloudWatchPage{next: answer.Result.NextToken}
	for _, r := range answer.Result.Results {
		switch r.StatusCode {
		case "InternalError", "Forbidden":
			text := r.StatusCode
			for _, m := range r.Messages {
				text += ": " + m.Code + ": " + m.Value
			}
			return cloudWatchPage{}, fmt.Errorf("%s: %s: check the query and what the keys allow", r.ID, clip(text))
		}
		page.results = append(page.results, cloudWatchResult{r.ID, r.Values})
	}
	return page, nil
}
