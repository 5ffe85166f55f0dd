package controller

import (
	"maps"
	"slices"
	"sync"
	"time"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
)

// Acks remembers which generation of which object every proxy runs. It is safe
// for concurrent use; the zero value has seen nothing.
type Acks struct {
	mu       sync.Mutex
	waiting  []*mesh.Snapshot // published, oldest first, and not yet run everywhere
	applied  *mesh.Snapshot   // the latest that every proxy runs
	since    time.Time        // when the last of them had it
	origins  map[mesh.Origin]RouteAck
	endpoint map[mesh.ServiceName]map[string]int // ready endpoints by revision
	proxies  []ProxyState
	first    map[mesh.Origin]firstSeen       // of what was published last
	objected map[mesh.Origin]objection       // at the last publish
	refused  map[string]mesh.SnapshotVersion // by proxy: the first that it did not take after what it runs
	changed  []func()
}

// firstSeen is the first snapshot that had a generation of an object.
type firstSeen struct {
	generation int64
	snapshot   mesh.SnapshotVersion
}

// RouteAck says since when every proxy runs a generation of an object.
type RouteAck struct {
	Generation int64
	Snapshot   mesh.SnapshotVersion // the first with this generation
	At         time.Time
}

// ProxyState is what one proxy runs, by its own word. A proxy that has not
// said yet runs nothing, and nobody waits for it: it has no traffic.
type ProxyState struct {
	Name    string // "this process", or the proxy's own
	Version mesh.SnapshotVersion
	At      time.Time // of the ack
	// Refused is the version that the proxy did not take, and why; 0 = none
	// since Version.
	Refused mesh.SnapshotVersion
	Reason  string
	// Lost is set for one whose connection has ended: it is gone, or goes on
	// with what it has. Nobody waits for it.
	Lost bool
}

// maxWaiting bounds what is kept for a proxy that is far behind. Forgetting the
// oldest makes acks say a later snapshot than the first one: late, never early.
const maxWaiting = 64

// publish makes a snapshot known before any proxy says that it runs it.
func (a *Acks) publish(s *mesh.Snapshot) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := make(map[mesh.Origin]firstSeen, len(s.Origins))
	for origin, generation := range s.Origins {
		seen := a.first[origin]
		if seen.generation != generation || seen.snapshot == 0 {
			seen = firstSeen{generation, s.Version}
		}
		first[origin] = seen
	}
	a.first = first
	a.waiting = append(a.waiting, s)
	if len(a.waiting) > maxWaiting {
		a.waiting = slices.Delete(a.waiting, 0, 1)
	}
}

// object replaces what there is to object to.
func (a *Acks) object(objected map[mesh.Origin]objection) {
	a.mu.Lock()
	same := maps.Equal(a.objected, objected)
	a.objected = objected
	changed := a.changed
	a.mu.Unlock()
	if same {
		return
	}
	for _, f := range changed {
		f()
	}
}

// report tells what the proxies run: all that are connected.
func (a *Acks) report(proxies []ProxyState) {
	a.mu.Lock()
	moved := !slices.Equal(a.proxies, proxies)
	a.proxies = slices.Clone(proxies)
	refused := map[string]mesh.SnapshotVersion{}
	for _, p := range proxies {
		if p.Refused > p.Version {
			refused[p.Name] = p.Refused
			if first := a.refused[p.Name]; first > p.Version {
				refused[p.Name] = first
			}
		}
	}
	a.refused = refused
	everywhere, at := runEverywhere(proxies)
	for len(a.waiting) > 0 && a.waiting[0].Version <= everywhere {
		a.record(a.waiting[0], at)
		a.waiting = slices.Delete(a.waiting, 0, 1)
		moved = true
	}
	changed := a.changed
	a.mu.Unlock()
	if !moved {
		return
	}
	for _, f := range changed {
		f()
	}
}

// runEverywhere is the version that every proxy has passed, and since when.
func runEverywhere(proxies []ProxyState) (version mesh.SnapshotVersion, at time.Time) {
	for _, p := range proxies {
		if p.Version == 0 || p.Lost {
			continue
		}
		if version == 0 || p.Version < version {
			version = p.Version
		}
		if p.At.After(at) {
			at = p.At
		}
	}
	return version, at
}

// record takes a snapshot that every proxy runs. Under a.mu.
func (a *Acks) record(s *mesh.Snapshot, at time.Time) {
	next := make(map[mesh.Origin]RouteAck, len(s.Origins))
	for origin, generation := range s.Origins {
		ack := a.origins[origin]
		if ack.Generation != generation || ack.Snapshot == 0 {
			ack = RouteAck{Generation: generation, Snapshot: s.Version, At: at}
		}
		next[origin] = ack
	}
	a.origins = next
	a.applied, a.since = s, at
	a.endpoint = map[mesh.ServiceName]map[string]int{}
	for name, svc := range s.Services {
		for _, e := range svc.Endpoints {
			if a.endpoint[name] == nil {
				a.endpoint[name] = map[string]int{}
			}
			a.endpoint[name][e.Workload.Revision]++
		}
	}
}

// Proxies returns what the proxies said last.
func (a *Acks) Proxies() []ProxyState {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.proxies)
}

// OnChange registers f to be called after each ack, and when proxies come, go
// or refuse. It must not block.
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

// Pods counts the endpoints of a service that belong to a workload, in the
// snapshot that every proxy runs, which is returned as well; its Generation is
// nobody's.
func (a *Acks) Pods(service mesh.ServiceName, workload string) (n int32, in RouteAck) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.applied == nil {
		return 0, RouteAck{}
	}
	if svc := a.applied.Services[service]; svc != nil {
		for _, e := range svc.Endpoints {
			if e.Workload.Name == workload {
				n++
			}
		}
	}
	return n, RouteAck{Snapshot: a.applied.Version, At: a.since}
}

// everywhere is the latest snapshot that every proxy runs; nil = none yet.
func (a *Acks) everywhere() *mesh.Snapshot {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.applied
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
