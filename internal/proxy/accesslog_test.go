package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/telemetry"
)

// wholeEntry is an entry in which everything is said.
func wholeEntry() *logEntry {
	return &logEntry{
		Request: &telemetry.Request{
			ID: "7", Start: time.Date(2026, 11, 21, 8, 0, 0, 123_000_000, time.UTC), Duration: 1500 * time.Millisecond,
			Protocol: "HTTP/1.1", Method: "GET", Host: "music", Path: "/a", Code: 503, Flags: "URX,UF", Sent: 91, Read: 5,
			Upstream: "10.0.0.1:80",
		},
		target: "/a?b=c", details: "why", failure: "connection refused", serviceTime: 2 * time.Millisecond,
		forwardedFor: "1.2.3.4, 5.6.7.8", userAgent: `curl "8"`, cluster: clusterName{80, "v1", "music.default"},
		upstream: netip.MustParseAddrPort("10.0.0.9:4000"), local: netip.MustParseAddrPort("127.0.0.1:15001"),
		remote: netip.MustParseAddrPort("[::1]:5000"), serverName: "shop.example", route: "primary",
	}
}

func lineOf(e *logEntry, asJSON bool) string {
	l := logLine{json: asJSON}
	l.write(e)
	return string(l.b)
}

func TestLinesAreIstios(t *testing.T) {
	nothing := &logEntry{Request: &telemetry.Request{Start: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)}}
	for _, test := range []struct {
		entry      *logEntry
		text, json string
	}{
		{
			wholeEntry(),
			`[2026-11-21T08:00:00.123Z] "GET /a?b=c HTTP/1.1" 503 URX,UF why - "connection refused" 5 91 1500 2 "1.2.3.4, 5.6.7.8" "curl \"8\"" "7" "music" "10.0.0.1:80" outbound|80|v1|music.default 10.0.0.9:4000 127.0.0.1:15001 [::1]:5000 shop.example primary`,
			`{"start_time":"2026-11-21T08:00:00.123Z","method":"GET","path":"/a?b=c","protocol":"HTTP/1.1","response_code":503,"response_flags":"URX,UF","response_code_details":"why","connection_termination_details":null,"upstream_transport_failure_reason":"connection refused","bytes_received":5,"bytes_sent":91,"duration":1500,"upstream_service_time":2,"x_forwarded_for":"1.2.3.4, 5.6.7.8","user_agent":"curl \"8\"","request_id":"7","authority":"music","upstream_host":"10.0.0.1:80","upstream_cluster":"outbound|80|v1|music.default","upstream_local_address":"10.0.0.9:4000","downstream_local_address":"127.0.0.1:15001","downstream_remote_address":"[::1]:5000","requested_server_name":"shop.example","route_name":"primary"}`,
		},
		{
			nothing,
			`[2026-11-21T08:00:00.000Z] "- - -" 0 - - - "-" 0 0 0 - "-" "-" "-" "-" "-" - - - - - -`,
			`{"start_time":"2026-11-21T08:00:00.000Z","method":null,"path":null,"protocol":null,"response_code":0,"response_flags":null,"response_code_details":null,"connection_termination_details":null,"upstream_transport_failure_reason":null,"bytes_received":0,"bytes_sent":0,"duration":0,"upstream_service_time":null,"x_forwarded_for":null,"user_agent":null,"request_id":null,"authority":null,"upstream_host":null,"upstream_cluster":null,"upstream_local_address":null,"downstream_local_address":null,"downstream_remote_address":null,"requested_server_name":null,"route_name":null}`,
		},
	} {
		if diff := cmp.Diff(test.text+"\n", lineOf(test.entry, false)); diff != "" {
			t.Errorf("text (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(test.json+"\n", lineOf(test.entry, true)); diff != "" {
			t.Errorf("JSON (-want +got):\n%s", diff)
		}
	}
}

