package mesh

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// String writes an origin as kubectl does: "VirtualService default/music".
func (o Origin) String() string {
	if o == (Origin{}) {
		return "no object"
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// String names the protocol.
func (p Protocol) String() string {
	switch p {
	case HTTP:
		return "http"
	case TCP:
		return "tcp"
	case HTTP2:
		return "http2"
	case GRPC:
		return "grpc"
	case HTTPS:
		return "https"
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}

// String names the kind.
func (k MatchKind) String() string {
	switch k {
	case Any:
		return "any"
	case Exact:
		return "exact"
	case Prefix:
		return "prefix"
	case Regex:
		return "regex"
	case Present:
		return "present"
	case Suffix:
		return "suffix"
	case Segments:
		return "segments"
	}
	return fmt.Sprintf("match(%d)", uint8(k))
}

// String names the balancer.
func (b Balancer) String() string {
	switch b {
	case LeastRequest:
		return "least request"
	case RoundRobin:
		return "round robin"
	case Random:
		return "random"
	case RingHash:
		return "ring hash"
	case Maglev:
		return "maglev"
	}
	return fmt.Sprintf("balancer(%d)", uint8(b))
}

// String writes the share in percent: "0.1%".
func (s Share) String() string {
	const percent = Everything / 100
	if s%percent == 0 {
		return fmt.Sprintf("%d%%", s/percent)
	}
	return strings.TrimRight(fmt.Sprintf("%d.%04d", s/percent, s%percent), "0") + "%"
}

// String writes "eu/west/rack7", with "" for what is not known.
func (p Place) String() string {
	return strings.TrimRight(p.Region+"/"+p.Zone+"/"+p.Subzone, "/")
}

// String writes what is known: "default/reviews v1 revision 5f9 pod reviews-0".
func (w Workload) String() string {
	name := w.Name
	if w.Namespace != "" && name != "" {
		name = "/" + name
	}
	name = w.Namespace + name
	var p parts
	p.add(name != "", "%s", name)
	p.add(w.Version != "", "%s", w.Version)
	p.add(w.Revision != "", "revision %s", w.Revision)
	p.add(w.Pod != "", "pod %s", w.Pod)
	return strings.Join(p, " ")
}

// String writes " key=value" for each label, sorted.
func (l Labels) String() string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(l)) {
		fmt.Fprintf(&b, " %s=%s", key, l[key])
	}
	return b.String()
}

// String writes "reviews.default:9080/v2", without what is not set.
func (d Destination) String() string {
	s := string(d.Service)
	if d.Port != 0 {
		s += fmt.Sprintf(":%d", d.Port)
	}
	if d.Subset != "" {
		s += "/" + d.Subset
	}
	return s
}

// Compare orders origins by kind, namespace and name.
func (o Origin) Compare(other Origin) int {
	return cmp.Or(
		cmp.Compare(o.Kind, other.Kind),
		cmp.Compare(o.Namespace, other.Namespace),
		cmp.Compare(o.Name, other.Name),
	)
}

// parts are what a line says, without what is not set.
type parts []string

func (p *parts) add(set bool, format string, args ...any) {
	if set {
		*p = append(*p, fmt.Sprintf(format, args...))
	}
}

// String writes the whole snapshot as text, one fact a line, always in the
// same order and without private keys. It is for people and recorded tests,
// not for programs.
func (s *Snapshot) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "snapshot %d\n", s.Version)
	for _, name := range slices.Sorted(maps.Keys(s.Certificates)) {
		fmt.Fprintf(&b, "certificate %s:%s\n", name, s.Certificates[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		s.Services[name].write(&b)
	}
	for i := range s.Hosts {
		s.Hosts[i].write(&b, "")
	}
	for i := range s.Gateways {
		s.Gateways[i].write(&b)
	}
	for _, o := range slices.SortedFunc(maps.Keys(s.Origins), Origin.Compare) {
		fmt.Fprintf(&b, "made from %s generation %d\n", o, s.Origins[o])
	}
	return b.String()
}

// String names what the certificate holds by the beginning of its hash: " chain
// 1f0c44aa authorities 90aa12bc". The key is never written.
func (c *Certificate) String() string {
	var b strings.Builder
	write := func(what string, pem []byte) {
		if len(pem) > 0 {
			sum := sha256.Sum256(pem)
			fmt.Fprintf(&b, " %s %x", what, sum[:4])
		}
	}
	write("chain", c.Chain)
	write("authorities", c.CA)
	return b.String()
}

func (s *Service) write(b *strings.Builder) {
	fmt.Fprintf(b, "service %s\n", s.Name)
	for _, p := range s.Ports {
		fmt.Fprintf(b, "  port %d %s", p.Number, p.Protocol)
		if p.Name != "" {
			fmt.Fprintf(b, " %q", p.Name)
		}
		b.WriteByte('\n')
	}
	for _, name := range slices.Sorted(maps.Keys(s.Subsets)) {
		fmt.Fprintf(b, "  subset %s:%s\n", name, s.Subsets[name])
	}
	for i := range s.Endpoints {
		s.Endpoints[i].write(b)
	}
	for _, scope := range slices.SortedFunc(maps.Keys(s.Policies), PolicyScope.Compare) {
		fmt.Fprintf(b, "  policy of %s: %s\n", scope, s.Policies[scope])
	}
	for i := range s.Access {
		s.Access[i].write(b)
	}
}

func (e *Endpoint) write(b *strings.Builder) {
	fmt.Fprintf(b, "  endpoint %d → %s", e.Port, e.DialAddress())
	if e.Dial != "" && e.Address.IsValid() && e.Dial != e.Address.String() {
		fmt.Fprintf(b, " for %s", e.Address)
	}
	if w := e.Workload.String(); w != "" {
		b.WriteString(" " + w)
	}
	if len(e.Labels) > 0 {
		fmt.Fprintf(b, ",%s", e.Labels)
	}
	if e.Place != (Place{}) {
		fmt.Fprintf(b, ", in %s", e.Place)
	}
	if e.Weight != 0 {
		fmt.Fprintf(b, ", weight %d", e.Weight)
	}
	if e.Priority != 0 {
		fmt.Fprintf(b, ", priority %d", e.Priority)
	}
	b.WriteByte('\n')
}

func (a *Access) write(b *strings.Builder) {
	verb := "allow"
	if a.Deny {
		verb = "deny"
	}
	fmt.Fprintf(b, "  %s of %s\n", verb, a.Origin)
	for _, s := range a.Sources {
		fmt.Fprintf(b, "    from %s\n", s)
	}
	for i := range a.Matches {
		fmt.Fprintf(b, "    when %s\n", &a.Matches[i])
	}
}

// String writes "default/web", "everybody in default", "all but ...".
func (s Source) String() string {
	text := "everybody"
	switch {
	case s.Namespace != "" && s.Service != "":
		text = s.Namespace + "/" + s.Service
	case s.Service != "":
		text = s.Service
	case s.Namespace != "":
		text += " in " + s.Namespace
	}
	if s.Not {
		text = "all but " + text
	}
	return text
}

func (g *Gateway) write(b *strings.Builder) {
	fmt.Fprintf(b, "gateway %s port %d\n", g.Name, g.Port)
	for i := range g.TLS {
		fmt.Fprintf(b, "  tls %s\n", &g.TLS[i])
	}
	for i := range g.VirtualHosts {
		g.VirtualHosts[i].write(b, "  ")
	}
	for i := range g.Streams {
		g.Streams[i].write(b, "  ")
	}
}

// String writes "shop.example.org by default/shop-tls, callers prove
// themselves by default/ca".
func (t *ServerTLS) String() string {
	var p parts
	p.add(true, "%s by %s", strings.Join(t.Hosts, " "), t.Certificate)
	verb := "must"
	if t.Optional {
		verb = "may"
	}
	p.add(t.ClientCA != "" || t.Optional, "callers %s be known to %s", verb, t.ClientCA)
	p.add(t.Min != TLSDefault, "at least %s", t.Min)
	p.add(t.Max != TLSDefault, "at most %s", t.Max)
	return strings.Join(p, ", ")
}

// String names the version.
func (v TLSVersion) String() string {
	switch v {
	case TLSDefault:
		return "default"
	case TLS10:
		return "TLS 1.0"
	case TLS11:
		return "TLS 1.1"
	case TLS12:
		return "TLS 1.2"
	case TLS13:
		return "TLS 1.3"
	}
	return fmt.Sprintf("tls(%d)", uint8(v))
}
