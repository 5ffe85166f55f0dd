package proxy

import (
	"cmp"
	"sync/atomic"
	"time"

	"serin.dev/serin/internal/mesh"
)

// outcome is how a try ended, as far as retries and the health of endpoints
// depend on it.
type outcome struct {
	kind   outcomeKind
	status int  // of an answer
	grpc   int  // grpc-status of an answer, noGRPC = none
	sent   bool // some byte of the request was sent
}

// isFailure reports whether the endpoint failed, as telemetry.Request.Failed
// says it of whole requests.
func (o outcome) isFailure() bool {
	switch o.kind {
	case connectFailed, broken, timedOut:
		return true
	case refused:
		return false
	case answered:
	}
	switch o.grpc {
	case 2, 4, 12, 13, 14, 15:
		return true
	}
	return o.status >= 500
}

type outcomeKind uint8

const (
	answered      outcomeKind = iota
	connectFailed             // connecting failed or timed out
	refused                   // HTTP/2: the endpoint said that it did nothing
	broken                    // the connection ended before an answer
	timedOut                  // the try, or the whole request
)

// ejection is an endpoint's time out of its group.
type ejection struct {
	active bool
	began  time.Duration // by the group's clock
	row    int64         // ejections in a row; each makes the next one longer
	looked int64         // intervals of the group's clock when row was right
}

// done tells how a try on the member ended. What it does is Envoy's outlier
// detection.
func (m *member) done(o outcome, now time.Time) {
	p := m.group.policy.Outlier
	if p == nil {
		return
	}
	status := o.status
	if o.kind == answered && o.grpc != noGRPC && status == 200 {
		status = httpOfGRPC(o.grpc)
	}
	if o.kind != answered {
		if p.SplitLocal {
			m.count(&m.localErrors, p.ConsecutiveLocal, now)
			return
		}
		status = 503
		if o.kind == timedOut {
			status = 504
		}
	} else {
		clearCount(&m.localErrors)
	}
	gateway := status >= 502 && status <= 504
	if !gateway {
		clearCount(&m.gatewayErrors)
	} else {
		m.count(&m.gatewayErrors, p.ConsecutiveGateway, now)
	}
	if status < 500 {
		clearCount(&m.serverErrors)
	} else {
		m.count(&m.serverErrors, p.Consecutive5xx, now)
	}
}

// clearCount writes only where there is something to clear, so that loops do
// not take the line from each other at every answer.
func clearCount(n *atomic.Uint32) {
	if n.Load() != 0 {
		n.Store(0)
	}
}

// count counts a failure and ejects the member at the limit.
func (m *member) count(n *atomic.Uint32, limit uint32, now time.Time) {
	if n.Add(1) == limit {
		m.group.eject(m, now)
		n.Store(0)
	}
}

// eject takes a member out of the group for a time, unless too many are.
func (s *groupState) eject(m *member, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, e := s.current, &m.ejection
	p := g.policy.Outlier
	if p == nil || e.active || !g.mayEject(p) {
		return
	}
	at := s.clock(now)
	e.settle(p, at)
	*e = ejection{active: true, began: at, row: e.row + 1}
	g.scheduleEnd()
	g.renew()
}

// mayEject reports whether another member may go. A single one always may where
// any may.
func (g *group) mayEject(p *mesh.Outlier) bool {
	all, gone := 0, 0
	for _, m := range g.members {
		if m.level >= 0 {
			all++
			if m.ejection.active {
				gone++
			}
		}
	}
	return gone == 0 && p.MaxPercent > 0 || 100*(gone+1) <= int(p.MaxPercent)*all
}

// Endings are seen in intervals of the group's clock, as Envoy looks for them
// by a timer. Nobody need look at each of them: what they would have found is
// computed when it matters.

func intervalOf(p *mesh.Outlier) time.Duration { return cmp.Or(p.Interval, 10*time.Second) }

// end is when the ejection ends.
func (e *ejection) end(p *mesh.Outlier) time.Duration {
	base := cmp.Or(p.BaseEjection, mesh.DefaultBaseEjection)
	longest := max(base, cmp.Or(p.MaxEjection, 300*time.Second))
	over, interval := e.began+min(base*time.Duration(e.row), longest), intervalOf(p)
	return (over + interval - 1) / interval * interval
}

// settle takes one from the row for each interval without an ejection.
func (e *ejection) settle(p *mesh.Outlier, at time.Duration) {
	looked := int64(at / intervalOf(p))
	e.row = max(e.row-(looked-e.looked), 0)
	e.looked = looked
}

// endEjections lets those come back whose time is over.
func (s *groupState) endEjections(at time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.current
	if p := g.policy.Outlier; p != nil {
		for _, m := range g.members {
			if e := &m.ejection; e.active && e.end(p) <= at {
				m.comeBack(e.end(p))
			}
		}
	}
	g.scheduleEnd()
	g.renew()
}

// comeBack ends the member's ejection. Under mu.
func (m *member) comeBack(at time.Duration) {
	m.ejection.active = false
	m.ejection.looked = int64(at / intervalOf(m.group.policy.Outlier))
	for _, n := range [...]*atomic.Uint32{&m.serverErrors, &m.gatewayErrors, &m.localErrors} {
		n.Store(0)
	}
}

// scheduleEnd finds out when the next ejection ends. Under mu.
func (g *group) scheduleEnd() {
	var next int64
	if p := g.policy.Outlier; p != nil {
		for _, m := range g.members {
			if m.ejection.active {
				if end := int64(m.ejection.end(p)); next == 0 || end < next {
					next = end
				}
			}
		}
	}
	g.nextEnd.Store(next)
}
