package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
	"serin.dev/serin/test/ports"
)

// TestFailuresAreAnsweredAndFlagged holds the table of answers.
func TestFailuresAreAnsweredAndFlagged(t *testing.T) {
	r := newRig(t, Config{})
	nobody := ports.Reserve(t)
	answers := func(text string) string {
		return r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
			if _, err := http.ReadRequest(in); err == nil {
				io.WriteString(c, text)
			}
		})
	}
	unserved := mesh.VirtualHost{Hosts: []string{"unserved.default"}, Routes: []mesh.Route{{
		Matches: []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Exact, Value: "/only"}}},
	}}}
	ghost := weighted("ghost.default", 1)
	ghost.Routes[0].Split[0].Subset = "v9"
	r.apply(
		unserved, ghost,
		service("music.default", nobody),
		service("empty.default"),
		service("refused.default", nobody),
		service("silent.default", answers("")),
		service("partial.default", answers("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n")),
		service("garbage.default", answers("SSH-2.0-OpenSSH\r\n\r\n")),
		service("large.default", answers("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("y", 2*wire.DefaultHeadBytes)+"\r\n\r\n")),
		service("switches.default", answers("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")),
	)
	_, client := r.outbound()
	for _, test := range []struct {
		url   string
		code  int
		flags string
		body  string
	}{
		{"http://unserved/other", 404, "NR", "serin: NR: no route for unserved /other on port 80"},
		{"http://unserved/only", 404, "NR", "serin: NR: no route for unserved /only on port 80"},
		{"http://empty:81/", 404, "NR", "serin: NR: no route for empty / on port 81"},
		{"http://ghost/", 503, "NC", "serin: NC: no such service, port or subset: music.default/v9"},
		{"http://empty/", 503, "UH", "serin: UH: no ready endpoint: empty.default"},
		{"http://refused/", 503, "UF,URX", "serin: UF: could not connect to refused.default"},
		{"http://silent/", 503, "UC", "serin: UC: silent.default closed the connection before an answer"},
		{"http://partial/", 503, "UC", "serin: UC: partial.default closed the connection before an answer"},
		{"http://garbage/", 502, "UPE", "serin: UPE: what came from garbage.default is not an answer"},
		{"http://large/", 502, "UPE", "serin: UPE: what came from large.default is not an answer"},
		{"http://switches/", 502, "UPE", "serin: UPE: what came from switches.default is not an answer"},
	} {
		code, body := r.get(client, test.url)
		got := r.recorded()
		if code != test.code || body != test.body || got.Flags != test.flags || got.Code != test.code {
			t.Errorf("%s = %d %q, recorded %d %s; want %d %q, %s", test.url, code, body, got.Code, got.Flags, test.code, test.body, test.flags)
		}
	}
}

func TestWithoutASnapshotNothingIsRouted(t *testing.T) {
	r := newRig(t, Config{})
	_, client := r.outbound()
	if code, body := r.get(client, "http://music/"); code != 503 || body != "serin: NC: the mesh has no configuration yet" {
		t.Errorf("answer = %d %q", code, body)
	}
}

func TestAnAnswerThatBreaksOffBreaksOffForTheCallerToo(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(service("music.default", r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
		if _, err := http.ReadRequest(in); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		}
	})))
	_, client := r.outbound()
	res, err := client.Get("http://music/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); string(b) != "half" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %q, %v; want half of it and an unexpected EOF", b, err)
	}
	if got := r.recorded(); got.Code != 200 || got.Flags != "UPE" || got.Sent != 4 {
		t.Errorf("record = %+v", got)
	}
}

func TestACallerThatGoesAwayIsNotTheCalleesFailure(t *testing.T) {
	r := newRig(t, Config{})
	arrived, ended := make(chan struct{}), make(chan struct{})
	r.apply(service("music.default", r.app(func(_ http.ResponseWriter, q *http.Request) {
		arrived <- struct{}{}
		<-q.Context().Done() // the proxy lets go of the application as well
		ended <- struct{}{}
	})))
	_, client := r.outbound()
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-arrived
		leave()
	}()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://music/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Do(q); !errors.Is(err, context.Canceled) {
		t.Fatalf("Do: %v", err)
	}
	<-ended
	if got := r.recorded(); got.Code != 0 || got.Flags != "DC" || got.Failed() {
		t.Errorf("record = %+v", got)
	}
}

func TestACallerThatStopsWithinItsBodyIsNotTheCalleesFailure(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(service("music.default", r.app(func(w http.ResponseWriter, q *http.Request) {
		io.Copy(io.Discard, q.Body)
	})))
	l, _ := r.outbound()
	c := r.dialTo(l)
	c.send("POST / HTTP/1.1", "Host: music", "Transfer-Encoding: chunked", "", "5", "he")
	c.Close()
	if got := r.recorded(); got.Code != 0 || got.Flags != "DC" || got.Failed() {
		t.Errorf("record = %+v", got)
	}

	// Who can still read is told what is wrong; then its connection is of no
	// use any more.
	c = r.dialTo(l)
	c.send("POST / HTTP/1.1", "Host: music", "Transfer-Encoding: chunked", "", "not a chunk", "")
	res, body := c.answer("POST")
	if res.StatusCode != 400 || body != "serin: DPE: the body is malformed\n" || !res.Close {
		t.Errorf("a malformed body: %d %q, close %t", res.StatusCode, body, res.Close)
	}
	if _, err := c.in.ReadByte(); err != io.EOF {
		t.Errorf("behind the answer: %v, want the end", err)
	}
	if got := r.recorded(); got.Code != 400 || got.Flags != "DPE" || got.Failed() {
		t.Errorf("record = %+v", got)
	}
}

// TestAStaleConnectionIsReplaced: the application closes a kept connection
// just as the next request is written to it.
func TestAStaleConnectionIsReplaced(t *testing.T) {
	r := newRig(t, Config{})
	var connections atomic.Int32
	r.apply(service("music.default", r.rawApp(func(n int, c net.Conn, in *bufio.Reader) {
		connections.Store(int32(n))
		for i := 0; ; i++ {
			q, err := http.ReadRequest(in)
			if err != nil || i == 1 && n%2 == 1 {
				return // odd connections: no answer to the second request
			}
			io.Copy(io.Discard, q.Body)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})))
	_, client := r.outbound()
	for i := range 2 {
		if code, body := r.get(client, "http://music/"); code != 200 {
			t.Fatalf("GET %d = %d %q", i, code, body)
		}
	}
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections for two GETs, want 2: the second was sent again on a new one", n)
	}
}

// TestAPostIsNotSentTwice: nobody knows what the first did.
func TestAPostIsNotSentTwice(t *testing.T) {
	r := newRig(t, Config{})
	var requests atomic.Int32
	r.apply(service("music.default", r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
		for {
			q, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.Copy(io.Discard, q.Body)
			if requests.Add(1) > 1 {
				return
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})))
	_, client := r.outbound()
	r.get(client, "http://music/")
	for _, body := range []io.Reader{strings.NewReader("order"), nil} {
		sent := requests.Load()
		code, text := r.do(client, http.MethodPost, "http://music/", body)
		if n := requests.Load() - sent; code != 503 || !strings.Contains(text, "UC: ") || n != 1 {
			t.Errorf("POST = %d %q, sent %d times; want 503 UC, once", code, text, n)
		}
	}
}
