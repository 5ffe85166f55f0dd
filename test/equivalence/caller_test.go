package equivalence

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// patience is how long a test waits for what must come: far longer than any
// answer takes, on any machine.
const patience = 30 * time.Second

// call is one call as a test makes it.
type call struct {
	listener string // of a plane: "outbound", "gateway:80", "upstream:db.default:5432"
	http2    bool
	method   string
	url      *url.URL
	header   []string // "name: value", as sent
	body     string
	chunked  bool
	trailer  []string
	talk     []string // lines to send after an upgrade, CONNECT, or instead of a request
	sni      string   // speak TLS first
	client   *tls.Certificate
	trusting bool          // whoever answers by TLS is believed
	leave    time.Duration // the caller goes away after so long; 0 = it waits
}

// answer is what a caller got.
type answer struct {
	Informed []int // 1xx
	Status   int   // 0 = none
	Header   headers
	Body     string
	Trailer  headers
	Lines    []string // answers to talk
	Err      string   // how it ended, if not well: "closed", "broken off", "left", notConnected
	Took     time.Duration
}

// notConnected is how an answer ends where there was no connection, or no TLS
// on it, for a request.
const notConnected = "not connected"

// callers keeps the connections of callers to one plane.
type callers struct {
	roots interface{ config() *tls.Config }
	idle  map[string]*conn // HTTP/1.1, by listener and SNI
	h2    map[string]*http.Transport
}

type conn struct {
	net.Conn
	in *bufio.Reader
}

func newCallers(roots interface{ config() *tls.Config }) *callers {
	return &callers{roots: roots, idle: map[string]*conn{}, h2: map[string]*http.Transport{}}
}

// hangUp closes all connections: the next call begins anew.
func (c *callers) hangUp() {
	for key, k := range c.idle {
		k.Close()
		delete(c.idle, key)
	}
	for key, t := range c.h2 {
		t.CloseIdleConnections()
		delete(c.h2, key)
	}
}

// do makes one call to a listener at the address. extra are headers of the
// machinery.
func (c *callers) do(q *call, address string, extra ...string) answer {
	start := time.Now()
	var a answer
	if q.http2 {
		a = c.doHTTP2(q, address, extra)
	} else {
		a = c.doHTTP1(q, address, extra)
	}
	a.Took = time.Since(start)
	return a
}

// tlsConfig is how a caller who asks for a name speaks TLS.
func (c *callers) tlsConfig(q *call, protocols ...string) *tls.Config {
	config := c.roots.config()
	config.ServerName, config.NextProtos, config.InsecureSkipVerify = q.sni, protocols, q.trusting
	if q.client != nil {
		config.Certificates = []tls.Certificate{*q.client}
	}
	return config
}

// connectionKey is the same for calls that may share a connection.
func (q *call) connectionKey(address string) string {
	return fmt.Sprintf("%s %q %t", address, q.sni, q.client != nil)
}

func (c *callers) dial(q *call, address string) (*conn, error) {
	raw, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	if err := raw.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if q.sni != "" {
		t := tls.Client(raw, c.tlsConfig(q))
		if err := t.Handshake(); err != nil {
			raw.Close()
			return nil, err
		}
		raw = t
	}
	return &conn{raw, bufio.NewReader(raw)}, nil
}

func (c *callers) doHTTP1(q *call, address string, extra []string) answer {
	key := q.connectionKey(address)
	k := c.idle[key]
	delete(c.idle, key)
	fresh := k == nil
	if fresh {
		var err error
		if k, err = c.dial(q, address); err != nil {
			return answer{Err: notConnected}
		}
	} else if k.SetDeadline(time.Now().Add(patience)) != nil {
		k.Close()
		return c.doHTTP1(q, address, extra)
	}
	if q.method == "" {
		defer k.Close()
		return k.talk(q.talk, answer{})
	}
	a, again := k.exchange(q, extra)
	switch {
	case again:
		c.idle[key] = k
	case !fresh && a.Status == 0 && a.Err == "closed" && q.leave == 0:
		// The connection had been closed while it was idle.
		k.Close()
		return c.doHTTP1(q, address, extra)
	default:
		k.Close()
	}
	return a
}

