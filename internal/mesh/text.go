package mesh

import (
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

// String writes the condition: "exact jason", "prefix /api", "present", "any".
func (m StringMatch) String() string {
	switch m.Kind {
	case Any:
		return "any"
	case Exact:
		return "exact " + m.Value
	case Prefix:
		return "prefix " + m.Value
	case Regex:
		return "regex " + m.Value
	case Present:
		return "present"
	case Suffix:
		return "suffix " + m.Value
	case Segments:
		return "segments " + m.Value
	}
	return fmt.Sprintf("match(%d) %s", uint8(m.Kind), m.Value)
}

// String writes the match's conditions, "always" when there are none.
func (m *Match) String() string {
	var parts []string
	add := func(what string, s StringMatch) {
		if s.Kind != Any {
			parts = append(parts, what+" "+s.String())
		}
	}
	add("method", m.Method)
	add("uri", m.URI)
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		add("header "+name, m.Headers[name])
	}
	if m.Port != 0 {
		parts = append(parts, fmt.Sprintf("port %d", m.Port))
	}
	if len(parts) == 0 {
		return "always"
	}
	return strings.Join(parts, ", ")
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

// String writes the whole snapshot as text, one fact a line, always in the
// same order. It is for people and recorded tests, not for programs.
func (s *Snapshot) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "snapshot %d\n", s.Version)
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		s.Services[name].write(&b)
	}
	for i := range s.Hosts {
		s.Hosts[i].write(&b, "")
	}
	for _, g := range s.Gateways {
		fmt.Fprintf(&b, "gateway %s port %d\n", g.Name, g.Port)
		for i := range g.VirtualHosts {
			g.VirtualHosts[i].write(&b, "  ")
		}
	}
	origins := slices.SortedFunc(maps.Keys(s.Origins), Origin.Compare)
	for _, o := range origins {
		fmt.Fprintf(&b, "made from %s generation %d\n", o, s.Origins[o])
	}
	return b.String()
}

// Compare orders origins by kind, namespace and name.
func (o Origin) Compare(other Origin) int {
	for _, c := range [...]int{
		strings.Compare(o.Kind, other.Kind),
		strings.Compare(o.Namespace, other.Namespace),
	} {
		if c != 0 {
			return c
		}
	}
	return strings.Compare(o.Name, other.Name)
}

func (s *Service) write(b *strings.Builder) {
	fmt.Fprintf(b, "service %s, %s\n", s.Name, s.Policy(0, "").Balancer)
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
	for _, e := range s.Endpoints {
		fmt.Fprintf(b, "  endpoint %d → %s", e.Port, e.DialAddress())
		if e.Workload.Name != "" {
			fmt.Fprintf(b, " %s %s", e.Workload.Name, e.Workload.Version)
		}
		if len(e.Labels) > 0 {
			fmt.Fprintf(b, ",%s", e.Labels)
		}
		b.WriteByte('\n')
	}
}

// String writes " key=value" for each label, sorted.
func (l Labels) String() string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(l)) {
		fmt.Fprintf(&b, " %s=%s", key, l[key])
	}
	return b.String()
}

func (vh *VirtualHost) write(b *strings.Builder, indent string) {
	fmt.Fprintf(b, "%shost %s\n", indent, strings.Join(vh.Hosts, " "))
	for i := range vh.Routes {
		r := &vh.Routes[i]
		fmt.Fprintf(b, "%s  route", indent)
		if r.Name != "" {
			fmt.Fprintf(b, " %s", r.Name)
		}
		fmt.Fprintf(b, " of %s", r.Origin)
		if r.Service != "" {
			fmt.Fprintf(b, ", for %s", r.Service)
		}
		b.WriteByte('\n')
		for j := range r.Matches {
			fmt.Fprintf(b, "%s    when %s\n", indent, &r.Matches[j])
		}
		for _, d := range r.Split {
			fmt.Fprintf(b, "%s    %d → %s\n", indent, d.Weight, d)
		}
		if len(r.Split) == 0 {
			fmt.Fprintf(b, "%s    → 404\n", indent)
		}
	}
}
