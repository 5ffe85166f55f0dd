package controller

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
	"serin.dev/serin/test/story"
)

// recorded compares text with what a file of testdata holds.
func recorded(t *testing.T, name, got string) {
	t.Helper()
	story.File(t, filepath.Join("testdata", name), got)
}

// midRun is a release at its second step, with a failed request.
func midRun(t *testing.T) (*kube.Delivery, *delivery) {
	t.Helper()
	r := &v1alpha1.Release{Spec: *spec(t, goodSpec+`
webhooks:
- {name: load, type: rollout, url: "http://tester/", metadata: {cmd: hey}}
- {name: load, type: event, url: "http://tester/", metadata: {team: music}}
- {name: clean, type: post-rollout, url: "http://tester/"}
- {name: panic, type: rollback, url: "http://tester/"}
- {name: lead, type: confirm-promotion, url: "http://tester/"}
`)}
	r.Name, r.Namespace, r.UID = "music", "default", "0b1"
	plan, err := planOf(&r.Spec)
	if err != nil {
		t.Fatal(err)
	}
	evidence := analysis.Evidence{
		Verdict: analysis.Collecting, FalseAlarm: 0.001, LogE: 2.25, Needed: 300, Cost: 1.2,
		Counts: analysis.Counts{CanaryRequests: 212, CanaryFailures: 2, StableRequests: 1900, StableFailures: 7},
		Reason: "collecting evidence: 212 of about 300 canary requests",
	}
	run := &delivery{plan: plan, journal: journal{
		From: v1alpha1.Version{Revision: "aaa", Label: "v1"},
		To:   v1alpha1.Version{Revision: "bbb", Label: "v2"},
		State: rollout.State{
			Phase: rollout.Progressing, Step: 2, Stable: "aaa", Canary: "bbb", Evidence: evidence,
			Traffic: rollout.Traffic{Share: 5000}, Split: true, Reason: "step 2 of 2 (50 %): collecting evidence",
			Run: rollout.Run{Number: 3, From: "aaa", To: "bbb", Evidence: evidence},
		},
	}}
	return &kube.Delivery{Release: r, Names: kube.NamesOf(r)}, run
}

func TestAHookIsToldWhereTheRunIsAndWhatTheJudgeSays(t *testing.T) {
	rel, run := midRun(t)
	var out strings.Builder
	for _, c := range []rollout.HookCall{
		{ID: "run-3/rollout/load/7", Type: rollout.HookRollout, Name: "load", Phase: rollout.Progressing, Revision: "bbb", Step: 2, Traffic: run.journal.State.Traffic},
		{ID: "run-3/event/load/8", Type: rollout.HookEvent, Name: "load", Phase: rollout.Progressing, Revision: "bbb", Step: 2, Event: &rollout.Event{
			Warning: true, Reason: "CheckFailed", Message: "revision bbb is slow", At: time.UnixMilli(1700000000123).UTC(),
			Run: 3, Phase: rollout.Progressing, Step: 1, Steps: 2, Traffic: rollout.Traffic{Share: 10, Match: true},
		}},
	} {
		o, err := new(Deliver).order(rel, run, c)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(o.key + "\n")
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, o.body, "", "  "); err != nil {
			t.Fatal(err)
		}
		out.WriteString(pretty.String() + "\n\n")
	}
	recorded(t, "payload.txt", out.String())
}

func TestAHookThatIsGoneIsNotCalled(t *testing.T) {
	rel, run := midRun(t)
	_, err := new(Deliver).order(rel, run, rollout.HookCall{Type: rollout.HookPreRollout, Name: "load"})
	if err == nil || !strings.Contains(err.Error(), "spec.webhooks has no load of type pre-rollout") {
		t.Errorf("error = %v, want one that names the hook", err)
	}
}

