package proxy

import (
	"net/netip"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
)

// stream is one mesh.Stream.
type stream struct {
	origin  mesh.Origin
	service mesh.ServiceName
	matches []mesh.StreamMatch // any; none means always
	split   split
}

// connection is what routing looks at of one that carries bytes.
type connection struct {
	port   uint16       // the called one; at a gateway the gateway's
	sni    string       // that a TLS caller asks for; "" = none
	caller *mesh.Caller // nil: somebody outside of the mesh
	remote netip.AddrPort
}

// plain is the connection as mesh.StreamMatch looks at it.
func (c *connection) plain() *mesh.Connection {
	out := &mesh.Connection{Port: c.port, SNI: mesh.CanonicalHost(c.sni, "")}
	if c.caller != nil {
		out.Namespace, out.Labels = c.caller.Workload.Namespace, c.caller.Labels
	}
	return out
}

// stream decides about a connection to a host of the mesh. It goes straight to
// the service where no stream of the host covers it.
func (t *target) stream(c *connection, d *draws) decision {
	var out decision
	if t.service != nil {
		out.service = t.service.Name
		if _, open := t.service.Port(c.port); !open {
			out.flag = flagNoRoute
			return out
		}
	}
	found, _ := findStream(t.streams, c.plain())
	switch {
	case found != nil:
		out.follow(found, c, d)
	case t.own != nil:
		out.connect(t.own, c)
	default:
		out.flag = flagNoRoute
	}
	return out
}

// streamAtGateway decides about a connection from outside to a port that has
// TLS or streams. With end, the gateway ends the connection's TLS; then, or
// without TLS, the connection carries requests where no stream covers it. One of
// TLS that nobody ends or takes is closed.
func (t *table) streamAtGateway(c *connection, d *draws) (out decision, end *mesh.ServerTLS) {
	out.flag = flagNoRoute
	g := t.gateways[c.port]
	if g == nil {
		return out, nil
	}
	plain := c.plain()
	end, best := g.endsTLS(plain.SNI)
	found, s := findStream(g.passed, plain)
	switch {
	case found != nil && s >= best:
		end = nil
	case end == nil && c.sni != "" && len(g.tls) > 0:
		return out, nil // asks for a name that nobody has
	default:
		found, _ = findStream(g.plain, plain)
	}
	if found != nil {
		out.flag = ""
		out.follow(found, c, d)
	}
	return out, end
}

// follow goes where a stream says.
func (out *decision) follow(s *stream, c *connection, d *draws) {
	out.origin, out.bytes = s.origin, true
	if out.service == "" {
		out.service = s.service
	}
	if len(s.split.shares) == 0 {
		out.flag = flagNoRoute
		return
	}
	out.several = s.split.several
	out.share = s.split.pick(0, false, d)
	if out.service == "" {
		out.service = out.share.backend.service
	}
	out.connect(out.share.backend, c)
}

// connect goes to a destination, if it exists and lets the caller in. Streams
// are hashed by their callers' addresses alone.
func (out *decision) connect(b *backend, c *connection) {
	out.backend = b
	if !b.access.admitsStream(c.caller) {
		out.flag = flagDenied
		return
	}
	if out.group = b.reach(c.port); out.group == nil {
		out.flag = flagNoCluster
		return
	}
	if out.group.hashes() {
		out.hash, out.hashed, _ = hashCall(out.group.policy.Hash, &call{head: &wire.Head{}, remote: c.remote})
	}
}

// findStream returns the stream with the most specific pattern that covers the
// connection, the first of several, and how specific that is.
func findStream(streams []stream, c *mesh.Connection) (found *stream, best int) {
	best = -1
	for i := range streams {
		if s := streams[i].covers(c); s > best {
			found, best = &streams[i], s
		}
	}
	return found, best
}

// covers returns how specific the pattern is by which the stream covers the
// connection; -1 when it does not.
func (s *stream) covers(c *mesh.Connection) int {
	if len(s.matches) == 0 {
		return 0
	}
	best := -1
	for i := range s.matches {
		if pattern, holds := s.matches[i].Holds(c); holds {
			best = max(best, specificity(pattern))
		}
	}
	return best
}

// specificity orders patterns of hosts: any exact one is above all wildcards,
// a longer one above a shorter one, and none below all.
func specificity(pattern string) int {
	const exact = 1 << 20 // longer than any name
	if pattern == "" || pattern[0] == '*' {
		return len(pattern)
	}
	return exact + len(pattern)
}
