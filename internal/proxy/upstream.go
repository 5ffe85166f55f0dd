package proxy

import (
	"net/http"
	"net/netip"
	"sync/atomic"

	"serin.dev/serin/internal/mesh"
)

// upstream is one endpoint as the engine sees it: where to connect, the
// connections kept for it and the requests under way. It outlives snapshots,
// so that a swap neither drops connections nor forgets who is busy.
type upstream struct {
	upstreamID
	transport *http.Transport

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

// acquire routes the call under the table in force and counts the request on
// the endpoint it is for.
//
// The table is read again after counting: either it is still in force, and then
// whoever replaces it sees the count, or the request is routed anew. So once
// Apply has returned, no request starts on an endpoint that the snapshot does
// not have, without a lock or a count per table.
//
// The target is nil when find found none; the upstream is nil when the
// decision has none, for the reason in its flag.
func (p *Proxy) acquire(c *call, d *draws, find func(*table) *target) (*table, *target, decision, *upstream) {
	for {
		t := p.table.Load()
		found := find(t)
		if found == nil {
			return t, nil, decision{}, nil
		}
		dec := found.decide(c, d)
		if dec.group == nil {
			return t, found, dec, nil
		}
		m := dec.pick(c.now, d, nil)
		if m == nil {
			dec.note(flagNoHealthy)
			return t, found, dec, nil
		}
		u := m.upstream
		u.active.Add(1)
		if p.table.Load() == t {
			return t, found, dec, u
		}
		p.release(u)
	}
}

// release ends what acquire began.
func (p *Proxy) release(u *upstream) {
	if u.active.Add(-1) == 0 && (u.retired.Load() || u.waited.Load()) {
		p.idle(u)
	}
}

// idle is called for an upstream that somebody cares to see idle.
func (p *Proxy) idle(u *upstream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u.retired.Load() && u.active.Load() == 0 {
		p.forget(u)
	}
	p.broadcast()
}

// forget closes the kept connections of a retired upstream without requests
// and drops it. Under p.mu.
func (p *Proxy) forget(u *upstream) {
	u.transport.CloseIdleConnections()
	if p.upstreams[u.upstreamID] == u {
		delete(p.upstreams, u.upstreamID)
	}
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

func (p *Proxy) newUpstream(id upstreamID) *upstream {
	return &upstream{upstreamID: id, transport: newTransport(p.dialer(id.dial))}
}
