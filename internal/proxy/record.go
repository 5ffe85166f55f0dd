package proxy

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"serin.dev/serin/internal/telemetry"
)

// Envoy's response flags, as far as this proxy has reason to set them.
const (
	flagNoRoute     = "NR"   // 404: no route for the host, port or request
	flagNoCluster   = "NC"   // 503: the route's service, port or subset does not exist
	flagNoHealthy   = "UH"   // 503: the service has no ready endpoint
	flagDelay       = "DI"   // a fault: it was delayed
	flagFault       = "FI"   // a fault: the answer was made up
	flagRateLimited = "RL"   // 429: beyond the route's rate limit
	flagDenied      = "RBAC" // 403: the caller may not call the service; Envoy tells it in its response details
	flagConnect     = "UF"   // 503: could not connect
	flagReset       = "UC"   // 503: the connection ended before an answer, or 200 and it ended within
	flagProtocol    = "UPE"  // 502: what came is not an HTTP/1.1 answer
	flagCallerGone  = "DC"   // the caller went away
)

// exchange is one request on its way through the proxy, and what its record
// needs to know. It belongs to the handler's goroutine but for the atomic
// fields, which the upstream connection's writer uses too.
type exchange struct {
	listener *Listener
	upstream *upstream // nil: to a host outside of the mesh
	record   telemetry.Request
	whole    bool // the answer was passed on to its end
	broken   bool // reading the answer failed
	read     atomic.Int64
	unread   atomic.Bool // reading the request's body failed
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	ex, _ := ctx.Value(exchangeKey{}).(*exchange)
	return ex
}

// finish completes the record and hands it over. A caller that leaves once it
// has the whole answer has not gone away.
func (ex *exchange) finish(callerGone bool) {
	r := &ex.record
	if r.Flags == "" && !ex.whole {
		r.Flags = flagCallerGone
		if ex.broken && !callerGone {
			r.Flags = flagReset
		}
	}
	r.Read = ex.read.Load()
	r.Duration = time.Since(r.Start)
	if recorder := ex.listener.proxy.recorder; recorder != nil {
		recorder.Record(r)
	}
}

// answer is the ResponseWriter that counts. Flush goes to the one inside.
type answer struct {
	http.ResponseWriter
	ex *exchange
}

// Unwrap gives http.ResponseController the writer inside.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(code int) {
	if code >= 200 && a.ex.record.Code == 0 {
		a.ex.record.Code = code
	}
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) Write(p []byte) (int, error) {
	if a.ex.record.Code == 0 {
		a.ex.record.Code = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(p)
	a.ex.record.Sent += int64(n)
	return n, err
}

// requestBody counts what the caller sends and notes when it stops in between.
type requestBody struct {
	io.ReadCloser
	ex *exchange
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ex.read.Add(int64(n))
	if err != nil && err != io.EOF {
		b.ex.unread.Store(true)
	}
	return n, err
}

// answerBody notes when the upstream stops in between.
type answerBody struct {
	io.ReadCloser
	ex *exchange
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.ex.broken = true
	}
	return n, err
}

// newRequestID makes a random UUID (RFC 9562, version 4). It is a name, not a
// secret.
func newRequestID() string {
	hi, lo := rand.Uint64(), rand.Uint64()
	hi = hi&^0xf000 | 0x4000
	lo = lo&^(3<<62) | 1<<63
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xffff, lo>>48, lo&0xffffffffffff)
}

// callerIP is the address of the one who connected.
func callerIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
