package experiment

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
)

// Step moves an experiment forward by one observation. The state that is given
// stays as it is.
func Step(p Plan, s State, in Input) (State, []Event) {
	s.Candidates, s.Contests = slices.Clone(s.Candidates), slices.Clone(s.Contests)
	in.Now = in.Now.UTC().Round(0) // as it is after a trip through JSON
	m := &machine{plan: p, State: s, in: in}
	m.keepTime()
	if m.Phase == "" {
		m.enter(Waiting)
	}
	switch m.Phase {
	case Waiting:
		m.waiting()
	case Starting:
		m.starting()
	case Running:
		m.running()
	case Restoring:
		m.restoring()
	case Promoting:
		m.promoting()
	case Removing:
		m.removing()
	case Finished, "":
	}
	if m.Phase != Finished {
		m.At = in.Now
	}
	return m.State, m.events
}

// machine is one step under way.
type machine struct {
	State
	plan   Plan
	in     Input
	gap    time.Duration // since the last look
	events []Event
}

func (m *machine) tell(warning bool, reason, format string, args ...any) {
	m.events = append(m.events, Event{warning, reason, fmt.Sprintf(format, args...)})
}

// enter begins a phase, whose wait for others has a deadline.
func (m *machine) enter(p Phase) {
	m.Phase, m.Since, m.Deadline = p, m.in.Now, m.in.Now.Add(m.plan.Deadline)
}

// late reports whether the present wait is over. One that began in a process
// that is gone has its deadline all the same.
func (m *machine) late() bool { return !m.Deadline.IsZero() && !m.in.Now.Before(m.Deadline) }

func (m *machine) waiting() {
	switch {
	case m.in.Cancel != "":
		m.finish(Cancelled, m.in.Cancel)
	case m.in.Blocked == "":
		m.begin()
	case m.late():
		m.finish(NotStarted, fmt.Sprintf("nothing was begun: for %v %s", m.plan.Deadline, m.in.Blocked))
	default:
		m.Reason = "waiting: " + m.in.Blocked
	}
}

func (m *machine) begin() {
	m.enter(Starting)
	m.Target = m.in.Target
	m.Candidates = make([]Candidate, len(m.plan.Candidates))
	for i, c := range m.plan.Candidates {
		m.Candidates[i].Name = c.Name
	}
	if m.plan.Metric != "" {
		k := len(m.Candidates) + 1
		m.Contests = make([]analysis.Contest, k*(k-1)/2)
	}
	m.Reason = "waiting for the candidates' pods"
	m.tell(false, "ExperimentStarted", "to be compared with the running version: %s", list(m.Names()))
}

func (m *machine) starting() {
	if m.interrupted() {
		return
	}
	var missing []string
	for i := range m.Candidates {
		if c := &m.Candidates[i]; c.Dropped == "" && !m.in.Candidates[i].Ready {
			if m.late() {
				m.drop(i, fmt.Sprintf("its pods did not get ready within %v: %s", m.plan.Deadline, m.in.Candidates[i].Message))
				continue
			}
			missing = append(missing, c.Name+": "+m.in.Candidates[i].Message)
		}
	}
	switch {
	case len(missing) > 0:
		m.Reason = "waiting for " + strings.Join(missing, "; ")
	case m.alive() == 0:
		m.conclude()
	default:
		m.enter(Running)
		for i := range m.Candidates {
			if m.Candidates[i].Dropped == "" {
				m.Candidates[i].Share = m.plan.Candidates[i].Share
			}
		}
		m.split()
		m.Reason = "waiting for the proxies to apply the shares"
	}
}

func (m *machine) running() {
	for i := range m.Candidates { // those that were dropped in an earlier step
		c := &m.Candidates[i]
		c.Gone = c.Gone || c.Dropped != "" && m.in.Unacked == ""
	}
	if m.interrupted() { // nothing is judged any more, so there need be no plan
		return
	}
	m.observe()
	m.giveBack()
	switch {
	case m.alive() == 0:
		m.conclude()
		return
	case m.in.Unacked == "":
		m.Deadline = time.Time{}
		if m.Began.IsZero() {
			m.Began, m.Ends = m.in.Now, m.in.Now.Add(m.plan.Duration)
			m.tell(false, "TrafficSplit", "every proxy has the shares: %s", m.sharesText())
		}
	case m.Deadline.IsZero(): // such as after a restart
		m.Deadline = m.in.Now.Add(m.plan.Deadline)
	case m.late():
		m.end(Failed, fmt.Sprintf("the shares were not in effect within %v: %s", m.plan.Deadline, m.in.Unacked))
		return
	}
	switch {
	case !m.Ends.IsZero() && !m.in.Now.Before(m.Ends):
		m.conclude()
	case m.in.Unacked != "":
		m.Reason = "waiting: " + m.in.Unacked
	default:
		m.Reason = fmt.Sprintf("%d of %d candidates are compared with stable", m.alive(), len(m.Candidates))
	}
}

