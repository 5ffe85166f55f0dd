package mesh

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// String writes the condition: "exact jason", "prefix /api", "not present",
// "any".
func (m StringMatch) String() string {
	s := m.Kind.String()
	if m.Kind != Any && m.Kind != Present || m.Value != "" {
		s += " " + m.Value
	}
	if m.IgnoreCase {
		s += " in any case"
	}
	if m.Invert {
		s = "not " + s
	}
	return s
}

// String writes the match's conditions, "always" when there are none.
func (m *Match) String() string {
	var p parts
	for _, c := range [...]struct {
		what      string
		condition StringMatch
	}{{"method", m.Method}, {"scheme", m.Scheme}, {"host", m.Host}, {"uri", m.URI}} {
		p.add(c.condition != (StringMatch{}), "%s %s", c.what, c.condition)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		p.add(true, "header %s %s", name, m.Headers[name])
	}
	for _, name := range slices.Sorted(maps.Keys(m.Query)) {
		p.add(true, "query %s %s", name, m.Query[name])
	}
	p.add(m.Port != 0, "port %d", m.Port)
	p.caller(m.SourceLabels, m.SourceNamespace)
	return p.orAlways()
}

func (p *parts) caller(labels Labels, namespace string) {
	p.add(len(labels) > 0, "from%s", labels)
	p.add(namespace != "", "from namespace %s", namespace)
}

func (p parts) orAlways() string {
	if len(p) == 0 {
		return "always"
	}
	return strings.Join(p, ", ")
}

// String writes the match's conditions, "always" when there are none.
func (m *StreamMatch) String() string {
	var p parts
	p.add(m.Port != 0, "port %d", m.Port)
	p.add(len(m.SNI) > 0, "sni %s", strings.Join(m.SNI, " or "))
	p.caller(m.SourceLabels, m.SourceNamespace)
	return p.orAlways()
}

func (vh *VirtualHost) write(b *strings.Builder, indent string) {
	fmt.Fprintf(b, "%shost %s\n", indent, strings.Join(vh.Hosts, " "))
	if vh.RequireTLS {
		fmt.Fprintf(b, "%s  plain requests are redirected to https\n", indent)
	}
	for i := range vh.Routes {
		vh.Routes[i].write(b, indent+"  ")
	}
	for i := range vh.Streams {
		vh.Streams[i].write(b, indent+"  ")
	}
}

// writeHead writes what routes and streams begin with.
func writeHead(b *strings.Builder, indent, what, name string, origin Origin, service ServiceName) {
	b.WriteString(indent + what)
	if name != "" {
		b.WriteString(" " + name)
	}
	fmt.Fprintf(b, " of %s", origin)
	if service != "" {
		fmt.Fprintf(b, ", for %s", service)
	}
	b.WriteByte('\n')
}

func (s *Stream) write(b *strings.Builder, indent string) {
	writeHead(b, indent, "stream", s.Name, s.Origin, s.Service)
	indent += "  "
	for i := range s.Matches {
		fmt.Fprintf(b, "%swhen %s\n", indent, &s.Matches[i])
	}
	writeSplit(b, indent, s.Split)
	if len(s.Split) == 0 {
		fmt.Fprintf(b, "%s→ closed\n", indent)
	}
}

func writeSplit(b *strings.Builder, indent string, split []Destination) {
	for i := range split {
		d := &split[i]
		fmt.Fprintf(b, "%s%d → %s\n", indent, d.Weight, d)
		d.Headers.write(b, indent+"  ")
	}
}

func (r *Route) write(b *strings.Builder, indent string) {
	writeHead(b, indent, "route", r.Name, r.Origin, r.Service)
	indent += "  "
	line := func(set bool, format string, args ...any) {
		if set {
			fmt.Fprintf(b, indent+format+"\n", args...)
		}
	}
	for i := range r.Matches {
		line(true, "when %s", &r.Matches[i])
	}
	if c := r.CORS; c != nil {
		line(true, "cors %s", c)
	}
	if l := r.RateLimit; l != nil {
		line(true, "at most %d per %v, burst %d", l.Fill, l.Per, l.Burst)
	}
	if f := r.Fault; f != nil {
		line(f.Delay == nil && f.Abort == nil, "no fault")
		if f.Delay != nil {
			line(true, "delay %s by %v", f.Delay.Share, f.Delay.Time)
		}
		if f.Abort != nil {
			line(true, "abort %s with %s", f.Abort.Share, f.Abort)
		}
	}
	if r.Redirect != nil {
		line(true, "→ redirect %s", r.Redirect)
	}
	if d := r.Direct; d != nil {
		line(true, "→ answer %d %q", d.Status, d.Body)
	}
	if w := r.Rewrite; w != nil {
		line(true, "rewrite %s", w)
	}
	r.Headers.write(b, indent)
	writeSplit(b, indent, r.Split)
	if len(r.Affinity) > 0 {
		line(true, "the same share for the same %s", hashText(r.Affinity))
	}
	for i := range r.Mirrors {
		m := &r.Mirrors[i]
		how := "mirror"
		if m.Compare {
			how = "mirror and compare"
		}
		line(true, "%s %s → %s", how, m.Share, m.Destination)
	}
	line(r.Retry != nil, "retry %s", r.Retry)
	line(r.Timeout != 0, "timeout %v", r.Timeout)
	line(r.IdleTimeout != 0, "idle timeout %v", r.IdleTimeout)
	line(len(r.Split) == 0 && r.Redirect == nil && r.Direct == nil, "→ 404")
}

