package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"syscall"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
	"serin.dev/serin/internal/telemetry"
)

const (
	// connectTimeout: a healthy endpoint in reach accepts within a round trip;
	// one SYN may be lost and is sent again after 1 s, a second after 3 s.
	connectTimeout = 5 * time.Second
	// poolTimeout of a kept upstream connection: below 5 s, the shortest
	// keep-alive of common servers (Node), so that we close first. A request
	// with a body that meets a closing connection could not be sent again.
	poolTimeout = 4 * time.Second
	// poolSize per endpoint: above the concurrency of one endpoint that a
	// single machine reaches, so that a burst does not end in reconnects.
	poolSize = 512
	// continueTimeout: how long a body waits for the callee's 100 (Continue).
	continueTimeout = time.Second
)

// newTransport makes the pool of one upstream. It sends a request once more
// where net/http says that is safe: the kept connection was closed before any
// byte of an answer, and the request is idempotent without a body or had not
// been written.
func newTransport(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            dial,
		Protocols:              protocols,
		DisableCompression:     true, // bodies pass as they are
		MaxIdleConnsPerHost:    poolSize,
		IdleConnTimeout:        poolTimeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
}

// errConnect marks failures to connect.
type errConnect struct{ error }

func (e errConnect) Unwrap() error { return e.error }

// dialer connects to one address, whatever the request's URL says.
func (p *Proxy) dialer(address string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return p.connect(ctx, network, address)
	}
}

// dialOutside connects to a host that is not of the mesh. A name that leads to
// one of our own outbound listeners would come back here without end.
func (p *Proxy) dialOutside(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := p.connect(ctx, network, address)
	if err == nil && p.isOutbound(conn.RemoteAddr()) {
		err = errors.Join(errConnect{fmt.Errorf("%s is this proxy's own listener", address)}, conn.Close())
		return nil, err
	}
	return conn, err
}

func (p *Proxy) connect(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := p.dial(ctx, network, address)
	if err != nil {
		return nil, errConnect{err}
	}
	return conn, nil
}

func (p *Proxy) isOutbound(addr net.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.listeners {
		if l.reporter == telemetry.SourceSide && l.addr.String() == addr.String() {
			return true
		}
	}
	return false
}

// newEngine makes the net/http engine. It strips hop-by-hop headers, passes
// 1xx answers, trailers and upgrades on, and streams: each piece is sent as it
// comes.
func (p *Proxy) newEngine() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      roundTripper{p},
		FlushInterval:  -1,
		BufferPool:     new(buffers),
		ModifyResponse: observe,
		ErrorHandler:   p.failed,
		ErrorLog:       slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
}

// copyBuffer is the piece in which bodies are copied: io.Copy's own size.
const copyBuffer = 32 << 10

// buffers lends the pieces, since one for each answer would be most of what a
// request allocates.
type buffers struct{ pool sync.Pool }

// Get returns a buffer.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[copyBuffer]byte); ok {
		return p[:]
	}
	return make([]byte, copyBuffer)
}

// Put takes a buffer of Get back.
func (b *buffers) Put(p []byte) { b.pool.Put((*[copyBuffer]byte)(p)) }

type roundTripper struct{ proxy *Proxy }

func (rt roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if u := exchangeOf(r.Context()).upstream; u != nil {
		return u.transport.RoundTrip(r)
	}
	return rt.proxy.outside.RoundTrip(r)
}

// ServeHTTP handles one request. It is called by net/http alone.
func (l *Listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.serving.Add(1)
	defer l.serving.Done()
	ex := &exchange{listener: l}
	ex.record = telemetry.Request{
		ID:       r.Header.Get("X-Request-Id"),
		Start:    time.Now(),
		Reporter: l.reporter,
		Source:   l.source,
		Method:   r.Method,
		Host:     r.Host,
		Path:     requestPath(r.RequestURI),
	}
	if ex.record.ID == "" {
		ex.record.ID = newRequestID()
	}
	if r.ContentLength != 0 {
		r.Body = &requestBody{r.Body, ex}
	}
	// A deferred call, since an answer that broke off ends in a panic that
	// makes net/http cut the connection.
	defer func() { ex.finish(r.Context().Err() != nil) }()
	l.serve(&answer{w, ex}, r, ex)
	ex.whole = true
}