// keepTime lets waits be as long as they were when the clock was set back, and
// when nobody looked. It leaves m.gap, the time since the last look.
func (m *machine) keepTime() {
	if m.At.IsZero() {
		return
	}
	if m.gap = m.in.Now.Sub(m.At); m.gap < 0 {
		m.setBack(-m.gap)
		m.gap = 0
	}
	if missed := m.gap - rollout.LongestGap; missed > 0 && !m.Deadline.IsZero() {
		m.Deadline = m.Deadline.Add(missed)
	}
}

// setBack takes the state's times back with the clock.
func (m *machine) setBack(by time.Duration) {
	for _, t := range []*time.Time{&m.Since, &m.Deadline, &m.Began, &m.Ends} {
		if !t.IsZero() {
			*t = t.Add(-by)
		}
	}
	for i := range m.Candidates {
		m.Candidates[i].Judge = m.Candidates[i].Judge.SetBack(by)
	}
}

// giveBack gives back to the candidates what does not count of their time:
// while the shares were not in effect, and while nobody looked.
func (m *machine) giveBack() {
	slept := m.in.Resumed || m.gap > rollout.LongestGap
	if m.Ends.IsZero() || !slept && m.in.Unacked == "" {
		return
	}
	m.Ends = m.Ends.Add(m.gap)
	if slept {
		m.tell(false, "ExperimentResumed", "for %v nobody counted the candidates' requests: they get as much time in addition", m.gap.Round(time.Second))
	}
}

// observe lets each judge look, and drops the candidates that were found worse.
func (m *machine) observe() {
	stable := &analysis.Samples{}
	for i := range m.Candidates {
		if m.Candidates[i].Share > 0 { // each of them has stable's, so one is enough
			stable = &m.in.Candidates[i].Samples
			break
		}
	}
	m.compareUsers()
	m.contest(stable)
	m.Stable = m.Stable.Add(requestsOf(stable, true))
	m.StableUsers = m.StableUsers.Add(m.metBy(stable, true))
	policy, dropped := m.plan.policy(), false
	for i := range m.Candidates {
		c := &m.Candidates[i]
		if c.Share == 0 {
			continue
		}
		seen := m.in.Candidates[i].Samples
		c.Seen = c.Seen.Add(requestsOf(&seen, false))
		c.Users = c.Users.Add(m.metBy(&seen, false))
		c.Judge = c.Judge.Observe(policy, seen, m.in.Now)
		c.Evidence = c.Judge.Decide(policy, 1)
		if c.Evidence.Verdict == analysis.Fail {
			m.drop(i, c.Evidence.Reason)
			dropped = true
		}
	}
	if dropped && m.alive() > 0 {
		m.split()
	}
}

// compareUsers begins to compare by users when they are seen to stay with a
// version. Before, or when another process begins to count, they are none that
// were seen.
func (m *machine) compareUsers() {
	byUser := slices.ContainsFunc(m.in.Candidates, func(o Observed) bool { return o.Samples.ByUser })
	if byUser && !m.ByUser || m.ByUser && m.in.Resumed {
		for i := range m.Contests {
			m.Contests[i] = m.Contests[i].EndBlock(m.plan.Metric)
		}
	}
	m.ByUser = m.ByUser || byUser
}

// requestsOf is what stable, or the candidate, did in the samples of one candidate.
func requestsOf(s *analysis.Samples, stable bool) analysis.Side {
	if stable {
		return analysis.Side{Requests: s.StableRequests, Failures: s.StableFailures, Latency: s.StableLatency}
	}
	return analysis.Side{Requests: s.CanaryRequests, Failures: s.CanaryFailures, Latency: s.CanaryLatency}
}

