package istio

import (
	"maps"
	"math"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"serin.dev/serin/internal/mesh"
)

// httpMatch is a match that holds at some gateways only.
type httpMatch struct {
	mesh.Match
	gateways []string // none = all of the VirtualService
	never    bool     // it has a condition that is wrong or cannot be evaluated
}

func (t *translator) httpMatch(m *networking.HTTPMatchRequest, path, namespace string, vs *virtualService, r *report) httpMatch {
	var out httpMatch
	if m == nil {
		return out // "- {}": no condition
	}
	sound := true
	condition := func(m *networking.StringMatch, field string) mesh.StringMatch {
		c, ok := stringMatch(m, path+"."+field, r)
		sound = sound && ok
		return c
	}
	out.URI = condition(m.Uri, "uri")
	out.URI.IgnoreCase = m.IgnoreUriCase && (out.URI.Kind == mesh.Exact || out.URI.Kind == mesh.Prefix)
	out.Scheme = condition(m.Scheme, "scheme")
	out.Method = condition(m.Method, "method")
	out.Host = condition(m.Authority, "authority")
	sound = headerConditions(&out.Match, m.Headers, path+".headers", false, r) && sound
	sound = headerConditions(&out.Match, m.WithoutHeaders, path+".withoutHeaders", true, r) && sound
	for _, name := range slices.Sorted(maps.Keys(m.QueryParams)) {
		c, ok := presenceMatch(m.QueryParams[name], at("%s.queryParams[%s]", path, name), r)
		sound = sound && ok
		if out.Query == nil {
			out.Query = map[string]mesh.StringMatch{}
		}
		out.Query[name] = c
	}
	out.SourceLabels, out.SourceNamespace = maps.Clone(mesh.Labels(m.SourceLabels)), m.SourceNamespace
	if m.Port > math.MaxUint16 {
		r.errorf(path+".port", "%d is not in 1..65535", m.Port)
		sound = false
	}
	out.Port = uint16(m.Port)
	out.gateways = t.matchGateways(m.Gateways, path, namespace, vs, r)
	if err := out.Validate(); err != nil && sound {
		r.errorf(path, "%v", err)
		sound = false
	}
	out.never = !sound || len(m.Gateways) > 0 && len(out.gateways) == 0
	return out
}

// matchGateways brings the gateways at which a match holds into the form of
// virtualService.gateways, of which they are some.
func (t *translator) matchGateways(refs []string, path, namespace string, vs *virtualService, r *report) []string {
	out := t.gatewayNames(refs, path+".gateways", namespace, r)
	for i, g := range out {
		if !slices.Contains(vs.gateways, g) {
			r.errorf(at("%s.gateways[%d]", path, i), "%q is not in spec.gateways: add it there", g)
		}
	}
	return out
}

// headerConditions adds conditions on headers, or without them, and reports
// false if one of them can never hold because it is wrong.
func headerConditions(out *mesh.Match, conditions map[string]*networking.StringMatch, path string, without bool, r *report) bool {
	sound := true
	for _, name := range slices.Sorted(maps.Keys(conditions)) {
		here := at("%s[%s]", path, name)
		key := strings.ToLower(name)
		if key != name {
			r.errorf(here, "is not in lower case: header names are matched as %q", key)
		}
		switch key {
		case "uri", "scheme", "method", "authority":
			r.warnf(here, "is ignored, as Istio does: write it beside headers, as a field of the match")
			continue
		}
		authority := key == ":authority" || key == "host"
		if key == "" || strings.HasPrefix(key, ":") && !authority {
			r.errorf(here, "is no header: use uri, method and scheme for what is not one")
			sound = false
			continue
		}
		c, ok := presenceMatch(conditions[name], here, r)
		if !ok {
			sound = false
			continue
		}
		c.Invert = without
		_, twice := out.Headers[key]
		switch {
		case authority && c.Kind == mesh.Present:
			sound = sound && !without // every request has one
		case authority && out.Host != (mesh.StringMatch{}) || twice:
			r.warnf(here, "a second condition on %s is not supported yet: this match never holds", key)
			sound = false
		case authority:
			out.Host = c
		case c == (mesh.StringMatch{}):
		default:
			if out.Headers == nil {
				out.Headers = map[string]mesh.StringMatch{}
			}
			out.Headers[key] = c
		}
	}
	return sound
}

// presenceMatch translates a condition on what may be absent: without a
// comparison it holds when the thing is there, and so does Istio's regex "*".
func presenceMatch(m *networking.StringMatch, path string, r *report) (mesh.StringMatch, bool) {
	if m.GetMatchType() == nil || m.GetRegex() == "*" {
		return mesh.StringMatch{Kind: mesh.Present}, true
	}
	c, ok := stringMatch(m, path, r)
	return c, ok && c.Kind != mesh.Any
}

// stringMatch translates a condition, reporting false when it can never hold
// because it is wrong.
func stringMatch(m *networking.StringMatch, path string, r *report) (mesh.StringMatch, bool) {
	if m == nil {
		return mesh.StringMatch{}, true
	}
	switch s := m.MatchType.(type) {
	case *networking.StringMatch_Exact:
		return mesh.StringMatch{Kind: mesh.Exact, Value: s.Exact}, true
	case *networking.StringMatch_Prefix:
		if s.Prefix == "" {
			r.errorf(path+".prefix", "is empty and matches everything: remove the condition")
			return mesh.StringMatch{}, true
		}
		return mesh.StringMatch{Kind: mesh.Prefix, Value: s.Prefix}, true
	case *networking.StringMatch_Regex:
		if _, err := mesh.CompileRegex(s.Regex); err != nil {
			r.errorf(path+".regex", "%v", err)
			return mesh.StringMatch{}, false
		}
		return mesh.StringMatch{Kind: mesh.Regex, Value: s.Regex}, true
	}
	r.errorf(path, "is empty: write exact, prefix or regex")
	return mesh.StringMatch{}, false
}
