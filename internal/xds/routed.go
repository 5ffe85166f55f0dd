package xds

import (
	"slices"

	ratelimitcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"

	"serin.dev/serin/internal/mesh"
)

// routed is a part of a route configuration for an Envoy: the virtual hosts of
// one host, or others.
type routed struct {
	of       []any    // what of the view it is made of, compared by identity
	hosts    [][]byte // encoded
	routings []string
	// limits are the rate limits of routes. A route that has become several
	// must keep one bucket, so buckets belong to the whole configuration and
	// routes refer to them.
	limits []limit
}

type limit struct {
	id     string // of the route
	bucket *mesh.RateLimit
}

// routedKey is a configuration and the host that is called in it.
type routedKey struct{ config, host string }

// host has the virtual hosts of a host made, where the last ones are not right any
// more.
func (t *table) host(h *hostRoutes, make func() error) error {
	key, of := routedKey{t.config.GetName(), h.key}, t.madeOf(h)
	part, known := t.envoy.memory.routed.find(key)
	t.part = nil
	if known && slices.Equal(part.of, of) {
		t.parts = append(t.parts, part)
	} else {
		part = t.open()
		part.of = of
		err := make()
		t.part = nil
		if err != nil {
			return err
		}
	}
	t.envoy.memory.routed.keep(key, part)
	return nil
}

// open returns the part under way.
func (t *table) open() *routed {
	if t.part == nil {
		t.part = &routed{}
		t.parts = append(t.parts, t.part)
	}
	return t.part
}

// madeOf lists what the virtual hosts of a host depend on: its routes, itself as a
// service, and the services to which the routes lead.
func (t *table) madeOf(h *hostRoutes) []any {
	of := []any{h.service}
	for _, id := range h.from {
		of = append(of, id)
	}
	follow := func(name mesh.ServiceName) { of = append(of, t.envoy.view.Services[name]) }
	for i := range h.routes {
		for j := range h.routes[i].Split {
			follow(h.routes[i].Split[j].Service)
		}
		for j := range h.routes[i].Mirrors {
			follow(h.routes[i].Mirrors[j].Destination.Service)
		}
	}
	for i := range h.streams {
		for j := range h.streams[i].Split {
			follow(h.streams[i].Split[j].Service)
		}
	}
	return of
}

// collect puts the parts together.
func (t *table) collect() (hosts [][]byte, limits []*ratelimitcommonv3.LocalRateLimitDescriptor) {
	limited := map[string]bool{}
	for _, part := range t.parts {
		hosts = append(hosts, part.hosts...)
		t.envoy.out.Routings = append(t.envoy.out.Routings, part.routings...)
		for _, l := range part.limits {
			if limited[l.id] {
				continue
			}
			limited[l.id] = true
			limits = append(limits, &ratelimitcommonv3.LocalRateLimitDescriptor{
				Entries:     []*ratelimitcommonv3.RateLimitDescriptor_Entry{{Key: metadataLimit, Value: l.id}},
				TokenBucket: encodeBucket(l.bucket),
			})
		}
	}
	return hosts, limits
}
