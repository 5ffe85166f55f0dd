package xds

import (
	"fmt"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"serin.dev/serin/internal/mesh"
)

// edge makes the virtual hosts of a gateway's port, on which the port of an
// authority does not matter.
func (t *table) edge(port uint16) error {
	for _, pattern := range t.sorted {
		h := t.of(pattern)
		if err := t.host(&h, func() error { return t.fill(t.virtualHost(pattern, domains(pattern)), &h, port) }); err != nil {
			return fmt.Errorf("host %s: %w", pattern, err)
		}
	}
	return nil
}

// edgeOf is edge for the callers whose TLS one of a port's servers has ended.
// Hosts whose TLS it does not end are answered with 421: otherwise who is let in
// for one host would reach another that asks for a certificate.
func (t *table) edgeOf(port uint16, servers []mesh.ServerTLS, own int) error {
	patterns := map[string]bool{"*": true}
	for i := range servers {
		for _, pattern := range servers[i].Hosts {
			patterns[pattern] = true
		}
	}
	for _, pattern := range t.sorted {
		patterns[pattern] = true
	}
	for _, pattern := range sortedKeys(patterns) {
		vh, h := t.virtualHost(pattern, domains(pattern)), t.find(pattern)
		var err error
		switch {
		case serverOf(servers, pattern) != own:
			vh.Routes = []*routev3.Route{{Match: encodeMatch(&mesh.Match{}), Action: misdirected()}}
			err = t.add(vh)
		case !h.routed:
			vh.Routes = []*routev3.Route{noRoute(&h)}
			err = t.add(vh)
		default:
			err = t.host(&h, func() error { return t.fill(vh, &h, port) })
		}
		if err != nil {
			return fmt.Errorf("host %s: %w", pattern, err)
		}
	}
	return nil
}

// domains are the forms in which a caller from outside may write a host.
func domains(pattern string) []string {
	if strings.HasPrefix(pattern, "*") {
		return []string{pattern}
	}
	return writtenAs(pattern, "")
}

// serverOf returns which server ends the TLS of callers who ask for a host, or
// for those of a pattern that no more specific one has; -1 for none.
func serverOf(servers []mesh.ServerTLS, host string) int {
	found, best := -1, ""
	for i := range servers {
		for _, pattern := range servers[i].Hosts {
			if pattern == host {
				return i
			}
			if mesh.HostMatches(pattern, host) && len(pattern) > len(best) {
				found, best = i, pattern
			}
		}
	}
	return found
}

// misdirected answers with 421 (RFC 9110, section 15.5.20).
func misdirected() *routev3.Route_DirectResponse {
	return &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 421}}
}
