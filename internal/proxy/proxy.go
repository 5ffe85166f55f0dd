package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
)

// Config is what a Proxy is made with. The zero value works and records
// nothing.
type Config struct {
	// Recorder takes one record per request. It is called on the request's
	// goroutine: it must not block.
	Recorder telemetry.Recorder
	// Logger hears of listeners and of failed requests (at debug level, as
	// each is recorded too). nil = silence.
	Logger *slog.Logger
	// Seed makes the draws of splits and balancers repeatable: each listener
	// has its own stream, by the order of opening. 0 = random.
	Seed uint64
	// Dial connects to endpoints and to hosts outside the mesh. nil = TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Proxy routes requests under the last snapshot applied. One Proxy serves any
// number of listeners; all of them change snapshot at the same instant. It is
// safe for concurrent use.
type Proxy struct {
	recorder telemetry.Recorder
	log      *slog.Logger
	seed     uint64
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	engine   *httputil.ReverseProxy
	outside  *http.Transport // to hosts that are not of the mesh

	table atomic.Pointer[table]
	turns draws // where round robins start

	mu        sync.Mutex // never taken to route a request
	ack       mesh.Ack
	pods      map[netip.Addr]bool // of the snapshot in force
	upstreams map[upstreamID]*upstream
	listeners map[*Listener]bool
	opened    uint64        // listeners so far
	changed   chan struct{} // closed and replaced by broadcast
	closed    bool
}

// ErrClosed is returned by what was called after Shutdown.
var ErrClosed = errors.New("proxy is shut down")

// New makes a proxy without a snapshot: until the first Apply, every request
// is answered with 503.
func New(c Config) *Proxy {
	p := &Proxy{
		recorder:  c.Recorder,
		log:       c.Logger,
		seed:      c.Seed,
		dial:      c.Dial,
		upstreams: map[upstreamID]*upstream{},
		listeners: map[*Listener]bool{},
		changed:   make(chan struct{}),
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.seed == 0 {
		p.seed = rand.Uint64()
	}
	p.turns.state.Store(p.seed)
	if p.dial == nil {
		p.dial = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true}}).DialContext
	}
	p.engine = p.newEngine()
	p.outside = newTransport(p.dialOutside)
	p.table.Store(&table{})
	return p
}

// Apply makes all listeners route under the snapshot from now on. Requests
// under way finish where they are. When it returns nil, the snapshot is acked:
// no request starts under an older one. A snapshot that is invalid, or not
// newer than the one in force, is refused whole and nothing changes.
//
// The caller must not change the snapshot afterwards.
func (p *Proxy) Apply(s *mesh.Snapshot) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("apply snapshot: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("apply snapshot %d: %w", s.Version, ErrClosed)
	}
	if s.Version <= p.ack.Version {
		return fmt.Errorf("apply snapshot %d: not newer than %d, which is in force", s.Version, p.ack.Version)
	}
	used := map[*upstream]bool{}
	c := compiler{snapshot: s, old: p.table.Load(), now: time.Now(), turn: p.turns.next, upstream: func(e *mesh.Endpoint) *upstream {
		u := p.upstreamFor(e)
		used[u] = true
		return u
	}}
	t, err := c.compile()
	if err != nil {
		return fmt.Errorf("apply snapshot %d: %w", s.Version, err)
	}
	for u := range used {
		u.retired.Store(false)
	}
	p.table.Store(t)
	p.ack = mesh.Ack{Version: s.Version, At: time.Now()}
	p.pods = podsOf(s)
	p.retireUnused(used)
	p.broadcast()
	return nil
}

// retireUnused lets go of the upstreams that the snapshot in force does not
// have: at once if idle, else after their last request. Under p.mu.
func (p *Proxy) retireUnused(used map[*upstream]bool) {
	for _, u := range p.upstreams {
		if used[u] {
			continue
		}
		u.retired.Store(true)
		if u.active.Load() == 0 {
			p.forget(u)
			continue
		}
		u.transport.CloseIdleConnections()
	}
}

func podsOf(s *mesh.Snapshot) map[netip.Addr]bool {
	pods := map[netip.Addr]bool{}
	for _, svc := range s.Services {
		for i := range svc.Endpoints {
			pods[svc.Endpoints[i].Address.Addr()] = true
		}
	}
	return pods
}

// broadcast wakes everyone who waits for a change. Under p.mu.
func (p *Proxy) broadcast() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// Acked returns the snapshot in force and since when. The zero Ack means that
// there was none yet.
func (p *Proxy) Acked() mesh.Ack {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ack
}

// AwaitAck blocks until a snapshot newer than the given one is in force, and
// returns its ack. AwaitAck(ctx, 0) waits for the first one.
func (p *Proxy) AwaitAck(ctx context.Context, than mesh.SnapshotVersion) (mesh.Ack, error) {
	var ack mesh.Ack
	err := p.await(ctx, func() bool {
		ack = p.ack
		return ack.Version > than
	})
	if err != nil {
		return mesh.Ack{}, fmt.Errorf("wait for a snapshot newer than %d: %w", than, err)
	}
	return ack, nil
}

// Drained blocks until the snapshot in force has no endpoint with the pod's
// address and no request to one is under way. Then the pod can be told to
// stop, and nothing that came through this proxy's outbound and gateway
// listeners is lost. An upgraded connection (WebSocket) counts as a request
// under way: bound the wait with ctx.
//
// Callers who connected to the pod's own address are not waited for; its
// inbound listener's Shutdown does that.
func (p *Proxy) Drained(ctx context.Context, pod netip.Addr) error {
	err := p.await(ctx, func() bool {
		if p.pods[pod] {
			return false
		}
		busy := false
		for _, u := range p.upstreams {
			if u.pod == pod {
				u.waited.Store(true)
				busy = busy || u.active.Load() > 0
			}
		}
		return !busy
	})
	if err != nil {
		return fmt.Errorf("drain pod %s: %w", pod, err)
	}
	return nil
}

// await blocks until done, asked under p.mu after every change, says so.
func (p *Proxy) await(ctx context.Context, done func() bool) error {
	for {
		p.mu.Lock()
		ok, closed, changed := done(), p.closed, p.changed
		p.mu.Unlock()
		switch {
		case ok:
			return nil
		case closed:
			return ErrClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Shutdown stops accepting on all listeners, lets requests under way finish
// until ctx ends, and then closes what is left. It returns ctx's error when
// requests were cut off.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.broadcast()
	var open []*Listener
	for l := range p.listeners {
		open = append(open, l)
	}
	p.mu.Unlock()
	errs := make([]error, len(open))
	var wg sync.WaitGroup
	for i, l := range open {
		wg.Go(func() { errs[i] = l.Shutdown(ctx) })
	}
	wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.upstreams {
		u.transport.CloseIdleConnections()
	}
	p.outside.CloseIdleConnections()
	return errors.Join(errs...)
}
