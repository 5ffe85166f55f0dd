package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
)

const (
	// headerTimeout bounds how long a caller may take over its header section:
	// long for any network, short for one who holds connections on purpose.
	headerTimeout = 10 * time.Second
	// idleTimeout of a caller's kept connection: longer than the pools of
	// common clients keep theirs (Go 90 s, Java 30 s, Python 60 s), so that the
	// client closes first and never sends into a closing connection.
	idleTimeout = 5 * time.Minute
	// maxHeaderBytes is Envoy's default limit of a header section.
	maxHeaderBytes = 60 << 10
	// serverSlack is what net/http reads beyond Server.MaxHeaderBytes.
	serverSlack = 4 << 10
)

// Listener is one address at which the proxy answers.
type Listener struct {
	proxy    *Proxy
	reporter telemetry.Reporter
	source   mesh.Workload // whose calls these are; zero at a gateway and inbound
	port     uint16        // gateway: of the Gateway object
	inbound  *upstream     // inbound: the application
	service  mesh.ServiceName

	addr    net.Addr
	server  *http.Server
	draws   draws
	cancel  context.CancelFunc // ends what is under way
	serving sync.WaitGroup     // handlers, also of upgraded connections
	served  chan struct{}      // closed when accepting ended
}

// ListenOutbound opens the listener for the calls of one workload: a forward
// proxy to which HTTP_PROXY points. It takes absolute-form requests (RFC 9112,
// section 3.2.2) and, from callers that connect by other means, origin-form
// ones by their Host header.
//
// A host that is no service and has no route is outside of the mesh: the
// request goes to the real host, as with Istio's ALLOW_ANY, and is recorded
// with no Service. CONNECT is answered with 405.
func (p *Proxy) ListenOutbound(address string, source mesh.Workload) (*Listener, error) {
	return p.listen(address, &Listener{reporter: telemetry.SourceSide, source: source})
}

// ListenGateway opens a listener for callers outside of the mesh: it answers
// for all Gateways of the snapshot with this port, whatever port the address
// has, so that a Gateway on port 80 can be served at 127.0.0.1:8080. A host
// that no gateway on the port has is answered with 404.
func (p *Proxy) ListenGateway(address string, port uint16) (*Listener, error) {
	return p.listen(address, &Listener{reporter: telemetry.GatewaySide, port: port})
}

// ListenInbound opens the listener at a pod's own address, for callers that do
// not use the mesh: it hands each request to the application (host:port) and
// records it on the destination's side. Calls through the mesh go to
// Endpoint.Dial and do not pass here, so each request has one record.
func (p *Proxy) ListenInbound(address string, service mesh.ServiceName, workload mesh.Workload, application string) (*Listener, error) {
	host, _, err := net.SplitHostPort(application)
	if err != nil || host == "" {
		return nil, fmt.Errorf("listen on %s: application %q is not host:port", address, application)
	}
	pod, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen inbound: %w", err)
	}
	u := p.newUpstream(upstreamID{dial: application, pod: pod.Addr(), workload: workload})
	return p.listen(address, &Listener{reporter: telemetry.DestinationSide, service: service, inbound: u})
}

func (p *Proxy) listen(address string, l *Listener) (*Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.proxy, l.addr, l.cancel, l.served = p, ln.Addr(), cancel, make(chan struct{})
	l.server = &http.Server{
		Handler:                      l,
		ReadHeaderTimeout:            headerTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes - serverSlack,
		DisableGeneralOptionsHandler: true, // OPTIONS * is the callee's to answer
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ErrorLog:                     slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		cancel()
		return nil, fmt.Errorf("listen on %s: %w", address, errors.Join(ErrClosed, ln.Close()))
	}
	p.opened++
	l.draws.state.Store(p.seed + p.opened<<32)
	p.listeners[l] = true
	p.mu.Unlock()
	go func() {
		defer close(l.served)
		if err := l.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			p.log.Error("listener stopped accepting", "address", address, "err", err)
		}
	}()
	return l, nil
}

// Addr is where it listens, with the port chosen if the address had port 0.
func (l *Listener) Addr() net.Addr { return l.addr }

// Stopped is closed when the listener accepts no more: its address is free.
func (l *Listener) Stopped() <-chan struct{} { return l.served }

// Shutdown stops accepting, lets the requests under way finish until ctx ends,
// and then closes the rest and returns ctx's error.
func (l *Listener) Shutdown(ctx context.Context) error {
	err := l.server.Shutdown(ctx)
	if err == nil {
		// Only upgraded connections are left: net/http has let go of them.
		upgraded := make(chan struct{})
		go func() {
			l.serving.Wait()
			close(upgraded)
		}()
		select {
		case <-upgraded:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	return errors.Join(err, l.Close())
}

// Close closes the listener and its connections at once: requests under way
// are cut off. It returns when their handlers have ended. Closing again is
// harmless.
func (l *Listener) Close() error {
	l.cancel()
	err := l.server.Close()
	<-l.served
	l.serving.Wait()
	if l.inbound != nil {
		l.inbound.transport.CloseIdleConnections()
	}
	l.proxy.mu.Lock()
	delete(l.proxy.listeners, l)
	l.proxy.mu.Unlock()
	if err != nil {
		return fmt.Errorf("close listener %s: %w", l.addr, err)
	}
	return nil
}
