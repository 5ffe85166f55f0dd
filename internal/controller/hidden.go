package controller

import (
	"fmt"
	"maps"
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
	past     past
}

// count takes in the requests to the Service since the last look that the routes
// of others sent there, by whose.
func (h *hidden) count(requests map[mesh.Origin]int64) {
	for by, n := range requests {
		if h.past.took == nil {
			h.past.took = map[mesh.Origin]int64{}
		}
		h.past.took[by] += n
	}
}

// look says what hides the routes of a Release in what every proxy runs, if no
// request arrives by another way either: from services in the mesh, from
// testers, as own load. Then it is an error like one of the world that cannot be
// made: the run cannot go on by itself, and all else is done. Where routes of
// others come first and it cannot be told that they take everything, requests
// tell, as long as a run waits for them.
func (h *hidden) look(acks *Acks, rel *kube.Delivery, in *rollout.Input, running bool) error {
	s := acks.everywhere()
	if s == nil {
		return nil
	}
	if h.snapshot != s.Version {
		h.snapshot, h.why = s.Version, hiddenBy(s, rel.RouteOrigins())
		h.past.follow(ahead(s, rel.RouteOrigins()))
	}
	comes := in.Arrived > 0 || in.Samples.DirectRequests > 0 || in.Samples.Own.Counts != (analysis.Counts{})
	if h.why == nil {
		h.silent = time.Time{}
		return h.past.look(rel, in.Now, comes, running)
	}
	if h.silent.IsZero() || comes {
		h.silent = in.Now
	}
	if in.Now.Sub(h.silent) >= rateKnown {
		return h.why
	}
	return nil
}

// enoughPast is how many requests have to go past the routes of a Release before
// it is told: if every other one came by them, so many in a row went past once
// in a million times.
const enoughPast = 20

// past is what one run sees of the requests that go by routes of others which
// come before those of the Release.
type past struct {
	ahead map[mesh.Origin]int64 // whose they are, and of which generation
	took  map[mesh.Origin]int64 // requests to the Service, by whose routes
	since time.Time             // of the first look; zero = there was none
	// met: a request came by another way in this run, so that not all are taken.
	met bool
	why error // as it was found first: an error that changes is another one
}

// follow begins anew where others come first than before.
func (p *past) follow(ahead map[mesh.Origin]int64) {
	if !maps.Equal(p.ahead, ahead) {
		*p = past{ahead: ahead}
	}
}

func (p *past) look(rel *kube.Delivery, now time.Time, comes, running bool) error {
	switch {
	case !running || p.since.IsZero():
		*p = past{ahead: p.ahead, since: now, met: running && comes}
	case comes || p.met:
		p.met, p.why = true, nil
	case p.why == nil && now.Sub(p.since) >= rateKnown:
		p.why = p.most(rel)
	}
	return p.why
}

// most names whose routes took most, if that is enough to be told.
func (p *past) most(rel *kube.Delivery) error {
	var by mesh.Origin
	var most int64
	for other := range p.ahead {
		if n := p.took[other]; n > most {
			by, most = other, n
		}
	}
	if most < enoughPast {
		return nil
	}
	return fmt.Errorf("%d requests reached service %s by %s %s/%s, which comes first, and none by the release's own routes: take the path out of one of the two, or give it another host",
		most, rel.Names.Service, by.Kind, by.Namespace, by.Name)
}

// ahead are the objects of others with a route that comes before one of ours at
// a host of a gateway, with their generations.
func ahead(s *mesh.Snapshot, ours []mesh.Origin) map[mesh.Origin]int64 {
	found := map[mesh.Origin]int64{}
	for i := range s.Gateways {
		for _, vh := range s.Gateways[i].VirtualHosts {
			others := map[mesh.Origin]int64{}
			for k := range vh.Routes {
				if by := vh.Routes[k].Origin; slices.Contains(ours, by) {
					maps.Copy(found, others)
				} else {
					others[by] = s.Origins[by]
				}
			}
		}
	}
	return found
}

// hiddenBy says why no request at any host of any gateway reaches our routes:
// those of others that come first take them all. Of what is taken in part, or by a
// condition that cannot be compared, it says nothing. Nor are hosts of the mesh
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
