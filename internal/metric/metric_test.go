package metric

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// stories are questions to a counterpart and what comes of them: a number, or
// an error. ADDRESS stands for that of the counterpart.
type stories []struct{ name, query, want string }

// tell asks the questions one after another.
func (s stories) tell(t *testing.T, c Config) {
	t.Helper()
	for _, story := range s {
		t.Run(story.name, func(t *testing.T) {
			if got := ask(t, c, story.query); got != story.want {
				t.Errorf("\n got %s\nwant %s", got, story.want)
			}
		})
	}
}

// ask says in words what becomes of a question.
func ask(t *testing.T, c Config, query string) string {
	t.Helper()
	var v float64
	p, err := New(c)
	if err == nil {
		v, err = p.Query(t.Context(), query)
	}
	if err == nil {
		return Number(v)
	}
	if none := errors.Is(err, ErrNoValues); none != strings.HasSuffix(err.Error(), "no values") {
		t.Errorf("%v is ErrNoValues: %v", err, none)
	}
	return strings.ReplaceAll(err.Error(), c.Address, "ADDRESS")
}

// online says in words what becomes of the question whether a provider works.
func online(t *testing.T, c Config) string {
	t.Helper()
	p, err := New(c)
	if err == nil {
		err = p.Online(t.Context())
	}
	if err == nil {
		return "online"
	}
	return strings.ReplaceAll(err.Error(), c.Address, "ADDRESS")
}

// serve starts a counterpart and returns its address.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// answer writes a status and a body.
func answer(w http.ResponseWriter, code int, body string) {
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body) // the client sees what is missing
}

func secret(pairs ...string) map[string][]byte {
	data := map[string][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		data[pairs[i]] = []byte(pairs[i+1])
	}
	return data
}

// complete are configurations, one for each type, that lack nothing.
func complete(address string) map[string]Config {
	all := map[string]Config{
		"prometheus": {Credentials: secret("username", "anna-prom", "password", "pw-prometheus")},
		"datadog":    {Credentials: secret("datadog_api_key", "key-dd-api\n", "datadog_application_key", "key-dd-app")},
		"cloudwatch": {Region: "eu-central-1", Credentials: secret("aws_access_key_id", "AKIDEXAMPLE", "aws_secret_access_key", "key-aws-secret", "aws_session_token", "token-aws")},
		"newrelic":   {Credentials: secret("newrelic_account_id", "4711000", "newrelic_query_key", "key-newrelic")},
		"graphite":   {Credentials: secret("username", "anna-graphite", "password", "pw-graphite")},
		"influxdb":   {Credentials: secret("token", "token-influx", "org", "shop-org")},
		"dynatrace":  {Credentials: secret("dynatrace_token", "token-dynatrace")},
		"web":        {Credentials: secret("token", "token-web", "header.X-Key", "key-web")},
	}
	for name, c := range all {
		c.Type, c.Address, c.Interval = name, address, "1m"
		all[name] = c
	}
	return all
}

// queryFor is a query that the provider would send.
func queryFor(kind string) string {
	switch kind {
	case "cloudwatch":
		return `[{"Id": "e1", "Expression": "1"}]`
	case "graphite":
		return "target=a"
	case "web":
		return "path: /a"
	default:
		return "a"
	}
}

func TestEveryTypeHasACompleteExample(t *testing.T) {
	all := complete("http://127.0.0.1:1")
	for _, name := range Types() {
		if _, err := New(all[name]); err != nil {
			t.Error(err)
		}
	}
	if len(all) != len(Types()) {
		t.Errorf("%d examples for the types %v", len(all), Types())
	}
}

