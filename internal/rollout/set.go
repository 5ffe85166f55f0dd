package rollout

import (
	"fmt"
	"strings"
	"time"
)

// A set is several releases with one verdict. Their runs go side by side; none
// promotes its version before all have judged theirs good, and when one of them
// takes its version back, all do: those whose run is on end it, and those that
// were promoted meanwhile go back to the version before. There is nobody above
// them who decides: each looks at the standing of the others, which tells it all
// that it has to know, so that it does not matter in which order they look.

// Standing is how far a release is with its newest version, as the others of
// its set have to know it.
type Standing string

// The standings. A standing that is not known is Behind.
const (
	// Behind: its newest version is to be released, or is being judged.
	Behind Standing = "Behind"
	// Passed: its version has all that it needs but the others', or is being
	// promoted.
	Passed Standing = "Passed"
	// Settled: nothing is new; its newest version serves all users.
	Settled Standing = "Settled"
	// Failed: its newest version was taken back, on its own account.
	Failed Standing = "Failed"
)

// Member is another release of the set.
type Member struct {
	Name     string
	Standing Standing
	Why      string // in one line; without figures that change at every look
	// Started is when its present or last run began, Decided when the outcome
	// of that was; zero = not yet.
	Started, Decided time.Time
}

// Member tells the others of a set how far a release is whose target has that
// revision.
func (s *State) Member(name string, target Revision) Member {
	m := Member{Name: name, Started: s.Run.Started, Decided: s.Run.Decided}
	m.Standing, m.Why = s.standing(target)
	return m
}

func (s *State) standing(target Revision) (Standing, string) {
	if s.Passed {
		return Passed, ""
	}
	switch s.Phase {
	case Initializing, "":
		return Behind, "its stable copy is being made"
	case Starting:
		return Behind, "its run starts"
	case Testing:
		return Behind, "it is tested"
	case Progressing:
		return Behind, fmt.Sprintf("it is at step %d", s.Step)
	case Promoting, Finalizing:
		return Passed, ""
	case RollingBack, Idle:
	}
	switch {
	case target == s.Rejected && target != "" && s.Run.BySet == "":
		if s.Run.To != target && s.Run.Outcome != Reverted {
			return Failed, "it was aborted before its run" // the last run is that of another
		}
		return Failed, s.Run.Reason
	case s.Phase == RollingBack:
		return Behind, "its version is being taken back"
	case target == s.Rejected && target != "":
		return Behind, "its version was taken back with that of " + s.Run.BySet
	case target == s.Stable || target == "":
		return Settled, ""
	}
	return Behind, "its newest version is to be released"
}

// Verdict is the one that the members of a set have in common: Failed when one
// of them failed, Settled when all are, Passed when each that is not has passed,
// otherwise Behind.
func Verdict(members []Member) Standing {
	out := Settled
	for _, m := range members {
		switch m.Standing {
		case Failed:
			return Failed
		case Settled:
		case Passed:
			if out == Settled {
				out = Passed
			}
		case Behind:
			out = Behind
		default:
			out = Behind
		}
	}
	return out
}

// failed is the first member whose newest version was taken back; nil = none.
func (in *Input) failed() *Member {
	for i := range in.Set {
		if in.Set[i].Standing == Failed {
			return &in.Set[i]
		}
	}
	return nil
}

// heed takes the version back with one of another member. What failed before
// this run began is none of its business, nor is what began after it was
// promoted.
func (r *step) heed() {
	s := &r.s
	for _, m := range r.in.Set {
		if m.Standing != Failed || !m.Decided.After(s.Run.Started) {
			continue
		}
		reason := fmt.Sprintf("%s of the same set was taken back: %s", m.Name, m.Why)
		switch s.Phase {
		case Starting, Testing, Progressing, Promoting, Finalizing:
			s.Run.BySet = m.Name
			r.rollBack(RolledBack, reason)
			return
		case Idle:
			together := s.Run.Outcome == Promoted && m.Started.Before(s.Run.Decided) && m.Decided.After(s.Run.Decided)
			if together && s.Previous != "" && s.Previous != s.Stable {
				r.revert(reason)
				s.Run.BySet = m.Name
				return
			}
		case Initializing, RollingBack:
			return
		}
	}
}

// together reports whether all others of the set have passed, too. If not, it
// says who has not.
func (r *step) together() bool {
	var waits []string
	for _, m := range r.in.Set {
		switch m.Standing {
		case Passed, Settled:
		case Failed:
			waits = append(waits, fmt.Sprintf("%s (its newest version was taken back)", m.Name))
		case Behind:
			waits = append(waits, fmt.Sprintf("%s (%s)", m.Name, m.Why))
		default:
			waits = append(waits, m.Name)
		}
	}
	if len(waits) == 0 {
		return true
	}
	r.s.Passed = true
	r.wait(WaitPerson, "good; before promotion: waiting for the others of the set: %s", strings.Join(waits, ", "))
	return false
}
