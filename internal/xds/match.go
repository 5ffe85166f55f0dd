package xds

import (
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"serin.dev/serin/internal/mesh"
)

// Envoy's names for the parts of a request that are no headers of HTTP/1.1.
const (
	schemeHeader    = ":scheme"
	methodHeader    = ":method"
	authorityHeader = ":authority"
	pathHeader      = ":path" // the query included
)

// encodeString makes the condition without its Invert, for which each user has
// a place of its own. Kinds Any, Present and Segments do not come here: they are
// said in other ways.
func encodeString(m mesh.StringMatch) *matcherv3.StringMatcher {
	out := &matcherv3.StringMatcher{IgnoreCase: m.IgnoreCase}
	switch m.Kind {
	case mesh.Exact:
		out.MatchPattern = &matcherv3.StringMatcher_Exact{Exact: m.Value}
	case mesh.Prefix:
		out.MatchPattern = &matcherv3.StringMatcher_Prefix{Prefix: m.Value}
	case mesh.Suffix:
		out.MatchPattern = &matcherv3.StringMatcher_Suffix{Suffix: m.Value}
	case mesh.Regex:
		out.MatchPattern = &matcherv3.StringMatcher_SafeRegex{SafeRegex: encodeRegex(m.Value)}
	case mesh.Any, mesh.Present, mesh.Segments:
		panic("xds: a view has no such condition: " + m.String())
	}
	return out
}

func decodeString(m *matcherv3.StringMatcher) (mesh.StringMatch, error) {
	out := mesh.StringMatch{IgnoreCase: m.GetIgnoreCase()}
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		out.Kind, out.Value = mesh.Exact, p.Exact
	case *matcherv3.StringMatcher_Prefix:
		out.Kind, out.Value = mesh.Prefix, p.Prefix
	case *matcherv3.StringMatcher_Suffix:
		out.Kind, out.Value = mesh.Suffix, p.Suffix
	case *matcherv3.StringMatcher_SafeRegex:
		out.Kind, out.Value = mesh.Regex, p.SafeRegex.GetRegex()
	default:
		return out, fmt.Errorf("string matcher %T is none of ours", p)
	}
	return out, nil
}

func encodeRegex(value string) *matcherv3.RegexMatcher {
	return &matcherv3.RegexMatcher{Regex: value}
}

func encodeHeader(name string, m mesh.StringMatch) *routev3.HeaderMatcher {
	out := &routev3.HeaderMatcher{Name: name, InvertMatch: m.Invert}
	if m.Kind == mesh.Present {
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
	} else {
		// The opposite of a condition holds for an absent header, too. An Envoy
		// whose bootstrap is not ours has to be told, which it takes for nothing
		// where an empty one makes a difference.
		condition := m
		condition.Invert = false
		out.TreatMissingHeaderAsEmpty = m.Invert && !condition.Holds("", true)
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: encodeString(m)}
	}
	return out
}

func decodeHeader(h *routev3.HeaderMatcher) (mesh.StringMatch, error) {
	var out mesh.StringMatch
	var err error
	switch p := h.GetHeaderMatchSpecifier().(type) {
	case *routev3.HeaderMatcher_PresentMatch:
		out.Kind = mesh.Present
	case *routev3.HeaderMatcher_StringMatch:
		out, err = decodeString(p.StringMatch)
	default:
		err = fmt.Errorf("header matcher %T is none of ours", p)
	}
	out.Invert = h.GetInvertMatch()
	return out, err
}

