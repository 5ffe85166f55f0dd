package equivalence

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// visit is what an endpoint saw of one request.
type visit struct {
	Endpoint string
	Address  string // of the endpoint
	Protocol string // "HTTP/1.1", "HTTP/2", "TCP"; "?" for what is no request
	TLS      string // "" or what the caller asked for and showed
	Method   string
	Host     string
	Target   string
	Header   headers
	Body     string
	Trailer  headers
}

// brokenOff ends a body that did not arrive whole.
const brokenOff = " (broken off)"

// headerCall tells an endpoint which call it sees, headerDo what to do; see script.
const (
	headerCall = "x-call"
	headerDo   = "x-do"
)

// fleet is the endpoints of a test, on loopback ports of their own, and a
// journal of what they saw, by call.
type fleet struct {
	t   testing.TB
	tls *tls.Config // for callers who begin with a TLS hello

	mu      sync.Mutex
	at      map[string]string // addresses of endpoints by name
	journal map[string][]visit
	changed chan struct{}
	meeting map[string]*meeting      // by party
	held    map[string]chan struct{} // by party; closed when its calls go on
	open    map[io.Closer]bool
	closed  bool
	wg      sync.WaitGroup
}

func newFleet(t testing.TB, c *tls.Config) *fleet {
	f := &fleet{t: t, tls: c, at: map[string]string{}, journal: map[string][]visit{}, changed: make(chan struct{}), open: map[io.Closer]bool{},
		meeting: map[string]*meeting{}, held: map[string]chan struct{}{}}
	t.Cleanup(f.close)
	return f
}

func (f *fleet) close() {
	f.mu.Lock()
	f.closed = true
	for c := range f.open {
		c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// track keeps a connection or listener until close; false after it.
func (f *fleet) track(c io.Closer) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		c.Close()
		return false
	}
	f.open[c] = true
	return true
}

// serve has an endpoint serve a connection.
func (f *fleet) serve(e *endpoint, c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		c.Close()
		return
	}
	f.open[c] = true
	f.wg.Go(func() { e.serve(c) })
}

func (f *fleet) forget(c io.Closer) {
	f.mu.Lock()
	delete(f.open, c)
	f.mu.Unlock()
	c.Close()
}

// saw notes a visit and returns how many the call has made so far.
func (f *fleet) saw(call string, v visit) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v.Host == f.at[v.Endpoint] {
		v.Host = v.Endpoint + outsideSuffix
	}
	f.journal[call] = append(f.journal[call], v)
	close(f.changed)
	f.changed = make(chan struct{})
	return len(f.journal[call])
}

// visits returns what a call has caused, waiting until there are so many or
// the patience ends.
func (f *fleet) visits(call string, atLeast int, patience time.Duration) []visit {
	timeout := time.After(patience)
	for {
		f.mu.Lock()
		seen, changed := slices.Clone(f.journal[call]), f.changed
		f.mu.Unlock()
		if len(seen) >= atLeast {
			return seen
		}
		select {
		case <-changed:
		case <-timeout:
			return seen
		}
	}
}

// meeting is calls that wait for each other.
type meeting struct {
	here int
	full chan struct{}
}

// partyOf is the plane through which a call came.
func partyOf(call string) string {
	party, _, _ := strings.Cut(call, "-")
	return party
}

// meet waits until so many calls of one party are at it.
func (f *fleet) meet(call string, n int) {
	f.mu.Lock()
	m := f.meeting[partyOf(call)]
	if m == nil {
		m = &meeting{full: make(chan struct{})}
		f.meeting[partyOf(call)] = m
	}
	if m.here++; m.here >= n {
		delete(f.meeting, partyOf(call))
		close(m.full)
	}
	f.mu.Unlock()
	f.await(m.full)
}

// holdCalls makes the calls of a party that are to be held wait until release
// is called.
func (f *fleet) holdCalls(party string) (release func()) {
	held := make(chan struct{})
	f.mu.Lock()
	f.held[party] = held
	f.mu.Unlock()
	return sync.OnceFunc(func() { close(held) })
}

func (f *fleet) hold(call string) {
	f.mu.Lock()
	held := f.held[partyOf(call)]
	f.mu.Unlock()
	f.await(held)
}

func (f *fleet) await(c chan struct{}) {
	select {
	case <-c:
	case <-time.After(patience):
	}
}

// forgetVisits empties the journal.
func (f *fleet) forgetVisits() {
	f.mu.Lock()
	clear(f.journal)
	f.mu.Unlock()
}

// start opens an endpoint and returns its address.
func (f *fleet) start(name string) string {
	f.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	f.track(ln)
	f.mu.Lock()
	f.at[name] = ln.Addr().String()
	f.mu.Unlock()
	e := &endpoint{fleet: f, name: name, address: ln.Addr().String()}
	f.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f.serve(e, c)
		}
	})
	return ln.Addr().String()
}

// outsideSuffix makes a host of an endpoint's name that stands for its address:
// a host that the mesh does not have.
const outsideSuffix = ".outside"