// usersOf is what users who stay with stable, or the candidate, say that is new,
// as a contest is told it.
func usersOf(s *analysis.Samples, stable bool) analysis.Side {
	u := s.NewUsers()
	if stable {
		return analysis.Side{Requests: u.StableRequests, Failures: u.StableFailures, Latency: u.StableLatency}
	}
	return analysis.Side{Requests: u.CanaryRequests, Failures: u.CanaryFailures, Latency: u.CanaryLatency}
}

// metBy is what is added to the users of stable, or of the candidate.
func (m *machine) metBy(s *analysis.Samples, stable bool) analysis.Side {
	if !m.ByUser {
		return analysis.Side{}
	}
	side, u := usersOf(s, stable), s.NewUsers()
	side.Requests = u.Canary.Users // once in the whole experiment
	if stable {
		side.Requests = u.Stable.Users
	}
	return side
}

func (m *machine) drop(i int, why string) {
	c := &m.Candidates[i]
	c.Share, c.Dropped = 0, why
	m.tell(true, "CandidateDropped", "%s gets no traffic any more: %s", c.Name, why)
}

// split tells the judges that other shares are asked for: stable has those of
// the candidates that were dropped.
func (m *machine) split() {
	m.Deadline = m.in.Now.Add(m.plan.Deadline)
	policy := m.plan.policy()
	for i := range m.Candidates {
		if c := &m.Candidates[i]; c.Share > 0 {
			c.Judge = c.Judge.NextStep(policy, among(c.Share, left(m.shares())), m.in.Now)
			c.Evidence = c.Judge.Decide(policy, 1)
		}
	}
	for i := range m.Contests {
		m.Contests[i] = m.Contests[i].EndBlock(m.plan.Metric)
	}
}

// among is the part that one share is of two together.
func among(one, other rollout.Share) float64 {
	return float64(one) / float64(one+other)
}

// interrupted ends an experiment that somebody ended, or that makes no sense
// any more: what serves users now is another version than that which the
// candidates were compared with, or is about to be.
func (m *machine) interrupted() bool {
	why := m.in.Cancel
	if why == "" && m.in.Target != m.Target {
		why = "the target was changed while the experiment was on"
	}
	if why == "" {
		return false
	}
	m.end(Cancelled, why)
	return true
}

// end takes the traffic back.
func (m *machine) end(o Outcome, why string) {
	m.Outcome, m.Why = o, why
	m.tell(o == AllDropped || o == Failed, "ExperimentDecided", "%s", why)
	for i := range m.Candidates {
		m.Candidates[i].Share = 0
	}
	m.enter(Restoring)
	m.Reason = "waiting for the proxies to send all traffic to stable"
}

func (m *machine) restoring() {
	switch {
	case m.in.Unacked == "":
	case m.late():
		m.tell(true, "NotAcknowledged", "proxies did not acknowledge within %v that the candidates have no traffic: their pods are removed all the same", m.plan.Deadline)
	default:
		return
	}
	if m.Promote && m.in.Cancel == "" {
		m.enter(Promoting)
		m.Reason = "giving the target the template of " + m.Winner
		return
	}
	m.remove()
}

func (m *machine) promoting() {
	switch {
	case m.in.Promoted:
		m.tell(false, "WinnerPromoted", "the target has the template of %s", m.Winner)
	case m.in.Cancel != "" || m.late():
		m.Promote = false
		m.Why += "; the target did not get its template"
		m.tell(true, "NotPromoted", "the target did not get the template of %s", m.Winner)
	default:
		return
	}
	m.remove()
}

func (m *machine) remove() {
	m.enter(Removing)
	m.Reason = "removing the candidates' pods"
}

func (m *machine) removing() {
	if m.in.Removed || m.late() {
		m.finish(m.Outcome, m.Why)
	}
}

func (m *machine) finish(o Outcome, why string) {
	m.enter(Finished)
	m.Deadline, m.Ended = time.Time{}, m.in.Now
	m.Outcome, m.Why, m.Reason = o, why, why
	m.tell(o == NotStarted, "ExperimentFinished", "%s", why)
}

// alive counts the candidates that were not dropped.
func (m *machine) alive() int {
	n := 0
	for _, c := range m.Candidates {
		if c.Dropped == "" {
			n++
		}
	}
	return n
}

func (m *machine) sharesText() string {
	shares := m.shares()
	parts := []string{Stable + " " + left(shares).String()}
	for i, c := range m.Candidates {
		parts = append(parts, c.Name+" "+shares[i].String())
	}
	return strings.Join(parts, ", ")
}

// list joins names as people do: "a", "a and b", "a, b and c".
func list(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
