package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"serin.dev/serin/internal/mesh"
)

// group is the endpoints of a service behind one port and subset: what Envoy
// calls a cluster. It belongs to one snapshot; its state goes on to the next.
type group struct {
	groupKey
	*groupState
	protocol  mesh.Protocol
	policy    *mesh.Policy
	transport transport
	members   []*member
	places    []placeWeight // where calls from here go; nil = to any place
	roster    atomic.Pointer[roster]
}

// groupKey tells groups apart across snapshots.
type groupKey struct {
	service mesh.ServiceName
	port    uint16
	subset  string
}

// groupState is what a group knows across snapshots.
type groupState struct {
	load    load
	turn    atomic.Uint64 // of round robin
	start   time.Time     // of the group's clock
	nextEnd atomic.Int64  // by that clock, when the next ejection ends; 0 = none does

	// mu is taken when the health of an endpoint changes, and never to pick.
	mu      sync.Mutex
	current *group // of the snapshot in force
}

// member is an endpoint in a group.
type member struct {
	*upstream
	*vitals
	group    *group
	weight   uint32 // at least 1
	priority uint32
	place    mesh.Place
	level    int // of priority and distance, from 0 on; -1 = not called from here
}

// vitals is what is known of the health of an endpoint in a group, across
// snapshots.
type vitals struct {
	since atomic.Int64 // by the group's clock, when it joined or was healthy again

	// Failures in a row.
	serverErrors, gatewayErrors, localErrors atomic.Uint32

	// What follows changes under the group's mu.
	ejection ejection
	checks   checks
}

// clock tells the time that passed since the group began.
func (s *groupState) clock(now time.Time) time.Duration { return now.Sub(s.start) }

// hashes reports whether the balancer looks at the request.
func (g *group) hashes() bool {
	return g.policy.Balancer == mesh.RingHash || g.policy.Balancer == mesh.Maglev
}

// find returns the member of an upstream, nil for none. The search begins at a
// place where it is likely to be.
func (g *group) find(u *upstream, likely int) *member {
	if g == nil {
		return nil
	}
	for i := range g.members {
		if m := g.members[(likely+i)%len(g.members)]; m.upstream == u {
			return m
		}
	}
	return nil
}

// healthy reports whether a balancer may pick the member. Under mu.
func (m *member) healthy() bool {
	p := m.group.policy
	return !(p.Outlier != nil && m.ejection.active) && !(p.Health != nil && m.checks.failed)
}

// takeOver puts the group in the place of the one of the last snapshot.
func (g *group) takeOver() {
	g.mu.Lock()
	defer g.mu.Unlock()
	var old *roster
	if g.current != nil {
		old = g.current.roster.Load()
	}
	g.current = g
	g.scheduleEnd()
	g.roster.Store(g.look(old))
}

// renew makes the balancer see the present health. It is called for the group
// in force, under mu.
func (g *group) renew() { g.roster.Store(g.look(g.roster.Load())) }
