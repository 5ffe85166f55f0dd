package experiment

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/internal/analysis"
)

// versions are stable and the candidates: 0 is stable, i+1 is candidate i.
func (m *machine) versions() int { return len(m.Candidates) + 1 }

// pair is the index of the contest between versions i < j.
func (m *machine) pair(i, j int) int { return i*(2*m.versions()-i-1)/2 + j - i - 1 }

func (m *machine) name(version int) string {
	if version == 0 {
		return Stable
	}
	return m.Candidates[version-1].Name
}

// seen is what a version did so far.
func (m *machine) seen(version int) analysis.Side {
	if version == 0 {
		return m.Stable
	}
	return m.Candidates[version-1].Seen
}

// entered reports whether a version can win.
func (m *machine) entered(version int) bool {
	return version == 0 || m.Candidates[version-1].Dropped == ""
}

// compared is what a version did, as the versions are compared.
func (m *machine) compared(version int) analysis.Side {
	switch {
	case !m.ByUser:
		return m.seen(version)
	case version == 0:
		return m.StableUsers
	}
	return m.Candidates[version-1].Users
}

// contest lets each pair of versions that have traffic compete; stable is what
// that did since the last look.
func (m *machine) contest(stable *analysis.Samples) {
	if m.plan.Metric == "" || m.Began.IsZero() {
		return
	}
	observe, sideOf := analysis.Contest.Observe, requestsOf
	if m.ByUser {
		observe, sideOf = analysis.Contest.ObserveUsers, usersOf
	}
	shares := m.shares()
	look := make([]analysis.Side, m.versions())
	part := append(shares[:0:0], left(shares))
	part = append(part, shares...)
	look[0] = sideOf(stable, true)
	for i := range m.Candidates {
		look[i+1] = sideOf(&m.in.Candidates[i].Samples, false)
	}
	for i := range look {
		for j := i + 1; j < len(look); j++ {
			if part[i] == 0 || part[j] == 0 || !m.warm(i) || !m.warm(j) {
				continue
			}
			c := &m.Contests[m.pair(i, j)]
			*c = observe(*c, m.plan.Metric, look[i], look[j], m.seen(i).Add(m.seen(j)), among(part[i], part[j]))
		}
	}
}

// warm reports whether a version's durations are compared: not while its
// processes are fresh. It does not depend on how long requests took.
func (m *machine) warm(version int) bool {
	return m.plan.Metric == analysis.ErrorRate || version == 0 ||
		m.in.Now.Sub(m.Began) >= m.plan.Policy.Warmup && m.Candidates[version-1].Seen.Requests >= m.plan.Policy.WarmupRequests
}

// Showing is the evidence that one version is better than another one, in the
// plan's metric.
type Showing struct {
	Better string `json:"better"`
	Than   string `json:"than"`
	// LogE is the natural logarithm of the e-value, at its highest so far. At
	// Limit it is shown.
	LogE  float64 `json:"logE"`
	Limit float64 `json:"limit"`
}

// Showings are those of each version over each other one, with stable first;
// none where nothing is chosen.
func (s State) Showings(p *Plan) []Showing {
	if len(s.Contests) == 0 || p.Metric == "" {
		return nil
	}
	m := machine{State: s, plan: *p}
	var out []Showing
	for i := range m.versions() {
		for j := range m.versions() {
			if i != j {
				out = append(out, Showing{m.name(i), m.name(j), m.logE(i, j), m.limit()})
			}
		}
	}
	return out
}

// logE is the evidence that version i is better than version j.
func (m *machine) logE(i, j int) float64 {
	if i < j {
		logE, _ := m.Contests[m.pair(i, j)].LogE()
		return logE
	}
	_, logE := m.Contests[m.pair(j, i)].LogE()
	return logE
}

// limit is what the evidence has to reach.
func (m *machine) limit() float64 {
	return math.Log(float64(m.versions()) / m.plan.Policy.FalseAlarm)
}

// beats reports whether version i was shown to be better than version j.
func (m *machine) beats(i, j int) bool { return m.logE(i, j) >= m.limit() }

// conclude ends an experiment that ran its time, or has no candidate left.
func (m *machine) conclude() {
	switch {
	case m.alive() == 0:
		m.end(AllDropped, "no candidate is left: stable serves all users")
	case m.plan.Metric == "":
		m.end(Compared, m.summary())
	default:
		m.choose()
	}
}

