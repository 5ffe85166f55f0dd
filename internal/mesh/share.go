package mesh

import (
	"maps"
	"reflect"
	"slices"
)

// Sharing returns the snapshot with the parts that are as in an older one taken
// from that: services, certificates, and the slices of virtual hosts. Whoever
// made something of a part of the older snapshot finds by identity (of pointers,
// of a VirtualHost by Is) that it is still right, and need not look inside.
//
// Neither snapshot is changed; both may be nil. The result shares parts of both,
// so nobody may change either afterwards.
func (s *Snapshot) Sharing(before *Snapshot) *Snapshot {
	if s == nil || before == nil || s == before {
		return s
	}
	out := *s
	out.Services = shareMap(s.Services, before.Services, (*Service).equal)
	out.Certificates = shareMap(s.Certificates, before.Certificates, (*Certificate).equal)
	out.Hosts = shareHosts(s.Hosts, before.Hosts)
	out.Gateways = slices.Clone(s.Gateways)
	for i := range out.Gateways {
		g := &out.Gateways[i]
		if was := before.gateway(g.Name, g.Port); was != nil {
			g.VirtualHosts = shareHosts(g.VirtualHosts, was.VirtualHosts)
		}
	}
	return &out
}

// shareMap returns the parts with those that are equal taken from before, and
// before itself when that has them all and no others.
func shareMap[K comparable, V any](parts, before map[K]*V, equal func(a, b *V) bool) map[K]*V {
	shared, same := maps.Clone(parts), len(parts) == len(before)
	for key, part := range parts {
		if was := before[key]; was != nil && equal(part, was) {
			shared[key] = was
		} else {
			same = false
		}
	}
	if same {
		return before
	}
	return shared
}

// shareHosts is shareMap for virtual hosts, whose name is their first host.
func shareHosts(hosts, before []VirtualHost) []VirtualHost {
	known, shared := byFirstHost(before), slices.Clone(hosts)
	for i := range shared {
		if was := known.find(&shared[i]); was != nil && reflect.DeepEqual(&shared[i], was) {
			shared[i] = *was
		}
	}
	return shared
}

// hostsByName finds virtual hosts by their first host: no two have it in one
// list that is valid.
type hostsByName map[string]*VirtualHost

func byFirstHost(hosts []VirtualHost) hostsByName {
	out := make(hostsByName, len(hosts))
	for i := range hosts {
		if vh := &hosts[i]; len(vh.Hosts) > 0 {
			out[vh.Hosts[0]] = vh
		}
	}
	return out
}

// find returns the one with the same first host; nil for none.
func (h hostsByName) find(vh *VirtualHost) *VirtualHost {
	if len(vh.Hosts) == 0 {
		return nil
	}
	return h[vh.Hosts[0]]
}

// gateway finds a gateway; nil for none. The snapshot may be nil.
func (s *Snapshot) gateway(name string, port uint16) *Gateway {
	if s == nil {
		return nil
	}
	for i := range s.Gateways {
		if g := &s.Gateways[i]; g.Name == name && g.Port == port {
			return g
		}
	}
	return nil
}

// Is reports whether two virtual hosts are made of the same slices, as they are
// after Sharing. Then they are equal, since no snapshot is ever changed; equal
// ones need not be the same.
func (vh *VirtualHost) Is(other *VirtualHost) bool {
	return sameSlice(vh.Hosts, other.Hosts) && sameSlice(vh.Routes, other.Routes) &&
		sameSlice(vh.Streams, other.Streams) && vh.RequireTLS == other.RequireTLS
}

func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// equal compares what a service is. Endpoints are the bulk of a snapshot, so
// they are compared field by field: reflection would take ten times as long.
func (s *Service) equal(other *Service) bool {
	if s == nil || other == nil || s == other {
		return s == other
	}
	if s.Name != other.Name || len(s.Endpoints) != len(other.Endpoints) ||
		!slices.Equal(s.Ports, other.Ports) || !maps.EqualFunc(s.Subsets, other.Subsets, Labels.equal) {
		return false
	}
	for i := range s.Endpoints {
		if !s.Endpoints[i].equal(&other.Endpoints[i]) {
			return false
		}
	}
	return reflect.DeepEqual(s.Policies, other.Policies) && reflect.DeepEqual(s.Access, other.Access)
}

func (e *Endpoint) equal(other *Endpoint) bool {
	return e.Port == other.Port && e.Address == other.Address && e.Dial == other.Dial &&
		e.Workload == other.Workload && e.Place == other.Place &&
		e.Weight == other.Weight && e.Priority == other.Priority && e.Labels.equal(other.Labels)
}

// equal sees at once that labels are of one object, as they mostly are.
func (l Labels) equal(other Labels) bool {
	return reflect.ValueOf(l).UnsafePointer() == reflect.ValueOf(other).UnsafePointer() || maps.Equal(l, other)
}

func (c *Certificate) equal(other *Certificate) bool { return reflect.DeepEqual(c, other) }