// TestSecretsStayOutOfErrors: the server repeats all that it was sent, as
// proxies and debug pages do, and the errors must not.
func TestSecretsStayOutOfErrors(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		answer(w, http.StatusForbidden, fmt.Sprintf("denied %v %s %s", r.Header, r.URL, body))
	})
	address = strings.Replace(address, "http://", "http://joe:pw-of-address@", 1)
	for name, c := range complete(address + "/?apikey=key-of-address") {
		c.Headers = http.Header{"X-Extra": {"Bearer token-extra"}}
		p, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Query(t.Context(), queryFor(name))
		for _, err := range []error{err, p.Online(t.Context())} {
			if err == nil {
				t.Fatalf("%s: refused, but no error", name)
			}
			words := []string{"pw-of-address", "key-of-address", "token-extra"}
			for _, v := range c.Credentials {
				words = append(words, strings.TrimSpace(string(v)))
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				for _, w := range words {
					if strings.Contains(e.Error(), w) {
						t.Errorf("%s: the error contains %q: %v", name, w, e)
					}
				}
			}
			if !strings.Contains(err.Error(), name+" at http://127.0.0.1:") || !strings.Contains(err.Error(), "403 Forbidden: denied") {
				t.Errorf("%s: the error does not say who refused: %v", name, err)
			}
		}
	}
}

// TestHalfASecretIsOne: what a provider says is cut, perhaps within a secret.
func TestHalfASecretIsOne(t *testing.T) {
	const token = "token-0123456789"
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusBadRequest, r.FormValue("query")+token+" and much more"+strings.Repeat("x", maxDetail))
	})
	c := Config{Type: "prometheus", Address: address, Credentials: secret("token", token)}
	for padding := maxDetail - len(token); padding < maxDetail; padding++ {
		got := ask(t, c, strings.Repeat("x", padding))
		if strings.Contains(got, token[:minSecret]) || !strings.Contains(got, "xxx") {
			t.Fatalf("cut after %d bytes of it: %s", maxDetail-padding, got)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	server := httptest.NewServer(nil)
	address := server.URL
	server.Close()
	for name, c := range complete(address) {
		want := name + " at ADDRESS: dial tcp " + strings.TrimPrefix(address, "http://") +
			": connect: connection refused: check that it runs and that the address is right"
		if got := ask(t, c, queryFor(name)); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
}

func TestAnswersThatComeTooLateAreNotWaitedFor(t *testing.T) {
	release := make(chan struct{})
	address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(release) }) // before the server closes
	for name, c := range complete(address) {
		p, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err = p.Query(ctx, queryFor(name))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), name+" at "+address+": no answer in time") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOddServers: what stands at an address need not be what was meant.
func TestOddServers(t *testing.T) {
	var other string
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/html/"):
			answer(w, http.StatusBadGateway, "<html><body>nginx</body></html>")
		case strings.HasPrefix(r.URL.Path, "/login/"):
			answer(w, http.StatusOK, "<html>please log in</html>")
		case strings.HasPrefix(r.URL.Path, "/huge/"):
			answer(w, http.StatusOK, strings.Repeat(" ", maxAnswer+1))
		case strings.HasPrefix(r.URL.Path, "/elsewhere/"):
			http.Redirect(w, r, other, http.StatusFound)
		case strings.HasPrefix(r.URL.Path, "/next-door/"):
			http.Redirect(w, r, strings.Replace(other, "localhost", "127.0.0.1", 1), http.StatusFound)
		case strings.HasPrefix(r.URL.Path, "/moved/"):
			http.Redirect(w, r, strings.Replace(r.URL.String(), "/moved/", "/new/", 1), http.StatusFound)
		case strings.HasPrefix(r.URL.Path, "/new/"):
			answer(w, http.StatusOK, `{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}`)
		case strings.HasPrefix(r.URL.Path, "/loop/"):
			http.Redirect(w, r, r.URL.String(), http.StatusFound)
		case strings.HasPrefix(r.URL.Path, "/busy/"):
			answer(w, http.StatusTooManyRequests, "slow down\nplease")
		default:
			http.NotFound(w, r)
		}
	})
	reached := false
	other = strings.Replace(serve(t, func(http.ResponseWriter, *http.Request) { reached = true }), "127.0.0.1", "localhost", 1)
	for _, story := range []struct{ path, want string }{
		{"/html", "502 Bad Gateway"},
		{"/login", "the answer is not that of this kind of provider (invalid character '<' looking for beginning of value): check type and address"},
		{"/huge", "the answer has more than 4 MB: let the query give one number"},
		{"/elsewhere", "redirects to another host, " + strings.TrimPrefix(other, "http://") + ": make that the address, if it is right"},
		{"/next-door", "redirects to another host, " + strings.Replace(strings.TrimPrefix(other, "http://"), "localhost", "127.0.0.1", 1) + ": make that the address, if it is right"},
		{"/loop", "redirects without end: correct the address"},
		{"/busy", "429 Too Many Requests: slow down: it is asked too often; choose a longer interval"},
		{"/nothing", "404 Not Found: 404 page not found: check the address"},
	} {
		got := ask(t, Config{Type: "prometheus", Address: address + story.path}, "up")
		if want := "prometheus at ADDRESS: " + story.want; got != want {
			t.Errorf("%s:\n got %s\nwant %s", story.path, got, want)
		}
	}
	if reached {
		t.Error("credentials were sent to another host")
	}
	if got := ask(t, Config{Type: "prometheus", Address: address + "/moved"}, "up"); got != "7" {
		t.Errorf("a redirect on the same host: %s", got)
	}
}

