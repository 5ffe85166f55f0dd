package rollout

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"serin.dev/serin/internal/analysis"
)

// TestASetHasOneVerdict releases sets of three in worlds of all kinds: members
// start and pass at different times, one may be bad and found so at any time,
// even after the others were promoted, processes die, and a person may abort.
// When all is quiet either all members have the new version or none has: none
// if one was taken back, and then the others try theirs again with its next.
func TestASetHasOneVerdict(t *testing.T) {
	sets := 80
	if testing.Short() {
		sets = 30
	}
	var promoted, back, reverted int
	for seed := range sets {
		w := newSetWorld(uint64(seed))
		bad := w.r.IntN(6) // 3 and more: none
		w.play(t, bad, "v2")
		news := 0
		for _, m := range w.members {
			if m.state.Stable == "v2" {
				news++
			}
			if m.state.Run.Outcome == Reverted {
				reverted++
			}
		}
		switch {
		case w.failed && news != 0, !w.failed && news != 3:
			t.Fatalf("set %d: %d of 3 members have the new version; one was taken back: %v\n%s", seed, news, w.failed, w)
		case news == 3:
			promoted++
		default:
			back++
			w.mend(t, seed)
		}
	}
	if promoted < sets/10 || back < sets/10 || reverted == 0 {
		t.Errorf("%d sets were promoted, %d taken back, with %d members that were promoted before; want some of each", promoted, back, reverted)
	}
	t.Logf("%d promoted, %d taken back, %d members reverted", promoted, back, reverted)
}

// setWorld is three releases of a set whose worlds follow at once, each looked
// at when chance will have it.
type setWorld struct {
	r       *rand.Rand
	now     time.Time
	members [3]*setMember
	failed  bool // one was found to be bad, or aborted
}

type setMember struct {
	name    string
	plan    Plan
	state   State
	stored  State
	target  Revision
	command Command
	failsAt int  // look of the run from which on it fails; 0 = never
	late    bool // it fails when the others may well be promoted, at the earliest
	looks   int
}

func newSetWorld(seed uint64) *setWorld {
	w := &setWorld{r: rand.New(rand.NewPCG(seed, 7)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	for i := range w.members {
		p := newPlayer(nil).plan
		p.Steps = [][]Share{{50 * Percent}, {10 * Percent, 50 * Percent}}[w.r.IntN(2)]
		p.Hold = time.Duration(w.r.IntN(10)) * time.Second
		p.Policy.Tolerance = 0
		if w.r.IntN(2) == 0 {
			p.KeepWarm = 10 * time.Minute
		}
		if w.r.IntN(2) == 0 {
			p.PromotionSteps = []Share{80 * Percent}
		}
		w.members[i] = &setMember{name: fmt.Sprint("m", i), plan: p, target: "v1"}
	}
	for range 20 {
		w.round(nil)
	}
	return w
}

// play gives each member a new version at about the same time, and looks until
// nothing changes any more.
func (w *setWorld) play(t *testing.T, bad int, version Revision) {
	for i, m := range w.members {
		m.target, m.looks, m.failsAt, m.late = version, 0, 0, w.r.IntN(2) == 0
		if i == bad {
			m.failsAt = 1 + w.r.IntN(8) // nobody may see it, when that is too late
			if m.late {
				m.plan.Hold, m.plan.PromotionSteps = 10*time.Second, []Share{80 * Percent}
			}
		}
	}
	abort := -1
	if w.r.IntN(8) == 0 {
		abort = w.r.IntN(15)
	}
	for i := range 80 {
		if i == abort {
			m := w.members[w.r.IntN(3)]
			switch m.state.Phase {
			case Starting, Testing, Progressing:
				w.failed = true
				m.command = Command{ID: fmt.Sprint(w.now.Unix()), Verb: Abort}
			case Initializing, Idle, Promoting, Finalizing, RollingBack:
			}
		}
		w.round(t)
	}
}

// mend gives the member that was at fault a version that is good: the others
// try theirs again by themselves.
func (w *setWorld) mend(t *testing.T, seed int) {
	for _, m := range w.members {
		m.failsAt = 0
		if m.state.Run.BySet == "" {
			m.target = "v3"
		}
	}
	for range 80 {
		w.round(t)
	}
	for _, m := range w.members {
		if m.state.Stable != m.target {
			t.Fatalf("set %d: mended, %s does not get %s:\n%s", seed, m.name, m.target, w)
		}
	}
}

// round looks at some of the members, in any order; nil = without its rules
// being checked.
func (w *setWorld) round(t *testing.T) {
	w.now = w.now.Add(time.Second)
	for _, i := range w.r.Perm(3) {
		if w.r.IntN(4) > 0 {
			w.look(t, w.members[i])
		}
	}
}

func (w *setWorld) look(t *testing.T, m *setMember) {
	if w.r.IntN(50) == 0 { // the process died
		m.state = m.stored
	}
	want := m.stored.Want()
	in := Input{
		Now: w.now.Add(time.Duration(w.r.IntN(1000)) * time.Millisecond), Command: m.command,
		Target: Workload{Revision: m.target, Ready: want.CanaryScaled},
		Stable: Workload{Revision: want.StableRevision, Ready: want.StableRevision != ""},
		Warm:   Workload{Revision: want.Warm, Ready: want.Warm != ""},
		Ack:    Ack{OK: want.Split, Traffic: want.Traffic, Since: m.stored.Asked},
		Served: 1, Arrived: 1,
	}
	if m.state.judged() {
		m.looks++
		in.Samples.Counts = analysis.Counts{CanaryRequests: 50, StableRequests: 50}
		if m.failsAt > 0 && m.looks >= m.failsAt && (!m.late || m.state.Phase == Promoting && m.state.Part > 0 && w.now.Sub(m.state.Acked) > 5*time.Second) {
			in.Samples.CanaryFailures = 50
		}
	}
	for _, o := range w.members {
		if o != m {
			in.Set = append(in.Set, o.state.Member(o.name, o.target))
		}
	}
	next, events := Step(m.plan, m.state, in)
	if t != nil {
		checkStep(t, m.plan, m.state, next, in, events)
	}
	if m.state.MustWrite(next) {
		m.stored = next
	}
	w.failed = w.failed || next.Run.Failed
	m.state = next
}

func (w *setWorld) String() string {
	out := ""
	for _, m := range w.members {
		out += fmt.Sprintf("%s: stable %s, target %s, %s: %s (%s, last run: %s)\n",
			m.name, m.state.Stable, m.target, m.state.Phase, m.state.Reason, m.state.Run.Outcome, m.state.Run.Reason)
	}
	return out
}
