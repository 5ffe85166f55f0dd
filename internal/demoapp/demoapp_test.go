package demoapp

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func env(pairs ...string) func(string) string {
	return func(key string) string {
		for _, p := range pairs {
			if k, v, _ := strings.Cut(p, "="); k == key {
				return v
			}
		}
		return ""
	}
}

// start runs an application on a test server.
func start(t *testing.T, name string, transport http.RoundTripper, log io.Writer, pairs ...string) *httptest.Server {
	t.Helper()
	a, err := find(name)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := readConfig(a, env(pairs...))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newHandler(a, cfg, transport, slog.New(slog.NewJSONHandler(log, nil))))
	t.Cleanup(server.Close)
	return server
}

func do(t *testing.T, method, address, body string, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, strings.TrimSpace(string(data))
}

func TestMusicKeepsItsSongsInTheDatabase(t *testing.T) {
	db := start(t, "db", http.DefaultTransport, io.Discard, "SERIN_VERSION=v9")
	music := start(t, "music", http.DefaultTransport, io.Discard, "SERIN_VERSION=v2", "DB_URL="+db.URL)
	for _, step := range []struct {
		do   string
		code int
		want string
	}{
		{"GET /api/v1/music/3", 200, `{"artist":"Ralph Vaughan Williams","id":"3","title":"The Lark Ascending","version":"v2"}`},
		{`POST /api/v1/music {"artist":"Heinrich Biber","title":"Sonata representativa"}`, 201, `{"artist":"Heinrich Biber","id":"9","title":"Sonata representativa","version":"v2"}`},
		{"GET /api/v1/music/9", 200, `{"artist":"Heinrich Biber","id":"9","title":"Sonata representativa","version":"v2"}`},
		{"DELETE /api/v1/music/9", 200, `{"artist":"Heinrich Biber","id":"9","title":"Sonata representativa","version":"v2"}`},
		{"GET /api/v1/music/9", 404, `{"error":"no music with id \"9\"","version":"v2"}`},
		{"DELETE /api/v1/music/9", 404, `{"error":"no music with id \"9\"","version":"v2"}`},
		{`POST /api/v1/music/ {"title":"Ibis"}`, 201, `{"id":"10","title":"Ibis","version":"v2"}`},
		{`POST /api/v1/music/ {"id":"10"}`, 400, `{"error":"leave out \"id\": the service sets it","version":"v2"}`},
		{`POST /api/v1/music null`, 400, `{"error":"the body must be a JSON object, such as {\"title\": \"…\"}","version":"v2"}`},
		{"GET /api/v1/music/a%2Fb%3Fc", 404, `{"error":"no music with id \"a/b?c\"","version":"v2"}`},
		{"GET /healthz", 200, `{"status":"ok","version":"v2"}`},
	} {
		method, rest, _ := strings.Cut(step.do, " ")
		path, body, _ := strings.Cut(rest, " ")
		resp, got := do(t, method, music.URL+path, body, nil)
		if resp.StatusCode != step.code || got != step.want {
			t.Errorf("%s: %d %s\nwant %d %s", step.do, resp.StatusCode, got, step.code, step.want)
		}
		if v := resp.Header.Get(versionHeader); v != "v2" {
			t.Errorf("%s: %s: %q; want v2", step.do, versionHeader, v)
		}
	}
	_, list := do(t, "GET", music.URL+"/api/v1/music", "", nil)
	if n := strings.Count(list, `"artist"`); n != 8 {
		t.Errorf("list holds %d songs with an artist; want 8: %s", n, list)
	}
}

func TestFullTableRefusesMoreButStillLists(t *testing.T) {
	d := newStore()
	big := strings.Repeat("x", maxBody-100)
	var err error
	for range maxRecords {
		_, err = d.add("user", record{"lastName": big})
	}
	if err == nil || !strings.Contains(err.Error(), "delete some") {
		t.Errorf("add to a full table: %v; want an error that says to delete some", err)
	}
	items, err := d.list("user")
	if err != nil {
		t.Fatal(err)
	}
	if data, err := json.Marshal(record{"items": items}); err != nil || len(items) != maxRecords || len(data) > maxAnswer {
		t.Errorf("%d records, %d bytes, %v; want %d records in at most %d bytes", len(items), len(data), err, maxRecords, maxAnswer)
	}
}

