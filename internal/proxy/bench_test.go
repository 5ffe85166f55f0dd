package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
)

// BenchmarkDecide is the routing of one request: host, route, share, endpoint.
func BenchmarkDecide(b *testing.B) {
	p := New(Config{Seed: 1})
	if err := p.Apply(snapshot(1, service("music.default", "127.0.0.1:1", "127.0.0.1:2"), weighted("music.default", 90, 10))); err != nil {
		b.Fatal(err)
	}
	var d draws
	h := wire.Head{Method: "GET", Path: "/", Authority: "music:80"}
	b.ReportAllocs()
	for b.Loop() {
		host, port, _ := parseAuthority(h.Authority)
		c := call{head: &h, host: host, port: port, path: "/", scheme: "http"}
		u := p.acquire(func(t *table) *upstream {
			dec := t.inMesh("default", host).decide(&c, &d)
			return dec.pick(c.now, &d, nil).upstream
		})
		p.release(u)
	}
}

// BenchmarkRequest is one request over kept connections with 512 bytes of
// body, through the proxy and without it.
func BenchmarkRequest(b *testing.B) {
	body := strings.Repeat("x", 512)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
	defer app.Close()
	p := New(Config{Seed: 1})
	l, err := p.ListenOutbound("127.0.0.1:0", mesh.Caller{Workload: caller})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if err := p.Apply(snapshot(1, service("music.default", app.Listener.Addr().String()), weighted("music.default", 1))); err != nil {
		b.Fatal(err)
	}
	run := func(b *testing.B, target string, transport *http.Transport) {
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		b.ReportAllocs()
		for b.Loop() {
			res, err := client.Get(target)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				b.Fatal(err)
			}
			res.Body.Close()
		}
	}
	b.Run("direct", func(b *testing.B) { run(b, app.URL, &http.Transport{}) })
	b.Run("proxied", func(b *testing.B) {
		run(b, "http://music/", &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()})})
	})
}