func (l *Listener) serve(w http.ResponseWriter, r *http.Request, ex *exchange) {
	host, port, ok := parseAuthority(r.Host)
	switch {
	case r.Method == http.MethodConnect:
		refuse(w, http.StatusMethodNotAllowed, "CONNECT is not supported; call the service by http://")
		return
	case !ok:
		refuse(w, http.StatusBadRequest, fmt.Sprintf("%q is not host:port", r.Host))
		return
	case r.URL.Scheme != "" && r.URL.Scheme != "http":
		refuse(w, http.StatusBadRequest, "only http:// can be called through this proxy")
		return
	}
	ctx := context.WithValue(r.Context(), exchangeKey{}, ex)
	if l.inbound != nil {
		ex.upstream = l.inbound
		ex.record.Service, ex.record.Backend = l.service, l.service
		ex.record.Destination = l.inbound.workload
		ex.record.Snapshot = l.proxy.table.Load().version
		l.proxy.engine.ServeHTTP(w, r.WithContext(ctx))
		return
	}
	c := callOf(r, host, port)
	c.caller = &mesh.Caller{Workload: l.source}
	find := func(t *table) *target { return t.inMesh(l.source.Namespace, host) }
	if l.reporter == telemetry.GatewaySide {
		c.port = l.port
		find = func(t *table) *target { return t.atGateway(l.port, host) }
	}
	t, found, dec, u := l.proxy.acquire(&c, &l.draws, find)
	rec := &ex.record
	rec.Snapshot, rec.Service, rec.Route, rec.Split = t.version, dec.service, dec.origin, dec.several
	if dec.backend != nil {
		rec.Backend = dec.backend.service
	}
	switch {
	case t.version == 0:
		ex.fail(w, http.StatusServiceUnavailable, flagNoCluster, "the mesh has no configuration yet")
	case found == nil && l.reporter == telemetry.SourceSide:
		l.proxy.engine.ServeHTTP(w, r.WithContext(ctx))
	case found == nil:
		ex.fail(w, http.StatusNotFound, flagNoRoute, fmt.Sprintf("no gateway on port %d has host %s", l.port, host))
	case dec.reply != nil:
		var h wire.Head
		body := dec.reply.head(c.head, &h)
		dec.editAnswer(&h)
		rec.Flags = dec.flag
		for _, f := range h.Fields {
			w.Header().Add(f.Name, f.Value)
		}
		w.WriteHeader(h.Status)
		fmt.Fprint(w, body)
	case u == nil:
		ex.undeliverable(w, &c, &dec)
	default:
		defer l.proxy.release(u)
		ex.upstream = u
		rec.Destination = u.workload
		l.proxy.engine.ServeHTTP(w, r.WithContext(ctx))
	}
}

// callOf makes what routing looks at. The request's own header stays as it is.
func callOf(r *http.Request, host string, port uint16) call {
	h := &wire.Head{Method: r.Method, Authority: r.Host, Path: requestPath(r.RequestURI)}
	for name, values := range r.Header {
		for _, value := range values {
			h.Add(strings.ToLower(name), value)
		}
	}
	c := call{head: h, host: host, port: port, path: h.Path, query: r.URL.RawQuery, scheme: "http", now: time.Now()}
	if c.query != "" {
		h.Path += "?" + c.query
	}
	return c
}

// undeliverable answers a call for which there is no endpoint.
func (ex *exchange) undeliverable(w http.ResponseWriter, c *call, d *decision) {
	switch d.flag {
	case flagNoRoute:
		ex.fail(w, http.StatusNotFound, d.flag, fmt.Sprintf("no route for %s %s on port %d", c.host, c.path, c.port))
	case flagNoCluster:
		ex.fail(w, http.StatusServiceUnavailable, d.flag, fmt.Sprintf("no such service, port or subset: %s",
			mesh.Destination{Service: d.backend.service, Subset: d.backend.subset}))
	case flagNoHealthy:
		ex.fail(w, http.StatusServiceUnavailable, d.flag, fmt.Sprintf("no ready endpoint: %s",
			mesh.Destination{Service: d.backend.service, Subset: d.backend.subset}))
	default:
		panic("proxy: a decision without endpoint has a flag")
	}
}