func (f *fleet) outside(u *url.URL) *url.URL {
	name, ok := strings.CutSuffix(u.Host, outsideSuffix)
	if !ok {
		return u
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	to := *u
	to.Host = f.at[name]
	return &to
}

// endpoint serves whatever a connection begins with: HTTP/1.1, HTTP/2 with
// prior knowledge, TLS with one of these inside, or lines of text.
type endpoint struct {
	fleet   *fleet
	name    string
	address string
	sick    atomic.Bool // what asks for its health is answered 503
}

// application is the endpoint behind the planes' inbound listeners: one for all
// stories, in the fleet of the present one.
type application struct {
	address string
	fleet   atomic.Pointer[fleet]
}

func startApplication(t testing.TB) *application {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &application{address: ln.Addr().String()}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f := a.fleet.Load()
			f.serve(&endpoint{fleet: f, name: appWorkload.Pod, address: a.address}, c)
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-ended
	})
	return a
}

// healthOf is what an endpoint does with what is no call of a test: a question
// for its health.
func (e *endpoint) healthOf(s *step) {
	if e.sick.Load() {
		s.status = 503
	}
}

// peeked is a connection of which the first bytes were looked at.
type peeked struct {
	net.Conn
	in *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.in.Read(b) }

func (e *endpoint) serve(raw net.Conn) {
	defer e.fleet.forget(raw)
	c := &peeked{raw, bufio.NewReader(raw)}
	secure := ""
	if first, err := c.in.Peek(1); err == nil && first[0] == 0x16 && e.fleet.tls != nil {
		t := tls.Server(c, e.fleet.tls)
		if t.Handshake() != nil {
			return
		}
		state := t.ConnectionState()
		secure = fmt.Sprintf("tls %q", state.ServerName)
		for _, cert := range state.PeerCertificates {
			secure += " by " + cert.Subject.CommonName
		}
		c = &peeked{t, bufio.NewReader(t)}
	}
	start, err := c.in.Peek(3)
	switch {
	case err != nil:
	case string(start) == "PRI":
		e.serveHTTP2(c, secure)
	case string(start) == "tcp":
		e.serveLines(c, secure)
	default:
		for e.serveHTTP1(c, raw, secure) {
		}
	}
}

// serveLines answers each line "tcp CALL TEXT" with the endpoint's name and the
// text in capitals.
func (e *endpoint) serveLines(c *peeked, secure string) {
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return
		}
		call, text, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "tcp ")), " ")
		e.fleet.saw(call, visit{Endpoint: e.name, Address: e.address, Protocol: "TCP", TLS: secure, Body: text})
		if text == "bye" {
			return
		}
		fmt.Fprintf(c, "%s %s\n", e.name, strings.ToUpper(text))
	}
}

// step is what an endpoint does with one try of a call. The zero value answers
// 200 with the endpoint's name.
type step struct {
	status  int
	body    string
	header  []string // "name: value"
	trailer []string
	delay   time.Duration
	size    int // of a body of "x"
	meet    int
	flags   map[string]bool
}

// parseStep reads the script of a call: steps for its tries, separated by ";",
// of which the last one repeats. A step is words:
//
//	503                    the status
//	body=TEXT size=N       the body; header=NAME:VALUE trailer=NAME:VALUE
//	delay=DURATION         before the answer
//	meet=N                 before the answer, until so many are here
//	hold                   before the answer, until the calls of "first=" have theirs
//	sick, well             what checks of health find from now on
//	hints                  103 first
//	chunked, until-close   framing in HTTP/1.1
//	close, reset, hang     no answer: the connection ends, or nothing comes
//	refuse                 HTTP/2: REFUSED_STREAM
//	within                 the connection ends within the body
//	garbage                what comes is no answer
//	early                  the answer comes before the body was read
//	last                   the connection ends after the answer
//	VERSION:WORD           WORD for endpoints whose name ends in VERSION
func parseStep(script, endpoint string, try int) (step, error) {
	s := step{status: 200, body: endpoint, size: -1, flags: map[string]bool{}}
	steps := strings.Split(script, ";")
	for _, word := range strings.Fields(steps[min(try, len(steps))-1]) {
		if version, rest, ok := strings.Cut(word, ":"); ok && !strings.ContainsAny(version, "=") {
			if !strings.HasSuffix(endpoint, "-"+version) {
				continue
			}
			word = rest
		}
		if n, err := strconv.Atoi(word); err == nil {
			s.status = n
			continue
		}
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "body":
			s.body = value
		case "size":
			s.size, err = strconv.Atoi(value)
			s.body = strings.Repeat("x", max(s.size, 0))
		case "header":
			s.header = append(s.header, strings.Replace(value, ":", ": ", 1))
		case "trailer":
			s.trailer = append(s.trailer, strings.Replace(value, ":", ": ", 1))
		case "delay":
			s.delay, err = time.ParseDuration(value)
		case "meet":
			s.meet, err = strconv.Atoi(value)
		case "hints", "chunked", "until-close", "close", "reset", "hang", "refuse", "within", "garbage", "early", "last", "upgrade",
			"hold", "sick", "well":
			s.flags[key] = true
		default:
			err = errors.New("no such word")
		}
		if err != nil {
			return s, fmt.Errorf("script %q: %s: %w", script, word, err)
		}
	}
	return s, nil
}

