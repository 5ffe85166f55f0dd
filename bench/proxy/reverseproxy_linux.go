package main

import (
	"crypto/rand"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"
)

// reverseProxyMain is the proxy that the standard library gives a Go program in
// an afternoon. It runs in a process of its own.
func reverseProxyMain() error {
	p, err := readPlan()
	if err != nil {
		return err
	}
	upstreams := map[string]http.Handler{}
	for _, u := range p.Upstreams {
		upstreams[u.Name] = forward(localhost(u.Port), u.HTTP2)
	}
	failed := make(chan error, len(p.Doors))
	for _, d := range p.Doors {
		s := &http.Server{Addr: localhost(d.Port), Handler: p.handler(upstreams, d.Upstream), Protocols: protocol(d.HTTP2)}
		if d.TLS {
			go func() { failed <- s.ListenAndServeTLS(p.Cert, p.Key) }()
		} else {
			go func() { failed <- s.ListenAndServe() }()
		}
	}
	return <-failed
}

// protocol is either HTTP/2 without TLS or HTTP/1.1.
func protocol(http2 bool) *http.Protocols {
	p := &http.Protocols{}
	p.SetUnencryptedHTTP2(http2)
	p.SetHTTP1(!http2)
	return p
}

func forward(address string, http2 bool) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			r.Out.Host = r.In.Host
			r.Out.Header.Set("X-Request-Id", rand.Text())
		},
		Transport: &http.Transport{
			Protocols:           protocol(http2),
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     10 * time.Minute,
			DisableCompression:  true,
		},
	}
}

// handler serves one door.
func (p *plan) handler(upstreams map[string]http.Handler, upstream string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := upstream
		if to == "" {
			to = p.route(r)
		}
		if r.Host != p.Host || to == "" {
			http.NotFound(w, r)
			return
		}
		upstreams[to].ServeHTTP(w, r)
	})
}

// route looks at one route after the other, as Envoy does.
func (p *plan) route(r *http.Request) string {
	for _, service := range p.Services {
		below, ok := strings.CutPrefix(r.URL.Path, "/"+service)
		if ok && strings.HasPrefix(below, "/") && r.Header.Get("X-Release") == "candidate" {
			return [...]string{"a", "b"}[mathrand.IntN(2)]
		}
	}
	return ""
}
