package telemetry

import (
	"maps"
	"sync"
	"sync/atomic"

	"serin.dev/serin/internal/mesh"
)

// Hub receives every record and hands it to whoever counts. The zero value is
// ready to use.
type Hub struct {
	mu      sync.Mutex                                    // serialises changes of tallies
	tallies atomic.Pointer[map[mesh.ServiceName][]*Tally] // by backend
}

// Record counts one request. It blocks at most for the time in which another
// record of the same release is added, and allocates nothing for an endpoint
// that it knows.
//
// A copy of a request is counted as one, and never as a request. Not counted are what the caller's side of the hop recorded already, health
// checks, which are nobody's traffic, and connections: one that fails is
// recorded at once and one that serves only at its end, maybe hours later, so
// shares of failed ones would say that all is bad.
func (h *Hub) Record(r *Request) {
	if r.Reporter == DestinationSide || r.Probe || r.Protocol == TCP {
		return
	}
	m := h.tallies.Load()
	if m == nil {
		return
	}
	for _, t := range (*m)[r.Backend] {
		switch {
		case r.Backend == t.spec.Service:
			t.addPast(r)
		case r.Kind != UsersRequest:
			t.addCopy(r)
		case r.Source == t.spec.Own && r.Source != mesh.Workload{}:
			t.addOwn(r)
		default:
			t.add(r)
		}
	}
}

// Tally begins to count the requests that go to either side of a release.
// The caller must Close it.
func (h *Hub) Tally(spec TallySpec) *Tally {
	t := &Tally{hub: h, spec: spec, endpoints: map[string]*endpointTally{}}
	h.change(func(m map[mesh.ServiceName][]*Tally) {
		for _, backend := range []mesh.ServiceName{spec.Canary, spec.Stable, spec.Warm, spec.Shared, spec.Service} {
			if backend != "" {
				m[backend] = append(m[backend], t)
			}
		}
	})
	return t
}

func (h *Hub) drop(t *Tally) {
	h.change(func(m map[mesh.ServiceName][]*Tally) {
		for backend, list := range m {
			var rest []*Tally
			for _, other := range list {
				if other != t {
					rest = append(rest, other)
				}
			}
			if m[backend] = rest; rest == nil {
				delete(m, backend)
			}
		}
	})
}

// change swaps the table of tallies for a changed copy; slices are copied too,
// since readers hold the old ones.
func (h *Hub) change(f func(map[mesh.ServiceName][]*Tally)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := map[mesh.ServiceName][]*Tally{}
	if old := h.tallies.Load(); old != nil {
		next = maps.Clone(*old)
		for k, list := range next {
			next[k] = list[:len(list):len(list)]
		}
	}
	f(next)
	h.tallies.Store(&next)
}