func TestCallsGoThroughTheProxyWithTraceHeaders(t *testing.T) {
	header := http.Header{
		"X-Request-Id": {"r-1"},
		"Traceparent":  {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		"X-B3-Traceid": {"463ac35c9f6413ad"},
		"B3":           {"0"},
		"End-User":     {"jason"},
	}
	var host string
	seen := http.Header{}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host = r.URL.Host
		for h := range header {
			seen[h] = r.Header.Values(h)
		}
		fmt.Fprint(w, `{"id":"1"}`)
	}))
	defer proxy.Close()
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	music := start(t, "music", &http.Transport{Proxy: http.ProxyURL(address)}, io.Discard)
	if _, got := do(t, "GET", music.URL+"/api/v1/music/1", "", header); got != `{"id":"1","version":"v1"}` {
		t.Errorf("music answers %s; want the proxy's song", got)
	}
	if host != "db:30002" {
		t.Errorf("the proxy was asked for %q; want db:30002", host)
	}
	if diff := cmp.Diff(header, seen); diff != "" {
		t.Errorf("headers that reached the database (-want +got):\n%s", diff)
	}
}

func TestBrokenUpstreamIsABadGateway(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"proxy without route", http.NotFound, `{"error":"call db: status 404 with a body that is not a JSON object","version":"v1"}`},
		{"failing database", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			fmt.Fprint(w, `{"error":"disk on fire"}`)
		}, `{"error":"call db: status 500: disk on fire","version":"v1"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := httptest.NewServer(c.answer)
			defer db.Close()
			music := start(t, "music", http.DefaultTransport, io.Discard, "DB_URL="+db.URL)
			if resp, got := do(t, "GET", music.URL+"/api/v1/music/1", "", nil); resp.StatusCode != 502 || got != c.want {
				t.Errorf("%d %s; want 502 %s", resp.StatusCode, got, c.want)
			}
		})
	}
}

func TestPercentErrorFailsThatShareOfReads(t *testing.T) {
	db := start(t, "db", http.DefaultTransport, io.Discard)
	const n = 1000
	failures := func(percent, seed string) (int, string) {
		var log strings.Builder
		music := start(t, "music", http.DefaultTransport, &log, "DB_URL="+db.URL, "PERCENT_ERROR="+percent, "SEED="+seed)
		failed := 0
		for range n {
			resp, body := do(t, "GET", music.URL+"/api/v1/music/1", "", nil)
			if resp.StatusCode == 500 {
				failed++
				if want := `{"error":"internal error while reading","version":"v1"}`; body != want {
					t.Fatalf("failed read answers %s; want %s", body, want)
				}
			}
		}
		music.Close() // so that the last line is written
		return failed, log.String()
	}
	half, log := failures("50", "1")
	if half < 450 || half > 550 { // three standard deviations are 47
		t.Errorf("PERCENT_ERROR=50: %d of %d reads failed; want about half", half, n)
	}
	if again, _ := failures("50", "1"); again != half {
		t.Errorf("the same SEED: %d failures, then %d", half, again)
	}
	if got := strings.Count(log, "drawn to fail by PERCENT_ERROR=50"); got != half {
		t.Errorf("%d failures, %d of them explained in the log", half, got)
	}
	if !strings.Contains(log, `goroutine `) {
		t.Error("the log of a failed read holds no stack")
	}
	if none, _ := failures("0", "1"); none != 0 {
		t.Errorf("PERCENT_ERROR=0: %d reads failed", none)
	}
}

func TestWritesNeverFailByPercentError(t *testing.T) {
	db := start(t, "db", http.DefaultTransport, io.Discard)
	music := start(t, "music", http.DefaultTransport, io.Discard, "DB_URL="+db.URL, "PERCENT_ERROR=100")
	if resp, _ := do(t, "POST", music.URL+"/api/v1/music", `{"title":"x"}`, nil); resp.StatusCode != 201 {
		t.Errorf("POST: %d; want 201", resp.StatusCode)
	}
	if resp, _ := do(t, "GET", music.URL+"/healthz", "", nil); resp.StatusCode != 200 {
		t.Errorf("health: %d; want 200", resp.StatusCode)
	}
}

func TestEveryRequestIsLoggedOnceAndProbesAreNot(t *testing.T) {
	var log strings.Builder
	user := start(t, "db", http.DefaultTransport, &log)
	do(t, "GET", user.URL+"/healthz", "", nil)
	do(t, "GET", user.URL+"/api/v1/datastore/user/1", "", http.Header{"X-Request-Id": {"r-7"}})
	user.Close() // so that the last line is written
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 1 {
		t.Fatalf("%d lines; want 1:\n%s", len(lines), log.String())
	}
	var line map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &line); err != nil {
		t.Fatal(err)
	}
	if line["path"] != "/api/v1/datastore/user/1" || line["code"] != 200.0 || line["request_id"] != "r-7" {
		t.Errorf("log line %s; want path, code and request id of the request", lines[0])
	}
}

func TestMainAnswersUnderWayRequestsAfterTheEnd(t *testing.T) {
	// The upstream holds the answer back until the application is draining.
	arrived, release := make(chan bool), make(chan bool)
	db := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		fmt.Fprint(w, `{"id":"1"}`)
	}))
	defer db.Close()

	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- Main(ctx, []string{"music", "v5"}, env("PORT=0", "POD_IP=127.0.0.1", "SERIN_VERSION=v4", "DB_URL="+db.URL), w)
		w.Close()
	}()
	logged := bufio.NewScanner(r)
	line := func(msg string) (found struct{ Msg, Address string }) {
		t.Helper()
		for logged.Scan() {
			if err := json.Unmarshal(logged.Bytes(), &found); err == nil && found.Msg == msg {
				return found
			}
		}
		t.Fatalf("the log ended before %q", msg)
		return
	}
	address := line("listening").Address

	type answer struct {
		code int
		body string
	}
	answered := make(chan answer, 1)
	go func() {
		resp, err := http.Get("http://" + address + "/api/v1/music/1")
		if err != nil {
			answered <- answer{body: err.Error()}
			return
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			answered <- answer{body: err.Error()}
			return
		}
		answered <- answer{resp.StatusCode, strings.TrimSpace(string(data))}
	}()
	<-arrived
	cancel()
	line("draining")
	close(release)
	go io.Copy(io.Discard, r) // let the log flow
	if got, want := <-answered, (answer{200, `{"id":"1","version":"v5"}`}); got != want {
		t.Errorf("request under way at the end: %v; want %v", got, want)
	}
	if err := <-ended; err != nil {
		t.Errorf("Main: %v; want nil", err)
	}
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Errorf("%s still listens after Main returned", address)
	}
}

func TestMainSaysWhatToChange(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		env  string
		want string
	}{
		{nil, "", "want NAME [VERSION], NAME one of music, user, db, productpage, details, reviews, ratings"},
		{[]string{"nusic"}, "", `no demo application "nusic": take one of music, user, db, productpage, details, reviews, ratings`},
		{[]string{"db"}, "PORT=http", "db: PORT=http: want a number from 0 to 65535"},
		{[]string{"db"}, "POD_IP=here", "db: POD_IP=here: want an IP address"},
		{[]string{"db"}, "PERCENT_ERROR=NaN", "db: PERCENT_ERROR=NaN: want a number from 0 to 100"},
		{[]string{"db"}, "DELAY=slow", "db: DELAY=slow: want a duration such as 50ms"},
		{[]string{"db"}, "SEED=-1", "db: SEED=-1: want a whole number from 0"},
		{[]string{"user"}, "DB_URL=db:1", "user: DB_URL=db:1: want an address such as http://db:30002"},
		{[]string{"db"}, "PORT=" + port, "db: listen tcp 127.0.0.1:" + port + ": bind: address already in use: set PORT to a free port"},
	} {
		if err := Main(t.Context(), c.args, env(c.env), io.Discard); err == nil || err.Error() != c.want {
			t.Errorf("Main(%q) with %s: %v\nwant %s", c.args, c.env, err, c.want)
		}
	}
}