// What Flagger's receivers read is what Flagger would send.
func TestHooksOfACanaryAreSentFlaggersPhases(t *testing.T) {
	yes := true
	at := func(phase rollout.Phase, wait rollout.Wait) rollout.State {
		return rollout.State{Phase: phase, Wait: wait}
	}
	promotion := at(rollout.Progressing, rollout.WaitGate)
	promotion.Hooks = []rollout.Answer{{Type: rollout.HookConfirmPromotion, Name: "lead"}}
	gate := at(rollout.Progressing, rollout.WaitGate)
	gate.Gates = []rollout.Asked{{Gate: "qa", At: rollout.AtPromotion}}
	open := gate
	open.Gates = []rollout.Asked{{Gate: "qa", At: rollout.AtPromotion, Open: true}}
	ended := func(o rollout.Outcome) rollout.State {
		return rollout.State{Phase: rollout.Idle, Run: rollout.Run{Number: 1, Outcome: o}}
	}
	for _, c := range []struct {
		hook  rollout.HookType
		state rollout.State
		want  string
	}{
		{rollout.HookConfirmRollout, at(rollout.Starting, rollout.WaitGate), "Waiting"},
		{rollout.HookPreRollout, at(rollout.Starting, rollout.WaitOthers), "Progressing"},
		{rollout.HookRollout, at(rollout.Progressing, rollout.WaitEvidence), "Progressing"},
		{rollout.HookConfirmTrafficIncrease, at(rollout.Progressing, rollout.WaitGate), "Progressing"},
		{rollout.HookConfirmPromotion, promotion, "Progressing"},
		{rollout.HookRollback, at(rollout.Starting, rollout.WaitGate), "Waiting"},
		{rollout.HookRollback, at(rollout.Progressing, rollout.WaitGate), "Progressing"},
		{rollout.HookRollback, promotion, "WaitingPromotion"},
		{rollout.HookRollback, gate, "WaitingPromotion"},
		{rollout.HookRollback, open, "Progressing"},
		{rollout.HookPostRollout, ended(rollout.Promoted), "Succeeded"},
		{rollout.HookPostRollout, ended(rollout.Aborted), "Failed"},
		{rollout.HookEvent, at(rollout.Initializing, ""), "Initializing"},
		{rollout.HookEvent, at(rollout.Idle, ""), "Initialized"},
		{rollout.HookEvent, at(rollout.Promoting, ""), "Promoting"},
		{rollout.HookEvent, at(rollout.Finalizing, ""), "Finalising"},
		{rollout.HookEvent, at(rollout.RollingBack, ""), "Progressing"},
		{rollout.HookEvent, ended(rollout.Promoted), "Succeeded"},
		{rollout.HookEvent, ended(rollout.RolledBack), "Failed"},
	} {
		rel, run := midRun(t)
		rel.Release.OwnerReferences = []metav1.OwnerReference{{Kind: "Canary", Controller: &yes}}
		rel.Release.Spec.Webhooks = []v1alpha1.Webhook{{Name: "x", Type: string(c.hook), URL: "http://tester/"}}
		run.journal.State = c.state
		call := rollout.HookCall{Type: c.hook, Name: "x", Phase: c.state.Phase}
		if c.hook == rollout.HookEvent { // by now the run has gone on, and another one has begun
			call.Event = &rollout.Event{Phase: c.state.Phase, Outcome: c.state.Run.Outcome}
			call.Phase, run.journal.State.Run.Outcome = rollout.Starting, ""
		}
		o, err := new(Deliver).order(rel, run, call)
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Phase string }
		if err := json.Unmarshal(o.body, &got); err != nil {
			t.Fatal(err)
		}
		if got.Phase != c.want {
			t.Errorf("%s at %s, waiting for %q: phase %s, want %s", c.hook, c.state.Phase, c.state.Wait, got.Phase, c.want)
		}
	}
}

// checkResults are a look at a check that failed, one without a value, and one
// that could not be asked.
func checkResults() []analysis.CheckResult {
	stable, most := analysis.Value(640), analysis.Value(700)
	return []analysis.CheckResult{
		{Metric: "latency", Verdict: analysis.Fail, Canary: 812, Stable: &stable, Most: &most},
		{Metric: "queue"},
		{Metric: "sales", Err: "datadog: 403 Forbidden"},
	}
}

// Two versions of one label, as where only a ConfigMap was changed, are told
// apart by their revisions.
func TestVersionsOfOneLabelAreToldApart(t *testing.T) {
	rel, run := midRun(t)
	const text = "revision bbb is taken back: aaa serves"
	if got := new(Deliver).wording(rel, run)(text); got != "v2 is taken back: v1 serves" {
		t.Error(got)
	}
	run.journal.To.Label = "v1"
	if got := new(Deliver).wording(rel, run)(text); got != "v1@bbb is taken back: v1@aaa serves" {
		t.Error(got)
	}
}
