package proxy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
)

// match is one mesh.Match. What is cheap to look at comes first.
type match struct {
	port      uint16
	uri       condition
	method    condition
	scheme    condition
	host      condition // the authority as sent
	headers   []fieldCondition
	query     []fieldCondition
	namespace string // of the caller; "" = any
	labels    mesh.Labels
}

// gate stands before a match, or a route without any. Most calls are turned away
// by the path: a gate is small, so that those of a hundred routes are in the
// nearest cache, which the routes themselves are not.
type gate struct {
	prefix string // with which the path of a call that gets through begins
	last   byte   // of it: where prefixes of one host are alike, they mostly differ here
	match  *match // nil = always
	route  *route
}

// gates appends the gates of a route.
func (r *route) gates(to []gate) []gate {
	if len(r.matches) == 0 {
		return append(to, gate{route: r})
	}
	for i := range r.matches {
		m := &r.matches[i]
		g := gate{match: m, route: r}
		switch u := &m.uri; u.kind {
		case mesh.Exact, mesh.Prefix, mesh.Segments:
			if !u.fold && !u.invert && u.value != "" {
				g.prefix, g.last = u.value, u.value[len(u.value)-1]
			}
		case mesh.Any, mesh.Regex, mesh.Present, mesh.Suffix:
		}
		to = append(to, g)
	}
	return to
}

// lets reports whether it is worth asking the match.
func (g *gate) lets(path string) bool {
	n := len(g.prefix)
	return n == 0 || len(path) >= n && path[n-1] == g.last && path[:n] == g.prefix
}

// fieldCondition is a condition on a header or on a parameter of the query.
type fieldCondition struct {
	name string
	condition
}

func (m *match) holds(c *call) bool {
	if m.port != 0 && m.port != c.port ||
		!m.uri.holds(c.path, true) || !m.method.holds(c.head.Method, true) ||
		!m.scheme.holds(c.scheme, true) || !m.host.holds(c.head.Authority, true) {
		return false
	}
	for i := range m.headers {
		value, present := headerOf(c.head, m.headers[i].name)
		if !m.headers[i].holds(value, present) {
			return false
		}
	}
	for i := range m.query {
		value, present := parameter(c.query, m.query[i].name)
		if !m.query[i].holds(value, present) {
			return false
		}
	}
	return m.isFor(c.caller)
}

// isFor reports whether the conditions on who calls hold.
func (m *match) isFor(who *mesh.Caller) bool {
	return m.namespace == "" && len(m.labels) == 0 || m.covers(who)
}

func (m *match) covers(who *mesh.Caller) bool {
	if who == nil {
		return false
	}
	return (m.namespace == "" || m.namespace == who.Workload.Namespace) && who.Labels.Contains(m.labels)
}

// headerOf returns the value of a request's header; several are joined (RFC
// 9110, section 5.3). Of the headers that a Head keeps elsewhere than among its
// fields, it knows host and upgrade.
func headerOf(h *wire.Head, name string) (value string, present bool) {
	switch name {
	case "host":
		return h.Authority, true
	case "upgrade":
		return h.Upgrade, h.Upgrade != ""
	}
	for i := range h.Fields {
		if h.Fields[i].Name != name {
			continue
		}
		if present {
			return strings.Join(slices.Collect(h.Values(name)), ","), true
		}
		value, present = h.Fields[i].Value, true
	}
	return value, present
}

// parameter returns the first value of a parameter in a query, both as sent.
func parameter(query, name string) (value string, present bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if key, value, _ := strings.Cut(pair, "="); key == name && pair != "" {
			return value, true
		}
	}
	return "", false
}

// condition is one mesh.StringMatch. The zero value holds always.
type condition struct {
	kind   mesh.MatchKind
	fold   bool // ASCII letters alone: of other bytes in a request nobody knows the encoding
	invert bool
	value  string
	regex  *regexp.Regexp
}

func (c *condition) holds(value string, present bool) bool {
	if c.kind == mesh.Any {
		return !c.invert
	}
	return (present && c.covers(value)) != c.invert
}

func (c *condition) covers(value string) bool {
	switch c.kind {
	case mesh.Any, mesh.Present:
		return true
	case mesh.Exact:
		return len(value) == len(c.value) && c.equal(value)
	case mesh.Prefix:
		return len(value) >= len(c.value) && c.equal(value[:len(c.value)])
	case mesh.Suffix:
		return len(value) >= len(c.value) && c.equal(value[len(value)-len(c.value):])
	case mesh.Segments:
		n := len(c.value)
		return len(value) >= n && c.equal(value[:n]) &&
			(len(value) == n || value[n] == '/' || strings.HasSuffix(c.value, "/"))
	case mesh.Regex:
		return c.regex.MatchString(value)
	}
	panic("proxy: a compiled condition has a known kind")
}

// found returns how many bytes of a value that it covers a condition stands
// for: what a rewrite replaces. It reports false for a condition that says
// nothing about the beginning of the value.
func (c *condition) found(value string) (n int, ok bool) {
	switch c.kind {
	case mesh.Prefix, mesh.Segments, mesh.Exact:
		return len(c.value), !c.invert
	case mesh.Any, mesh.Regex, mesh.Present, mesh.Suffix:
	}
	return 0, false
}

// equal compares a value of the same length.
func (c *condition) equal(value string) bool {
	if !c.fold {
		return value == c.value
	}
	for i := range len(value) {
		if lowerASCII(value[i]) != c.value[i] {
			return false
		}
	}
	return true
}

func lowerASCII(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + ('a' - 'A')
	}
	return b
}

func compileMatches(matches []mesh.Match) ([]match, error) {
	out := make([]match, len(matches))
	for i := range matches {
		if err := out[i].compile(&matches[i]); err != nil {
			return nil, fmt.Errorf("match %d: %w", i, err)
		}
	}
	return out, nil
}

func (m *match) compile(of *mesh.Match) error {
	m.port, m.namespace, m.labels = of.Port, of.SourceNamespace, of.SourceLabels
	for _, part := range [...]struct {
		what string
		to   *condition
		from *mesh.StringMatch
	}{
		{"uri", &m.uri, &of.URI},
		{"method", &m.method, &of.Method},
		{"scheme", &m.scheme, &of.Scheme},
		{"host", &m.host, &of.Host},
	} {
		if err := part.to.compile(part.from); err != nil {
			return fmt.Errorf("%s: %w", part.what, err)
		}
	}
	var err error
	if m.headers, err = compileFields(of.Headers); err != nil {
		return fmt.Errorf("header %w", err)
	}
	if m.query, err = compileFields(of.Query); err != nil {
		return fmt.Errorf("query parameter %w", err)
	}
	return nil
}

func compileFields(conditions map[string]mesh.StringMatch) ([]fieldCondition, error) {
	if len(conditions) == 0 {
		return nil, nil
	}
	out := make([]fieldCondition, 0, len(conditions))
	for _, name := range slices.Sorted(maps.Keys(conditions)) {
		n, of := fieldCondition{name: name}, conditions[name]
		if err := n.compile(&of); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, n)
	}
	return out, nil
}

func (c *condition) compile(of *mesh.StringMatch) error {
	*c = condition{kind: of.Kind, value: of.Value, fold: of.IgnoreCase, invert: of.Invert}
	if of.Kind == mesh.Regex {
		var err error
		c.regex, err = mesh.CompileRegex(of.Value)
		return err
	}
	if c.fold {
		c.value = strings.Map(func(r rune) rune {
			if r < 0x80 {
				return rune(lowerASCII(byte(r)))
			}
			return r
		}, of.Value)
	}
	return nil
}
