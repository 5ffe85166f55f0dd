package mesh

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Validate reports the first reason for which no proxy could run the snapshot.
// It checks form, not references to services: a destination without endpoints
// is an answer (503) and not an error. Certificates that are referred to must
// be there. The order of checks is fixed, so the same snapshot gives the same
// reason.
func (s *Snapshot) Validate() error { return s.ValidateAfter(nil) }

// ValidateAfter is Validate with less work: before is a valid snapshot, and what
// s has from it (see Sharing) is not looked at again. With nil, all is.
func (s *Snapshot) ValidateAfter(before *Snapshot) error {
	if s == nil {
		return fmt.Errorf("snapshot: none given")
	}
	if s.Version == 0 {
		return fmt.Errorf("snapshot: version 0 means none; count from 1")
	}
	if before == nil {
		before = &Snapshot{}
	}
	for _, name := range changed(s.Certificates, before.Certificates) {
		if err := s.Certificates[name].Validate(); err != nil {
			return fmt.Errorf("certificate %q: %w", name, err)
		}
	}
	known := before.Services
	if !maps.Equal(s.Certificates, before.Certificates) {
		known = nil // services refer to certificates
	}
	for _, name := range changed(s.Services, known) {
		if err := s.Services[name].validate(name, s.Certificates); err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
	}
	if err := validateHosts(s.Hosts, before.Hosts); err != nil {
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
		var hosts []VirtualHost
		if was := before.gateway(g.Name, g.Port); was != nil {
			hosts = was.VirtualHosts
		}
		if err := g.validate(s.Certificates, hosts); err != nil {
			return fmt.Errorf("gateway %s port %d: %w", g.Name, g.Port, err)
		}
	}
	return nil
}