func (ex *exchange) fail(w http.ResponseWriter, code int, flag, reason string) {
	ex.record.Flags = flag
	ex.record.Code = 0 // a 101 that was taken back
	refuse(w, code, flag+": "+reason)
}

// refuse answers in place of an upstream, in one line that says what is wrong.
func refuse(w http.ResponseWriter, code int, reason string) {
	http.Error(w, "serin: "+reason, code)
}

// rewrite makes the outgoing request. The Host header stays the caller's.
func rewrite(pr *httputil.ProxyRequest) {
	ex := exchangeOf(pr.In.Context())
	out := pr.Out
	out.URL.Scheme = "http"
	out.URL.Host = pr.In.Host
	if ex.upstream != nil {
		out.URL.Host = ex.upstream.dial
	}
	out.URL.User = nil
	// ReverseProxy drops query parameters that net/url cannot parse; what a
	// callee makes of them is its own affair.
	out.URL.RawQuery = pr.In.URL.RawQuery
	// The same map, not a copy: the server fills it when the body ends.
	out.Trailer = pr.In.Trailer
	if strings.EqualFold(out.Header.Get("Upgrade"), "h2c") {
		// Spoken after that, HTTP/2 would pass unrouted and unrecorded.
		out.Header.Del("Upgrade")
		out.Header.Del("Connection")
	}
	out.Header["X-Request-Id"] = []string{ex.record.ID}
	for _, name := range [...]string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values := pr.In.Header[name]; values != nil {
			out.Header[name] = values
		}
	}
	// Where a request enters the mesh, the caller's address is worth noting,
	// and at the edge its word on the protocol is not to be trusted.
	if ex.record.Reporter != telemetry.SourceSide {
		out.Header["X-Forwarded-For"] = []string{strings.Join(append(pr.In.Header["X-Forwarded-For"], callerIP(pr.In)), ", ")}
	}
	if out.Header["X-Forwarded-Proto"] == nil || ex.record.Reporter == telemetry.GatewaySide {
		out.Header["X-Forwarded-Proto"] = []string{"http"}
	}
}

// observe sees each answer before it is passed on.
func observe(r *http.Response) error {
	ex := exchangeOf(r.Request.Context())
	if r.StatusCode == http.StatusSwitchingProtocols {
		// The engine takes over both connections: bytes are not counted.
		ex.record.Code = r.StatusCode
		return nil
	}
	r.Body = &answerBody{r.Body, ex}
	return nil
}

// failed answers a request that got no answer from its upstream.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	ex := exchangeOf(r.Context())
	if r.Context().Err() != nil || ex.unread.Load() {
		ex.record.Code = 0
		ex.record.Flags = flagCallerGone
		// Nobody reads an answer, and returning would write an empty 200.
		panic(http.ErrAbortHandler)
	}
	to := string(ex.record.Backend)
	if ex.upstream == nil {
		to = r.URL.Host
	}
	p.log.Debug("request failed", "id", ex.record.ID, "to", to, "err", err)
	var connect errConnect
	switch {
	case errors.As(err, &connect):
		ex.fail(w, http.StatusServiceUnavailable, flagConnect, "could not connect to "+to)
	case isReset(err):
		ex.fail(w, http.StatusServiceUnavailable, flagReset, to+" closed the connection before an answer")
	default:
		ex.fail(w, http.StatusBadGateway, flagProtocol, "not an HTTP/1.1 answer from "+to)
	}
}

// isReset reports whether a round trip failed because the connection ended.
func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		// net/http keeps this one to itself; a test holds the wording.
		strings.Contains(err.Error(), "server closed idle connection")
}
