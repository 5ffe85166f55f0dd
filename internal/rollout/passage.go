package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// pass asks the gates at a point, all at once, and reports whether all are
// open. It may roll the run back, because a gate expired.
func (r *step) pass(at Point) bool {
	s := &r.s
	var waits []string
	var soonest time.Time
	for _, g := range r.plan.Gates {
		if g.At != at || g.Step > 0 && g.Step != r.ahead() {
			continue
		}
		why, until := r.passGate(g)
		if s.Phase == RollingBack {
			return false
		}
		waits, soonest = waitFor(waits, soonest, why, until)
	}
	for _, h := range r.plan.Hooks {
		if where, ok := h.Type.confirms(); !ok || where != at {
			continue
		}
		why, until := r.confirm(h)
		if s.Phase == RollingBack {
			return false
		}
		waits, soonest = waitFor(waits, soonest, why, until)
	}
	if len(waits) == 0 {
		return true
	}
	r.pause(WaitGate, soonest, "%s: waiting for %s", r.place(at), strings.Join(waits, "; and for "))
	return false
}

// waitFor collects what is waited for, and until when at most.
func waitFor(waits []string, soonest time.Time, why string, until time.Time) ([]string, time.Time) {
	if why == "" {
		return waits, soonest
	}
	if soonest.IsZero() || !until.IsZero() && until.Before(soonest) {
		soonest = until
	}
	return append(waits, why), soonest
}

// ahead is the step that comes next, from 1.
func (r *step) ahead() int {
	if r.s.Phase == Progressing {
		return r.s.Step + 1
	}
	return 1
}

// place says where a run waits at a point.
func (r *step) place(at Point) string {
	switch at {
	case AtTraffic:
		return fmt.Sprintf("before step %d", r.ahead())
	case AtPromotion:
		return "before promotion"
	case AtStart:
	}
	return "before the start"
}

// passGate says what a gate waits for; "" = it is open.
func (r *step) passGate(g Gate) (why string, until time.Time) {
	a := r.asked(g)
	now := r.in.Now
	if g.Manual && a.By == "" && !a.Expires.IsZero() && !now.Before(a.Expires) {
		r.rollBack(RolledBack, fmt.Sprintf("gate %s was not approved within %v", g.Name, about(g.Expires)))
		return "", time.Time{}
	}
	var needs []string
	a.Open = true
	if g.Manual && a.By == "" {
		a.Open = false
		need := "needs approval"
		if len(g.Approvers) > 0 {
			need += " by " + strings.Join(g.Approvers, " or ")
		}
		if until = a.Expires; !until.IsZero() {
			need += ", expires in " + about(until.Sub(now))
		}
		needs = append(needs, need)
	}
	if g.Window != nil {
		if open, next := g.Window.Opens(now); !open {
			a.Open = false
			needs = append(needs, "opens on "+next.Format("Mon 2 Jan 15:04 MST"))
			if until.IsZero() && !g.Manual {
				until = next.UTC()
			}
		}
	}
	if a.Open {
		return "", time.Time{}
	}
	return fmt.Sprintf("gate %s: %s", g.Name, strings.Join(needs, ", ")), until
}

// asked is the memory of a gate at this point, made when it is asked first.
func (r *step) asked(g Gate) *Asked {
	s := &r.s
	for i := range s.Gates {
		if s.Gates[i].Gate == g.Name {
			return &s.Gates[i]
		}
	}
	a := Asked{Gate: g.Name, At: g.At, Since: r.in.Now}
	if g.At == AtTraffic {
		a.Step = r.ahead()
	}
	if g.Manual && g.Expires > 0 {
		a.Expires = r.in.Now.Add(g.Expires)
	}
	if g.Manual {
		r.tell(false, "GateAsked", "gate %s is asked (at %s)", g.Name, g.At)
	}
	s.Gates = append(s.Gates, a)
	r.approve(&s.Gates[len(s.Gates)-1], g)
	return &s.Gates[len(s.Gates)-1]
}

// approve looks for an approval of a gate that is asked.
func (r *step) approve(a *Asked, g Gate) {
	for _, answer := range r.in.Approvals {
		if answer.Gate != g.Name || answer.Reject || a.By != "" || !g.Manual || r.used(answer) {
			continue
		}
		r.s.Approvals = append(r.s.Approvals, answer.ID)
		if !g.allows(answer.By) {
			r.refuse(answer)
			continue
		}
		a.By = orElse(answer.By, "somebody")
		r.note(Obeyed{ID: answer.ID, Verb: Approve, By: answer.By, Reason: answer.Reason, Gate: g.Name})
		r.tell(false, "GateApproved", "gate %s is approved by %s", g.Name, a.By)
	}
}

