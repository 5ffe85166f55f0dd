package controller

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/record"
	"serin.dev/serin/internal/rollout"
)

const goodExperiment = `
target: {name: music}
duration: 30s
progressDeadline: 10m
candidates:
- {name: fast, share: 30}
- {name: old, share: 0.5%, deployment: music-old}
choose: {metric: duration-p95, promote: true}
judge: {falseAlarm: "0.001", tolerance: "1", confidence: "95", failureLimit: 1, interval: 10s}
`

func experimentSpec(t *testing.T, text string) *v1alpha1.Experiment {
	t.Helper()
	x := &v1alpha1.Experiment{}
	if err := yaml.UnmarshalStrict([]byte(text), &x.Spec); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return x
}

func TestAnExperimentIsReadAsAPlan(t *testing.T) {
	p, err := experimentPlan(&experimentSpec(t, goodExperiment).Spec)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Candidates) != 2 || p.Candidates[1] != (experiment.Planned{Name: "old", Share: rollout.Percent / 2}) || p.Metric != analysis.DurationP95 || !p.Promote {
		t.Errorf("plan = %+v", p)
	}
}

func TestAnExperimentThatCannotWorkNamesTheField(t *testing.T) {
	f := func(old, new, want string) {
		t.Helper()
		err := CheckExperiment(experimentSpec(t, strings.Replace(goodExperiment, old, new, 1)), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with %s: error = %v, want one that says %q", new, err, want)
		}
	}
	f("share: 30}", "share: 99.5%}", "spec.candidates: their shares sum to 100 %")
	f("share: 30}", "share: 0.001%}", "spec.candidates[0].share: ")
	f("name: old", "name: fast", `spec.candidates[1].name: "fast" is used twice`)
	f("name: old", "name: stable", "spec.candidates[1].name: stable is the running version's")
	f("deployment: music-old", "deployment: music-old, template: {spec: {containers: [{name: a}]}}", "spec.candidates[1]: set one of containers, template and deployment")
	f("deployment: music-old", "template: {spec: {}}", "spec.candidates[1].template.spec.containers: at least one is needed")
	f("duration: 30s", "duration: 0s", "spec.duration: ")
	f("duration-p95", "songs", `spec.choose.metric: versions cannot be compared by "songs"`)
	f(`falseAlarm: "0.001"`, `falseAlarm: "0.9"`, "spec.judge.falseAlarm: ")
	f(`failureLimit: 1`, `failureLimit: 1, skip: true`, "spec.judge.skip: ")
	f(`failureLimit: 1`, `failureLimit: 1, checks: [{metric: sales, min: "1", template: {name: sales}}]`, "spec.judge.checks[0]: sales is not measured from requests")
	f(`failureLimit: 1`, `failureLimit: 1, checks: [{metric: memory, max: "100"}]`, "spec.judge.checks[0]: memory is not measured from requests")
	f("duration:", "service: {port: 80, portDiscovery: true}\nduration:", "spec.service: ")
	f("duration:", "service: {port: 80, gateways: [public], match: [{urii: {prefix: /}}]}\nduration:", `spec.service.match[0]: unknown field "urii"`)

	f("interval: 10s", "interval: 10s, latency: {warmUp: 30s}", "spec.duration: 30s is too short to choose by duration-p95: fresh processes have spec.judge.latency.warmUp, 30s, before it is compared; make it at least 1m0s")
	f("failureLimit: 1", "failureLimit: 1, load: {rate: 10}", "spec.judge.load: own load is for Releases")

	before, after := experimentSpec(t, goodExperiment), experimentSpec(t, strings.Replace(goodExperiment, "30s", "60s", 1))
	if err := CheckExperiment(after, before); err == nil || !strings.Contains(err.Error(), "cannot be changed") {
		t.Errorf("another duration: %v; want a refusal", err)
	}
	after = before.DeepCopy()
	after.Labels = map[string]string{"team": "sound"}
	if err := CheckExperiment(after, before); err != nil {
		t.Errorf("another label: %v; want none", err)
	}
}