// summary says what the judge found of each candidate.
func (m *machine) summary() string {
	var passed, unsure, dropped []string
	for _, c := range m.Candidates {
		switch {
		case c.Dropped != "":
			dropped = append(dropped, c.Name)
		case c.Evidence.Verdict == analysis.Pass:
			passed = append(passed, c.Name)
		default:
			unsure = append(unsure, c.Name)
		}
	}
	text := fmt.Sprintf("compared for %v", m.plan.Duration)
	for _, group := range []struct {
		title string
		names []string
	}{{"good enough for everybody", passed}, {"not enough evidence", unsure}, {"dropped", dropped}} {
		if len(group.names) > 0 {
			text += "; " + group.title + ": " + list(group.names)
		}
	}
	return text
}

func (m *machine) choose() {
	for i := range m.versions() {
		if !m.entered(i) {
			continue
		}
		var over []string
		for j := range m.versions() {
			if j != i && m.entered(j) && m.beats(i, j) && !m.beats(j, i) {
				over = append(over, m.value(j))
			}
		}
		if len(over) != m.alive() { // all others: stable and the candidates but one
			continue
		}
		m.Winner = m.name(i)
		why := fmt.Sprintf("%s is the best: %s, %s, with a chance of error below %v", m.Winner, m.value(i), list(over), m.plan.Policy.FalseAlarm)
		if i > 0 && m.plan.Promote {
			e := m.Candidates[i-1].Evidence
			if m.Promote = e.Verdict == analysis.Pass; !m.Promote {
				why += "; it is not promoted, as the judge did not pass it: " + e.Reason
			}
		}
		m.end(Chosen, why)
		return
	}
	m.end(NoDifference, m.undecided())
}

// uncompared says why the durations of versions i and j were not compared;
// "" = they were. Failures always are.
func (m *machine) uncompared(i, j int) string {
	policy := &m.plan.Policy
	if m.plan.Metric == analysis.ErrorRate || m.Contests[m.pair(min(i, j), max(i, j))].Requests() > 0 {
		return ""
	}
	for _, v := range []int{i, j} {
		switch n := m.seen(v).Requests; {
		case n == 0:
			return m.name(v) + " had no requests"
		case v > 0 && n <= policy.WarmupRequests:
			return fmt.Sprintf("%s answered %d requests, and they count after the first %d", m.name(v), n, policy.WarmupRequests)
		}
	}
	switch {
	case policy.Warmup <= 0:
		return "there were too few requests"
	case m.plan.Duration <= policy.Warmup:
		return fmt.Sprintf("the experiment lasted %v, and fresh processes have %v to warm up", m.plan.Duration, policy.Warmup)
	}
	return fmt.Sprintf("too few requests came after the first %v, in which fresh processes warm up", policy.Warmup)
}

// undecided says between which versions there was no difference to be found:
// the one that looks best, and those that it was not shown to be better than;
// and which of them it was not compared with.
func (m *machine) undecided() string {
	lead := 0
	for i := range m.versions() {
		if m.entered(i) && m.measure(i) < m.measure(lead) {
			lead = i
		}
	}
	var same, parts []string
	for j := range m.versions() {
		if j == lead || !m.entered(j) || m.beats(lead, j) && !m.beats(j, lead) {
			continue
		}
		if why := m.uncompared(lead, j); why != "" {
			parts = append(parts, fmt.Sprintf("durations of %s and %s were not compared: %s", m.name(lead), m.name(j), why))
			continue
		}
		same = append(same, m.value(j))
	}
	if len(same) > 0 {
		parts = slices.Insert(parts, 0, fmt.Sprintf("no difference was found between %s and %s", m.value(lead), list(same)))
	}
	return strings.Join(parts, "; ")
}

// measure is what a version did in the metric; a version without requests
// leads nothing.
func (m *machine) measure(version int) float64 {
	s := m.compared(version)
	if s.Requests == 0 {
		return math.Inf(1)
	}
	rank, _ := analysis.ContestRank(m.plan.Metric)
	if rank == 0 {
		return float64(s.Failures) / float64(s.Requests)
	}
	return float64(s.Latency.Quantile(rank)) / float64(time.Millisecond)
}

// value says what a version did in the metric.
func (m *machine) value(version int) string {
	s := m.compared(version)
	failures, requests := "failures", "requests"
	if m.ByUser {
		failures, requests = "who met a failure", "users"
	}
	switch {
	case s.Requests == 0:
		return m.name(version) + " without " + requests
	case m.plan.Metric == analysis.ErrorRate:
		return fmt.Sprintf("%s with %d %s of %d %s", m.name(version), s.Failures, failures, s.Requests, requests)
	}
	return fmt.Sprintf("%s with %s %.3g ms of %d %s", m.name(version), m.plan.Metric, m.measure(version), s.Requests, requests)
}
