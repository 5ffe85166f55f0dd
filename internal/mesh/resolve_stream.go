package mesh

// Connection is a connection as far as routing looks at it.
type Connection struct {
	Namespace string // of the caller
	Labels    Labels // of the caller
	Gateway   uint16 // the gateway's port for a connection from outside; 0 = between services
	Host      string // that is called, without port; at a gateway it is not known
	Port      uint16 // the called one; at a gateway Gateway counts
	SNI       string // the host that a TLS caller asks for; "" = none, or no TLS
}

// StreamOutcome says what a snapshot makes of a connection.
type StreamOutcome struct {
	// Outside is set for a connection between services whose host the mesh
	// does not have: it goes to the real host.
	Outside bool
	Service ServiceName // what was called; "" when Outside or not found
	// TLS is what the gateway ends the connection's TLS with; then the
	// connection carries requests, unless Stream says where its bytes go.
	TLS    *ServerTLS
	Stream *Stream // nil when none matched
	Ways   []Way   // none = the connection is closed, unless TLS carries requests
}

// ResolveStream answers "where would this connection go?" as Resolve does for
// requests. At a gateway it is asked for ports that have TLS or Streams. A TLS
// caller is served by the most specific of all patterns that cover the name it
// asks for, of Streams and of TLS; of equal ones the first, Streams before TLS.
// The snapshot is valid.
func (s *Snapshot) ResolveStream(c Connection) StreamOutcome {
	c.SNI = CanonicalHost(c.SNI, "")
	if c.Gateway != 0 {
		c.Port = c.Gateway
		return s.resolveAtGateway(&c)
	}
	host := CanonicalHost(c.Host, c.Namespace)
	svc := s.Services[ServiceName(host)]
	streams := streamsOf(s.Hosts, host)
	if svc == nil && len(streams) == 0 {
		return StreamOutcome{Outside: true}
	}
	var out StreamOutcome
	if svc != nil {
		out.Service = svc.Name
		if _, open := svc.Port(c.Port); !open {
			return out
		}
	}
	stream, _ := pickStream(streams, &c)
	if stream == nil && svc != nil {
		out.Ways = []Way{s.way(Destination{Service: svc.Name, Weight: 1}, c.Port)}
	}
	out.send(s, stream, c.Port)
	return out
}

func (s *Snapshot) resolveAtGateway(c *Connection) StreamOutcome {
	var out StreamOutcome
	var plain, passed []Stream
	var best string
	for i := range s.Gateways {
		g := &s.Gateways[i]
		if g.Port != c.Gateway {
			continue
		}
		for _, stream := range g.Streams {
			if stream.SNI() {
				passed = append(passed, stream)
			} else {
				plain = append(plain, stream)
			}
		}
	}
	out.TLS, best = s.serverTLS(c.Gateway, c.SNI)
	stream, pattern := pickStream(passed, c)
	if stream != nil && (best == "" || !moreSpecific(best, pattern)) {
		out.TLS = nil
	} else if stream, _ = pickStream(plain, c); out.TLS == nil && c.SNI != "" && s.endsTLS(c.Gateway) {
		return out // asks for a name that nobody has
	}
	out.send(s, stream, c.Port)
	return out
}

// serverTLS returns what ends the TLS of callers who ask for a host at a
// gateway's port, with the pattern by which it was found; nil for none.
func (s *Snapshot) serverTLS(port uint16, host string) (found *ServerTLS, best string) {
	host = CanonicalHost(host, "")
	for i := range s.Gateways {
		if s.Gateways[i].Port != port {
			continue
		}
		for j := range s.Gateways[i].TLS {
			t := &s.Gateways[i].TLS[j]
			for _, pattern := range t.Hosts {
				if HostMatches(pattern, host) && moreSpecific(pattern, best) {
					found, best = t, pattern
				}
			}
		}
	}
	return found, best
}

// endsTLSOf is serverTLS without the pattern.
func (s *Snapshot) endsTLSOf(port uint16, host string) *ServerTLS {
	t, _ := s.serverTLS(port, host)
	return t
}

// endsTLS reports whether a gateway's port ends the TLS of its callers.
func (s *Snapshot) endsTLS(port uint16) bool {
	for i := range s.Gateways {
		if s.Gateways[i].Port == port && len(s.Gateways[i].TLS) > 0 {
			return true
		}
	}
	return false
}

func (out *StreamOutcome) send(s *Snapshot, stream *Stream, port uint16) {
	if stream == nil {
		return
	}
	out.Stream = stream
	if out.Service == "" {
		out.Service = stream.Service
	}
	for _, d := range stream.Split {
		if d.Weight > 0 || len(stream.Split) == 1 {
			out.Ways = append(out.Ways, s.way(d, port))
		}
	}
}

// streamsOf collects the streams of the most specific pattern for the host.
func streamsOf(hosts []VirtualHost, host string) []Stream {
	best := bestPattern(hosts, host)
	var out []Stream
	for _, vh := range hosts {
		for _, pattern := range vh.Hosts {
			if best != "" && pattern == best {
				out = append(out, vh.Streams...)
			}
		}
	}
	return out
}

// pickStream returns the stream for a connection and the pattern by which it
// was found; nil for none.
func pickStream(streams []Stream, c *Connection) (found *Stream, best string) {
	for i := range streams {
		pattern, holds := streams[i].covers(c)
		if holds && (found == nil || pattern != "" && moreSpecific(pattern, best)) {
			found, best = &streams[i], pattern
		}
	}
	return found, best
}

// covers reports whether one of the stream's matches holds, and the most
// specific pattern that covers the name that the caller asks for.
func (s *Stream) covers(c *Connection) (best string, holds bool) {
	for i := range s.Matches {
		pattern, ok := s.Matches[i].Holds(c)
		holds = holds || ok
		if ok && pattern != "" && moreSpecific(pattern, best) {
			best = pattern
		}
	}
	return best, holds || len(s.Matches) == 0
}

// SNI reports whether the stream takes TLS connections by the name that their
// callers ask for.
func (s *Stream) SNI() bool {
	for i := range s.Matches {
		if len(s.Matches[i].SNI) > 0 {
			return true
		}
	}
	return false
}

// Holds reports whether all conditions hold for the connection, and the most
// specific of the SNI patterns that do; "" when there are none.
func (m *StreamMatch) Holds(c *Connection) (pattern string, holds bool) {
	if m.Port != 0 && m.Port != c.Port ||
		m.SourceNamespace != "" && m.SourceNamespace != c.Namespace ||
		!c.Labels.Contains(m.SourceLabels) {
		return "", false
	}
	for _, p := range m.SNI {
		if c.SNI != "" && HostMatches(p, c.SNI) && moreSpecific(p, pattern) {
			pattern = p
		}
	}
	return pattern, len(m.SNI) == 0 || pattern != ""
}
