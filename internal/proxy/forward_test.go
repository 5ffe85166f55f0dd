package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
	"serin.dev/serin/internal/telemetry"
)

func TestAServiceIsCalledThroughItsRoutesAndRecordedOnce(t *testing.T) {
	r := newRig(t, Config{Seed: 1})
	app := r.app(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		fmt.Fprintf(w, "%s %s %s %s", q.Method, q.Host, q.RequestURI, b)
	})
	r.apply(service("music.default", app), weighted("music.default", 100, 0))
	_, client := r.outbound()
	code, body := r.do(client, http.MethodPost, "http://music/a%2Fb?x;y=1", strings.NewReader("hello"))
	if code != 200 || body != "POST music /a%2Fb?x;y=1 hello" {
		t.Errorf("answer = %d %q", code, body)
	}
	want := telemetry.Request{
		Reporter:    telemetry.SourceSide,
		Source:      caller,
		Service:     "music.default",
		Backend:     "music.default",
		Destination: mesh.Workload{Namespace: "default", Name: "app", Version: "v1", Pod: "app-v1"},
		Split:       true,
		Snapshot:    1,
		Route:       mesh.Origin{Kind: "VirtualService", Namespace: "default", Name: "music"},
		Protocol:    "HTTP/1.1",
		Upstream:    app,
		Attempts:    1,
		Method:      "POST", Host: "music", Path: "/a%2Fb", Code: 200, Sent: int64(len(body)), Read: 5,
	}
	got := r.recorded()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(telemetry.Request{}, "ID", "Start", "Duration")); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if got.ID == "" || got.Duration <= 0 || got.Start.IsZero() {
		t.Errorf("record has ID %q, start %v, duration %v", got.ID, got.Start, got.Duration)
	}
	if n := len(r.records); n != 0 {
		t.Errorf("%d records more than one for one request", n)
	}
}

func TestHostsAreFoundInEveryFormOfRequest(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(service("music.default", r.app(says("music"))))
	l, client := r.outbound()
	for _, target := range []string{"http://music/", "http://MUSIC.default/", "http://music.default.svc.cluster.local:80/"} {
		if code, body := r.get(client, target); code != 200 || body != "music" {
			t.Errorf("%s = %d %q", target, code, body)
		}
	}
	c := r.dialTo(l)
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: music\r\n\r\n",
		// The target's host counts, whatever the header says (RFC 9112, 3.2.2).
		"GET http://music/ HTTP/1.1\r\nHost: other\r\n\r\n",
	} {
		c.send(request)
		if res, body := c.answer("GET"); res.StatusCode != 200 || body != "music" {
			t.Errorf("%q = %d %q", request, res.StatusCode, body)
		}
	}
}