// An experiment keeps others' hands off its target and its Service, in its
// namespace, for as long as its stored state says so.
func TestWhatAnExperimentHolds(t *testing.T) {
	e := &kube.Experiment{Experiment: experimentSpec(t, goodExperiment), Delivery: &kube.Delivery{Names: kube.Names{Namespace: "shop", Target: "music", Service: "songs"}}}
	e.Experiment.Namespace, e.Experiment.Name, e.Experiment.UID = "shop", "speed", "u-1"
	of := func(namespace, target, service string) *kube.Delivery {
		return &kube.Delivery{Names: kube.Names{Namespace: namespace, Target: target, Service: service}}
	}
	for _, phase := range []experiment.Phase{"", experiment.Waiting, experiment.Starting, experiment.Running, experiment.Restoring, experiment.Promoting, experiment.Removing, experiment.Finished} {
		d := &Deliver{}
		run := &experimentRun{stored: experiment.State{Phase: phase}}
		d.hold(e, run)
		d.hold(e, run)
		want := "speed"
		if phase == "" || phase == experiment.Waiting || phase == experiment.Finished {
			want = ""
		}
		for _, rel := range []*kube.Delivery{of("shop", "music", "music"), of("shop", "other", "songs")} {
			if got := d.heldBy(rel, ""); got != want {
				t.Errorf("%q: %+v is held by %q; want %q", phase, rel.Names, got, want)
			}
		}
		for _, rel := range []*kube.Delivery{of("shop", "other", "other"), of("stage", "music", "songs")} {
			if got := d.heldBy(rel, ""); got != "" {
				t.Errorf("%q: %+v is held by %q", phase, rel.Names, got)
			}
		}
		if got := d.heldBy(of("shop", "music", "songs"), "u-1"); got != "" {
			t.Errorf("%q: it is held by itself", phase)
		}
	}
}

// A plan that is not the one which began is not gone on with.
func TestAStateBelongsToItsPlan(t *testing.T) {
	p := experiment.Plan{Candidates: []experiment.Planned{{Name: "a"}, {Name: "b"}}}
	for _, tt := range []struct {
		candidates []experiment.Candidate
		want       bool
	}{
		{nil, true}, // it did not begin
		{[]experiment.Candidate{{Name: "a"}, {Name: "b"}}, true},
		{[]experiment.Candidate{{Name: "a"}}, false},
		{[]experiment.Candidate{{Name: "b"}, {Name: "a"}}, false},
	} {
		if got := runs(p, experiment.State{Candidates: tt.candidates}); got != tt.want {
			t.Errorf("candidates %v: %v; want %v", tt.candidates, got, tt.want)
		}
	}
}

// An experiment that is deleted before it began, or with its namespace, has an
// end in its record, which its looks come to.
func TestAnExperimentThatIsAbandonedEndsInItsRecord(t *testing.T) {
	candidates := []experiment.Candidate{{Name: "fast", Share: 30 * rollout.Percent}, {Name: "old", Share: rollout.Percent / 2}}
	for _, tt := range []struct {
		phase      experiment.Phase
		candidates []experiment.Candidate
		spec       string
		want       experiment.Outcome // "" = it was not looked at before, and has no record
	}{
		{"", nil, goodExperiment, ""},
		{experiment.Waiting, nil, goodExperiment, experiment.Cancelled},
		{experiment.Waiting, nil, "{}", experiment.Cancelled}, // an older Serin accepted it
		{experiment.Starting, candidates, goodExperiment, experiment.Cancelled},
		{experiment.Running, candidates, goodExperiment, experiment.Cancelled},
		{experiment.Running, candidates, "{}", experiment.Cancelled},
		{experiment.Restoring, candidates, goodExperiment, experiment.Cancelled},
		{experiment.Promoting, candidates, goodExperiment, experiment.Cancelled},
		{experiment.Removing, candidates, goodExperiment, experiment.Cancelled},
		{experiment.Finished, candidates, goodExperiment, ""}, // it has its end
		{"Foreign", candidates, goodExperiment, "-"},          // as no Serin writes it
	} {
		d := &Deliver{Records: record.NewStore(t.TempDir()), Log: slog.New(slog.DiscardHandler)}
		e := &kube.Experiment{Experiment: experimentSpec(t, tt.spec), Delivery: &kube.Delivery{}}
		e.Experiment.Namespace, e.Experiment.Name, e.Experiment.UID = "shop", "speed", "u-1"
		e.Experiment.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		run := &experimentRun{state: experiment.State{Phase: tt.phase, Candidates: tt.candidates}, resumed: true}
		if tt.phase == experiment.Removing || tt.phase == experiment.Restoring || tt.phase == experiment.Promoting {
			run.state.Outcome, run.state.Promote = experiment.Cancelled, tt.phase == experiment.Promoting
		}
		d.abandonExperiment(e, run)
		d.abandonExperiment(e, run) // as when its finalizer could not be removed
		if run.state.Phase != experiment.Finished {
			t.Errorf("%s: it is %s", tt.phase, run.state.Phase)
		}
		d.Records.Close()
		lines, err := d.Records.Open(record.Experiment, "shop", "speed", 0)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) || tt.want != "" {
				t.Errorf("%q: %v", tt.phase, err)
			}
			continue
		}
		data, err := io.ReadAll(lines)
		if err := errors.Join(err, lines.Close()); err != nil {
			t.Fatal(err)
		}
		r, err := record.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		got, err := record.ReplayExperiment(r, experiment.Step)
		if err != nil || got.First != nil || got.End != "" {
			t.Errorf("%q: replayed: %+v, %v", tt.phase, got, err)
		}
		if outcome := outcomeOf(r.End); outcome != string(tt.want) {
			t.Errorf("%q: it ends with %q, want %q", tt.phase, outcome, tt.want)
		}
	}
}

