package mesh

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

func validateMatches(matches []Match) error {
	for i := range matches {
		if err := matches[i].Validate(); err != nil {
			return fmt.Errorf("match %d: %w", i, err)
		}
	}
	return nil
}

// Validate reports why no proxy could look at the conditions.
func (m *Match) Validate() error {
	if err := cmp.Or(
		in("uri", m.URI.validate(onPath)),
		in("scheme", m.Scheme.validate(onPseudo)),
		in("method", m.Method.validate(onPseudo)),
		in("host", m.Host.validate(onPseudo)),
	); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		if name == "host" {
			return fmt.Errorf(`header "host": is the authority: use Host`)
		}
		if err := cmp.Or(CheckHeaderName(name), m.Headers[name].validate(onHeader)); err != nil {
			return fmt.Errorf("header %q: %w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Query)) {
		if name == "" {
			return fmt.Errorf("query: a parameter has no name")
		}
		if err := m.Query[name].validate(onQuery); err != nil {
			return fmt.Errorf("query %q: %w", name, err)
		}
	}
	return nil
}

// subject is what a StringMatch looks at; it decides what can be said of it.
type subject uint8

const (
	onPath   subject = iota // always there; whole segments; Envoy cannot invert it
	onPseudo                // always there
	onHeader                // may be absent
	onQuery                 // may be absent; Envoy cannot invert it
	onOrigin                // of CORS: a condition must be said; Envoy cannot invert it
)

func (m StringMatch) validate(on subject) error {
	mayBeAbsent := on == onHeader || on == onQuery
	comparing := m.Kind != Any && m.Kind != Present
	switch {
	case m.Kind > Segments:
		return fmt.Errorf("unknown kind %d", m.Kind)
	case !comparing && (m.Value != "" || m.IgnoreCase):
		return fmt.Errorf("%s compares nothing: no value and no case", m.Kind)
	case m.Kind == Any && m.Invert:
		return fmt.Errorf("the opposite of anything never holds")
	case m.Kind == Any && on == onOrigin:
		return fmt.Errorf(`no condition: use the regex ".*" for any`)
	case m.Kind == Present && !mayBeAbsent:
		return fmt.Errorf("is always present")
	case m.Kind == Segments && on != onPath:
		return fmt.Errorf("segments are of paths")
	case m.Kind == Segments && (len(m.Value) < 2 || m.Value[0] != '/' || strings.HasSuffix(m.Value, "/")):
		return fmt.Errorf("segments %q: begin with a slash and end without", m.Value)
	case m.Value == "" && (m.Kind == Prefix || m.Kind == Suffix):
		return fmt.Errorf("every string has an empty %s", m.Kind)
	case m.Kind == Regex && m.IgnoreCase:
		return fmt.Errorf("a regex ignores case by (?i)")
	case m.Invert && on != onHeader && on != onPseudo:
		return fmt.Errorf("cannot be inverted")
	}
	if m.Kind == Regex {
		_, err := CompileRegex(m.Value)
		return err
	}
	return nil
}

// CheckHeaderName reports why a string cannot be the name of a header in a
// snapshot: names are tokens (RFC 9110 section 5.6.2) in lower case.
func CheckHeaderName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("name is empty")
	case name != strings.ToLower(name):
		return fmt.Errorf("name is not in lower case")
	case !isToken(name):
		return fmt.Errorf("name is not a token")
	}
	return nil
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// CheckHeaderValue reports why a string cannot be the value of a header: with
// control characters it would be several headers, or none.
func CheckHeaderValue(value string) error {
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return fmt.Errorf("value %q has control characters", value)
	}
	return nil
}

// in says where an error is.
func in(where string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", where, err)
}
