package xds

import (
	"fmt"
	"regexp"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"serin.dev/serin/internal/mesh"
)

// encodeAccess writes the rules of a view as routes that answer 403 or let
// pass: what they ask of a request is what routes ask.
func encodeAccess(rules []mesh.Access) *routev3.VirtualHost {
	out := &routev3.VirtualHost{}
	for i := range rules {
		rule := &rules[i]
		for _, m := range orAny(rule.Matches) {
			f := matchFields(&m)
			f.setNumber("rule", uint32(i)+1)
			f.setFields("origin", encodeOrigin(rule.Origin))
			r := &routev3.Route{Match: encodeMatch(&m), Metadata: f.metadata()}
			if rule.Deny {
				r.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 403}}
			} else {
				r.Action = &routev3.Route_NonForwardingAction{NonForwardingAction: &routev3.NonForwardingAction{}}
			}
			out.Routes = append(out.Routes, r)
		}
	}
	return out
}

// orAny returns the match of everything where there are no matches.
func orAny(matches []mesh.Match) []mesh.Match {
	if len(matches) == 0 {
		return []mesh.Match{{}}
	}
	return matches
}

func decodeAccess(vh *routev3.VirtualHost) ([]mesh.Access, error) {
	var out []mesh.Access
	last := -1.0
	for i, r := range vh.GetRoutes() {
		f := fieldsOf(r.GetMetadata())
		m, err := decodeMatch(r.GetMatch(), f)
		if err != nil {
			return nil, fmt.Errorf("access rule %d: %w", i, err)
		}
		if number := f["rule"].GetNumberValue(); number != last || len(out) == 0 {
			last = number
			out = append(out, mesh.Access{Origin: decodeOrigin(f.fields("origin")), Deny: r.GetDirectResponse() != nil})
		}
		rule := &out[len(out)-1]
		rule.Matches = append(rule.Matches, m)
	}
	for i := range out {
		out[i].Matches = unlessAny(out[i].Matches)
	}
	return out, nil
}

// unlessAny is the inverse of orAny for the matches of a view.
func unlessAny(matches []mesh.Match) []mesh.Match {
	if len(matches) == 1 && isAny(&matches[0]) {
		return nil
	}
	return matches
}

func isAny(m *mesh.Match) bool {
	return m.Port == 0 && m.URI == (mesh.StringMatch{}) && m.Scheme == (mesh.StringMatch{}) && m.Method == (mesh.StringMatch{}) &&
		m.Host == (mesh.StringMatch{}) && len(m.Headers) == 0 && len(m.Query) == 0
}

func encodeOrigin(o mesh.Origin) fields {
	f := fields{}
	f.setText("kind", o.Kind)
	f.setText("namespace", o.Namespace)
	f.setText("name", o.Name)
	return f
}

func decodeOrigin(f fields) mesh.Origin {
	return mesh.Origin{Kind: f.text("kind"), Namespace: f.text("namespace"), Name: f.text("name")}
}

// accessForEnvoy makes what Envoy's two filters do with requests to a service
// that were called on the port; nothing where everybody may call it.
func accessForEnvoy(rules []mesh.Access, port uint16) (map[string]*anypb.Any, error) {
	deny := &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: map[string]*rbacv3.Policy{}}
	allow := &rbacv3.RBAC{Action: rbacv3.RBAC_ALLOW, Policies: map[string]*rbacv3.Policy{}}
	restricted := false
	for i := range rules {
		rule := &rules[i]
		restricted = restricted || !rule.Deny
		policy := &rbacv3.Policy{Principals: []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}}}
		for _, m := range orAny(rule.Matches) {
			if m.Port == 0 || m.Port == port {
				policy.Permissions = append(policy.Permissions, encodePermission(&m))
			}
		}
		if policy.Permissions == nil {
			continue
		}
		to := allow
		if rule.Deny {
			to = deny
		}
		to.Policies[fmt.Sprintf("%d %s", i, rule.Origin)] = policy
	}
	out := map[string]*anypb.Any{}
	add := func(name string, rules *rbacv3.RBAC) (err error) {
		out[name], err = pack(&rbacfilterv3.RBACPerRoute{Rbac: &rbacfilterv3.RBAC{Rules: rules}})
		return err
	}
	if len(deny.Policies) > 0 {
		if err := add(filterDeny, deny); err != nil {
			return nil, err
		}
	}
	if restricted {
		if err := add(filterAllow, allow); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func encodePermission(m *mesh.Match) *rbacv3.Permission {
	var all []*rbacv3.Permission
	header := func(name string, c mesh.StringMatch) {
		if c.Kind != mesh.Any {
			all = append(all, &rbacv3.Permission{Rule: &rbacv3.Permission_Header{Header: encodeHeader(name, c)}})
		}
	}
	if uri := m.URI; uri.Kind != mesh.Any {
		if uri.Kind == mesh.Segments {
			uri = asRegex(uri, regexp.QuoteMeta(uri.Value)+"(/.*)?")
		}
		all = append(all, &rbacv3.Permission{Rule: &rbacv3.Permission_UrlPath{UrlPath: &matcherv3.PathMatcher{
			Rule: &matcherv3.PathMatcher_Path{Path: encodeString(uri)},
		}}})
	}
	header(schemeHeader, m.Scheme)
	header(methodHeader, m.Method)
	header(authorityHeader, m.Host)
	for _, name := range sortedKeys(m.Headers) {
		header(name, m.Headers[name])
	}
	for _, name := range sortedKeys(m.Query) {
		header(pathHeader, mesh.StringMatch{Kind: mesh.Regex, Value: queryRegex(name, m.Query[name])})
	}
	if len(all) == 0 {
		return &rbacv3.Permission{Rule: &rbacv3.Permission_Any{Any: true}}
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_AndRules{AndRules: &rbacv3.Permission_Set{Rules: all}}}
}

// queryRegex covers the values of ":path" with a parameter that fulfils the
// condition: the filter does not look at parameters by itself. Of a parameter
// that a query has several times, it looks at all instead of the first.
func queryRegex(name string, m mesh.StringMatch) string {
	value := regexp.QuoteMeta(m.Value)
	switch m.Kind {
	case mesh.Exact:
	case mesh.Prefix:
		value += `[^&]*`
	case mesh.Suffix:
		value = `[^&]*` + value
	case mesh.Regex:
		value = m.Value
	case mesh.Present:
		return `[^?]*\?(.*&)?` + regexp.QuoteMeta(name) + `(=[^&]*)?(&.*)?`
	case mesh.Any, mesh.Segments:
		panic("xds: a valid snapshot has no such condition on a query parameter: " + m.String())
	}
	flags := `?:`
	if m.IgnoreCase {
		flags = `?i:`
	}
	return `[^?]*\?(.*&)?` + regexp.QuoteMeta(name) + `=(` + flags + value + `)(&.*)?`
}
