package proxy

import "time"

// checks is what active health checks found of a member. The engine sends them;
// here is only what follows from their results.
type checks struct {
	failed bool   // the endpoint is not called
	known  bool   // there was a check
	streak uint32 // of results that contradict failed
}

// newChecks is the state before the first check, which decides alone. A member
// that joins others waits for it; the first ones of a group are trusted, since
// there are none to be called instead.
func newChecks(joins bool) checks { return checks{failed: joins} }

// checked tells the result of a check of the group's policy. It reports whether
// the member's health changed.
func (m *member) checked(good bool, now time.Time) bool {
	s := m.group.groupState
	s.mu.Lock()
	defer s.mu.Unlock()
	p := m.group.policy.Health
	if p == nil {
		return false
	}
	c := &m.checks
	changed := c.note(good, p.HealthyAfter, p.UnhealthyAfter)
	if changed && good {
		m.since.Store(int64(s.clock(now)))
	}
	if good && !c.failed && m.ejection.active {
		// An endpoint that proves to be well need not sit out its time.
		m.comeBack(s.clock(now))
		changed = true
	}
	if changed {
		s.current.scheduleEnd()
		s.current.renew()
	}
	return changed
}

// note counts a result and reports whether it turned the state.
func (c *checks) note(good bool, healthyAfter, unhealthyAfter uint32) bool {
	first := !c.known
	c.known = true
	if good != c.failed {
		c.streak = 0
		return false
	}
	c.streak++
	limit := unhealthyAfter
	if good {
		limit = healthyAfter
	}
	if !first && c.streak < limit {
		return false
	}
	c.failed, c.streak = !good, 0
	return true
}
