package proxy

import (
	"slices"

	"serin.dev/serin/internal/mesh"
)

// access says who may call a service. nil admits everybody.
type access struct {
	deny, allow []accessRule
}

type accessRule struct {
	sources []mesh.Source // any; none = everybody
	matches []match       // any; none = every request
}

// admits reports whether the call may reach the service.
func (a *access) admits(c *call) bool {
	if a == nil {
		return true
	}
	covers := func(r accessRule) bool {
		return r.covers(c.caller) && (len(r.matches) == 0 || slices.ContainsFunc(r.matches, func(m match) bool { return m.holds(c) }))
	}
	return !slices.ContainsFunc(a.deny, covers) && (len(a.allow) == 0 || slices.ContainsFunc(a.allow, covers))
}

// admitsStream is admits for a connection without requests. What a rule says of
// requests is unknown then, and is taken so that less is admitted.
func (a *access) admitsStream(caller *mesh.Caller) bool {
	if a == nil {
		return true
	}
	mayHold := func(m match) bool { return m.isFor(caller) }
	deny := func(r accessRule) bool {
		return r.covers(caller) && (len(r.matches) == 0 || slices.ContainsFunc(r.matches, mayHold))
	}
	allow := func(r accessRule) bool { return r.covers(caller) && len(r.matches) == 0 }
	return !slices.ContainsFunc(a.deny, deny) && (len(a.allow) == 0 || slices.ContainsFunc(a.allow, allow))
}

func (r *accessRule) covers(caller *mesh.Caller) bool {
	if len(r.sources) == 0 {
		return true
	}
	var who mesh.Workload
	if caller != nil {
		who = caller.Workload
	}
	return slices.ContainsFunc(r.sources, func(s mesh.Source) bool {
		is := (s.Namespace == "" || s.Namespace == who.Namespace) && (s.Service == "" || s.Service == who.Name)
		return is != s.Not
	})
}

func compileAccess(rules []mesh.Access) (*access, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	a := &access{}
	for i := range rules {
		matches, err := compileMatches(rules[i].Matches)
		if err != nil {
			return nil, err
		}
		to := &a.allow
		if rules[i].Deny {
			to = &a.deny
		}
		*to = append(*to, accessRule{rules[i].Sources, matches})
	}
	return a, nil
}
