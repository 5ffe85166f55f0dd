package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
)

// TestTheCallerMayLeaveInEveryPhase: wherever the request is, the caller's end
// ends it, no endpoint is blamed, and there is one record.
func TestTheCallerMayLeaveInEveryPhase(t *testing.T) {
	phases := []struct {
		name string
		// send begins the request. What it returns is waited for before the
		// caller leaves: that the phase is reached.
		path    string
		request string
		code    int
		answer  bool // the head of the answer is read first
	}{
		{"while it is delayed", "/delayed", "GET %s HTTP/1.1\r\nHost: music\r\n\r\n", 0, false},
		{"while it waits for a connection", "/queued", "GET %s HTTP/1.1\r\nHost: music\r\n\r\n", 0, false},
		{"before its answer", "/silent", "GET %s HTTP/1.1\r\nHost: music\r\n\r\n", 0, false},
		{"within its body", "/silent", "POST %s HTTP/1.1\r\nHost: music\r\nContent-Length: 100\r\n\r\nhalf", 0, false},
		{"within its answer", "/half", "GET %s HTTP/1.1\r\nHost: music\r\n\r\n", 200, true},
		{"within both", "/half", "POST %s HTTP/1.1\r\nHost: music\r\nContent-Length: 100\r\n\r\nhalf", 200, true},
	}
	for _, phase := range phases {
		t.Run(phase.name, func(t *testing.T) {
			r := newRig(t, Config{Loops: 1})
			reached, gone := make(chan struct{}, 2), make(chan struct{}, 2)
			svc := service("music.default", r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
				q, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				if q.URL.Path == "/half" {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
				}
				reached <- struct{}{}
				io.Copy(io.Discard, in) // until the proxy lets go
				gone <- struct{}{}
			}))
			svc.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {Pool: mesh.Pool{MaxConnections: 1}, Outlier: &mesh.Outlier{Consecutive5xx: 1, MaxPercent: 100}}}
			delayed := mesh.Route{
				Matches: []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Exact, Value: "/delayed"}}},
				Fault:   &mesh.Fault{Delay: &mesh.Delay{Share: mesh.Everything, Time: time.Hour}},
				Split:   []mesh.Destination{{Service: "music.default"}},
			}
			vh := weighted("music.default", 1)
			vh.Routes = append([]mesh.Route{delayed}, vh.Routes...)
			r.apply(svc, vh)
			l, _ := r.outbound()
			if phase.path == "/queued" { // another one has the only connection
				other := r.dialTo(l)
				other.send("GET /silent HTTP/1.1\r\nHost: music\r\n\r\n")
				<-reached
			}
			c := r.dialTo(l)
			c.send(fmt.Sprintf(phase.request, phase.path))
			switch {
			case phase.answer:
				if res, err := http.ReadResponse(c.in, nil); err != nil || res.StatusCode != 200 {
					t.Fatalf("%v, %v", res, err)
				}
				<-reached
			case phase.path == "/silent":
				<-reached
			}
			c.Close()
			q := r.recorded()
			if q.Code != phase.code || q.Flags != "DC" && q.Flags != "DI,DC" || q.Failed() {
				t.Errorf("recorded %d %q", q.Code, q.Flags)
			}
			if phase.path == "/silent" || phase.path == "/half" {
				<-gone // the endpoint is let go of, too
			}
			if n := len(r.records); n != 0 {
				t.Errorf("%d records too many", n)
			}
		})
	}
}

// TestAnAnswerMayComeBeforeTheRequestIsWhole: it is passed on at once, whatever
// becomes of the rest of the body.
func TestAnAnswerMayComeBeforeTheRequestIsWhole(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(service("music.default", r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
		q, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		switch q.URL.Path {
		case "/closes": // as servers do that do not want the body
			io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
		case "/reads":
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
			io.Copy(io.Discard, in)
		}
	})))
	l, _ := r.outbound()
	for _, test := range []struct {
		path, body string
		code       int
	}{{"/closes", "big", 413}, {"/reads", "early", 200}} {
		c := r.dialTo(l)
		c.send("POST "+test.path+" HTTP/1.1", "Host: music", "Content-Length: 1000000", "", "the beginning")
		res, body := c.answer("POST")
		if res.StatusCode != test.code || body != test.body || !res.Close {
			t.Errorf("%s: %d %q, close %t; want %d %q and a connection that ends", test.path, res.StatusCode, body, res.Close, test.code, test.body)
		}
		// Whoever goes on sending can do so for a while, and is not reset
		// before it has read the answer.
		if _, err := c.in.ReadByte(); err != io.EOF {
			t.Errorf("%s: behind the answer %v, want the end", test.path, err)
		}
		if q := r.recorded(); q.Code != test.code || q.Flags != "" {
			t.Errorf("%s: recorded %d %q", test.path, q.Code, q.Flags)
		}
	}
}