// exchange sends a request and reads its answer; again tells that the
// connection can be used for another.
func (k *conn) exchange(q *call, extra []string) (a answer, again bool) {
	if _, err := io.WriteString(k, q.head(extra)); err != nil {
		return answer{Err: "closed"}, false
	}
	if q.leave > 0 {
		<-time.After(q.leave)
		return answer{Err: "left"}, false
	}
	for {
		res, err := http.ReadResponse(k.in, &http.Request{Method: q.method})
		if err != nil {
			a.Err = endOf(err)
			return a, false
		}
		if res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
			a.Informed = append(a.Informed, res.StatusCode)
			continue
		}
		a.Status, a.Header = res.StatusCode, lower(res.Header)
		if res.StatusCode == http.StatusSwitchingProtocols || q.method == http.MethodConnect && res.StatusCode == 200 {
			return k.talk(q.talk, a), false
		}
		body, err := io.ReadAll(res.Body)
		a.Body, a.Trailer = shorten(body), lower(res.Trailer)
		if err != nil {
			if a.Err = endOf(err); a.Err == "closed" {
				a.Err = "broken off"
			}
		}
		return a, err == nil && !res.Close
	}
}

// head is a request in bytes, with its body.
func (q *call) head(extra []string) string {
	target := q.url.RequestURI()
	switch {
	case q.method == http.MethodConnect:
		target = q.url.Host
	case q.listener == outboundListener:
		target = "http://" + q.url.Host + target
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", q.method, target, q.url.Host)
	for _, h := range append(q.header, extra...) {
		b.WriteString(h + "\r\n")
	}
	switch {
	case q.chunked || len(q.trailer) > 0:
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		if q.body != "" {
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(q.body), q.body)
		}
		b.WriteString("0\r\n" + strings.Join(append(q.trailer, ""), "\r\n") + "\r\n")
	case q.body != "" || q.method == http.MethodPost || q.method == http.MethodPut:
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(q.body), q.body)
	default:
		b.WriteString("\r\n")
	}
	return b.String()
}

// talk sends lines and reads one after each.
func (k *conn) talk(lines []string, a answer) answer {
	for _, line := range lines {
		if _, err := io.WriteString(k, line+"\n"); err != nil {
			a.Err = "closed"
			return a
		}
		got, err := k.in.ReadString('\n')
		if err != nil {
			a.Err = endOf(err)
			return a
		}
		a.Lines = append(a.Lines, strings.TrimSuffix(got, "\n"))
	}
	return a
}

// endOf says how a connection ended, in a word that does not depend on whether
// a reset overtook the end.
func endOf(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "no answer"
	}
	return "closed"
}

func (c *callers) doHTTP2(q *call, address string, extra []string) answer {
	key := q.connectionKey(address)
	t := c.h2[key]
	if t == nil {
		t = &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
		t.Protocols.SetUnencryptedHTTP2(true)
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
		t.DialContext = dial
		if q.sni != "" {
			t.Protocols = new(http.Protocols)
			t.Protocols.SetHTTP2(true)
			t.TLSClientConfig = c.tlsConfig(q, "h2")
		}
		c.h2[key] = t
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if q.leave > 0 {
		ctx, cancel = context.WithTimeout(ctx, q.leave)
		defer cancel()
	}
	r, err := http.NewRequestWithContext(ctx, q.method, q.url.String(), strings.NewReader(q.body))
	if err != nil {
		return answer{Err: err.Error()}
	}
	for _, h := range append(q.header, extra...) {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	if len(q.trailer) > 0 {
		r.Trailer, r.ContentLength = http.Header{}, -1
		for _, h := range q.trailer {
			name, value, _ := strings.Cut(h, ": ")
			r.Trailer.Add(name, value)
		}
	}
	res, err := t.RoundTrip(r)
	if err != nil {
		if q.leave > 0 {
			return answer{Err: "left"}
		}
		return answer{Err: "closed"}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	a := answer{Status: res.StatusCode, Header: lower(res.Header), Body: shorten(body), Trailer: lower(res.Trailer)}
	if err != nil {
		a.Err = "broken off"
	}
	return a
}
