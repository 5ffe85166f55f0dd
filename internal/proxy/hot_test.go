package proxy

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
)

// echoApp answers each request that ends in the bytes end with the answer, and
// allocates nothing for that.
func (r *rig) echoApp(end, answer string) string {
	r.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go answerAll(c, []byte(end), []byte(answer))
		}
	}()
	return ln.Addr().String()
}

func answerAll(c net.Conn, end, answer []byte) {
	defer c.Close()
	buf := make([]byte, 64<<10)
	n := 0
	for {
		more, err := c.Read(buf[n:])
		if n += more; err != nil {
			return
		}
		if bytes.HasSuffix(buf[:n], end) {
			n = 0
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
}

// hotCase is a kind of request of which all that costs happens per connection
// or per snapshot.
type hotCase struct {
	name    string
	request string
	end     string // of the request, where the application takes it
	answer  string
	chunked bool // the answer arrives in chunks
}

const ok512 = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: app\r\nDate: Sat, 21 Nov 2026 08:00:00 GMT\r\n"

func hotCases() []hotCase {
	const head = "Host: music\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nCookie: session=4ba3c6ae; theme=dark\r\nEnd-User: jason\r\n"
	body := strings.Repeat("x", 512)
	sized := ok512 + "Content-Length: 512\r\n\r\n" + body
	return []hotCase{
		{"GET", "GET /api/songs/17?n=1 HTTP/1.1\r\n" + head + "\r\n", "\r\n\r\n", sized, false},
		{"GET that has its names", "GET /api/songs/17 HTTP/1.1\r\nX-Request-Id: 7\r\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\n" + head + "\r\n", "\r\n\r\n", sized, false},
		{"chunked answer", "GET /api/songs/17 HTTP/1.1\r\n" + head + "\r\n", "\r\n\r\n", ok512 + "Transfer-Encoding: chunked\r\n\r\n200\r\n" + body + "\r\n0\r\n\r\n", true},
		{"POST", "POST /api/songs HTTP/1.1\r\nContent-Length: 512\r\n" + head + "\r\n" + body, body, sized, false},
		{"large answer", "GET /api/songs/17 HTTP/1.1\r\n" + head + "\r\n", "\r\n\r\n", ok512 + "Content-Length: 65536\r\n\r\n" + strings.Repeat(body, 128), false},
	}
}

// hotRoutes have what routes have: matches, a split, edits, a retry, a timeout,
// and a tally that counts them.
func hotRoutes() mesh.VirtualHost {
	edits := &mesh.HeaderEdits{
		Request: mesh.HeaderEdit{Set: []mesh.Header{{Name: "x-canary", Value: "1"}}, Remove: []string{"x-none"}},
		Answer:  mesh.HeaderEdit{Add: []mesh.Header{{Name: "x-mesh", Value: "serin"}}},
	}
	return mesh.VirtualHost{Hosts: []string{"music.default", "music"}, Routes: []mesh.Route{
		{Matches: []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Prefix, Value: "/admin"}}}, Split: []mesh.Destination{{Service: "music.default"}}},
		{
			Matches: []mesh.Match{{
				URI:     mesh.StringMatch{Kind: mesh.Prefix, Value: "/api"},
				Headers: map[string]mesh.StringMatch{"end-user": {Kind: mesh.Prefix, Value: "ja"}},
			}},
			Split:   []mesh.Destination{{Service: "music.default", Subset: "v1", Weight: 50}, {Service: "music.default", Subset: "v2", Weight: 50}},
			Headers: edits,
			Retry:   &mesh.Retry{Attempts: 3, On: mesh.Retry5xx},
			Timeout: mesh.DefaultStreamIdle,
		},
	}}
}

// TestARequestAllocatesNothing counts over real sockets, in the whole process.
func TestARequestAllocatesNothing(t *testing.T) {
	for _, test := range hotCases() {
		for _, gateway := range []bool{false, true} {
			name := test.name + " between services"
			if gateway {
				name = test.name + " at a gateway"
			}
			t.Run(name, func(t *testing.T) { countAllocations(t, test, gateway) })
		}
	}
}

func countAllocations(t *testing.T, test hotCase, gateway bool) {
	var hub telemetry.Hub
	tally := hub.Tally(telemetry.TallySpec{Stable: "music.default", Canary: "other.default"})
	defer tally.Close()
	tally.Rebase(telemetry.Baseline{Snapshot: 1})
	r := newRig(t, Config{Loops: 1})
	r.recorder = &hub // the rig's own keeps records
	svc := service("music.default", r.echoApp(test.end, test.answer), r.echoApp(test.end, test.answer))
	r.apply(svc, hotRoutes(), mesh.Gateway{Name: "default/edge", Port: 80, VirtualHosts: []mesh.VirtualHost{hotRoutes()}})
	listen := func() (*Listener, error) { return r.ListenOutbound("127.0.0.1:0", mesh.Caller{Workload: caller}) }
	if gateway {
		listen = func() (*Listener, error) { return r.ListenGateway("127.0.0.1:0", 80) }
	}
	l, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	c := r.dialTo(l)
	request, buf := []byte(test.request), make([]byte, 128<<10)
	// The first answer tells how long all are.
	size := 0
	c.send(test.request)
	for !answerEnds(buf[:size], test) {
		n, err := c.Read(buf[size:])
		if size += n; err != nil {
			t.Fatal(err)
		}
	}
	call := func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c.Conn, buf[:size]); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 { // pools and buffers fill
		call()
	}
	const requests = 2000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range requests {
		call()
	}
	runtime.ReadMemStats(&after)
	// The runtime itself allocates now and then.
	if n := after.Mallocs - before.Mallocs; n > requests/20 {
		t.Errorf("%d requests allocate %d times, want none", requests, n)
	}
	if !bytes.HasPrefix(buf, []byte("HTTP/1.1 200 OK\r\n")) || tally.Run().Stable.Requests < requests {
		t.Errorf("answer %.40q, counted %d", buf, tally.Run().Stable.Requests)
	}
}

// answerEnds reports whether a whole answer is there.
func answerEnds(p []byte, test hotCase) bool {
	if test.chunked {
		return bytes.HasSuffix(p, []byte("0\r\n\r\n"))
	}
	_, body, _ := strings.Cut(test.answer, "\r\n\r\n")
	return len(p) > len(body) && bytes.HasSuffix(p, []byte("\r\n\r\n"+body))
}
