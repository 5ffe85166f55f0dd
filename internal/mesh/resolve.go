package mesh

import "strings"

// Call is a request as far as routing looks at it.
type Call struct {
	Namespace string // of the caller
	Gateway   uint16 // the gateway's port for a call from outside; 0 = between services
	Host      string // without port
	Port      uint16 // the called one; at a gateway Gateway counts
	Method    string
	Path      string            // without the query
	Headers   map[string]string // keys in lower case
}

// Outcome says what a snapshot makes of a call.
type Outcome struct {
	// Outside is set for a call between services whose host the mesh does not
	// have: it goes to the real host.
	Outside bool
	Service ServiceName // what was called; "" when Outside or not found
	Route   *Route      // nil when none matched or the service has no routes
	Shares  []Share     // none = 404
}

// Share is one possible way of a call.
type Share struct {
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
		out.Shares = []Share{s.share(Destination{Service: svc.Name, Weight: 1}, c.Port)}
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
				out.Shares = append(out.Shares, s.share(d, c.Port))
			}
		}
		return out
	}
	return out
}

// routesOf collects the routes of the most specific pattern for the host.
func routesOf(hosts []VirtualHost, host string) (routes []Route, found bool) {
	best := ""
	for _, vh := range hosts {
		for _, pattern := range vh.Hosts {
			if HostMatches(pattern, host) && moreSpecific(pattern, best) {
				best = pattern
			}
		}
	}
	for _, vh := range hosts {
		for _, pattern := range vh.Hosts {
			if best != "" && pattern == best {
				routes, found = append(routes, vh.Routes...), true
			}
		}
	}
	return routes, found
}

func moreSpecific(a, b string) bool {
	wildA, wildB := strings.HasPrefix(a, "*"), strings.HasPrefix(b, "*")
	if b == "" || wildA != wildB {
		return b == "" || wildB
	}
	return len(a) > len(b)
}

func (s *Snapshot) share(d Destination, called uint16) Share {
	svc := s.Services[d.Service]
	if svc == nil {
		return Share{Destination: d, Unknown: true}
	}
	port, ok := svc.TargetPort(d.Port, called)
	if !ok {
		return Share{Destination: d, Unknown: true}
	}
	endpoints, ok := svc.Select(port, d.Subset)
	return Share{Destination: d, Endpoints: endpoints, Unknown: !ok}
}

func (r *Route) covers(c *Call) bool {
	for i := range r.Matches {
		if r.Matches[i].Holds(c) {
			return true
		}
	}
	return len(r.Matches) == 0
}

// Holds reports whether all conditions hold for the call. A regex that does
// not compile holds never.
func (m *Match) Holds(c *Call) bool {
	if m.Port != 0 && m.Port != c.Port {
		return false
	}
	if !m.URI.holds(c.Path, true) || !m.Method.holds(c.Method, true) {
		return false
	}
	for name, cond := range m.Headers {
		value, present := c.Headers[name]
		if !cond.holds(value, present) {
			return false
		}
	}
	return true
}

func (m StringMatch) holds(value string, present bool) bool {
	switch m.Kind {
	case Any:
		return true
	case Exact:
		return present && value == m.Value
	case Prefix:
		return present && strings.HasPrefix(value, m.Value)
	case Regex:
		re, err := CompileRegex(m.Value)
		return present && err == nil && re.MatchString(value)
	case Present:
		return present
	}
	return false
}
