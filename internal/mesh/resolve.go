package mesh

import "strings"

// Call is a request as far as routing looks at it.
type Call struct {
	Namespace string // of the caller
	Labels    Labels // of the caller
	Gateway   uint16 // the gateway's port for a call from outside; 0 = between services
	Host      string // without port
	Port      uint16 // the called one; at a gateway Gateway counts
	SNI       string // at a gateway: the host that the caller asked for by TLS; "" = plain
	Scheme    string // "" = "http"
	Authority string // as sent; "" = Host
	Method    string
	Path      string            // without the query
	Query     map[string]string // the first value of each, as sent
	Headers   map[string]string // keys in lower case
}

// Outcome says what a snapshot makes of a call.
type Outcome struct {
	// Outside is set for a call between services whose host the mesh does not
	// have: it goes to the real host.
	Outside bool
	// Misdirected is set at a gateway when the host belongs to another entry of
	// Gateway.TLS than the one that ended the caller's TLS; then the answer is
	// 421 (RFC 9110 section 15.5.20). Otherwise who is let in for one host
	// would reach another that asks for a certificate.
	Misdirected bool
	Service     ServiceName // what was called; "" when Outside or not found
	Route       *Route      // nil when none matched or the service has no routes
	Ways        []Way       // none = 404, unless Route answers itself
}

// Way is one possible way of a call.
type Way struct {
	Destination
	Endpoints []Endpoint
	Unknown   bool // the service, port or subset does not exist
}

// Resolve answers "where would this call go?" by reading the snapshot from top
// to bottom. It is the plain meaning of a snapshot: data planes compile the
// same meaning into something faster. The snapshot is valid.
func (s *Snapshot) Resolve(c Call) Outcome {
	host := CanonicalHost(c.Host, c.Namespace)
	if c.Gateway != 0 {
		c.Port = c.Gateway
		host = CanonicalHost(c.Host, "")
	}
	var out Outcome
	var svc *Service
	var routes []Route
	var routed bool
	if c.Gateway != 0 {
		var hosts []VirtualHost
		for _, g := range s.Gateways {
			if g.Port == c.Gateway {
				hosts = append(hosts, g.VirtualHosts...)
			}
		}
		if c.SNI != "" && s.endsTLSOf(c.Gateway, c.SNI) != s.endsTLSOf(c.Gateway, host) {
			out.Misdirected = true
			return out
		}
		if routes, routed = routesOf(hosts, host); !routed {
			return out
		}
	} else {
		svc = s.Services[ServiceName(host)]
		if routes, routed = routesOf(s.Hosts, host); !routed && svc == nil {
			out.Outside = true
			return out
		}
	}
	if svc != nil {
		out.Service = svc.Name
		if _, open := svc.Port(c.Port); !open {
			return out
		}
	}
	if !routed {
		out.Ways = []Way{s.way(Destination{Service: svc.Name, Weight: 1}, c.Port)}
		return out
	}
	for i := range routes {
		if !routes[i].covers(&c) {
			continue
		}
		out.Route = &routes[i]
		if out.Service == "" {
			out.Service = routes[i].Service
		}
		for _, d := range routes[i].Split {
			if d.Weight > 0 || len(routes[i].Split) == 1 {
				out.Ways = append(out.Ways, s.way(d, c.Port))
			}
		}
		return out
	}
	return out
}

// routesOf collects the routes of the most specific pattern for the host.
func routesOf(hosts []VirtualHost, host string) (routes []Route, found bool) {
	best := bestPattern(hosts, host)
	for _, vh := range hosts {
		for _, pattern := range vh.Hosts {
			if best != "" && pattern == best {
				routes, found = append(routes, vh.Routes...), true
			}
		}
	}
	return routes, found
}

// bestPattern returns the most specific pattern for the host, "" for none.
func bestPattern(hosts []VirtualHost, host string) string {
	best := ""
	for _, vh := range hosts {
		for _, pattern := range vh.Hosts {
			if HostMatches(pattern, host) && moreSpecific(pattern, best) {
				best = pattern
			}
		}
	}
	return best
}

func moreSpecific(a, b string) bool {
	wildA, wildB := strings.HasPrefix(a, "*"), strings.HasPrefix(b, "*")
	if b == "" || wildA != wildB {
		return b == "" || wildB
	}
	return len(a) > len(b)
}

func (s *Snapshot) way(d Destination, called uint16) Way {
	svc := s.Services[d.Service]
	if svc == nil {
		return Way{Destination: d, Unknown: true}
	}
	port, ok := svc.TargetPort(d.Port, called)
	if !ok {
		return Way{Destination: d, Unknown: true}
	}
	endpoints, ok := svc.Select(port, d.Subset)
	return Way{Destination: d, Endpoints: endpoints, Unknown: !ok}
}

func (r *Route) covers(c *Call) bool {
	for i := range r.Matches {
		if r.Matches[i].Holds(c) {
			return true
		}
	}
	return len(r.Matches) == 0
}

// Always reports whether the match has no condition.
func (m *Match) Always() bool {
	var none StringMatch
	return m.URI == none && m.Scheme == none && m.Method == none && m.Host == none && len(m.Headers)+len(m.Query) == 0 &&
		m.Port == 0 && len(m.SourceLabels) == 0 && m.SourceNamespace == ""
}

// Holds reports whether all conditions hold for the call. A regex that does
// not compile holds never.
func (m *Match) Holds(c *Call) bool {
	if m.Port != 0 && m.Port != c.Port ||
		m.SourceNamespace != "" && m.SourceNamespace != c.Namespace ||
		!c.Labels.Contains(m.SourceLabels) {
		return false
	}
	authority, scheme := c.Authority, c.Scheme
	if authority == "" {
		authority = c.Host
	}
	if scheme == "" {
		scheme = "http"
	}
	return m.URI.Holds(c.Path, true) && m.Method.Holds(c.Method, true) &&
		m.Scheme.Holds(scheme, true) && m.Host.Holds(authority, true) &&
		allHold(m.Headers, c.Headers) && allHold(m.Query, c.Query)
}

func allHold(conditions map[string]StringMatch, values map[string]string) bool {
	for name, condition := range conditions {
		value, present := values[name]
		if !condition.Holds(value, present) {
			return false
		}
	}
	return true
}

// Holds reports whether the condition holds for a value, or for its absence.
func (m StringMatch) Holds(value string, present bool) bool {
	if !present && m.Kind != Any {
		return m.Invert
	}
	return m.covers(value) != m.Invert
}

func (m StringMatch) covers(value string) bool {
	want := m.Value
	if m.IgnoreCase && m.Kind != Regex {
		value, want = strings.ToLower(value), strings.ToLower(want)
	}
	switch m.Kind {
	case Any, Present:
		return true
	case Exact:
		return value == want
	case Prefix:
		return strings.HasPrefix(value, want)
	case Suffix:
		return strings.HasSuffix(value, want)
	case Segments:
		rest, found := strings.CutPrefix(value, want)
		return found && (rest == "" || rest[0] == '/' || strings.HasSuffix(want, "/"))
	case Regex:
		re, err := CompileRegex(m.Value)
		return err == nil && re.MatchString(value)
	}
	return false
}
