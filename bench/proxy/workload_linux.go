package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"strings"
)

// What the backend answers at which path, wherever in it.
const (
	pathSmall = "/512"
	pathLarge = "/64k"
	pathEcho  = "/echo" // the head of the request, as it arrived
	small     = 512
	large     = 64 << 10
)

// workload is one case: requests of one kind, through one door.
type workload struct {
	name   string
	about  string
	door   string
	path   string
	header []string // "name: value"
	close  bool     // a connection serves one request
	size   int      // of the answered body
	rate   int      // requests per second while latency is taken: a quarter of what the slowest of them can bear
}

// candidate is the header that a route asks for.
const candidate = "x-release: candidate"

// The call of gRPC: a health check, whose request is an empty message.
var (
	grpcHeader = []string{"content-type: application/grpc", "te: trailers"}
	grpcBody   = []byte{0, 0, 0, 0, 0} // not compressed, of length 0
)

var workloads = []workload{
	{name: "http1-512B", about: "HTTP/1.1, connections are kept, 512 B", door: "http1", path: pathSmall, size: small, rate: 2500},
	{name: "http1-64KiB", about: "HTTP/1.1, connections are kept, 64 KiB", door: "http1", path: pathLarge, size: large, rate: 1500},
	{name: "http1-connect", about: "HTTP/1.1, a new connection for each request, 512 B", door: "http1", path: pathSmall, close: true, size: small, rate: 1500},
	{name: "http2-512B", about: "HTTP/2 without TLS from the caller, HTTP/1.1 to the upstream, 512 B", door: "http2", path: pathSmall, size: small, rate: 1500},
	{name: "grpc-unary", about: "gRPC, HTTP/2 on both sides, one small message each way", door: "grpc", path: "/grpc.health.v1.Health/Check", header: grpcHeader, size: 7, rate: 1000},
	{name: "routes-100", about: "HTTP/1.1, the last of 100 routes by prefix and header, split 50/50, 512 B", door: "routes", path: "/service-99" + pathSmall, header: []string{candidate}, size: small, rate: 1000},
	{name: "tls-512B", about: "HTTP/1.1 over TLS 1.3, connections are kept, ECDSA P-256, 512 B", door: "tls", path: pathSmall, size: small, rate: 1500},
}

func (w workload) http2() bool { return w.door == "http2" || w.door == "grpc" }

func (w workload) url(p *plan, path string) string {
	scheme := "http"
	if w.door == "tls" {
		scheme = "https"
	}
	return scheme + "://" + p.address(w.door) + path
}

// verify sees that a proxy does the whole job before it is measured.
func (w workload) verify(p *plan, roots *x509.CertPool) error {
	c, err := w.caller(p, roots)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.call(); err != nil {
		return err
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		Protocols:         protocol(w.http2()),
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: host},
		DisableKeepAlives: true,
	}}
	if body, err := w.send(client, w.url(p, w.path), "other.example", w.header); err != nil || len(body) == w.size {
		return errors.Join(err, errors.New("does not look at Host"))
	}
	if w.door == "routes" {
		if body, err := w.send(client, w.url(p, w.path), host, nil); err != nil || len(body) == w.size {
			return errors.Join(err, errors.New("does not look at the header of the route"))
		}
	}
	if w.door == "grpc" {
		return nil // the health service echoes nothing
	}
	prefix := w.path[:strings.LastIndexByte(w.path, '/')]
	body, err := w.send(client, w.url(p, prefix+pathEcho), host, w.header)
	if err != nil || !strings.Contains(strings.ToLower(body), "\nx-request-id: ") {
		return errors.Join(err, errors.New("does not set x-request-id"))
	}
	return nil
}

// send returns the body that answers a request which differs a little from
// those of the workload.
func (w workload) send(client *http.Client, url, host string, header []string) (string, error) {
	method, message := http.MethodGet, io.Reader(nil)
	if w.door == "grpc" {
		method, message = http.MethodPost, bytes.NewReader(grpcBody)
	}
	r, err := http.NewRequest(method, url, message)
	if err != nil {
		return "", err
	}
	r.Host = host
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	answer, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}
