package live

import (
	"slices"
	"strconv"
	"strings"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/rollout"
)

// stops are what the canary gets on its way to promotion, a test first where
// there is one, and at which it is, from 1.
func (v View) stops() (stops []string, at int) {
	spec, status := &v.Release.Spec, &v.Release.Status
	at = int(status.Step)
	switch strategy := rollout.Strategy(spec.Strategy); {
	case spec.Mirror != nil:
		stops = append(stops, "copies of "+Percent(spec.Mirror.Share.String()))
	case strategy == rollout.Mirror:
		stops = append(stops, "copies")
	case strategy == rollout.BlueGreen:
		stops = append(stops, "test")
	}
	if len(stops) > 0 && (at > 0 || status.Phase == string(rollout.Testing)) {
		at++
	}
	switch rollout.Strategy(spec.Strategy) {
	case rollout.ABTest:
		return append(stops, "matched users"), at
	case rollout.BlueGreen:
		return append(stops, "100%"), at
	case rollout.Mirror:
		return stops, at
	case rollout.Canary, rollout.Replicas:
	}
	for _, share := range spec.Steps {
		stops = append(stops, Percent(share.String()))
	}
	return stops, at
}

// strategy says what the release's strategy counts, and what it cost so far.
func (v View) strategy() []line {
	s := &v.Release.Status
	var lines []line
	if good, all, ok := strings.Cut(s.Iterations, "/"); ok {
		lines = append(lines, labelled("looks", text(good+" of "+all+" were good")))
	}
	if m := s.Mirrored; m != nil {
		body := count(m.Compared, "answer") + " compared, " + number(m.Differ) + " differ (" + Rate(v1alpha1.Count{Requests: m.Compared, Failures: m.Differ}) + ")"
		if m.NoiseCompared > 0 {
			body += "; of stable with itself " + Rate(v1alpha1.Count{Requests: m.NoiseCompared, Failures: m.NoiseDiffer})
		}
		if m.Example != "" {
			body += "; for example " + m.Example
		}
		lines = append(lines, wrap(labelled("copies"), body, v.Width)...)
	}
	if n := s.Cost.FailedRequests; n > 0 {
		lines = append(lines, labelled("cost", painted(red, "about "+count(n, "request")+" of users failed because of it")))
	}
	return lines
}

// asked says what is asked of people and other systems, and how to answer.
func (v View) asked() []line {
	s := &v.Release.Status
	var lines []line
	for _, g := range s.Gates {
		body := g.Name
		switch {
		case g.By != "" && !g.Open:
			body += ": approved by " + g.By + ", and closed at this time of the week"
		case g.By != "":
			body += ": approved by " + g.By
		case g.Open:
			body += ": open"
		case !v.manual(&g):
			body += ": closed at this time of the week"
		default:
			body += ": asked"
			if g.Since != nil {
				body += " at " + v.clock(g.Since.Time)
			}
			body += v.howToOpen(&g)
		}
		lines = append(lines, wrap(labelled("gate"), body, v.Width)...)
	}
	for _, h := range s.Hooks {
		body := h.Name + " (" + h.Type + "): "
		if h.Answer == "" {
			body += "no answer yet"
		} else {
			body += h.Answer
		}
		if h.Called != nil {
			body += ", called at " + v.clock(h.Called.Time)
		}
		lines = append(lines, wrap(labelled("webhook"), body, v.Width)...)
	}
	return lines
}

// set says how far the releases are that have one verdict with this one.
func (v View) set() []line {
	s := v.Release.Status.Set
	if s == nil {
		return nil
	}
	var members []string
	for _, m := range s.Members {
		member := m.Name + " " + strings.ToLower(m.Standing)
		if m.Reason != "" {
			member += " (" + m.Reason + ")"
		}
		members = append(members, member)
	}
	return wrap(labelled("set", text(s.Name+": "), painted(standingPaint(s.Verdict), s.Verdict), text("  ")), strings.Join(members, ", "), v.Width)
}

func standingPaint(standing string) paint {
	switch rollout.Standing(standing) {
	case rollout.Passed, rollout.Settled:
		return green
	case rollout.Failed:
		return red
	case rollout.Behind:
		return yellow
	}
	return dim // also for a standing of a later version
}

// manual reports whether a gate takes an approval.
func (v View) manual(g *v1alpha1.GateStatus) bool {
	return slices.ContainsFunc(v.Release.Spec.Gates, func(spec v1alpha1.Gate) bool { return spec.Name == g.Name && spec.Manual != nil })
}

// howToOpen says who approves, until when, and by which command.
func (v View) howToOpen(g *v1alpha1.GateStatus) string {
	out := ""
	if len(g.Approvers) > 0 {
		out += " of " + strings.Join(g.Approvers, " or ")
	}
	if g.Expires != nil {
		out += ", expires at " + v.clock(g.Expires.Time)
	}
	return out + "; serin release approve " + v.Release.Name + " --gate " + g.Name
}

// ordered says what a person did in a run.
func (v View) ordered(c *v1alpha1.CommandStatus) string {
	out := v.clock(c.Time.Time) + " " + c.Verb
	if c.Gate != "" {
		out += " at gate " + strconv.Quote(c.Gate)
	}
	if c.By != "" {
		out += " by " + c.By
	}
	if c.Reason != "" {
		out += ": " + c.Reason
	}
	return out
}
