package controller

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

// Who waits for the condition Promoted goes on when the newest version has all
// users, and at no other end of a run.
func TestPromotedTellsOfTheNewestVersion(t *testing.T) {
	for _, c := range []struct {
		what   string
		state  rollout.State
		target string // revision; "" = there is none
		want   string
	}{
		{"not looked at", rollout.State{}, "r1", "Unknown Initializing"},
		{"initializing", rollout.State{Phase: rollout.Initializing, Stable: "r1"}, "r1", "Unknown Initializing"},
		{"no run yet", ended("r1", 0, "", ""), "r1", "True Initialized"},
		{"no run and no target", ended("r1", 0, "", ""), "", "True Initialized"},
		{"a run", rollout.State{Phase: rollout.Progressing, Stable: "r1", Canary: "r2", Run: rollout.Run{Number: 2}}, "r2", "Unknown Progressing"},
		{"the target is deleted in a run", rollout.State{Phase: rollout.RollingBack, Stable: "r1", Canary: "r2", Rejected: "r2", Run: rollout.Run{Number: 2}}, "", "Unknown RollingBack"},
		{"promoted", ended("r2", 1, rollout.Promoted, ""), "r2", "True Promoted"},
		{"promoted, then deleted", ended("r2", 1, rollout.Promoted, ""), "", "True Promoted"},
		{"promoted, and a newer one waits", ended("r2", 1, rollout.Promoted, ""), "r3", "Unknown Waiting"},
		{"rolled back", ended("r1", 1, rollout.RolledBack, "r2"), "r2", "False NotPromoted"},
		{"rolled back, then deleted", ended("r1", 1, rollout.RolledBack, ""), "", "False NotPromoted"},
		{"rolled back, then set back", ended("r1", 1, rollout.RolledBack, ""), "r1", "True Restored"},
		{"deleted in a run", ended("r1", 1, rollout.Aborted, ""), "", "False NotPromoted"},
		{"deleted in a run, and made again as it was before", ended("r1", 1, rollout.Aborted, ""), "r1", "True Restored"},
		{"superseded, and the newer one is next", ended("r1", 1, rollout.Superseded, ""), "r3", "Unknown Waiting"},
		{"a person went back", ended("r1", 2, rollout.Reverted, "r2"), "r2", "False NotPromoted"},
	} {
		out := &v1alpha1.ReleaseStatus{}
		target := &kube.Workload{Exists: c.target != "", Revision: c.target}
		setPromoted(out, &c.state, target, func(s string) string { return s }, 1, time.Unix(0, 0))
		got := meta.FindStatusCondition(out.Conditions, v1alpha1.ConditionPromoted)
		if is := string(got.Status) + " " + got.Reason; is != c.want {
			t.Errorf("%s: Promoted is %s (%s), want %s", c.what, is, got.Message, c.want)
		}
	}
}

// ended is an idle release after that many runs.
func ended(stable rollout.Revision, runs int64, last rollout.Outcome, rejected rollout.Revision) rollout.State {
	return rollout.State{Phase: rollout.Idle, Stable: stable, Rejected: rejected, Run: rollout.Run{Number: runs, Outcome: last}}
}
