package controller

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/rollout"
)

// hidden is what keeps the users of all gateways from the routes of a Release, in
// one snapshot.
type hidden struct {
	snapshot mesh.SnapshotVersion
	why      error
	silent   time.Time // since when no request came by another way; zero = not hidden
}

// look says what hides the routes of a Release in what every proxy runs, if no
// request arrives by another way either: from services in the mesh, from
// testers, as own load. Then it is an error like one of the world that cannot be
// made: the run cannot go on by itself, and all else is done.
func (h *hidden) look(acks *Acks, rel *kube.Delivery, in *rollout.Input) error {
	s := acks.everywhere()
	if s == nil {
		return nil
	}
	if h.snapshot != s.Version {
		h.snapshot, h.why = s.Version, hiddenBy(s, rel.RouteOrigins())
	}
	switch {
	case h.why == nil:
		h.silent = time.Time{}
	case h.silent.IsZero() || in.Arrived > 0 || in.Samples.DirectRequests > 0 || in.Samples.Own.Counts != (analysis.Counts{}):
		h.silent = in.Now
	case in.Now.Sub(h.silent) >= rateKnown:
		return h.why
	}
	return nil
}

// hiddenBy says why no request at any host of any gateway reaches our routes:
// those of others that come first take them all. What is taken in part, or by a
// condition that cannot be compared, is not told. Nor are hosts of the mesh
// looked at: every Release has routes there, whether it is called or not.
func hiddenBy(s *mesh.Snapshot, ours []mesh.Origin) error {
	var why error // at the first host
	for i := range s.Gateways {
		g := &s.Gateways[i]
		for k := range g.VirtualHosts {
			vh := &g.VirtualHosts[k]
			if !slices.ContainsFunc(vh.Routes, func(r mesh.Route) bool { return slices.Contains(ours, r.Origin) }) {
				continue
			}
			route, by := hiddenIn(vh.Routes, ours)
			if by == nil {
				return nil
			}
			if why != nil {
				continue
			}
			what := "for host " + strings.Join(vh.Hosts, ", ")
			if len(route.Matches) > 0 && route.Matches[0].URI.Value != "" {
				what += " and path " + route.Matches[0].URI.Value
			}
			why = fmt.Errorf("no request %s at gateway %s gets to VirtualService %s: %s %s/%s, which is older, takes it: take the path out of one of the two, or give it another host",
				what, g.Name, route.Origin.Name, by.Kind, by.Namespace, by.Name)
		}
	}
	return why
}

// hiddenIn returns the last of our routes if all of them are hidden, and by whom.
func hiddenIn(routes []mesh.Route, ours []mesh.Origin) (route *mesh.Route, by *mesh.Origin) {
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
		route, by = &routes[i], &routes[j].Origin
	}
	return route, by
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
