package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// Callers under full load. Enough that the proxy never waits for one.
const (
	connections        = 50 // of HTTP/1.1
	connectionsOfHTTP2 = 8
	streams            = 8 // at once on each of those
)

// fullLoad has wrk or h2load send what the proxy can take for whole seconds,
// and returns how many requests it answered.
func (w workload) fullLoad(p *plan, seconds int) (requests int64, err error) {
	if w.http2() {
		return w.h2load(p, seconds)
	}
	args := []string{"-t1", fmt.Sprintf("-c%d", connections), fmt.Sprintf("-d%ds", seconds), "-H", "Host: " + host}
	for _, h := range w.header {
		args = append(args, "-H", h)
	}
	if w.close {
		args = append(args, "-H", "Connection: close")
	}
	out, err := exec.Command("wrk", append(args, w.url(p, w.path))...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	return readWrk(out)
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in `)
	wrkFailures = regexp.MustCompile(`Non-2xx.*|Socket errors:.*`)
)

func readWrk(out []byte) (requests int64, err error) {
	found := wrkRequests.FindSubmatch(out)
	if failures := wrkFailures.Find(out); failures != nil || found == nil {
		return 0, fmt.Errorf("wrk: requests failed: %s", failures)
	}
	return strconv.ParseInt(string(found[1]), 10, 64)
}

func (w workload) h2load(p *plan, seconds int) (requests int64, err error) {
	args := []string{fmt.Sprintf("-c%d", connectionsOfHTTP2), fmt.Sprintf("-m%d", streams), fmt.Sprintf("-D%d", seconds), "-H", ":authority: " + host}
	for _, h := range w.header {
		args = append(args, "-H", h)
	}
	if w.door == "grpc" {
		body := filepath.Join(p.Dir, "message")
		if err := os.WriteFile(body, grpcBody, 0o644); err != nil {
			return 0, err
		}
		args = append(args, "-d", body)
	}
	out, err := exec.Command("h2load", append(args, w.url(p, w.path))...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("h2load: %w: %s", err, out)
	}
	return readH2load(out)
}

var h2loadRequests = regexp.MustCompile(`(?s)requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout.*status codes: (\d+) 2xx`)

func readH2load(out []byte) (requests int64, err error) {
	found := h2loadRequests.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("h2load: no result in %q", out)
	}
	for _, n := range found[2:5] {
		if string(n) != "0" {
			return 0, fmt.Errorf("h2load: requests failed: %s", found[0])
		}
	}
	return strconv.ParseInt(string(found[5]), 10, 64)
}

// hold opens idle connections, each of which has served one request, and
// returns what closes them.
func hold(address string, n int) (release func(), err error) {
	var conns []net.Conn
	release = func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
	}
	for range n {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return release, err
		}
		conns = append(conns, c)
		if _, err := io.WriteString(c, "GET "+pathSmall+" HTTP/1.1\r\nhost: "+host+"\r\n\r\n"); err != nil {
			return release, err
		}
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return release, fmt.Errorf("after %d connections: %w", len(conns)-1, err)
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
			return release, fmt.Errorf("after %d connections: %s, %w", len(conns)-1, answer.Status, err)
		}
	}
	return release, nil
}
