package xds

import (
	"cmp"
	"math"
	"slices"
	"strings"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"serin.dev/serin/internal/mesh"
)

// assign makes the assignment of a destination for an Envoy that stands at a
// place: where our own proxy looks at places by itself, Envoy is told priorities
// and weights of localities. It reports whether there are such weights.
func assign(d *destination, at mesh.Place) (*endpointv3.ClusterLoadAssignment, bool, error) {
	endpoints, _ := d.service.Select(d.port.Number, d.subset)
	l := d.policy.Locality
	if l == nil || at == (mesh.Place{}) {
		l = &mesh.Locality{} // a proxy that stands nowhere is as far from all
	}
	var groups []*locality
	for i := range endpoints {
		e := &endpoints[i]
		lb, err := encodeEndpoint(e)
		if err != nil {
			return nil, false, err
		}
		key := locality{place: e.Place, priority: e.Priority}
		if l.Failover {
			key.distance = distance(at, e.Place, l.FailoverTo)
		}
		g := find(&groups, key)
		g.endpoints = append(g.endpoints, lb)
		g.sum += uint64(max(1, e.Weight))
	}
	slices.SortStableFunc(groups, func(a, b *locality) int {
		return cmp.Or(a.compare(b), comparePlaces(a.place, b.place))
	})
	weights := distribute(groups, l.Distribute, at)
	out := &endpointv3.ClusterLoadAssignment{ClusterName: d.name()}
	priority := uint32(0) // Envoy wants them without gaps
	var last *locality
	for i, g := range groups {
		if weights != nil && weights[i] == 0 {
			continue // nobody here calls it
		}
		if last != nil && g.compare(last) != 0 {
			priority++
		}
		last = g
		to := &endpointv3.LocalityLbEndpoints{Locality: encodePlace(g.place), Priority: priority, LbEndpoints: g.endpoints}
		if weights != nil {
			to.LoadBalancingWeight = wrapperspb.UInt32(weights[i])
		}
		out.Endpoints = append(out.Endpoints, to)
	}
	return out, weights != nil, nil
}

// oneEndpoint is the assignment of a cluster that has a single one.
func oneEndpoint(cluster string, lb *endpointv3.LbEndpoint) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: cluster,
		Endpoints:   []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{lb}}},
	}
}

// locality is the endpoints of one place that are called at the same time.
type locality struct {
	place     mesh.Place
	priority  uint32 // of the endpoints
	distance  uint32 // from the proxy; counts within a priority
	endpoints []*endpointv3.LbEndpoint
	sum       uint64 // of the endpoints' weights
}

// compare orders by who is called first.
func (g *locality) compare(other *locality) int {
	return cmp.Or(cmp.Compare(g.priority, other.priority), cmp.Compare(g.distance, other.distance))
}

func find(groups *[]*locality, key locality) *locality {
	for _, g := range *groups {
		if g.place == key.place && g.compare(&key) == 0 {
			return g
		}
	}
	*groups = append(*groups, &key)
	return &key
}

// distance ranks a place as seen from another: the same subzone, zone, region,
// the region that takes over, and all others.
func distance(from, to mesh.Place, failover map[string]string) uint32 {
	switch {
	case from == to:
		return 0
	case from.Region == to.Region && from.Zone == to.Zone:
		return 1
	case from.Region == to.Region:
		return 2
	case to.Region != "" && failover[from.Region] == to.Region:
		return 3
	}
	return 4
}

// distribute gives each locality its weight; nil when the proxy's place is in
// no distribution. The share of several localities under one pattern is parted
// by the weights of their endpoints.
func distribute(groups []*locality, distributions []mesh.Distribution, at mesh.Place) []uint32 {
	i := slices.IndexFunc(distributions, func(d mesh.Distribution) bool { return covers(d.From, at) })
	if i < 0 {
		return nil
	}
	to := distributions[i].To
	patterns := sortedKeys(to)
	// The most specific pattern that covers a place is the one that counts.
	slices.SortStableFunc(patterns, func(a, b string) int { return cmp.Compare(precision(b), precision(a)) })
	own, of, sums := map[mesh.Place]float64{}, map[mesh.Place]string{}, map[string]float64{}
	for _, g := range groups {
		own[g.place] += float64(g.sum)
		if i := slices.IndexFunc(patterns, func(p string) bool { return covers(p, g.place) }); i >= 0 {
			of[g.place] = patterns[i]
			sums[patterns[i]] += float64(g.sum)
		}
	}
	var total float64
	for _, weight := range to {
		total += float64(weight)
	}
	out := make([]uint32, len(groups))
	for i, g := range groups {
		if p, ok := of[g.place]; ok && to[p] > 0 {
			// In millionths of all, so that the parts of a share are not
			// rounded away.
			share := float64(to[p]) / total * own[g.place] / sums[p]
			out[i] = max(1, uint32(math.Round(share*1_000_000)))
		}
	}
	return out
}

// covers reports whether a pattern of Distribution covers a place.
func covers(pattern string, place mesh.Place) bool {
	have := []string{place.Region, place.Zone, place.Subzone}
	for i, part := range strings.Split(pattern, "/") {
		if part == "*" {
			return true
		}
		if i >= len(have) || part != have[i] {
			return false
		}
	}
	return true
}

// precision is how many parts a pattern names.
func precision(pattern string) int {
	return strings.Count(strings.TrimSuffix("/"+pattern, "/*"), "/")
}
