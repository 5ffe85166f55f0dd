package xds

import (
	"fmt"
	"sync"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"serin.dev/serin/internal/mesh"
)

// Encoder encodes snapshots for one node, one after the other, and makes anew
// what is another one than in the snapshot before. It tells by identity: parts
// that are alike are found by mesh.Snapshot.Sharing. What it returns is what
// Encode returns, to the byte. It is safe for concurrent use.
type Encoder struct {
	node Node

	mu     sync.Mutex
	memory memory
}

// NewEncoder makes the encoder of a node, which is valid.
func NewEncoder(n Node) *Encoder { return &Encoder{node: n} }

// Encode is as the function Encode. The result must not be changed: the next one
// shares parts of it.
func (e *Encoder) Encode(s *mesh.Snapshot) (Resources, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.memory.turn()
	n := e.node
	view := viewWith(&e.memory, s, &n)
	out := Resources{Version: s.Version}
	encode := encodeNouns
	if n.Kind == Envoy {
		encode = encodeForEnvoy
	}
	if err := encode(&out, view, &n, &e.memory); err != nil {
		return Resources{}, fmt.Errorf("encode snapshot %d for %s: %w", s.Version, n.ID, err)
	}
	return out, nil
}

// memory is what an Encoder knows of the last snapshot. The zero value knows
// nothing. Of a node's view it keeps the parts, so that these have an identity,
// too; what is made of them is found by that.
type memory struct {
	services  memo[*mesh.Service, *mesh.Service] // the snapshot's → the view's
	hosts     memo[hostID, mesh.VirtualHost]     // the same
	resources memo[*mesh.Service, *Resources]    // of the view's service
	nouns     memo[nounHost, []byte]             // a virtual host for our own proxy
	routed    memo[routedKey, *routed]           // virtual hosts for an Envoy
}

func (m *memory) turn() {
	m.services.turn()
	m.hosts.turn()
	m.resources.turn()
	m.nouns.turn()
	m.routed.turn()
}

// memo has what was made for the last snapshot and for this one.
type memo[K comparable, V any] struct{ last, now map[K]V }

// turn forgets what was of no use for this snapshot: the next one begins.
func (m *memo[K, V]) turn() { m.last, m.now = m.now, make(map[K]V, len(m.now)) }

// of returns what was made of a key, or makes it.
func (m *memo[K, V]) of(key K, make func() (V, error)) (V, error) {
	v, known := m.find(key)
	if !known {
		var err error
		if v, err = make(); err != nil {
			return v, err
		}
	}
	m.keep(key, v)
	return v, nil
}

func (m *memo[K, V]) find(key K) (V, bool) {
	if v, ok := m.now[key]; ok {
		return v, true
	}
	v, ok := m.last[key]
	return v, ok
}

func (m *memo[K, V]) keep(key K, v V) {
	if m.now == nil {
		m.now = map[K]V{}
	}
	m.now[key] = v
}

// hostID is the identity of a virtual host (mesh.VirtualHost.Is).
type hostID struct {
	hosts      *string
	routes     *mesh.Route
	streams    *mesh.Stream
	lengths    [3]int
	requireTLS bool
}

func idOf(vh *mesh.VirtualHost) hostID {
	return hostID{
		first(vh.Hosts), first(vh.Routes), first(vh.Streams),
		[...]int{len(vh.Hosts), len(vh.Routes), len(vh.Streams)}, vh.RequireTLS,
	}
}

func first[T any](list []T) *T {
	if len(list) == 0 {
		return nil
	}
	return &list[0]
}

// fieldVirtualHosts is the number of virtual_hosts in Envoy's RouteConfiguration.
const fieldVirtualHosts = 2

// setRoutes adds a route configuration that has no virtual hosts yet, with those
// that are given encoded: a message's bytes may be put together of its fields'.
func (r *Resources) setRoutes(config *routev3.RouteConfiguration, hosts [][]byte) error {
	body, err := pack(config)
	if err != nil {
		return fmt.Errorf("%s %s: %w", Routes, config.GetName(), err)
	}
	size := len(body.Value)
	for _, vh := range hosts {
		size += protowire.SizeTag(fieldVirtualHosts) + protowire.SizeBytes(len(vh))
	}
	body.Value = append(make([]byte, 0, size), body.Value...)
	for _, vh := range hosts {
		body.Value = protowire.AppendTag(body.Value, fieldVirtualHosts, protowire.BytesType)
		body.Value = protowire.AppendBytes(body.Value, vh)
	}
	return r.set(Routes, config.GetName(), body)
}

// include adds all of another one's resources.
func (r *Resources) include(part *Resources) error {
	for _, t := range Types() {
		for name, one := range part.ByType[t] {
			if err := r.setResource(t, name, one); err != nil {
				return err
			}
		}
	}
	return nil
}
