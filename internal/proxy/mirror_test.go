package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
	"serin.dev/serin/test/ports"
)

// copied is what a mirror was sent.
type copied struct {
	Method, Host, Target, Body string
	Header                     http.Header
}

// mirrors routes music.default and copies a share of it to copy.default.
func mirrors(share mesh.Share) mesh.VirtualHost {
	vh := weighted("music.default", 1)
	vh.Routes[0].Split[0].Subset = ""
	vh.Routes[0].Mirrors = []mesh.Mirror{{Destination: mesh.Destination{Service: "copy.default"}, Share: share}}
	return vh
}

// mirrorApp tells what it is sent.
func (r *rig) mirrorApp() (address string, got chan copied) {
	got = make(chan copied, 1000)
	return r.app(func(_ http.ResponseWriter, q *http.Request) {
		b, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		got <- copied{q.Method, q.Host, q.RequestURI, string(b), q.Header}
	}), got
}

func TestAMirrorIsSentTheRequestAsTheEndpointIs(t *testing.T) {
	r := newRig(t, Config{})
	app, original := r.mirrorApp()
	shadow, copies := r.mirrorApp()
	vh := mirrors(mesh.Everything)
	vh.Routes[0].Rewrite = &mesh.Rewrite{Path: new(string)}
	*vh.Routes[0].Rewrite.Path = "/v2"
	vh.Routes[0].Matches = []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Prefix, Value: "/v1"}}}
	vh.Routes[0].Headers = &mesh.HeaderEdits{Request: mesh.HeaderEdit{Add: []mesh.Header{{Name: "x-added", Value: "1"}}}}
	r.apply(service("music.default", app), service("copy.default", shadow), vh)
	_, client := r.outbound()
	for _, body := range []io.Reader{nil, strings.NewReader("sized"), io.MultiReader(strings.NewReader("chu"), strings.NewReader("nked"))} {
		r.do(client, http.MethodPost, "http://music/v1/songs?x=1", body)
		want := <-original
		want.Host = "music-shadow"
		if diff := cmp.Diff(want, <-copies); diff != "" {
			t.Errorf("the copy (-endpoint's +mirror's):\n%s", diff)
		}
		if want.Target != "/v2/songs?x=1" || want.Header.Get("X-Added") != "1" {
			t.Errorf("the endpoint was sent %+v", want)
		}
		if q := r.recorded(); q.Backend != "music.default" || q.Code != 200 {
			t.Errorf("record = %+v", q)
		}
	}
	if n := len(r.records); n != 0 {
		t.Errorf("%d records of copies", n)
	}
}

func TestAShareIsMirrored(t *testing.T) {
	const requests = 2000
	r := newRig(t, Config{Seed: 1, Loops: 1})
	shadow, copies := r.mirrorApp()
	r.apply(service("music.default", r.app(says("music"))), service("copy.default", shadow), mirrors(mesh.Everything/4))
	_, client := r.outbound()
	for range requests {
		r.get(client, "http://music/")
	}
	r.mirrorsEnd()
	// With p = 1/4 the standard deviation is 19.4.
	if n := len(copies); n < 422 || n > 578 {
		t.Errorf("%d of %d requests were mirrored, want about %d", n, requests, requests/4)
	}
}

// mirrorsEnd waits until no copy is under way and returns how many were
// dropped.
func (r *rig) mirrorsEnd() (dropped uint64) {
	r.t.Helper()
	for _, w := range r.workers {
		for busy := true; busy && r.t.Context().Err() == nil; {
			seen := make(chan [2]uint64)
			w.loop.Post(func() { seen <- [2]uint64{uint64(w.mirrors), w.mirrorsDropped} })
			now := <-seen
			if busy = now[0] > 0; !busy {
				dropped += now[1]
			}
		}
	}
	return dropped
}

// TestABodyWithoutRoomIsNotMirrored: each that was sent leaves its room.
func TestABodyWithoutRoomIsNotMirrored(t *testing.T) {
	r := newRig(t, Config{Loops: 1, Limits: Limits{MirrorBuffer: 100_000}})
	shadow, copies := r.mirrorApp()
	r.apply(service("music.default", r.app(func(w http.ResponseWriter, q *http.Request) {
		n, _ := io.Copy(io.Discard, q.Body)
		fmt.Fprint(w, n)
	})), service("copy.default", shadow), mirrors(mesh.Everything))
	_, client := r.outbound()
	for _, size := range []int{100_000, 100_001, 1 << 20, 99_000, 100_000} {
		mirrored := size <= 100_000
		if code, body := r.do(client, http.MethodPost, "http://music/", strings.NewReader(strings.Repeat("x", size))); code != 200 || body != fmt.Sprint(size) {
			t.Errorf("%d bytes: %d %q", size, code, body)
		}
		if mirrored {
			if got := <-copies; len(got.Body) != size {
				t.Errorf("%d of %d bytes were mirrored", len(got.Body), size)
			}
			r.mirrorsEnd()
		}
	}
	if dropped := r.mirrorsEnd(); dropped != 2 || len(copies) > 0 {
		t.Errorf("%d dropped and %d mirrored, want 2 and 0", dropped, len(copies))
	}
}