func TestHeadersAreKeptAddedAndRemoved(t *testing.T) {
	r := newRig(t, Config{})
	var got http.Header
	app := r.app(func(w http.ResponseWriter, q *http.Request) {
		got = q.Header
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("Server", "app")
	})
	r.apply(service("music.default", app), mesh.Gateway{Name: "default/edge", Port: 80, VirtualHosts: []mesh.VirtualHost{weighted("*", 1)}})
	outbound, _ := r.outbound()
	gateway, err := r.ListenGateway("127.0.0.1:0", 80)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		listener *Listener
		send     string
		want     http.Header // besides X-Request-Id
	}{
		{"outbound", outbound,
			"Traceparent: 00-1-2-01\r\nB3: 1-2-1\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nX-Request-Id: mine\r\n",
			http.Header{"Traceparent": {"00-1-2-01"}, "B3": {"1-2-1"}, "X-Forwarded-For": {"1.2.3.4"}, "X-Forwarded-Proto": {"http"}, "X-Request-Id": {"mine"}}},
		{"gateway", gateway,
			"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nForwarded: for=x\r\n",
			http.Header{"X-Forwarded-For": {"1.2.3.4, 127.0.0.1"}, "X-Forwarded-Proto": {"http"}, "Forwarded": {"for=x"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := r.dialTo(test.listener)
			c.send("GET / HTTP/1.1\r\nHost: music\r\n" + test.send + "\r\n")
			res, _ := c.answer("GET")
			if res.StatusCode != 200 || res.Header.Get("Server") != "app" || res.Header.Get("X-Hop") != "" {
				t.Errorf("answer = %d %v", res.StatusCode, res.Header)
			}
			record := r.recorded()
			if id := got.Get("X-Request-Id"); id != record.ID || len(id) == 0 {
				t.Errorf("X-Request-Id = %q, recorded %q", id, record.ID)
			}
			if test.want.Get("X-Request-Id") == "" {
				if id := got.Get("X-Request-Id"); len(id) != 36 || id[14] != '4' {
					t.Errorf("X-Request-Id = %q, want a version 4 UUID", id)
				}
				got.Del("X-Request-Id")
			}
			if test.want.Get("Traceparent") == "" {
				if trace := got.Get("Traceparent"); !regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`).MatchString(trace) {
					t.Errorf("Traceparent = %q, want a root context", trace)
				}
				got.Del("Traceparent")
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnswersWithoutABody(t *testing.T) {
	r := newRig(t, Config{})
	app := r.app(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Etag", `"x"`)
		switch q.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.WriteHeader(304)
		default:
			w.Header().Set("Content-Length", "1234")
		}
	})
	r.apply(service("music.default", app))
	l, _ := r.outbound()
	c := r.dialTo(l) // all on one connection: a byte too many would break the next
	for _, test := range []struct {
		method, path string
		code         int
		length       int64
	}{{"HEAD", "/", 200, 1234}, {"GET", "/204", 204, 0}, {"GET", "/304", 304, 0}, {"HEAD", "/", 200, 1234}} {
		c.send(test.method + " " + test.path + " HTTP/1.1\r\nHost: music\r\n\r\n")
		res, body := c.answer(test.method)
		if res.StatusCode != test.code || body != "" || test.method == "HEAD" && res.ContentLength != test.length {
			t.Errorf("%s %s = %d, length %d, body %q", test.method, test.path, res.StatusCode, res.ContentLength, body)
		}
		if got := r.recorded(); got.Code != test.code || got.Flags != "" || got.Sent != 0 {
			t.Errorf("record = %+v", got)
		}
	}
}

func TestAnswersAreDatedOnce(t *testing.T) {
	const given = "Sun, 06 Nov 1994 08:49:37 GMT"
	r := newRig(t, Config{})
	r.apply(service("music.default", r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
		for {
			q, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			date := ""
			if q.URL.Path == "/dated" {
				date = "Date: " + given + "\r\n"
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%sContent-Length: 0\r\n\r\n", date)
		}
	})))
	l, _ := r.outbound()
	c := r.dialTo(l)
	for path, want := range map[string]string{"/dated": given, "/": ""} {
		c.send("GET " + path + " HTTP/1.1\r\nHost: music\r\n\r\n")
		res, _ := c.answer("GET")
		dates := res.Header.Values("Date")
		if len(dates) != 1 || want != "" && dates[0] != want {
			t.Errorf("GET %s: dates %q, want one, %q", path, dates, want)
			continue
		}
		if at, err := http.ParseTime(dates[0]); want == "" && (err != nil || time.Since(at) > time.Minute) {
			t.Errorf("GET %s: date %q is not now: %v", path, dates[0], err)
		}
	}
}

func TestAnswersStream(t *testing.T) {
	r := newRig(t, Config{})
	next := make(chan struct{})
	app := r.app(func(w http.ResponseWriter, q *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "event %d\n", i)
			w.(http.Flusher).Flush()
			<-next
		}
	})
	r.apply(service("music.default", app))
	_, client := r.outbound()
	res, err := client.Get("http://music/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	for i := range 3 {
		// The next event is not written before this one was read.
		line, err := in.ReadString('\n')
		if want := fmt.Sprintf("event %d\n", i); line != want || err != nil {
			t.Fatalf("read %q, %v; want %q", line, err, want)
		}
		next <- struct{}{}
	}
}

func TestRequestsStream(t *testing.T) {
	r := newRig(t, Config{})
	seen := make(chan string)
	app := r.app(func(w http.ResponseWriter, q *http.Request) {
		in := bufio.NewReader(q.Body)
		for range 2 {
			line, _ := in.ReadString('\n')
			seen <- line
		}
		w.WriteHeader(http.StatusAccepted)
	})
	r.apply(service("music.default", app))
	_, client := r.outbound()
	body, write := io.Pipe()
	done := make(chan int)
	go func() {
		code, _ := r.do(client, http.MethodPost, "http://music/", body)
		done <- code
	}()
	for _, line := range []string{"one\n", "two\n"} {
		fmt.Fprint(write, line)
		if got := <-seen; got != line {
			t.Fatalf("the application read %q, want %q", got, line)
		}
	}
	write.Close()
	if code := <-done; code != http.StatusAccepted {
		t.Errorf("code = %d", code)
	}
}

func TestTrailersPassBothWays(t *testing.T) {
	r := newRig(t, Config{})
	app := r.app(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.Copy(w, q.Body)
		w.Header().Set("X-Sum", "sum of "+q.Trailer.Get("X-Parts"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "late")
	})
	r.apply(service("music.default", app))
	l, _ := r.outbound()
	c := r.dialTo(l)
	c.send("POST / HTTP/1.1", "Host: music", "TE: trailers", "Trailer: X-Parts", "Transfer-Encoding: chunked", "",
		"2", "ab", "0", "X-Parts: 2", "", "")
	res, body := c.answer("POST")
	if body != "ab" {
		t.Errorf("body = %q", body)
	}
	if diff := cmp.Diff(http.Header{"X-Sum": {"sum of 2"}, "X-Late": {"late"}}, res.Trailer); diff != "" {
		t.Errorf("trailers (-want +got):\n%s", diff)
	}
}

func TestInformationalAnswersPass(t *testing.T) {
	r := newRig(t, Config{})
	app := r.app(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		io.Copy(w, q.Body)
	})
	r.apply(service("music.default", app))
	_, client := r.outbound()
	var hints []int
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { hints = append(hints, code); return nil },
	})
	q, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://music/", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if len(hints) != 1 || hints[0] != 103 || res.StatusCode != 200 {
		t.Errorf("answers = %v, %d; want 103, 200", hints, res.StatusCode)
	}
	if got := r.recorded(); got.Code != 200 {
		t.Errorf("recorded code = %d, want the final one", got.Code)
	}
}

func TestUpgradesPassAndCountAsUnderWay(t *testing.T) {
	r := newRig(t, Config{})
	app := r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
		q, err := http.ReadRequest(in)
		if err != nil || q.Header.Get("Upgrade") != "websocket" {
			fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			return
		}
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(c, in)
	})
	r.apply(service("music.default", app))
	l, _ := r.outbound()
	c := r.dialTo(l)
	c.send("GET / HTTP/1.1", "Host: music", "Connection: Upgrade", "Upgrade: websocket", "", "")
	res, err := http.ReadResponse(c.in, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("answer = %v, %v", res, err)
	}
	c.send("ping")
	echo := make([]byte, 4)
	if _, err := io.ReadFull(c.in, echo); err != nil || string(echo) != "ping" {
		t.Fatalf("echo = %q, %v", echo, err)
	}
	r.apply()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Drained(gone, pod(1)); err == nil {
		t.Error("Drained although an upgraded connection is open")
	}
	c.Close()
	if err := r.Drained(t.Context(), pod(1)); err != nil {
		t.Error(err)
	}
	if got := r.recorded(); got.Code != 101 || got.Flags != "" {
		t.Errorf("record = %+v", got)
	}

	// h2c would pass unrouted: it is not offered to the application.
	plain := r.dialTo(l)
	r.apply(service("music.default", app))
	plain.send("GET / HTTP/1.1", "Host: music", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x", "", "")
	if res, _ := plain.answer("GET"); res.StatusCode != 400 {
		t.Errorf("an upgrade to h2c = %d, want the application's 400", res.StatusCode)
	}
}

func TestGatewaysAnswerByPortAndHost(t *testing.T) {
	r := newRig(t, Config{})
	music := service("music.default", r.app(says("music")))
	r.apply(music, service("user.default", r.app(says("user"))), mesh.Gateway{
		Name: "default/edge", Port: 80, VirtualHosts: []mesh.VirtualHost{
			weighted("music.example.org", 1),
			{Hosts: []string{"*.example.org"}, Routes: []mesh.Route{{Split: []mesh.Destination{{Service: "user.default"}}}}},
		},
	})
	l, err := r.ListenGateway("127.0.0.1:0", 80)
	if err != nil {
		t.Fatal(err)
	}
	c := r.dialTo(l)
	for _, test := range []struct{ host, body string }{
		{"music.example.org", "music"}, {"Music.Example.Org:8080", "music"}, {"x.example.org", "user"},
		{"example.org", "serin: NR: no gateway on port 80 has host example.org"},
		// Services are not called by their names from outside.
		{"music", "serin: NR: no gateway on port 80 has host music"},
	} {
		c.send("GET / HTTP/1.1\r\nHost: " + test.host + "\r\n\r\n")
		_, body := c.answer("GET")
		if strings.TrimSpace(body) != test.body {
			t.Errorf("%s = %q, want %q", test.host, body, test.body)
		}
		got := r.recorded()
		if got.Reporter != telemetry.GatewaySide || got.Source != (mesh.Workload{}) {
			t.Errorf("record = %+v", got)
		}
		// At a gateway the host says nothing: the service is the backend.
		if got.Service != got.Backend || (got.Flags == "") != (got.Service != "") {
			t.Errorf("%s: service %q, backend %q, flags %q", test.host, got.Service, got.Backend, got.Flags)
		}
	}
}

func TestInboundRecordsTheDestinationSide(t *testing.T) {
	r := newRig(t, Config{})
	r.apply()
	app := r.app(func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprint(w, q.Host, " ", q.Header.Get("X-Forwarded-For"))
	})
	who := mesh.Workload{Namespace: "default", Name: "music", Version: "v1"}
	l, err := r.ListenInbound("127.0.0.1:0", "music.default", who, app)
	if err != nil {
		t.Fatal(err)
	}
	if code, body := r.get(http.DefaultClient, "http://"+l.Addr().String()+"/x"); code != 200 || body != l.Addr().String()+" 127.0.0.1" {
		t.Errorf("answer = %d %q", code, body)
	}
	got := r.recorded()
	if got.Reporter != telemetry.DestinationSide || got.Destination != who || got.Service != "music.default" || got.Split {
		t.Errorf("record = %+v", got)
	}
	for _, bad := range []string{"", "nohost", ":80"} {
		if _, err := r.ListenInbound("127.0.0.1:0", "music.default", who, bad); err == nil {
			t.Errorf("application %q is accepted", bad)
		}
	}
}

func TestHostsOutsideOfTheMeshAreCalledAsTheyAre(t *testing.T) {
	r := newRig(t, Config{})
	r.apply()
	outside := r.app(says("outside"))
	l, client := r.outbound()
	if code, body := r.get(client, "http://"+outside+"/x"); code != 200 || body != "outside" {
		t.Errorf("answer = %d %q", code, body)
	}
	if got := r.recorded(); got.Service != "" || got.Backend != "" || got.Host != outside || got.Code != 200 || got.Snapshot != 1 {
		t.Errorf("record = %+v", got)
	}
	// A request that would come back to the listener ends at once.
	code, body := r.get(client, "http://"+l.Addr().String()+"/")
	if code != 503 || !strings.HasPrefix(body, "serin: UF: could not connect to "+l.Addr().String()) {
		t.Errorf("a loop = %d %q", code, body)
	}
	if got := r.recorded(); got.Flags != flagConnect {
		t.Errorf("record of a loop = %+v", got)
	}
}

func TestRequestsThatAProxyDoesNotTake(t *testing.T) {
	r := newRig(t, Config{})
	r.apply()
	l, _ := r.outbound()
	for request, want := range map[string]int{
		"GET https://music/ HTTP/1.1\r\nHost: music\r\n\r\n":                                         400,
		"GET / HTTP/1.1\r\nHost: mu@sic\r\n\r\n":                                                     400,
		"GET / HTTP/1.1\r\nHost: music:0\r\n\r\n":                                                    400,
		"GET / HTTP/1.0\r\n\r\n":                                                                     400,
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n":                                               400, // net/http's own refusals, from here on
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx":              400,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n":            501,
		"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", wire.DefaultHeadBytes) + "\r\n\r\n": 431,
	} {
		c := r.dialTo(l)
		c.send(request)
		res, _ := c.answer("GET")
		if _, err := http.ParseTime(res.Header.Get("Date")); res.StatusCode != want || err != nil {
			t.Errorf("%.60q = %d of %q, want %d with a date", request, res.StatusCode, res.Header.Get("Date"), want)
		}
	}
}
