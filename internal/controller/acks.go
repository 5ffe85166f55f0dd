package controller

import (
	"slices"
	"sync"
	"time"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
)

// Acks remembers which generation of which object the proxies run. It is safe
// for concurrent use; the zero value has seen nothing.
type Acks struct {
	mu       sync.Mutex
	applied  *mesh.Snapshot
	origins  map[mesh.Origin]RouteAck
	endpoint map[mesh.ServiceName]map[string]int // ready endpoints by revision
	changed  []func()
}

// RouteAck says since when every proxy runs a generation of an object.
type RouteAck struct {
	Generation int64
	Snapshot   mesh.SnapshotVersion // the first with this generation
	At         time.Time
}

// applied records that every proxy runs the snapshot.
func (a *Acks) record(s *mesh.Snapshot, at time.Time) {
	a.mu.Lock()
	next := make(map[mesh.Origin]RouteAck, len(s.Origins))
	for origin, generation := range s.Origins {
		ack := a.origins[origin]
		if ack.Generation != generation || ack.Snapshot == 0 {
			ack = RouteAck{Generation: generation, Snapshot: s.Version, At: at}
		}
		next[origin] = ack
	}
	a.origins = next
	a.applied = s
	a.endpoint = map[mesh.ServiceName]map[string]int{}
	for name, svc := range s.Services {
		for _, e := range svc.Endpoints {
			if a.endpoint[name] == nil {
				a.endpoint[name] = map[string]int{}
			}
			a.endpoint[name][e.Workload.Revision]++
		}
	}
	changed := a.changed
	a.mu.Unlock()
	for _, f := range changed {
		f()
	}
}

// OnChange registers f to be called after each ack. It must not block.
func (a *Acks) OnChange(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changed = append(a.changed, f)
}

// Route returns the ack of an object; the zero value means that no proxy runs
// any generation of it.
func (a *Acks) Route(origin mesh.Origin) RouteAck {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.origins[origin]
}

// Endpoints counts the endpoints of a service that the proxies know, of one
// revision and of all.
func (a *Acks) Endpoints(service mesh.ServiceName, revision string) (of, all int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for rev, n := range a.endpoint[service] {
		all += n
		if rev == revision {
			of = n
		}
	}
	return of, all
}

// Left reports whether no proxy splits the Release's traffic any more, nor sends
// what is for its Service to the stable copy.
func (a *Acks) Left(rel *kube.Delivery) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, origin := range rel.RouteOrigins() {
		if a.origins[origin].Snapshot != 0 {
			return false
		}
	}
	if a.applied == nil {
		return true
	}
	svc := a.applied.Services[backend(rel, rel.Names.Service)]
	return svc == nil || !slices.ContainsFunc(svc.Endpoints, func(e mesh.Endpoint) bool { return e.Workload.Name == rel.Names.Stable })
}