// TestAnEndpointMayResetInEveryPhase: the connection is reset, not closed.
func TestAnEndpointMayResetInEveryPhase(t *testing.T) {
	reset := func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }
	for _, test := range []struct {
		name     string
		serve    func(c net.Conn, in *bufio.Reader)
		request  string
		code     int
		flags    string
		failed   bool
		attempts uint32
	}{
		{"before it has read all", func(c net.Conn, in *bufio.Reader) { in.Peek(1); reset(c) },
			"POST / HTTP/1.1\r\nHost: music\r\nContent-Length: 5\r\n\r\nhello", 503, "UC", true, 1},
		{"before it answers", func(c net.Conn, in *bufio.Reader) { http.ReadRequest(in); reset(c) },
			"GET / HTTP/1.1\r\nHost: music\r\n\r\n", 503, "UC", true, 1},
		{"after an early hint", func(c net.Conn, in *bufio.Reader) {
			http.ReadRequest(in)
			io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, in)
		}, "GET / HTTP/1.1\r\nHost: music\r\n\r\n", 503, "UC", true, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, Config{})
			r.apply(service("music.default", r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) { test.serve(c, in) })))
			l, _ := r.outbound()
			c := r.dialTo(l)
			c.send(test.request)
			res, err := http.ReadResponse(c.in, nil)
			for err == nil && res.StatusCode < 200 {
				res, err = http.ReadResponse(c.in, nil)
			}
			if err != nil || res.StatusCode != test.code {
				t.Errorf("%v, %v; want %d", res, err, test.code)
			}
			if q := r.recorded(); q.Code != test.code || q.Flags != test.flags || q.Failed() != test.failed || q.Attempts != test.attempts {
				t.Errorf("recorded %d %q after %d tries, failed %t", q.Code, q.Flags, q.Attempts, q.Failed())
			}
		})
	}
}

func TestCallersAreBounded(t *testing.T) {
	app := func(r *rig) { r.apply(service("music.default", r.app(says("music")))) }
	const get = "GET / HTTP/1.1\r\nHost: music\r\n\r\n"
	ends := func(t *testing.T, c *conn) {
		t.Helper()
		if b, err := io.ReadAll(c.in); err != nil || len(b) > 0 {
			t.Errorf("behind the answer: %q, %v; want the end", b, err)
		}
	}
	t.Run("in the time for a head", func(t *testing.T) {
		r := newRig(t, Config{Limits: Limits{HeaderTime: 20 * time.Millisecond}})
		app(r)
		l, _ := r.outbound()
		c := r.dialTo(l)
		c.send("GET / HTTP/1.1\r\nHost: mu")
		if res, _ := c.answer("GET"); res.StatusCode != 408 {
			t.Errorf("%d, want 408", res.StatusCode)
		}
		ends(t, c)
		if q := r.recorded(); q.Code != 408 || q.Flags != "DPE" || q.Protocol != "HTTP/1.1" {
			t.Errorf("recorded %+v", q)
		}
	})
	t.Run("in the time between requests", func(t *testing.T) {
		r := newRig(t, Config{Limits: Limits{IdleTime: unhurried}})
		app(r)
		l, _ := r.outbound()
		silent := r.dialTo(l)
		c := r.dialTo(l)
		c.send(get)
		c.answer("GET")
		r.recorded()
		ends(t, silent)
		ends(t, c)
		if n := len(r.records); n != 0 {
			t.Errorf("%d records of connections without a request", n)
		}
	})
	t.Run("in requests per connection", func(t *testing.T) {
		r := newRig(t, Config{Limits: Limits{RequestsPerConnection: 2}})
		app(r)
		l, _ := r.outbound()
		c := r.dialTo(l)
		c.send(get)
		if res, _ := c.answer("GET"); res.Close {
			t.Error("the first answer ends the connection")
		}
		c.send(get)
		if res, _ := c.answer("GET"); !res.Close {
			t.Error("the second answer does not say that it is the last")
		}
		ends(t, c)
	})
	t.Run("in connections", func(t *testing.T) {
		r := newRig(t, Config{Limits: Limits{Connections: 2}})
		app(r)
		l, _ := r.outbound()
		var open []*conn
		for range 2 {
			c := r.dialTo(l)
			c.send(get)
			c.answer("GET")
			open = append(open, c)
		}
		if _, err := r.dialTo(l).in.ReadByte(); err == nil {
			t.Error("a third connection was served")
		}
		for _, c := range open { // those that are there go on
			c.send(get)
			if res, _ := c.answer("GET"); res.StatusCode != 200 {
				t.Errorf("%d", res.StatusCode)
			}
		}
	})
	t.Run("in their heads", func(t *testing.T) {
		r := newRig(t, Config{Limits: Limits{HeadBytes: 1 << 10, Fields: 10}})
		app(r)
		l, _ := r.outbound()
		for head, want := range map[string]int{
			strings.Repeat("X: y\r\n", 9): 200, strings.Repeat("X: y\r\n", 20): 431, "X: " + strings.Repeat("y", 2<<10) + "\r\n": 431,
		} {
			c := r.dialTo(l)
			c.send("GET / HTTP/1.1\r\nHost: music\r\n" + head + "\r\n")
			if res, _ := c.answer("GET"); res.StatusCode != want {
				t.Errorf("%.20q…: %d, want %d", head, res.StatusCode, want)
			}
		}
	})
}