// An acknowledgement that could not be recorded is recorded with the next look.
func TestAnAcknowledgementIsToldUntilItIsRecorded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "records")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // where a directory has to be
		t.Fatal(err)
	}
	d := &Deliver{Records: record.NewStore(dir), Log: slog.New(slog.DiscardHandler)}
	e := &kube.Experiment{Experiment: experimentSpec(t, goodExperiment), Delivery: &kube.Delivery{}}
	e.Experiment.Namespace, e.Experiment.Name, e.Experiment.UID = "shop", "speed", "u-1"
	run := &experimentRun{state: experiment.State{Phase: experiment.Running}, acked: time.Unix(1e9, 0)}
	look := func() {
		run.plan, _ = planIn(e.Experiment, run.state) // goodExperiment is good
		d.recordExperiment(e, run, &run.state, &experiment.Input{Now: time.Unix(1e9+1, 0)}, nil)
	}
	look()
	if run.unrecorded == "" {
		t.Fatal("the look was recorded in a file that is no directory")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	look()
	look()
	d.Records.Close()
	data, err := os.ReadFile(filepath.Join(dir, "experiments", "shop", "speed", "0001.jsonl"))
	if n := strings.Count(string(data), `"acked"`); err != nil || n != 1 {
		t.Errorf("it was recorded %d times, %v; want once:\n%s", n, err, data)
	}
}

func outcomeOf(e *record.End) string {
	if e == nil {
		return "-"
	}
	return e.Outcome
}

// A candidate that was dropped has no share any more, and stable has it.
func TestTheSharesOfAllVersionsAreTheWhole(t *testing.T) {
	e := &kube.Experiment{Experiment: experimentSpec(t, goodExperiment), Delivery: &kube.Delivery{}, Candidates: make([]kube.Candidate, 2)}
	candidates := []experiment.Candidate{{Name: "fast", Share: 30 * rollout.Percent}, {Name: "old", Share: 20 * rollout.Percent}}
	run := &experimentRun{state: experiment.State{Phase: experiment.Running, Candidates: candidates}}
	split := func() (asked, acked string) {
		t.Helper()
		run.status.Versions = experimentVersions(e, run)
		for _, v := range run.status.Versions {
			asked, acked = asked+" "+v.Split.Asked, acked+" "+v.Split.Acked
		}
		return asked, acked
	}
	look := func(when, wantAsked, wantAcked string) {
		t.Helper()
		if asked, acked := split(); asked != wantAsked || acked != wantAcked {
			t.Errorf("%s: asked%s, acknowledged%s; want%s and%s", when, asked, acked, wantAsked, wantAcked)
		}
	}
	look("all are in", " 50 30 20", " 50 30 20")
	candidates[1].Share, candidates[1].Dropped = 0, "it fails"
	run.state.Deadline = time.Now()
	look("one is dropped", " 70 30 0", " 50 30 20")
	run.state.Deadline = time.Time{}
	look("every proxy knows", " 70 30 0", " 70 30 0")
	candidates[0].Share, run.state.Phase, run.state.Outcome = 0, experiment.Finished, experiment.Compared
	look("it is over", " 70 30 0", " 70 30 0")
	run.state.Outcome = experiment.AllDropped
	look("all are dropped", " 100 0 0", " 100 0 0")
}
