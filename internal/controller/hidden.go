package controller

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
)

// hidden is what keeps the users of a gateway from the routes of a Release, in
// one snapshot.
type hidden struct {
	snapshot mesh.SnapshotVersion
	why      error
}

// look says what hides the routes of a Release in what every proxy runs. It is an
// error like one of the world that cannot be made: the run cannot go on by
// itself, and all else is done.
func (h *hidden) look(acks *Acks, rel *kube.Delivery) error {
	s := acks.everywhere()
	if s == nil {
		return nil
	}
	if h.snapshot != s.Version {
		h.snapshot, h.why = s.Version, hiddenBy(s, rel.RouteOrigins())
	}
	return h.why
}

// hiddenBy finds a host of a gateway at which no request reaches any of our
// routes, because those of others that come first take them all. What is taken
// in part, or by a condition that cannot be compared, is not told.
func hiddenBy(s *mesh.Snapshot, ours []mesh.Origin) error {
	for i := range s.Gateways {
		g := &s.Gateways[i]
		for k := range g.VirtualHosts {
			vh := &g.VirtualHosts[k]
			route, by := hiddenIn(vh.Routes, ours)
			if by == nil {
				continue
			}
			what := "for host " + strings.Join(vh.Hosts, ", ")
			if len(route.Matches) > 0 && route.Matches[0].URI.Value != "" {
				what += " and path " + route.Matches[0].URI.Value
			}
			return fmt.Errorf("no request %s at gateway %s gets to VirtualService %s: %s %s/%s, which is older, takes it: take the path out of one of the two, or give it another host",
				what, g.Name, route.Origin.Name, by.Kind, by.Namespace, by.Name)
		}
	}
	return nil
}

// hiddenIn returns the last of our routes if all of them are hidden, and by whom.
func hiddenIn(routes []mesh.Route, ours []mesh.Origin) (hidden *mesh.Route, by *mesh.Origin) {
	for i := range routes {
		if !slices.Contains(ours, routes[i].Origin) {
			continue
		}
		j := slices.IndexFunc(routes[:i], func(other mesh.Route) bool {
			return !slices.Contains(ours, other.Origin) && takesAllOf(&other, &routes[i])
		})
		if j < 0 {
			return nil, nil
		}
		hidden, by = &routes[i], &routes[j].Origin
	}
	return hidden, by
}

// takesAllOf reports whether no request that a route matches is left to it by
// one that comes first.
func takesAllOf(first, route *mesh.Route) bool {
	if len(first.Matches) == 0 {
		return true
	}
	return len(route.Matches) > 0 && !slices.ContainsFunc(route.Matches, func(m mesh.Match) bool {
		return !slices.ContainsFunc(first.Matches, func(wide mesh.Match) bool { return covers(wide, m) })
	})
}

// covers reports whether a match holds wherever another does: they are the same,
// or it is a prefix of the other's path and nothing else.
func covers(wide, m mesh.Match) bool {
	if reflect.DeepEqual(wide, m) {
		return true
	}
	path, of := wide.URI, m.URI
	wide.URI = mesh.StringMatch{}
	if !wide.Always() || path.IgnoreCase || of.IgnoreCase {
		return false
	}
	prefix := path.Kind == mesh.Any || path.Kind == mesh.Prefix && (of.Kind == mesh.Prefix || of.Kind == mesh.Exact || of.Kind == mesh.Segments)
	return prefix && strings.HasPrefix(of.Value, path.Value) || path == of
}