// headers are values by name in lower case.
type headers map[string][]string

func lower(h http.Header) headers {
	out := headers{}
	for name, values := range h {
		out[strings.ToLower(name)] = values
	}
	return out
}

// serveHTTP1 serves one request and reports whether another may follow.
func (e *endpoint) serveHTTP1(c *peeked, raw net.Conn, secure string) bool {
	start, err := c.in.Peek(1)
	if err != nil || len(start) == 0 {
		return false
	}
	buffered, _ := c.in.Peek(c.in.Buffered())
	buffered = bytes.Clone(buffered)
	q, err := http.ReadRequest(c.in)
	if err != nil {
		e.fleet.saw("", visit{Endpoint: e.name, Address: e.address, Protocol: "?", TLS: secure, Body: string(buffered)})
		return false
	}
	v := visit{Endpoint: e.name, Address: e.address, Protocol: "HTTP/1.1", TLS: secure, Method: q.Method, Host: q.Host, Target: q.RequestURI, Header: lower(q.Header)}
	if q.Header.Get("Upgrade") != "" {
		v.Header["connection"] = []string{"upgrade"}
	}
	early := strings.Contains(q.Header.Get(headerDo), "early")
	if !early {
		body, err := io.ReadAll(q.Body)
		v.Body, v.Trailer = shorten(body), lower(q.Trailer)
		if err != nil {
			v.Body += brokenOff
		}
	}
	try := e.fleet.saw(q.Header.Get(headerCall), v)
	s, err := parseStep(q.Header.Get(headerDo), e.name, try)
	if err != nil {
		s = step{status: 500, body: err.Error()}
	}
	e.before(&s, q.Header.Get(headerCall))
	switch {
	case s.flags["hang"]:
		_, _ = c.in.ReadByte() // until the caller ends it
		return false
	case s.flags["close"]:
		return false
	case s.flags["reset"]:
		if t, ok := raw.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // a plain close tells as much
		}
		return false
	case s.flags["garbage"]:
		fmt.Fprint(c, "this is no answer\r\n\r\n")
		return false
	case s.flags["upgrade"]:
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Endpoint: %s\r\n\r\n", q.Header.Get("Upgrade"), e.name)
		e.echo(c)
		return false
	}
	return e.answerHTTP1(c, q, &s)
}

// before does what a step does before the answer.
func (e *endpoint) before(s *step, call string) {
	if call == "" {
		e.healthOf(s)
		return
	}
	if s.flags["sick"] || s.flags["well"] {
		e.sick.Store(s.flags["sick"])
	}
	if s.meet > 0 {
		e.fleet.meet(call, s.meet)
	}
	if s.flags["hold"] {
		e.fleet.hold(call)
	}
	if s.delay > 0 {
		<-time.After(s.delay)
	}
}

// echo sends each line back in capitals.
func (e *endpoint) echo(c *peeked) {
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return
		}
		fmt.Fprint(c, strings.ToUpper(line))
	}
}

func (e *endpoint) answerHTTP1(c *peeked, q *http.Request, s *step) bool {
	var b bytes.Buffer
	if s.flags["hints"] {
		b.WriteString("HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
	}
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nX-Endpoint: %s\r\n", s.status, http.StatusText(s.status), e.name)
	for _, h := range s.header {
		b.WriteString(h + "\r\n")
	}
	last := s.flags["last"] || s.flags["until-close"] || s.flags["within"] || s.flags["early"]
	if last && !s.flags["until-close"] {
		b.WriteString("Connection: close\r\n")
	}
	chunked := s.flags["chunked"] || len(s.trailer) > 0
	none := q.Method == http.MethodHead || s.status == 204 || s.status == 304
	switch {
	case none && s.status == 204, s.flags["until-close"]:
		b.WriteString("\r\n")
	case chunked:
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
	case s.flags["within"]:
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(s.body)+10)
	default:
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(s.body))
	}
	switch {
	case none:
	case chunked:
		if len(s.body) > 0 {
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(s.body), s.body)
		}
		if s.flags["within"] {
			break
		}
		b.WriteString("0\r\n")
		for _, t := range s.trailer {
			b.WriteString(t + "\r\n")
		}
		b.WriteString("\r\n")
	default:
		b.WriteString(s.body)
	}
	_, err := c.Write(b.Bytes())
	if s.flags["early"] {
		// A close with unread bytes would reset the connection and the answer
		// could be lost on its way.
		_, _ = io.Copy(io.Discard, q.Body)
	}
	return err == nil && !last
}

// shorten keeps the journal readable.
func shorten(body []byte) string {
	if len(body) <= 200 {
		return string(body)
	}
	return fmt.Sprintf("%s… (%d bytes)", body[:20], len(body))
}