// changed lists the parts that are not before's, in order. A part that is nil is
// not valid, and so no other one's.
func changed[K cmp.Ordered, V any](parts, before map[K]*V) []K {
	var keys []K
	for key, part := range parts {
		if part == nil || part != before[key] {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Validate reports why the certificate cannot be used: its PEM is broken, or
// chain and key do not belong together.
func (c *Certificate) Validate() error {
	switch {
	case c == nil:
		return fmt.Errorf("is nil")
	case len(c.Chain) == 0 != (len(c.Key) == 0):
		return fmt.Errorf("a chain needs its key, and a key its chain")
	case len(c.Chain) == 0 && len(c.CA) == 0:
		return fmt.Errorf("has neither a key pair nor authorities")
	}
	if len(c.Chain) > 0 {
		if _, err := tls.X509KeyPair(c.Chain, c.Key); err != nil {
			return fmt.Errorf("key pair: %w", err)
		}
	}
	if len(c.CA) > 0 && !x509.NewCertPool().AppendCertsFromPEM(c.CA) {
		return fmt.Errorf("authorities: no certificate in the PEM")
	}
	return nil
}

func (s *Service) validate(name ServiceName, certificates map[string]*Certificate) error {
	if s == nil {
		return fmt.Errorf("is nil")
	}
	if s.Name != name || name == "" {
		return fmt.Errorf("is named %q inside", s.Name)
	}
	if err := CheckHost(string(name)); err != nil || name[0] == '*' {
		return fmt.Errorf("is not the name of one service: write it in lower case, without wildcard, space or slash")
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
	weights := map[uint16]uint64{}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if err := e.validate(ports); err != nil {
			return fmt.Errorf("endpoint %s: %w", e.DialAddress(), err)
		}
		if weights[e.Port] += uint64(max(e.Weight, 1)); weights[e.Port] > math.MaxUint32 {
			return fmt.Errorf("port %d: the weights of the endpoints sum up to more than %d", e.Port, uint32(math.MaxUint32))
		}
	}
	for _, scope := range slices.SortedFunc(maps.Keys(s.Policies), PolicyScope.Compare) {
		if err := s.Policies[scope].Validate(certificates); err != nil {
			return fmt.Errorf("policy of %s: %w", scope, err)
		}
	}
	for i := range s.Access {
		if err := validateMatches(s.Access[i].Matches); err != nil {
			return fmt.Errorf("access rule %d (%s): %w", i, s.Access[i].Origin, err)
		}
	}
	return nil
}

func (e *Endpoint) validate(ports map[uint16]bool) error {
	if !ports[e.Port] {
		return fmt.Errorf("the service has no port %d", e.Port)
	}
	if err := e.validateDial(); err != nil {
		return err
	}
	if e.Priority > MaxPriority {
		return fmt.Errorf("priority %d is not in 0..%d", e.Priority, MaxPriority)
	}
	if p := e.Place; strings.ContainsAny(p.Region+p.Zone+p.Subzone, "/*") {
		return fmt.Errorf("place %s: a part has a slash or a star", p)
	}
	return nil
}

func (e *Endpoint) validateDial() error {
	if e.Dial == "" && e.Address.IsValid() && e.Address.Port() != 0 {
		return nil // most are so, and need not be written and parsed
	}
	host, port, err := net.SplitHostPort(e.DialAddress())
	if err != nil || host == "" || strings.ContainsAny(host, " /\t\r\n\x00") {
		return fmt.Errorf("address is not host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port is not in 1..65535")
	}
	return nil
}

// validateHosts looks into those that are not before's, which are valid.
func validateHosts(hosts, before []VirtualHost) error {
	known, seen := byFirstHost(before), make(map[string]bool, len(hosts))
	for i := range hosts {
		vh := &hosts[i]
		if len(vh.Hosts) == 0 {
			return fmt.Errorf("virtual host %d: has no hosts", i)
		}
		for _, h := range vh.Hosts {
			if seen[h] {
				return fmt.Errorf("virtual host %q: listed twice", h)
			}
			seen[h] = true
		}
		if was := known.find(vh); was != nil && was.Is(vh) {
			continue
		}
		for _, h := range vh.Hosts {
			if err := CheckHost(h); err != nil {
				return fmt.Errorf("virtual host %q: %w", h, err)
			}
		}
		for j := range vh.Routes {
			if err := vh.Routes[j].Validate(); err != nil {
				return fmt.Errorf("virtual host %q: route %d (%s): %w", vh.Hosts[0], j, vh.Routes[j].Origin, err)
			}
		}
		if err := validateStreams(vh.Streams); err != nil {
			return fmt.Errorf("virtual host %q: %w", vh.Hosts[0], err)
		}
	}
	return nil
}

func validateStreams(streams []Stream) error {
	for i := range streams {
		if err := streams[i].validate(); err != nil {
			return fmt.Errorf("stream %d (%s): %w", i, streams[i].Origin, err)
		}
	}
	return nil
}

func (s *Stream) validate() error {
	for i := range s.Matches {
		if (len(s.Matches[i].SNI) > 0) != s.SNI() {
			return fmt.Errorf("match %d: some matches have sni and some have none", i)
		}
		for _, pattern := range s.Matches[i].SNI {
			if err := CheckHost(pattern); err != nil {
				return fmt.Errorf("match %d: sni %q: %w", i, pattern, err)
			}
		}
	}
	return validateSplit(s.Split)
}

// validate: before are virtual hosts that are valid.
func (g *Gateway) validate(certificates map[string]*Certificate, before []VirtualHost) error {
	seen := map[string]bool{}
	for i := range g.TLS {
		t := &g.TLS[i]
		if err := t.validate(certificates); err != nil {
			return fmt.Errorf("tls %d: %w", i, err)
		}
		for _, h := range t.Hosts {
			if seen[h] {
				return fmt.Errorf("tls %d: host %q: listed twice", i, h)
			}
			seen[h] = true
		}
	}
	return cmp.Or(validateHosts(g.VirtualHosts, before), validateStreams(g.Streams))
}

func (t *ServerTLS) validate(certificates map[string]*Certificate) error {
	if len(t.Hosts) == 0 {
		return fmt.Errorf("has no hosts")
	}
	for _, h := range t.Hosts {
		if err := CheckHost(h); err != nil {
			return fmt.Errorf("host %q: %w", h, err)
		}
	}
	c, ca := certificates[t.Certificate], certificates[t.ClientCA]
	switch {
	case c == nil || len(c.Chain) == 0:
		return fmt.Errorf("no key pair is named %q", t.Certificate)
	case t.ClientCA != "" && (ca == nil || len(ca.CA) == 0):
		return fmt.Errorf("no authorities are named %q", t.ClientCA)
	case t.Optional && t.ClientCA == "":
		return fmt.Errorf("optional without authorities to check what callers show")
	case t.Min > TLS13 || t.Max > TLS13:
		return fmt.Errorf("unknown version %d", max(t.Min, t.Max))
	case t.Max != TLSDefault && t.Max < cmp.Or(t.Min, TLS12):
		return fmt.Errorf("version %s at least, and %s at most", cmp.Or(t.Min, TLS12), t.Max)
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
	case strings.ContainsFunc(h, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }):
		return fmt.Errorf("is not a host name")
	}
	return nil
}
