package meshtest

import (
	"maps"
	"math/rand/v2"
	"slices"

	"serin.dev/serin/internal/mesh"
)

// Mix makes a valid snapshot that has most of its services and virtual hosts from
// the last one, some from the other, and all but a few of both: what a controller
// may publish after the last. It shares what it has from them; the version is the
// last one's.
func Mix(r *rand.Rand, last, other *mesh.Snapshot) *mesh.Snapshot {
	out := *last
	out.Certificates, out.Services = maps.Clone(other.Certificates), maps.Clone(last.Services)
	if r.IntN(4) > 0 {
		out.Certificates = last.Certificates
	}
	for name, svc := range other.Services {
		if r.IntN(5) == 0 {
			out.Services[name] = svc
		}
	}
	for name := range last.Services {
		if r.IntN(20) == 0 {
			delete(out.Services, name)
		}
	}
	out.Hosts = slices.Clone(last.Hosts)
	taken := map[string]bool{}
	for i := range out.Hosts {
		for _, host := range out.Hosts[i].Hosts {
			taken[host] = true
		}
	}
	for _, vh := range other.Hosts {
		i := slices.IndexFunc(out.Hosts, func(own mesh.VirtualHost) bool { return slices.Equal(own.Hosts, vh.Hosts) })
		if i >= 0 && r.IntN(4) == 0 {
			out.Hosts[i] = vh
		} else if i < 0 && !slices.ContainsFunc(vh.Hosts, func(host string) bool { return taken[host] }) {
			out.Hosts = append(out.Hosts, vh)
			for _, host := range vh.Hosts {
				taken[host] = true
			}
		}
	}
	if r.IntN(3) == 0 {
		out.Gateways = other.Gateways
	}
	return &out
}
