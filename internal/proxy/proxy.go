package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/telemetry"
)

// Proxy routes requests under the last snapshot applied. One Proxy serves any
// number of listeners; all of them change snapshot at the same instant. It is
// safe for concurrent use.
type Proxy struct {
	recorder telemetry.Recorder
	log      *slog.Logger
	access   *accessLog // nil: none
	comparer *comparer
	seed     uint64
	limits   Limits
	place    mesh.Place
	socket   func(address string) (*net.TCPListener, error)
	retry    *mesh.Retry // of calls without a route
	noRetry  *mesh.Retry // of calls of which no snapshot speaks: to hosts outside, to an application

	table   atomic.Pointer[table]
	turns   draws                                   // where round robins start
	own     atomic.Pointer[map[netip.AddrPort]bool] // addresses of outbound listeners
	loops   int
	workers []*worker // one for each loop; made with the first listener

	mu        sync.Mutex // never taken to route a request
	group     *loop.Group
	ack       mesh.Ack
	upstreams map[upstreamID]*upstream
	listeners map[*Listener]bool
	checks    map[checkKey]*check // of health, under way
	opened    uint64              // listeners so far
	changed   chan struct{}       // closed and replaced by broadcast
	closed    bool
}

// ErrClosed is returned by what was called after Shutdown.
var ErrClosed = errors.New("proxy is shut down")

// New makes a proxy without a snapshot: until the first Apply, every request
// is answered with 503, and connections to the port for one service wait.
func New(c Config) *Proxy {
	p := &Proxy{
		recorder:  c.Recorder,
		comparer:  newComparer(),
		log:       c.Logger,
		seed:      c.Seed,
		limits:    c.Limits.withDefaults(),
		place:     c.Place,
		retry:     mesh.DefaultRetry(),
		noRetry:   &mesh.Retry{},
		socket:    c.Listen,
		loops:     c.Loops,
		upstreams: map[upstreamID]*upstream{},
		listeners: map[*Listener]bool{},
		checks:    map[checkKey]*check{},
		changed:   make(chan struct{}),
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.seed == 0 {
		p.seed = rand.Uint64()
	}
	if p.loops <= 0 {
		p.loops = runtime.GOMAXPROCS(0)
	}
	if p.socket == nil {
		p.socket = openSocket
	}
	p.access = newAccessLog(c.AccessLog, p.log)
	p.turns.state.Store(p.seed)
	p.table.Store(&table{})
	p.own.Store(&map[netip.AddrPort]bool{})
	return p
}

// start makes the loops, with the first listener: only then there is anything
// to do on them. Under p.mu.
func (p *Proxy) start() error {
	if p.group != nil {
		return nil
	}
	group, err := loop.NewGroup(p.loops, loop.Options{Log: p.log})
	if err != nil {
		return err
	}
	for i, l := range group.Loops() {
		p.workers = append(p.workers, newWorker(p, l, i))
	}
	p.group = group
	group.Start()
	p.checkMembers(p.table.Load())
	return nil
}

// worker is that of a loop.
func (p *Proxy) worker(l *loop.Loop) *worker {
	for _, w := range p.workers {
		if w.loop == l {
			return w
		}
	}
	panic("proxy: a connection belongs to one of the proxy's loops")
}

// onEach runs f on every loop, soon. Under p.mu.
func (p *Proxy) onEach(f func(*worker)) {
	for _, w := range p.workers {
		w.loop.Post(func() { f(w) })
	}
}

// Apply makes all listeners route under the snapshot from now on. Requests
// under way finish where they are. When it returns nil, the snapshot is acked:
// no request starts under an older one. A snapshot that is invalid, or not
// newer than the one in force, is refused whole and nothing changes.
//
// The caller must not change the snapshot afterwards.
//
// What is as in the snapshot in force goes on as it is, so that a change costs
// what changed, and not what there is.
func (p *Proxy) Apply(s *mesh.Snapshot) error {
	before := p.table.Load().snapshot
	s = s.Sharing(before)
	if err := s.ValidateAfter(before); err != nil {
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
	old := p.table.Load()
	if old.snapshot == nil {
		n := 0
		for _, svc := range s.Services {
			n += len(svc.Endpoints)
		}
		p.upstreams = make(map[upstreamID]*upstream, n)
	}
	c := compiler{snapshot: s, old: old, now: time.Now(), place: p.place, turn: p.turns.next, upstream: p.upstreamFor}
	t, err := c.compile()
	if err != nil {
		p.forgetUnused()
		return fmt.Errorf("apply snapshot %d: %w", s.Version, err)
	}
	for name, svc := range t.services {
		if svc != old.services[name] {
			svc.use()
		}
	}
	p.table.Store(t)
	p.checkMembers(t)
	p.ack = mesh.Ack{Version: s.Version, At: time.Now()}
	for name, svc := range old.services {
		if svc != t.services[name] {
			p.disuse(svc)
		}
	}
	if old.snapshot == nil {
		p.startUnknown()
	}
	p.broadcast()
	return nil
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
// listeners is lost. A connection of bytes (a TCP port, CONNECT, WebSocket)
// counts as a request under way: bound the wait with ctx.
//
// Callers who connected to the pod's own address are not waited for; its
// inbound listener's Shutdown does that.
func (p *Proxy) Drained(ctx context.Context, pod netip.Addr) error {
	err := p.await(ctx, func() bool {
		for _, u := range p.upstreams {
			if u.pod == pod && u.uses > 0 {
				return false
			}
		}
		busy := false
		for _, u := range p.upstreams {
			if u.pod == pod {
				u.waited.Store(true)
				if u.active.Load() > 0 {
					busy = true
				} else {
					delete(p.upstreams, u.upstreamID) // no snapshot has it
				}
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
	again := p.closed
	p.closed = true
	p.broadcast()
	open := slices.Collect(maps.Keys(p.listeners))
	group := p.group
	p.mu.Unlock()
	errs := make([]error, len(open))
	var wg sync.WaitGroup
	for i, l := range open {
		wg.Go(func() { errs[i] = l.Shutdown(ctx) })
	}
	wg.Wait()
	if again {
		return errors.Join(errs...)
	}
	if group != nil {
		// What is left answers nobody: kept connections, copies for mirrors,
		// health checks. They end at once.
		over, cancel := context.WithCancel(context.Background())
		cancel()
		if err := group.Stop(over); err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	p.access.close()
	return errors.Join(errs...)
}

func openSocket(address string) (*net.TCPListener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil // net.Listen's type for "tcp"
}
