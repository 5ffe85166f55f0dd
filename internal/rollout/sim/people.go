package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/internal/rollout"
)

// server answers the user's hooks. It is called at least once per call, and
// takes the ID as idempotency key, as a payment would.
type server struct {
	done map[string]bool // calls that had an effect, by ID: what they answered
	runs []string        // the effects, in order
}

// call is one that an engine has under way.
type call struct {
	id  string
	due time.Time
}

// answerCall is what the hook says to a call, and whether it says anything.
func (w *world) answerCall(c rollout.HookCall) (rollout.HookResult, bool) {
	ok, known := w.server.done[c.ID]
	if !known {
		if w.rand.Float64() < w.Hooks.Silent {
			return rollout.HookResult{}, false
		}
		switch c.Type {
		case rollout.HookRollback:
			ok = w.rand.Float64() < w.Hooks.Panics
		case rollout.HookConfirmRollout, rollout.HookConfirmTrafficIncrease, rollout.HookConfirmPromotion:
			ok = w.rand.Float64() >= w.Hooks.SaysNo
		case rollout.HookPreRollout, rollout.HookRollout, rollout.HookPostRollout, rollout.HookEvent:
			ok = w.rand.Float64() >= w.Hooks.Fails
		}
		w.server.done[c.ID] = ok
		w.server.runs = append(w.server.runs, c.ID)
	}
	return rollout.HookResult{ID: c.ID, OK: ok, Reason: "it says so"}, true
}

// twice returns a once-only effect that happened twice; "" = none did.
// Pre-rollout hooks succeed once in a run, post-rollout hooks are called once.
func (w *world) twice() string {
	seen := map[string]bool{}
	for _, id := range w.server.runs {
		what := id[:strings.LastIndex(id, "/")]
		once := strings.Contains(id, "/post-rollout/") || strings.Contains(id, "/pre-rollout/") && w.server.done[id]
		if once && seen[what] {
			return what
		}
		seen[what] = seen[what] || once
	}
	return ""
}

// missed returns the number of a run that ended without its post-rollout hook.
func (w *world) missed(runs []rollout.Run) (int64, bool) {
	if !slices.ContainsFunc(w.Plan.Hooks, func(h rollout.Hook) bool { return h.Type == rollout.HookPostRollout }) {
		return 0, false
	}
	for _, run := range runs {
		prefix := fmt.Sprintf("run-%d/post-rollout/", run.Number)
		if !slices.ContainsFunc(w.server.runs, func(id string) bool { return strings.HasPrefix(id, prefix) }) {
			return run.Number, true
		}
	}
	return 0, false
}

// people answer gates, some time after they are asked.
type people struct {
	approvals []rollout.Approval
}

// look lets a person see the release's status and answer.
func (w *world) look(s rollout.State) {
	if !w.chance(w.Gates.Answers) {
		return
	}
	for _, g := range s.Gates {
		if g.By != "" || g.Open {
			continue
		}
		a := rollout.Approval{ID: fmt.Sprint("answer-", len(w.people.approvals)), Gate: g.Gate, By: "alice", At: w.now}
		switch x := w.rand.Float64(); {
		case x < w.Gates.Rejects:
			a.Reject = true
		case x < w.Gates.Rejects+w.Gates.Strangers:
			a.By = "eve"
		}
		w.people.approvals = append(w.people.approvals, a)
		return
	}
}
