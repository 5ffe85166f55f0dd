package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/telemetry"
)

// role is whose calls a listener takes.
type role uint8

const (
	outbound role = iota // of one workload, to anywhere
	toOne                // of one workload, to one service
	atEdge               // from outside of the mesh
	inbound              // to one application
)

// Listener is one address at which the proxy answers.
type Listener struct {
	proxy    *Proxy
	role     role
	reporter telemetry.Reporter
	caller   atomic.Pointer[mesh.Caller] // whose calls these are; nil at a gateway and inbound
	port     uint16                      // gateway: of the Gateway object; toOne: of the service
	service  mesh.ServiceName            // toOne, inbound
	inbound  *upstream                   // inbound: the application

	socket  *loop.Listener
	addr    net.Addr
	draws   draws
	open    atomic.Int64  // connections
	leaving atomic.Bool   // no new requests
	ended   chan struct{} // gets a value when the last connection is gone
	stopped chan struct{} // closed when accepting ended
	stop    sync.Once

	conns []*callerConn // by the index of the loop that owns the list
}

// ListenOutbound opens the listener for the calls of one workload: a forward
// proxy to which HTTP_PROXY points. It takes absolute-form requests (RFC 9112,
// section 3.2.2) and, from callers that connect by other means, origin-form
// ones by their Host header; HTTP/2 with prior knowledge as well. CONNECT opens
// a connection of bytes to the service's port.
//
// A host that is no service and has no route is outside of the mesh: the
// request goes to the real host, as with Istio's ALLOW_ANY, and is recorded
// with no Service.
func (p *Proxy) ListenOutbound(address string, caller mesh.Caller) (*Listener, error) {
	l := &Listener{role: outbound, reporter: telemetry.SourceSide}
	l.caller.Store(&caller)
	return p.listen(address, l)
}

// SetCaller says that the caller of an outbound listener, or of one of an
// upstream, has other labels: requests that begin from now on are its. Opening
// the listener anew would break a call that comes between.
func (l *Listener) SetCaller(caller mesh.Caller) {
	if was := l.caller.Load(); was.Workload != caller.Workload || !maps.Equal(was.Labels, caller.Labels) {
		l.caller.Store(&caller)
	}
}

// ListenUpstream opens a listener on which everything that one workload sends
// goes to one service, whatever host a request names: as HTTP or as bytes, by
// the protocol of the service's port.
func (p *Proxy) ListenUpstream(address string, caller mesh.Caller, service mesh.ServiceName, port uint16) (*Listener, error) {
	l := &Listener{role: toOne, reporter: telemetry.SourceSide, service: service, port: port}
	l.caller.Store(&caller)
	return p.listen(address, l)
}

// ListenGateway opens a listener for callers outside of the mesh: it answers
// for all Gateways of the snapshot with this port, whatever port the address
// has, so that a Gateway on port 80 can be served at 127.0.0.1:8080. A host
// that no gateway on the port has is answered with 404. Where the Gateways have
// certificates, callers speak TLS.
func (p *Proxy) ListenGateway(address string, port uint16) (*Listener, error) {
	return p.listen(address, &Listener{role: atEdge, reporter: telemetry.GatewaySide, port: port})
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
	return p.listen(address, &Listener{role: inbound, reporter: telemetry.DestinationSide, service: service, inbound: u})
}

func (p *Proxy) listen(address string, l *Listener) (*Listener, error) {
	socket, err := p.socket(address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	l.proxy, l.addr = p, socket.Addr()
	l.ended, l.stopped = make(chan struct{}, 1), make(chan struct{})
	l.conns = make([]*callerConn, p.loops)
	p.mu.Lock()
	defer p.mu.Unlock()
	err = ErrClosed
	if !p.closed {
		err = p.start()
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, errors.Join(err, socket.Close()))
	}
	p.opened++
	l.draws.state.Store(p.seed + p.opened<<32)
	if l.socket, err = p.group.Serve(socket, l.accept); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	p.listeners[l] = true
	p.noteOwn()
	return l, nil
}

// accept takes a connection, on the loop that owns it from now on.
func (l *Listener) accept(conn *loop.Conn) {
	w := l.proxy.worker(conn.Loop())
	if l.open.Add(1) > int64(l.proxy.limits.Connections) || l.leaving.Load() {
		_ = conn.Close() // a close that fails has closed nevertheless
		l.gone()
		return
	}
	newCallerConn(l, w, conn)
}

// Addr is where it listens, with the port chosen if the address had port 0.
func (l *Listener) Addr() net.Addr { return l.addr }

// Stopped is closed when the listener accepts no more: its address is free.
func (l *Listener) Stopped() <-chan struct{} { return l.stopped }

// Shutdown stops accepting, lets the requests under way finish until ctx ends,
// and then closes the rest and returns ctx's error.
func (l *Listener) Shutdown(ctx context.Context) error {
	stopped := l.stopAccepting()
	l.onEach((*callerConn).leave)
	err := l.awaitEmpty(ctx)
	return errors.Join(err, stopped, l.Close())
}

// Close closes the listener and its connections at once: requests under way
// are cut off. It returns when they have ended. Closing again is harmless.
func (l *Listener) Close() error {
	err := l.stopAccepting()
	l.onEach((*callerConn).cut)
	// Nothing holds up a connection that is cut.
	err = errors.Join(err, l.awaitEmpty(context.Background()))
	p := l.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if delete(p.listeners, l); l.inbound != nil {
		l.inbound.retired.Store(true)
		p.closeIdle(l.inbound)
	}
	p.noteOwn()
	return err
}

// awaitEmpty waits until no connection is left.
func (l *Listener) awaitEmpty(ctx context.Context) error {
	for l.open.Load() > 0 {
		select {
		case <-l.ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	l.tellEmpty() // others may wait, too
	return nil
}

// gone counts a connection that ended.
func (l *Listener) gone() {
	if l.open.Add(-1) == 0 {
		l.tellEmpty()
	}
}

func (l *Listener) tellEmpty() {
	select {
	case l.ended <- struct{}{}:
	default:
	}
}

func (l *Listener) stopAccepting() (err error) {
	l.leaving.Store(true)
	l.stop.Do(func() {
		if err = l.socket.Close(); err != nil {
			err = fmt.Errorf("close listener %s: %w", l.addr, err)
		}
		close(l.stopped)
	})
	return err
}

// onEach calls f for every connection, soon, on its loop.
func (l *Listener) onEach(f func(*callerConn)) {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	l.each(f)
}

// each is onEach under p.mu.
func (l *Listener) each(f func(*callerConn)) {
	l.proxy.onEach(func(w *worker) {
		for c := l.conns[w.index]; c != nil; {
			next := c.next // f may take c off the list
			f(c)
			c = next
		}
	})
}