// encodeMatch makes Envoy's form of the conditions on a request. It has no field
// for the called port: who reads the result knows which port it is for, or
// finds it in the fields of matchFields.
func encodeMatch(m *mesh.Match) *routev3.RouteMatch {
	out := &routev3.RouteMatch{}
	switch m.URI.Kind {
	case mesh.Exact:
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: m.URI.Value}
	case mesh.Prefix:
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: m.URI.Value}
	case mesh.Segments:
		out.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: m.URI.Value}
	case mesh.Regex:
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: encodeRegex(m.URI.Value)}
	case mesh.Any:
		out.PathSpecifier = &routev3.RouteMatch_Prefix{} // also "*" begins with nothing
	case mesh.Present, mesh.Suffix:
		panic("xds: a view has no such condition on the path: " + m.URI.String())
	}
	if m.URI.IgnoreCase {
		out.CaseSensitive = wrapperspb.Bool(false)
	}
	for _, part := range []struct {
		name string
		m    mesh.StringMatch
	}{{schemeHeader, m.Scheme}, {methodHeader, m.Method}, {authorityHeader, m.Host}} {
		if part.m.Kind != mesh.Any {
			out.Headers = append(out.Headers, encodeHeader(part.name, part.m))
		}
	}
	for _, name := range sortedKeys(m.Headers) {
		out.Headers = append(out.Headers, encodeHeader(name, m.Headers[name]))
	}
	for _, name := range sortedKeys(m.Query) {
		param := &routev3.QueryParameterMatcher{Name: name}
		if q := m.Query[name]; q.Kind == mesh.Present {
			param.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_PresentMatch{PresentMatch: true}
		} else {
			param.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_StringMatch{StringMatch: encodeString(q)}
		}
		out.QueryParameters = append(out.QueryParameters, param)
	}
	return out
}

// matchFields says what encodeMatch cannot.
func matchFields(m *mesh.Match) fields {
	f := fields{}
	f.setNumber("port", uint32(m.Port))
	return f
}

// decodeMatch is the inverse of encodeMatch and matchFields.
func decodeMatch(in *routev3.RouteMatch, f fields) (mesh.Match, error) {
	var m mesh.Match
	port, err := f.number("port", 65535)
	if err != nil {
		return m, err
	}
	m.Port = uint16(port)
	switch p := in.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Path:
		m.URI = mesh.StringMatch{Kind: mesh.Exact, Value: p.Path}
	case *routev3.RouteMatch_Prefix:
		if p.Prefix != "" {
			m.URI = mesh.StringMatch{Kind: mesh.Prefix, Value: p.Prefix}
		}
	case *routev3.RouteMatch_PathSeparatedPrefix:
		m.URI = mesh.StringMatch{Kind: mesh.Segments, Value: p.PathSeparatedPrefix}
	case *routev3.RouteMatch_SafeRegex:
		m.URI = mesh.StringMatch{Kind: mesh.Regex, Value: p.SafeRegex.GetRegex()}
	default:
		return m, fmt.Errorf("path matcher %T is none of ours", p)
	}
	m.URI.IgnoreCase = in.GetCaseSensitive() != nil && !in.GetCaseSensitive().GetValue()
	for _, h := range in.GetHeaders() {
		c, err := decodeHeader(h)
		if err != nil {
			return m, fmt.Errorf("header %s: %w", h.GetName(), err)
		}
		switch h.GetName() {
		case schemeHeader:
			m.Scheme = c
		case methodHeader:
			m.Method = c
		case authorityHeader:
			m.Host = c
		default:
			if m.Headers == nil {
				m.Headers = map[string]mesh.StringMatch{}
			}
			m.Headers[h.GetName()] = c
		}
	}
	m.Query, err = decodeQuery(in.GetQueryParameters())
	return m, err
}

func decodeQuery(params []*routev3.QueryParameterMatcher) (map[string]mesh.StringMatch, error) {
	var out map[string]mesh.StringMatch
	for _, param := range params {
		c := mesh.StringMatch{Kind: mesh.Present}
		if s := param.GetStringMatch(); s != nil {
			var err error
			if c, err = decodeString(s); err != nil {
				return nil, fmt.Errorf("query parameter %s: %w", param.GetName(), err)
			}
		} else if !param.GetPresentMatch() {
			return nil, fmt.Errorf("query parameter %s: has no condition of ours", param.GetName())
		}
		if out == nil {
			out = map[string]mesh.StringMatch{}
		}
		out[param.GetName()] = c
	}
	return out, nil
}
