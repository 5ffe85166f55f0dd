package rollout

import (
	"fmt"
	"slices"
	"time"
)

// Gate is a question that has to be answered before a run goes on. A gate
// delays what raises the canary's share, and nothing else: the canary is judged
// while it waits, and every way back is open.
type Gate struct {
	Name string // unique in the plan
	At   Point
	// Step limits a gate at Traffic to the one before that step, from 1;
	// 0 = it is asked before each step.
	Step int

	// Manual: a person has to approve. One approval opens the gate once.
	Manual bool
	// Approvers are who may; empty = anybody who may command the release.
	Approvers []string
	// Expires is how long a person has to answer from when the gate is
	// asked; then the run is rolled back. 0 = for ever.
	Expires time.Duration

	// Window is when the gate is open by itself; nil = always. With Manual,
	// both are needed.
	Window *Window
}

// Point is where in a run a gate stands.
type Point string

// The points.
const (
	AtStart     Point = "Start"     // before the canary's pods are started
	AtTraffic   Point = "Traffic"   // before the canary's share is raised
	AtPromotion Point = "Promotion" // before the canary becomes stable
)

// Window is a part of the week. It is open on each of Days from From until To,
// by the wall clock of its zone; one whose To is not after From ends on the day
// after.
type Window struct {
	Days []time.Weekday // empty = every day
	// From and To are since midnight: 0 to 24 h, and different.
	From, To time.Duration
	// Zone is the IANA name, for people and for replay. Location is what the
	// caller loaded for it, as reading zones is I/O; nil = UTC.
	Zone     string
	Location *time.Location `json:"-"`
}

// Approval is a person's answer to a manual gate. It may be given before the
// gate is asked, but not before its run: what is there when a run begins
// belongs to none. One ID opens one gate once; it may be repeated.
type Approval struct {
	ID   string
	Gate string
	By   string
	At   time.Time // for the records alone
	// Reject ends the run.
	Reject bool
	// Reason is what the person gave as one; "" = none.
	Reason string
}

// Asked is a gate that is waited for, or was passed, at the present point of a
// run.
type Asked struct {
	Gate  string    `json:"gate"`
	At    Point     `json:"at"`
	Step  int       `json:"step,omitempty"` // with AtTraffic: the step behind it
	Since time.Time `json:"since,omitzero"`
	// Expires is when the run is rolled back without an answer; zero = never.
	Expires time.Time `json:"expires,omitzero"`
	// Open, and by whom; By is "" when nobody had to approve.
	Open bool   `json:"open,omitempty"`
	By   string `json:"by,omitempty"`
}

// day is the length of a day on the clock's face.
const day = 24 * time.Hour

// Opens reports whether the window is open at a time, and when it opens next;
// it is then itself if it is open.
func (w *Window) Opens(now time.Time) (open bool, at time.Time) {
	where := w.Location
	if where == nil {
		where = time.UTC
	}
	local := now.In(where)
	// From yesterday, whose window may last past midnight, to the same day
	// of next week.
	for i := -1; i <= 7; i++ {
		from := w.clock(local, i, w.From)
		to := w.clock(local, i, w.To)
		if w.To <= w.From {
			to = w.clock(local, i+1, w.To)
		}
		if !w.on(from.Weekday()) || !now.Before(to) || !from.Before(to) { // the last: the clock leaves these hours out
			continue
		}
		if now.Before(from) {
			return false, from
		}
		return true, now
	}
	return false, time.Time{} // no such day: Validate refuses it
}

// clock is the time that the clock shows so much since midnight, days from now.
func (w *Window) clock(local time.Time, days int, since time.Duration) time.Time {
	y, m, d := local.Date()
	return time.Date(y, m, d+days, int(since/time.Hour), int(since%time.Hour/time.Minute), int(since%time.Minute/time.Second), 0, local.Location())
}

func (w *Window) on(d time.Weekday) bool {
	return len(w.Days) == 0 || slices.Contains(w.Days, d)
}

func (p *Plan) validateGates(f *findings) {
	names := map[string]bool{}
	for i, g := range p.Gates {
		path := fmt.Sprintf("spec.gates[%d]", i)
		f.check(g.Name != "", "%s.name: a name is needed, to approve it by", path)
		f.check(!names[g.Name], "%s.name: %q is used twice", path, g.Name)
		names[g.Name] = true
		f.check(g.At == AtStart || g.At == AtTraffic || g.At == AtPromotion, "%s.at: %q is unknown; use %s, %s or %s", path, g.At, AtStart, AtTraffic, AtPromotion)
		f.check(g.Step == 0 || g.At == AtTraffic, "%s.step: only a gate at %s has a step", path, AtTraffic)
		f.check(g.Step >= 0 && g.Step <= max(0, p.NumSteps()), "%s.step: there is no step %d; the last is %d", path, g.Step, p.NumSteps())
		f.check(g.At != AtTraffic || p.NumSteps() > 0, "%s.at: the strategy %s never raises the canary's share, so nobody would be asked; use %s", path, p.Strategy, AtPromotion)
		f.check(!p.Skip || g.At == AtStart, "%s.at: spec.judge.skip promotes at once, so nobody would be asked; use %s", path, AtStart)
		f.check(g.Manual || g.Window != nil, "%s: manual or window is needed", path)
		f.check(g.Manual || len(g.Approvers) == 0 && g.Expires == 0, "%s: only a manual gate has approvers and expires", path)
		f.check(g.Expires >= 0, "%s.manual.expires: %v is negative", path, g.Expires)
		if w := g.Window; w != nil {
			f.check(w.From >= 0 && w.From < day && w.To >= 0 && w.To <= day, "%s.window: times are from 00:00 to 24:00", path)
			f.check(w.From != w.To, "%s.window: from and to are the same; leave the window out to be open always", path)
			for _, d := range w.Days {
				f.check(d >= time.Sunday && d <= time.Saturday, "%s.window.days: %d is no day of the week", path, int(d))
			}
		}
	}
	if len(*f) == 0 {
		p.validateWindows(f)
	}
}

// validateWindows refuses windows that are asked at the same point and are
// never open together.
func (p *Plan) validateWindows(f *findings) {
	for i, a := range p.Gates {
		for j, b := range p.Gates[:i] {
			same := a.At == b.At && (a.Step == b.Step || a.Step == 0 || b.Step == 0)
			if same && a.Window != nil && b.Window != nil && !meet(a.Window, b.Window) {
				f.check(false, "spec.gates[%d].window: never open together with that of spec.gates[%d] (%s), so the run could not go on", i, j, b.Name)
			}
		}
	}
}

// meet reports whether two windows are ever open at once: in a week of winter
// or of summer, as zones change their clocks. If so, then also when one opens.
func meet(a, b *Window) bool {
	for _, month := range []time.Month{time.January, time.July} {
		from := time.Date(2026, month, 1, 0, 0, 0, 0, time.UTC)
		for _, pair := range [][2]*Window{{a, b}, {b, a}} {
			for now := from; now.Before(from.Add(8 * day)); {
				open, at := pair[0].Opens(now)
				if both, _ := pair[1].Opens(at); both {
					return true
				}
				if !open {
					now = at
				}
				now = now.Add(time.Hour)
			}
		}
	}
	return false
}