// TestRequestsMayComeInOnePiece: pipelined, each is answered in its turn.
func TestRequestsMayComeInOnePiece(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(service("music.default", r.app(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		fmt.Fprintf(w, "%s %s", q.URL.Path, b)
	})))
	l, _ := r.outbound()
	c := r.dialTo(l)
	const requests = 50
	var all bytes.Buffer
	for i := range requests {
		fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: music\r\nContent-Length: 4\r\n\r\nbody", i)
	}
	c.send(all.String())
	for i := range requests {
		if res, body := c.answer("POST"); res.StatusCode != 200 || body != fmt.Sprintf("/%d body", i) {
			t.Fatalf("answer %d: %d %q", i, res.StatusCode, body)
		}
	}
}

// TestCallersThatWaitToBeToldToGoOnAreTold: and only once somebody wants their
// bodies.
func TestCallersThatWaitToBeToldToGoOnAreTold(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(service("music.default", r.app(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Expect") != "" {
			t.Error("the endpoint is asked, too")
		}
		io.Copy(w, q.Body)
	})), service("empty.default"))
	l, _ := r.outbound()
	c := r.dialTo(l)
	c.send("POST / HTTP/1.1", "Host: music", "Expect: 100-continue", "Content-Length: 4", "", "")
	if res, err := http.ReadResponse(c.in, nil); err != nil || res.StatusCode != 100 {
		t.Fatalf("%v, %v; want 100", res, err)
	}
	c.send("body")
	if res, body := c.answer("POST"); res.StatusCode != 200 || body != "body" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	c.send("POST / HTTP/1.1", "Host: empty", "Expect: 100-continue", "Content-Length: 4", "", "")
	if res, _ := c.answer("POST"); res.StatusCode != 503 || !res.Close {
		t.Errorf("without an endpoint: %d, close %t; want 503, and no body asked for", res.StatusCode, res.Close)
	}
}

// TestOldCallersAreServed: HTTP/1.0 knows no chunks, and a connection that
// stays only when both say so.
func TestOldCallersAreServed(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(service("music.default", r.app(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/sized" {
			fmt.Fprint(w, "sized")
			return
		}
		fmt.Fprint(w, "stream")
		w.(http.Flusher).Flush()
		fmt.Fprint(w, "ed")
	})))
	l, _ := r.outbound()
	for _, test := range []struct{ request, answer string }{
		{"GET / HTTP/1.0\r\nHost: music\r\n\r\n", "streamed"},
		{"GET /sized HTTP/1.0\r\nHost: music\r\n\r\n", "sized"},
		{"GET /sized HTTP/1.0\r\nHost: music\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\nHost: music\r\n\r\n", "sized streamed"},
	} {
		c := r.dialTo(l)
		c.send(test.request)
		b, err := io.ReadAll(c.in)
		if err != nil {
			t.Fatal(err)
		}
		var bodies []string
		in := bufio.NewReader(bytes.NewReader(b))
		for range strings.Count(test.request, "GET") {
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("%v in %q", err, b)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil || len(res.TransferEncoding) > 0 {
				t.Errorf("%v, transfer-encoding %v", err, res.TransferEncoding)
			}
			bodies = append(bodies, string(body))
		}
		if got := strings.Join(bodies, " "); got != test.answer {
			t.Errorf("%q: %q, want %q", test.request, got, test.answer)
		}
		if q := r.recorded(); q.Protocol != "HTTP/1.0" {
			t.Errorf("recorded %s", q.Protocol)
		}
	}
}