func TestCertificates(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, `{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}`)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	c := Config{Type: "prometheus", Address: server.URL}
	if got := ask(t, c, "up"); !strings.Contains(got, "trust who signed it on this machine, or set insecureSkipVerify") {
		t.Error(got)
	}
	c.InsecureSkipVerify = true
	if got := ask(t, c, "up"); got != "7" {
		t.Error(got)
	}
}

func TestConfigsThatCannotWork(t *testing.T) {
	for _, story := range []struct {
		c    Config
		want string
	}{
		{Config{}, `unknown metric provider "": take one of prometheus, datadog, cloudwatch, newrelic, graphite, influxdb, dynatrace, web`},
		{Config{Type: "prometheus"}, "prometheus: no address: set it to the URL of the API, such as http://metrics.example:9090"},
		{Config{Type: "prometheus", Address: "prometheus:9090"}, "prometheus: the address is no URL: write one that begins with http:// or https://"},
		{Config{Type: "prometheus", Address: "http://a", Credentials: secret()}, "prometheus: no username and no password among the credentials: name a Secret with it in secretRef"},
		{Config{Type: "graphite", Address: "http://a", Credentials: secret("username", "a")}, "graphite: no password among the credentials: name a Secret with it in secretRef"},
		{Config{Type: "influxdb", Address: "http://a", Credentials: secret("token", "a")}, "influxdb: no org among the credentials: name a Secret with it in secretRef"},
		{Config{Type: "dynatrace", Address: "http://a"}, "dynatrace: no dynatrace_token among the credentials: name a Secret with it in secretRef"},
		{Config{Type: "datadog", Credentials: secret("datadog_api_key", "a", "datadog_application_key", "b")}, `datadog: interval "" is not a time: write one such as 1m`},
		{Config{Type: "newrelic", Interval: "10ms", Credentials: secret("newrelic_account_id", "1", "newrelic_query_key", "b")}, `newrelic: interval "10ms": want 1s or more`},
		{Config{Type: "newrelic", Interval: "1m"}, "newrelic: no newrelic_account_id and no newrelic_api_key among the credentials: name a Secret with it in secretRef"},
		{Config{Type: "cloudwatch"}, "cloudwatch: no region: set it to that of the metrics, such as eu-central-1"},
		{Config{Type: "web", Address: "http://a", Credentials: secret("username", "a")}, "web: no password among the credentials: name a Secret with it in secretRef"},
	} {
		if _, err := New(story.c); err == nil || err.Error() != story.want {
			t.Errorf("New(%+v):\n got %v\nwant %s", story.c, err, story.want)
		}
	}
}

func TestRanges(t *testing.T) {
	five, ten := 5.0, 10.0
	for _, story := range []struct {
		r        Range
		text     string
		contains string
	}{
		{Range{}, "any", "4 5 7 10 11"},
		{Range{Min: &five}, "at least 5", "5 7 10 11"},
		{Range{Max: &ten}, "at most 10", "4 5 7 10"},
		{Range{Min: &five, Max: &ten}, "5 to 10", "5 7 10"},
	} {
		var in []string
		for _, v := range []float64{4, 5, 7, 10, 11} {
			if story.r.Contains(v) {
				in = append(in, Number(v))
			}
		}
		if got := strings.Join(in, " "); got != story.contains || story.r.String() != story.text {
			t.Errorf("%s contains %s; want %s contains %s", story.r, got, story.text, story.contains)
		}
	}
}
