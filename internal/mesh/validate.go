package mesh

import (
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Validate reports the first reason for which no proxy could run the snapshot.
// It checks form, not references: a destination without endpoints is an answer
// (503) and not an error. The order of checks is fixed, so the same snapshot
// gives the same reason.
func (s *Snapshot) Validate() error {
	if s == nil {
		return fmt.Errorf("snapshot: none given")
	}
	if s.Version == 0 {
		return fmt.Errorf("snapshot: version 0 means none; count from 1")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		if err := s.Services[name].validate(name); err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
	}
	if err := validateHosts(s.Hosts); err != nil {
		return err
	}
	type listener struct {
		name string
		port uint16
	}
	seen := map[listener]bool{}
	for i := range s.Gateways {
		g := &s.Gateways[i]
		id := listener{g.Name, g.Port}
		switch {
		case g.Name == "" || g.Port == 0:
			return fmt.Errorf("gateway %q port %d: name and port are required", g.Name, g.Port)
		case seen[id]:
			return fmt.Errorf("gateway %s port %d: listed twice", g.Name, g.Port)
		}
		seen[id] = true
		if err := validateHosts(g.VirtualHosts); err != nil {
			return fmt.Errorf("gateway %s port %d: %w", g.Name, g.Port, err)
		}
	}
	return nil
}

func (s *Service) validate(name ServiceName) error {
	if s == nil {
		return fmt.Errorf("is nil")
	}
	if s.Name != name || name == "" {
		return fmt.Errorf("is named %q inside", s.Name)
	}
	for scope, p := range s.Policies {
		if p == nil {
			return fmt.Errorf("policy of %v is nil", scope)
		}
		if p.Balancer > Maglev {
			return fmt.Errorf("unknown balancer %d", p.Balancer)
		}
	}
	ports := map[uint16]bool{}
	for _, p := range s.Ports {
		switch {
		case p.Number == 0:
			return fmt.Errorf("port %q: number 0", p.Name)
		case ports[p.Number]:
			return fmt.Errorf("port %d: listed twice", p.Number)
		case p.Protocol > HTTPS:
			return fmt.Errorf("port %d: unknown protocol %d", p.Number, p.Protocol)
		}
		ports[p.Number] = true
	}
	if _, named := s.Subsets[""]; named {
		return fmt.Errorf("a subset has no name")
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if !ports[e.Port] {
			return fmt.Errorf("endpoint %s: the service has no port %d", e.DialAddress(), e.Port)
		}
		host, port, err := net.SplitHostPort(e.DialAddress())
		if err != nil || host == "" {
			return fmt.Errorf("endpoint %q: address is not host:port", e.DialAddress())
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("endpoint %q: port is not in 1..65535", e.DialAddress())
		}
	}
	return nil
}

func validateHosts(hosts []VirtualHost) error {
	seen := map[string]bool{}
	for i := range hosts {
		vh := &hosts[i]
		if len(vh.Hosts) == 0 {
			return fmt.Errorf("virtual host %d: has no hosts", i)
		}
		for _, h := range vh.Hosts {
			if err := CheckHost(h); err != nil {
				return fmt.Errorf("virtual host %q: %w", h, err)
			}
			if seen[h] {
				return fmt.Errorf("virtual host %q: listed twice", h)
			}
			seen[h] = true
		}
		for j := range vh.Routes {
			if err := vh.Routes[j].validate(); err != nil {
				return fmt.Errorf("virtual host %q: route %d (%s): %w", vh.Hosts[0], j, vh.Routes[j].Origin, err)
			}
		}
	}
	return nil
}

// CheckHost reports why a string cannot be one of VirtualHost.Hosts.
func CheckHost(h string) error {
	rest := strings.TrimPrefix(h, "*")
	switch {
	case h == "":
		return fmt.Errorf("is empty")
	case h != strings.ToLower(h):
		return fmt.Errorf("is not in lower case")
	case strings.Contains(rest, "*"):
		return fmt.Errorf("a wildcard is allowed at the front only")
	case rest != h && rest != "" && rest[0] != '.':
		return fmt.Errorf("a wildcard stands for whole labels: *.example.org")
	case strings.ContainsAny(h, " /\t\r\n"):
		return fmt.Errorf("is not a host name")
	}
	return nil
}

func (r *Route) validate() error {
	for i := range r.Matches {
		if err := r.Matches[i].validate(); err != nil {
			return fmt.Errorf("match %d: %w", i, err)
		}
	}
	var sum uint64
	for i, d := range r.Split {
		if d.Service == "" {
			return fmt.Errorf("destination %d: has no service", i)
		}
		sum += uint64(d.Weight)
	}
	if len(r.Split) > 1 && sum == 0 {
		return fmt.Errorf("all weights are 0")
	}
	return nil
}

func (m *Match) validate() error {
	if err := m.URI.validate(); err != nil {
		return fmt.Errorf("uri: %w", err)
	}
	if err := m.Method.validate(); err != nil {
		return fmt.Errorf("method: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		if name == "" || name != strings.ToLower(name) {
			return fmt.Errorf("header %q: name is not in lower case", name)
		}
		if err := m.Headers[name].validate(); err != nil {
			return fmt.Errorf("header %s: %w", name, err)
		}
	}
	return nil
}

func (m StringMatch) validate() error {
	if m.Kind > Segments {
		return fmt.Errorf("unknown kind %d", m.Kind)
	}
	if m.Kind == Regex {
		if _, err := CompileRegex(m.Value); err != nil {
			return err
		}
	}
	return nil
}

// CompileRegex compiles the value of a Regex match so that it has to match the
// whole string.
func CompileRegex(value string) (*regexp.Regexp, error) {
	// Compiled alone first: "a)(b" is wrong although "(?:a)(b)" is not.
	if _, err := regexp.Compile(value); err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + value + `)\z`)
}