// String writes what answers an aborted request.
func (a *Abort) String() string {
	var p parts
	p.add(a.Status != 0, "%d", a.Status)
	p.add(a.Status == 0 || a.GRPC != 0, "grpc-status %d", a.GRPC)
	return strings.Join(p, " ")
}

// String writes "301 scheme https port 8443 path /new".
func (r *Redirect) String() string {
	p := parts{strconv.Itoa(r.Code)}
	p.add(r.Scheme != "", "scheme %s", r.Scheme)
	p.add(r.Authority != "", "authority %s", r.Authority)
	p.add(r.Port != 0, "port %d", r.Port)
	p.add(r.Path != "", "path %s", r.Path)
	if r.Prefix != nil {
		p.add(true, "prefix %s", *r.Prefix)
	}
	return strings.Join(p, " ")
}

// String writes "authority a.default path /v2".
func (w *Rewrite) String() string {
	var p parts
	p.add(w.Authority != "", "authority %s", w.Authority)
	if w.Path != nil {
		p.add(true, "path %s", *w.Path)
	}
	if w.Regex != nil {
		p.add(true, "%s to %s", w.Regex.Match, w.Regex.Substitution)
	}
	return strings.Join(p, " ")
}

func (e *HeaderEdits) write(b *strings.Builder, indent string) {
	if e == nil {
		return
	}
	for _, side := range [...]struct {
		what string
		edit *HeaderEdit
	}{{"request", &e.Request}, {"answer", &e.Answer}} {
		for _, name := range side.edit.Remove {
			fmt.Fprintf(b, "%s%s remove %s\n", indent, side.what, name)
		}
		for _, h := range side.edit.Set {
			fmt.Fprintf(b, "%s%s set %s: %s\n", indent, side.what, h.Name, h.Value)
		}
		for _, h := range side.edit.Add {
			fmt.Fprintf(b, "%s%s add %s: %s\n", indent, side.what, h.Name, h.Value)
		}
	}
}

// String writes the rule in one line.
func (c *CORS) String() string {
	var p parts
	for _, o := range c.Origins {
		p.add(true, "origin %s", o)
	}
	p.add(len(c.Methods) > 0, "methods %s", strings.Join(c.Methods, " "))
	p.add(len(c.Headers) > 0, "headers %s", strings.Join(c.Headers, " "))
	p.add(len(c.Expose) > 0, "expose %s", strings.Join(c.Expose, " "))
	p.add(c.MaxAge != 0, "max age %v", c.MaxAge)
	p.add(c.Credentials, "credentials")
	return strings.Join(p, ", ")
}

// String writes the policy in one line: "2 times on connect-failure 503".
func (r *Retry) String() string {
	if r == nil {
		return "default"
	}
	var on []string
	if r.On != 0 {
		on = append(on, r.On.String())
	}
	for _, code := range r.Codes {
		on = append(on, strconv.Itoa(code))
	}
	var p parts
	p.add(r.Attempts == 0, "never")
	p.add(r.Attempts != 0 || len(on) > 0, "%d times on %s", r.Attempts, strings.Join(on, ","))
	p.add(r.PerTryTimeout != 0, "each within %v", r.PerTryTimeout)
	p.add(r.Base != 0 || r.Max != 0, "after %v up to %v", orDefault(r.Base), orDefault(r.Max))
	p.add(r.AvoidPrevious, "elsewhere")
	return strings.Join(p, ", ")
}

func orDefault(d time.Duration) string {
	if d == 0 {
		return "the default"
	}
	return d.String()
}

// String writes the conditions with Envoy's names: "connect-failure,reset".
func (on RetryOn) String() string {
	var p parts
	for i, name := range retryNames() {
		p.add(on&(1<<i) != 0, "%s", name)
	}
	return strings.Join(p, ",")
}

// retryNames are Envoy's names of the conditions, in their order.
func retryNames() []string {
	return []string{
		"connect-failure", "refused-stream", "reset", "reset-before-request", "5xx", "gateway-error", "retriable-4xx",
		"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
	}
}

// ParseRetryOn returns the condition of Envoy's name, such as "5xx".
func ParseRetryOn(name string) (RetryOn, bool) {
	i := slices.Index(retryNames(), name)
	if i < 0 {
		return 0, false
	}
	return 1 << i, true
}