func (r *step) refuse(a Approval) {
	r.tell(true, "ApprovalRefused", "%s may not answer for gate %s", orElse(a.By, "somebody"), a.Gate)
}

func (g *Gate) allows(who string) bool {
	return len(g.Approvers) == 0 || slices.Contains(g.Approvers, who)
}

func (r *step) used(a Approval) bool { return slices.Contains(r.s.Approvals, a.ID) }

// approvals takes in the answers of people: those for gates that are asked, and
// all rejections.
func (r *step) approvals() {
	s := &r.s
	s.Approvals = slices.DeleteFunc(s.Approvals, func(id string) bool {
		return !slices.ContainsFunc(r.in.Approvals, func(a Approval) bool { return a.ID == id })
	})
	if !r.s.undecided() {
		return
	}
	for _, g := range r.plan.Gates {
		for i := range s.Gates {
			if s.Gates[i].Gate == g.Name {
				r.approve(&s.Gates[i], g)
			}
		}
	}
	for _, a := range r.in.Approvals {
		if a.Reject && !r.used(a) && r.s.undecided() {
			s.Approvals = append(s.Approvals, a.ID)
			r.reject(a)
		}
	}
}

// reject ends the run when somebody says no at a gate.
func (r *step) reject(a Approval) {
	i := slices.IndexFunc(r.plan.Gates, func(g Gate) bool { return g.Name == a.Gate && g.Manual })
	if i < 0 {
		r.tell(true, "ApprovalRefused", "there is no gate %q to reject", a.Gate)
		return
	}
	if !r.plan.Gates[i].allows(a.By) {
		r.refuse(a)
		return
	}
	r.note(Obeyed{ID: a.ID, Verb: Reject, By: a.By, Reason: a.Reason, Gate: a.Gate})
	reason := fmt.Sprintf("rejected at gate %s by %s", a.Gate, orElse(a.By, "somebody"))
	if a.Reason != "" {
		reason += fmt.Sprintf(" (%s)", a.Reason)
	}
	r.rollBack(Aborted, reason)
}

// confirm says what a hook of a confirm type waits for; "" = it said yes.
func (r *step) confirm(h Hook) (why string, until time.Time) {
	if known := r.answerOf(h); known != nil && known.OK {
		return "", time.Time{}
	}
	a := *r.ask(h)
	patience := h.Expires
	if !a.Known && (patience == 0 || patience > r.plan.Deadline) {
		patience = r.plan.Deadline // silence is no answer
	}
	if patience > 0 {
		until = a.Since.Add(patience)
		if !r.in.Now.Before(until) {
			r.rollBack(RolledBack, fmt.Sprintf("webhook %s did not confirm within %s", h.Name, about(patience)))
			return "", time.Time{}
		}
	}
	why = fmt.Sprintf("webhook %s (%s)", h.Name, h.Type)
	switch {
	case a.Known && a.Reason != "":
		why += ": it says no: " + a.Reason
	case a.Known:
		why += ": it says no"
	default:
		why += ": it did not answer yet"
	}
	if a.Known && !until.IsZero() {
		why += ", expires in " + about(until.Sub(r.in.Now))
	}
	return why, until
}

// unask lets what gates wait for begin anew after a suspension or a freeze, so
// that none expires by that.
func (r *step) unask() {
	s := &r.s
	s.Gates = slices.DeleteFunc(s.Gates, func(a Asked) bool { return a.By == "" })
	s.Hooks = slices.DeleteFunc(s.Hooks, func(a Answer) bool {
		_, confirms := a.Type.confirms()
		return confirms && !a.OK
	})
}

// forget begins a new point of the run: gates and hooks are asked anew there.
// A call under way is not wanted any more, unless its failure counts wherever
// the run is.
func (r *step) forget() {
	s := &r.s
	s.Gates, s.Skipped = nil, false
	s.Looks, s.Looked = 0, time.Time{}
	s.Hooks = slices.DeleteFunc(s.Hooks, func(a Answer) bool { return a.Type != HookRollback })
	s.Calls = slices.DeleteFunc(s.Calls, func(c HookCall) bool {
		_, confirms := c.Type.confirms()
		return confirms
	})
}

// about writes a time span as coarse as people think of it.
func about(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", (d+12*time.Hour)/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d h", (d+30*time.Minute)/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d min", (d+30*time.Second)/time.Minute)
	}
	return fmt.Sprintf("%d s", (max(d, 0)+time.Second-1)/time.Second)
}
