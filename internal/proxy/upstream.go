package proxy

import (
	"maps"
	"net/netip"
	"sync/atomic"

	"serin.dev/serin/internal/mesh"
)

// upstream is one endpoint as the engine sees it: where to connect, the
// connections kept for it and the requests under way. It outlives snapshots,
// so that a swap neither drops connections nor forgets who is busy.
type upstream struct {
	upstreamID
	addr    netip.AddrPort // of dial; the zero value when that is a name
	outside bool           // a host that is not of the mesh

	// pools has the connections, by the index of the loop that owns them.
	pools  []*pool
	pooled atomic.Bool // some loop made a pool

	// uses counts the services' endpoints that it is in the snapshot in force.
	// Under Proxy.mu.
	uses int

	// active counts requests from the moment the endpoint was picked until
	// the answer is complete.
	active atomic.Int64
	// retired is set while no snapshot in force has the endpoint, waited while
	// somebody waits for active to become 0. Both are written before active is
	// read, and active before them: of the two sides at least one sees the other.
	retired, waited atomic.Bool
}

// upstreamID tells endpoints apart across snapshots. The workload is part of
// it: a new pod may be given the address of one that is gone.
type upstreamID struct {
	dial     string
	pod      netip.Addr
	workload mesh.Workload
}

func idOf(e *mesh.Endpoint) upstreamID {
	return upstreamID{dial: e.DialAddress(), pod: e.Address.Addr(), workload: e.Workload}
}

func (p *Proxy) newUpstream(id upstreamID) *upstream {
	u := &upstream{upstreamID: id, pools: make([]*pool, p.loops)}
	if addr, err := netip.ParseAddrPort(id.dial); err == nil {
		u.addr = addr // else it is a name, which is looked up to connect
	}
	return u
}

// acquire picks an endpoint under the table in force and counts the request on
// it. pick returns nil when there is none.
//
// The table is read again after counting: either it is still in force, and then
// whoever replaces it sees the count, or the endpoint is picked anew. So once
// Apply has returned, no request starts on an endpoint that the snapshot does
// not have, without a lock or a count per table.
func (p *Proxy) acquire(pick func(*table) *upstream) *upstream {
	for {
		t := p.table.Load()
		u := pick(t)
		if u == nil {
			return nil
		}
		u.active.Add(1)
		if p.table.Load() == t {
			return u
		}
		p.release(u)
	}
}

// release ends what acquire began.
func (p *Proxy) release(u *upstream) {
	if u.active.Add(-1) == 0 && (u.retired.Load() || u.waited.Load()) {
		go p.idle(u) // not here: Apply may hold the lock for long, and a loop must not wait
	}
}

// idle is called for an upstream that somebody cares to see idle.
func (p *Proxy) idle(u *upstream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u.retired.Load() && u.active.Load() == 0 && p.upstreams[u.upstreamID] == u {
		delete(p.upstreams, u.upstreamID)
	}
	p.broadcast()
}

// closeIdle closes the kept connections of upstreams, each on its loop. Those
// in use are closed when their request is over, because the upstream is
// retired. Under p.mu.
func (p *Proxy) closeIdle(gone ...*upstream) {
	if len(gone) == 0 {
		return
	}
	p.onEach(func(w *worker) {
		for _, u := range gone {
			for pool := u.pools[w.index]; pool != nil; pool = pool.next {
				pool.closeIdle()
			}
		}
	})
}

// upstreamFor finds or makes the upstream of an endpoint. Under p.mu.
func (p *Proxy) upstreamFor(e *mesh.Endpoint) *upstream {
	id := idOf(e)
	u := p.upstreams[id]
	if u == nil {
		u = p.newUpstream(id)
		p.upstreams[id] = u
	}
	return u
}

// use counts the service's upstreams as those of the snapshot in force, which it
// is about to be of. Under Proxy.mu.
func (svc *callee) use() {
	for _, u := range svc.upstreams {
		u.uses++
		u.retired.Store(false)
	}
}

// disuse lets go of the upstreams that no service in force has any more: at once
// if idle, else after their last request. Under p.mu.
func (p *Proxy) disuse(svc *callee) {
	var gone []*upstream
	for _, u := range svc.upstreams {
		if u.uses--; u.uses > 0 {
			continue
		}
		u.retired.Store(true)
		if u.active.Load() == 0 {
			delete(p.upstreams, u.upstreamID)
		}
		if u.pooled.Load() {
			gone = append(gone, u)
		}
	}
	p.closeIdle(gone...)
}

// forgetUnused forgets upstreams that were made for a snapshot that did not come
// into force. Under p.mu.
func (p *Proxy) forgetUnused() {
	maps.DeleteFunc(p.upstreams, func(_ upstreamID, u *upstream) bool { return u.uses == 0 && !u.retired.Load() })
}
