package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/tools/txtar"

	"serin.dev/serin/test/story"
)

// example has all there is, with characters that mean something to some.
func example() Alert {
	return Alert{
		Release: "music", Namespace: "shop", Severity: Error,
		Title:  "music: rolled back v2 at 10 %",
		Text:   "5 of 50 failed on GET /api/v1/music/{id}, <b> & all",
		Fields: []Field{{"Target", "Deployment/music.shop"}, {"Evidence", "p < 0.001"}},
		Link:   "https://serin.example/runs/7",
	}
}

// TestPayloads compares what servers receive with what was recorded.
func TestPayloads(t *testing.T) {
	story.EachArchive(t, "testdata/payloads.txtar", func(t *testing.T, told *txtar.Archive) {
		for i, f := range told.Files {
			told.Files[i].Data = []byte(received(t, strings.TrimSuffix(f.Name, ".txt")))
		}
		if len(told.Files) != len(payloads()) {
			t.Errorf("%d payloads are recorded, there are %d types", len(told.Files), len(payloads()))
		}
	})
}

// received is the request that a server of some type gets.
func received(t *testing.T, kind string) string {
	var got bytes.Buffer
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(&got, "%s %s\n%s\n", r.Method, r.URL, r.Header.Get("Content-Type"))
		if err := json.Indent(&got, body, "", "  "); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	s, err := New(Config{Type: kind, Address: server.URL + "/hook?key=1", Channel: "on-call"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), example()); err != nil {
		t.Error(err)
	}
	return got.String() + "\n"
}

func TestMinimalAlert(t *testing.T) {
	for kind, payload := range payloads() {
		data, err := json.Marshal(payload(Config{}, Alert{Release: "music", Namespace: "shop", Text: "only text"}))
		if err != nil || !bytes.Contains(data, []byte("only text")) || bytes.Contains(data, []byte("null")) || bytes.Contains(data, []byte("Link")) {
			t.Errorf("%s: %s, %v", kind, data, err)
		}
	}
}

func TestFieldsOfTheCallerStay(t *testing.T) {
	a := Alert{Fields: make([]Field, 0, 5), Link: "x"}
	if a.fields(); len(a.Fields) != 0 || a.Fields[:1][0] != (Field{}) {
		t.Error("the link was written into the caller's array")
	}
}

// wire is a network of one server in memory, so that time can be fake.
type wire func(n int, r *http.Request) (*http.Response, error)

type counted struct {
	wire
	times []time.Duration // of the attempts, since the first
	begin time.Time
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.times = append(c.times, time.Since(c.begin))
	return c.wire(len(c.times), r)
}

func respond(code int, body string, header ...string) (*http.Response, error) {
	rec := httptest.NewRecorder()
	for i := 0; i < len(header); i += 2 {
		rec.Header().Set(header[i], header[i+1])
	}
	rec.WriteHeader(code)
	rec.WriteString(body)
	return rec.Result(), nil
}

// TestRetries tells when attempts are made, in seconds after the first, and
// what Send says in the end.
func TestRetries(t *testing.T) {
	for _, story := range []struct {
		name, token string
		wire        wire
		times, want string
	}{
		{"taken at once", "", func(int, *http.Request) (*http.Response, error) { return respond(200, "ok") }, "[0s]", ""},
		{"taken without a word", "", func(int, *http.Request) (*http.Response, error) { return respond(204, "") }, "[0s]", ""},
		{"a restart", "", func(n int, _ *http.Request) (*http.Response, error) {
			if n < 3 {
				return respond(503, "<html>nginx</html>")
			}
			return respond(200, "ok")
		}, "[0s 1s 3s]", ""},
		{"down", "", func(int, *http.Request) (*http.Response, error) { return nil, syscall.ECONNREFUSED },
			"[0s 1s 3s 7s]", "slack at hooks.example: connection refused: check the address and the proxy"},
		{"silent", "", func(_ int, r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, "[0s 6s 13s 22s]", "slack at hooks.example: no answer in time"},
		{"broken", "", func(int, *http.Request) (*http.Response, error) { return respond(500, "rollup_error") },
			"[0s 1s 3s 7s]", "slack at hooks.example: 500 Internal Server Error: rollup_error"},
		{"too many", "", func(n int, _ *http.Request) (*http.Response, error) {
			if n == 1 {
				return respond(429, "", "Retry-After", "10")
			}
			return respond(200, "ok")
		}, "[0s 10s]", ""},
		{"far too many", "", func(n int, _ *http.Request) (*http.Response, error) {
			if n < 3 {
				return respond(429, "", "Retry-After", "1e300")
			}
			return respond(200, "ok")
		}, "[0s 30s 1m0s]", ""},
		{"refused", "", func(int, *http.Request) (*http.Response, error) { return respond(404, "no_service") },
			"[0s]", "slack at hooks.example: 404 Not Found: no_service: check address, channel and token of the alert provider"},
		{"refused with a sentence", "", func(int, *http.Request) (*http.Response, error) {
			return respond(400, `{"error":{"code":400,"message":"Invalid JSON payload"}}`)
		}, "[0s]", "slack at hooks.example: 400 Bad Request: Invalid JSON payload: check address, channel and token of the alert provider"},
		{"moved", "", func(int, *http.Request) (*http.Response, error) {
			return respond(302, "", "Location", "https://elsewhere.example/")
		}, "[0s]", "slack at hooks.example: 302 Found: check address, channel and token of the alert provider"},
		{"the API of Slack refuses politely", "xoxb-4711", func(_ int, r *http.Request) (*http.Response, error) {
			if r.Header.Get("Authorization") != "Bearer xoxb-4711" {
				return respond(200, `{"ok":false,"error":"not_authed"}`)
			}
			return respond(200, `{"ok":false,"error":"channel_not_found"}`)
		}, "[0s]", "slack at hooks.example: refused: channel_not_found: check channel and token of the alert provider"},
		{"the API of Slack takes it", "xoxb-4711", func(int, *http.Request) (*http.Response, error) { return respond(200, `{"ok":true}`) }, "[0s]", ""},
	} {
		t.Run(story.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := New(Config{Type: "slack", Address: "https://hooks.example/services/T0000/SECRETPART", Token: story.token})
				if err != nil {
					t.Fatal(err)
				}
				c := &counted{wire: story.wire, begin: time.Now()}
				s.client.Transport = c
				got := ""
				if err := s.Send(t.Context(), example()); err != nil {
					got = err.Error()
				}
				if times := fmt.Sprint(c.times); got != story.want || times != story.times {
					t.Errorf("\n got %s %s\nwant %s %s", times, got, story.times, story.want)
				}
			})
		})
	}
}

func TestTheCallerCanStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Type: "gchat", Address: "https://chat.example/v1/spaces/SECRETPART"})
		if err != nil {
			t.Fatal(err)
		}
		s.client.Transport = &counted{wire: func(int, *http.Request) (*http.Response, error) { return respond(502, "") }, begin: time.Now()}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		err = s.Send(ctx, example())
		want := "gchat at chat.example: context deadline exceeded; last: 502 Bad Gateway"
		if !errors.Is(err, context.DeadlineExceeded) || err.Error() != want {
			t.Errorf("\n got %v\nwant %s", err, want)
		}
	})
}

// TestAddressesStaySecret: a server repeats the request, and none of it is shown.
func TestAddressesStaySecret(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "%s %s", r.URL, r.Header.Get("Authorization"))
	}))
	defer server.Close()
	dead := httptest.NewServer(nil)
	dead.Close()
	for kind := range payloads() {
		for _, address := range []string{server.URL, dead.URL} {
			s, err := New(Config{Type: kind, Address: address + "/services/SECRETPART/x?key=SECRETKEY", Token: "SECRETTOKEN"})
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = s.attempt(t.Context(), nil)
			if err == nil || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
	for _, c := range []Config{
		{Type: "slack", Address: "SECRET:// not a URL"},
		{Type: "slack", Address: "https://hooks.example/x", Proxy: "SECRET\n"},
	} {
		if _, err := New(c); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%v", err)
		}
	}
	if _, err := New(Config{Type: "pager"}); err == nil || err.Error() != `unknown alert provider "pager": take one of slack, msteams, discord, rocket, gchat` {
		t.Errorf("%v", err)
	}
}

func TestProxy(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer target.Close()
	through := make(chan string, 1)
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { through <- r.In.RequestURI }})
	defer proxy.Close()
	s, err := New(Config{Type: "rocket", Address: target.URL + "/hook", Proxy: proxy.URL})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), example()); err != nil {
		t.Fatal(err)
	}
	if got := <-through; got != target.URL+"/hook" {
		t.Errorf("the proxy was asked for %s", got)
	}
}

func TestSeverities(t *testing.T) {
	for text, want := range map[string]Severity{"": Info, "info": Info, "warn": Warn, "error": Error} {
		got, err := ParseSeverity(text)
		if err != nil || got != want || text != "" && got.String() != text {
			t.Errorf("ParseSeverity(%q) = %v, %v", text, got, err)
		}
	}
	if _, err := ParseSeverity("fatal"); err == nil || err.Error() != `severity "fatal": write info, warn or error` {
		t.Error(err)
	}
	if Info.Reaches(Warn) || !Warn.Reaches(Warn) || !Error.Reaches(Info) || Warn.Reaches(Error) {
		t.Error("severities are not in order")
	}
}

func FuzzReason(f *testing.F) {
	f.Add([]byte("no_service"))
	f.Add([]byte(`{"ok":false,"error":"channel_not_found"}`))
	f.Add([]byte(`{"error":{"message":"/services/SECRETPART"}}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		s, err := New(Config{Type: "slack", Address: "https://hooks.example/services/SECRETPART", Token: "SECRETTOKEN"})
		if err != nil {
			t.Fatal(err)
		}
		r := s.reason(answer)
		if len(r) > maxReason || strings.ContainsAny(r, "\n\r") || strings.Contains(r, "SECRETPART") || strings.Contains(r, "SECRETTOKEN") {
			t.Errorf("%q", r)
		}
		_ = s.slackRefusal(answer) // must not panic
	})
}