// TestAMirrorNeitherDelaysNorFails: it is down, does not answer, or is not
// there.
func TestAMirrorNeitherDelaysNorFails(t *testing.T) {
	r := newRig(t, Config{Loops: 1, Limits: Limits{Mirrors: 3}})
	release := make(chan struct{})
	defer close(release)
	hangs := r.app(func(http.ResponseWriter, *http.Request) { <-release })
	for _, test := range []struct {
		name   string
		shadow *mesh.Service
	}{
		{"down", service("copy.default", ports.Reserve(t))},
		{"empty", service("copy.default")},
		{"hanging", service("copy.default", hangs)},
	} {
		name := test.name
		r.apply(service("music.default", r.app(says("music"))), test.shadow, mirrors(mesh.Everything))
		_, client := r.outbound()
		for range 10 {
			if code, body := r.get(client, "http://music/"); code != 200 || body != "music" {
				t.Errorf("%s: %d %q", name, code, body)
			}
			if q := r.recorded(); q.Flags != "" || q.Attempts != 1 {
				t.Errorf("%s: record = %+v", name, q)
			}
		}
		if name != "hanging" {
			r.mirrorsEnd()
		}
	}
	seen := make(chan [2]uint64)
	w := r.workers[0]
	w.loop.Post(func() { seen <- [2]uint64{uint64(w.mirrors), w.mirrorsDropped} })
	if now := <-seen; now[0] != 3 || now[1] < 7 {
		t.Errorf("%d copies under way and %d dropped, want 3 and at least 7", now[0], now[1])
	}
}

// TestARetriedRequestIsMirroredOnce: with the body that the last try was sent.
func TestARetriedRequestIsMirroredOnce(t *testing.T) {
	r := newRig(t, Config{})
	shadow, copies := r.mirrorApp()
	vh := mirrors(mesh.Everything)
	vh.Routes[0].Retry = &mesh.Retry{Attempts: 5, On: mesh.Retry5xx, Base: 1}
	tries := 0
	r.apply(service("copy.default", shadow), vh, service("music.default", r.app(func(w http.ResponseWriter, q *http.Request) {
		io.Copy(io.Discard, q.Body)
		if tries++; tries < 3 {
			w.WriteHeader(503)
		}
	})))
	_, client := r.outbound()
	if code, _ := r.do(client, http.MethodPost, "http://music/", strings.NewReader("body")); code != 200 || tries != 3 {
		t.Errorf("%d after %d tries", code, tries)
	}
	if got := <-copies; got.Body != "body" {
		t.Errorf("copy = %+v", got)
	}
	r.mirrorsEnd()
	if n := len(copies); n != 0 {
		t.Errorf("%d more copies", n)
	}
}

func TestAHalfRequestIsNotMirrored(t *testing.T) {
	r := newRig(t, Config{})
	shadow, copies := r.mirrorApp()
	early := r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
		if _, err := http.ReadRequest(in); err == nil {
			io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
			io.Copy(io.Discard, in)
		}
	})
	r.apply(service("music.default", early), service("copy.default", shadow), mirrors(mesh.Everything))
	l, _ := r.outbound()
	c := r.dialTo(l)
	c.send("POST http://music/ HTTP/1.1\r\nHost: music\r\nContent-Length: 10\r\n\r\nhalf")
	c.answer("POST")
	r.recorded()
	c.Close()
	if err := l.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if dropped := r.mirrorsEnd(); dropped != 1 || len(copies) > 0 {
		t.Errorf("%d dropped, %d mirrored", dropped, len(copies))
	}
}

func TestShadowHosts(t *testing.T) {
	for host, want := range map[string]string{
		"music":        "music-shadow",
		"music:80":     "music-shadow:80",
		"[::1]:80":     "[::1]-shadow:80",
		"[::1]":        "[::1]-shadow",
		"127.0.0.1:80": "127.0.0.1-shadow:80",
	} {
		if got := shadowHost(host); got != want {
			t.Errorf("%s became %s, want %s", host, got, want)
		}
	}
}

// TestACopiedHeadHoldsNothingOfTheOther: views of a buffer that is used again.
func TestACopiedHeadHoldsNothingOfTheOther(t *testing.T) {
	buf := []byte("GET http://music/path?q HTTP/1.1\r\nHost: music\r\nX-One: 1\r\n\r\n")
	var h wire.Head
	if _, err := h.ParseRequest(buf, wire.Limits{}); err != nil {
		t.Fatal(err)
	}
	c := cloneHead(&h)
	clear(buf)
	if c.Method != "GET" || c.Authority != "music" || c.Path != "/path?q" || c.Fields[0] != (wire.Field{Name: "x-one", Value: "1"}) {
		t.Errorf("copy = %+v", c)
	}
}