// FuzzLine: whatever a caller sends, it stays one line, and in JSON one value.
func FuzzLine(f *testing.F) {
	f.Add("GET", "/a?b", "music", "curl")
	f.Add(`"`, `\`, "\x00\n\r", "\xff\u2028\x7f")
	f.Fuzz(func(t *testing.T, method, target, host, agent string) {
		e := wholeEntry()
		e.Method, e.target, e.Host, e.userAgent = method, target, host, agent
		if text := lineOf(e, false); strings.Count(text, "\n") != 1 {
			t.Errorf("text is not one line: %q", text)
		}
		line := lineOf(e, true)
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil || strings.Count(line, "\n") != 1 {
			t.Fatalf("%v: %q", err, line)
		}
		for name, sent := range map[string]string{"method": method, "path": target, "authority": host, "user_agent": agent} {
			var want any
			if sent != "" {
				want = string([]rune(sent))
			}
			if got[name] != want {
				t.Errorf("%s = %q, want %q", name, got[name], want)
			}
		}
	})
}

// lockedBuffer is what an access log is written to while a test looks at it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestTheAccessLogTellsOfEachRequest(t *testing.T) {
	var out lockedBuffer
	r := newRig(t, Config{Loops: 1, AccessLog: AccessLog{Format: AccessLogText, To: &out}})
	named := weighted("music.default", 1)
	named.Routes[0].Name = "primary"
	app := r.app(func(w http.ResponseWriter, q *http.Request) {
		io.Copy(w, q.Body)
	})
	r.apply(named, service("music.default", app), service("gone.default", "127.0.0.1:1")) // port 1 is nobody's
	l, client := r.outbound()
	q, err := http.NewRequest("POST", "http://music/songs?n=1", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("User-Agent", "test")
	q.Header.Set("X-Request-Id", "first")
	res, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	r.get(client, "http://gone/")
	r.get(client, "http://music:81/")
	c := r.dialTo(l)
	c.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
	c.answer("GET")
	if err := r.Shutdown(t.Context()); err != nil { // writes all lines
		t.Fatal(err)
	}
	var got []string
	volatile := regexp.MustCompile(`^\[[^]]*\] |127\.0\.0\.1:\d+|"[0-9a-f]{8}-[0-9a-f-]{27}"|dial .*refused`)
	numbers := regexp.MustCompile(`(\d+ \d+) \d+ (\d+|-) `) // duration and service time
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSuffix(volatile.ReplaceAllString(line, "*"), "\n")
		got = append(got, numbers.ReplaceAllString(line, "$1 * * "))
	}
	want := []string{
		`*"POST /songs?n=1 HTTP/1.1" 200 - via_upstream - "-" 5 5 * * "-" "test" "first" "music" "*" outbound|80|v1|music.default * * * - primary`,
		`*"GET / HTTP/1.1" 503 UF,URX upstream_reset_before_response_started{remote_connection_failure} - "*" 0 45 * * "-" "Go-http-client/1.1" * "gone" "*" outbound|80||gone.default - * * - -`,
		`*"GET / HTTP/1.1" 404 NR route_not_found - "-" 0 43 * * "-" "Go-http-client/1.1" * "music:81" "-" - - * * - -`,
		`*"GET / HTTP/1.1" 400 DPE codec_error - "-" 0 0 * * "-" "-" "-" "-" "-" - - * * - -`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// stuckWriter takes nothing until it is let go, and fails then.
type stuckWriter chan struct{}

func (w stuckWriter) Write([]byte) (int, error) {
	<-w
	return 0, errors.New("disk is full")
}

func TestALogThatIsSlowLosesLinesAndHoldsNobodyUp(t *testing.T) {
	stuck := make(stuckWriter)
	var said lockedBuffer
	a := newAccessLog(AccessLog{Format: AccessLogJSON, To: stuck}, slog.New(slog.NewTextHandler(&said, nil)))
	const more = 100
	// The writer's own buffer takes some lines before it is stuck.
	for a.dropped.Load() < more {
		a.add(wholeEntry())
	}
	close(stuck)
	a.close()
	for _, want := range []string{"access log cannot be written", "disk is full", "access log is slower than the traffic"} {
		if n := strings.Count(said.String(), want); n != 1 {
			t.Errorf("%q was said %d times, want once:\n%s", want, n, said.String())
		}
	}
}

func TestWithoutAFormatNothingIsLogged(t *testing.T) {
	for _, c := range []AccessLog{{}, {Format: AccessLogText}, {To: io.Discard}} {
		if a := newAccessLog(c, nil); a != nil {
			t.Errorf("%+v makes a log", c)
		}
	}
}

func TestDetailsFollowTheFlags(t *testing.T) {
	for flags, want := range map[string]string{
		"": "via_upstream", "DI": "via_upstream", "URX": "via_upstream", "DI,FI": "fault_filter_abort",
		"UF,URX": "upstream_reset_before_response_started{remote_connection_failure}", "UT": "response_timeout", "DC": "downstream_remote_disconnect",
	} {
		if got := detailsOf(&telemetry.Request{Flags: flags, Attempts: 1}); got != want {
			t.Errorf("%q: %s, want %s", flags, got, want)
		}
	}
	if got := detailsOf(&telemetry.Request{Code: 301}); got != "direct_response" {
		t.Errorf("without a try: %s", got)
	}
}
