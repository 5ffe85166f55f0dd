package record

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/rollout"
)

var experimentKey = Key{"shop", "speed", "uid-x"}

// experimentWorld is that of an experiment.
type experimentWorld struct {
	*recorder
	plan  experiment.Plan
	state experiment.State
	in    experiment.Input

	shares  []rollout.Share // that the proxies have
	ackTold bool
}

func newExperimentWorld(t testing.TB, dir string) *experimentWorld {
	w := &experimentWorld{
		recorder: newRecorder(t, dir, Experiment, experimentKey, 60),
		in:       experiment.Input{Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Target: "v1"},
	}
	w.look = w.step
	w.plan = experiment.Plan{
		Candidates: []experiment.Planned{{Name: "fast", Share: 30 * rollout.Percent}, {Name: "other", Share: 20 * rollout.Percent}},
		Duration:   time.Minute, Deadline: 30 * time.Second, Metric: analysis.DurationP50, Policy: policy,
	}
	return w
}

// run plays until the experiment is over.
func (w *experimentWorld) run() {
	w.t.Helper()
	w.until(func() bool { return w.state.Phase == experiment.Finished })
}

// step plays a look.
func (w *experimentWorld) step() {
	want := w.state.Want()
	in := &w.in
	in.Now = in.Now.Add(time.Duration(200+w.rand.IntN(100)) * time.Millisecond)
	in.Unacked, in.Removed, in.Promoted = "", true, want.Promote != ""
	var acked time.Time
	if !slices.Equal(w.shares, want.Shares) {
		w.shares, w.ackTold, in.Unacked = want.Shares, false, "not every proxy has applied the shares yet"
	} else if !w.ackTold && (w.state.Phase == experiment.Running || w.state.Phase == experiment.Restoring) {
		w.ackTold, acked = true, in.Now.Add(-50*time.Millisecond)
	}
	in.Candidates = make([]experiment.Observed, len(w.plan.Candidates))
	for i := range in.Candidates {
		in.Candidates[i].Ready = i < len(want.Pods) && want.Pods[i]
		in.Candidates[i].Message = "its pods are not ready"
	}
	seen := w.traffic(want.Shares)
	next, events := experiment.Step(w.plan, w.state, *in)
	w.wrote(w.store.AddExperiment(w.key, ExperimentLook{
		Plan: &w.plan, Was: &w.state, Next: &next, Input: in, Events: events, Acked: acked, Versions: seen,
	}))
	w.state, in.Resumed = next, false
}

// traffic is what users did since the last look.
func (w *experimentWorld) traffic(shares []rollout.Share) []VersionSeen {
	out := make([]VersionSeen, 1+len(w.state.Candidates))
	for i := range out {
		out[i].Version.Label = "v" + string(rune('1'+i))
	}
	if shares == nil || w.in.Unacked != "" {
		return out
	}
	stable, sides := analysis.Side{}, make([]analysis.Side, len(shares))
	for range w.rate {
		name, side := experiment.Stable, &stable
		at := rollout.Share(w.rand.IntN(int(rollout.All)))
		for i, s := range shares {
			if at < s {
				name, side = w.plan.Candidates[i].Name, &sides[i]
				break
			}
			at -= s
		}
		side.Requests++
		if w.rand.Float64() < w.fails[name] {
			side.Failures++
			continue
		}
		side.Latency.Observe(w.slow[name] + time.Duration((10+3*w.rand.NormFloat64())*float64(time.Millisecond)))
	}
	part := 0.25
	out[0].Share = &part
	for i := range sides {
		out[i+1].Share = &part
		c := &sides[i]
		w.in.Candidates[i].Samples = analysis.Samples{
			Counts:        analysis.Counts{CanaryRequests: c.Requests, CanaryFailures: c.Failures, StableRequests: stable.Requests, StableFailures: stable.Failures},
			CanaryLatency: c.Latency, StableLatency: stable.Latency,
		}
	}
	return out
}

// crash is the end of the process: what was not stored is forgotten.
func (w *experimentWorld) crash(stored experiment.State) {
	w.dies()
	w.state, w.in.Resumed, w.ackTold = stored, true, false
}

func TestARecordedExperimentReplaysToTheSameState(t *testing.T) {
	f := func(want experiment.Outcome, prepare func(w *experimentWorld)) {
		t.Helper()
		t.Run(string(want), func(t *testing.T) {
			w := newExperimentWorld(t, t.TempDir())
			prepare(w)
			w.run()
			if w.state.Outcome != want {
				t.Fatalf("outcome = %s (%s), want %s", w.state.Outcome, w.state.Why, want)
			}
			r := w.record(0)
			got := replayedExperiment(t, r)
			if got.First != nil || got.End != "" || got.Lost > 0 || got.Looks != w.looks {
				t.Fatalf("replayed: %+v, want %d looks", got.Replayed, w.looks)
			}
			if diff := cmp.Diff(toJSON(t, w.state), toJSON(t, got.State)); diff != "" {
				t.Errorf("state (-recorded +replayed):\n%s", diff)
			}
			if r.End == nil || r.End.Outcome != string(want) || r.End.Winner != w.state.Winner || !r.End.At.Equal(w.state.Ended) {
				t.Errorf("end = %+v, want %s of %q at %v", r.End, want, w.state.Winner, w.state.Ended)
			}
			doc := exported(t, r)
			if got := replayedExperiment(t, parse(t, []byte(toJSON(t, doc)))); got.First != nil || got.End != "" {
				t.Errorf("the document replays to %+v", got.Replayed)
			}
		})
	}
	f(experiment.Chosen, func(w *experimentWorld) {
		w.slow = map[string]time.Duration{experiment.Stable: 20 * time.Millisecond, "other": 10 * time.Millisecond}
	})
	f(experiment.NoDifference, func(*experimentWorld) {})
	f(experiment.Compared, func(w *experimentWorld) { w.plan.Metric = "" })
	f(experiment.AllDropped, func(w *experimentWorld) { w.fails["fast"], w.fails["other"] = 0.5, 0.5 })
	f(experiment.Cancelled, func(w *experimentWorld) {
		w.until(func() bool { return w.state.Phase == experiment.Running })
		w.in.Cancel = "the experiment was deleted"
	})
	f(experiment.NotStarted, func(w *experimentWorld) { w.in.Blocked = "a run is on" })
}

// TestTheDocumentOfAnExperimentTellsItAll looks at what people read.
func TestTheDocumentOfAnExperimentTellsItAll(t *testing.T) {
	w := newExperimentWorld(t, t.TempDir())
	w.plan.Promote = true
	w.slow[experiment.Stable] = 20 * time.Millisecond
	w.fails["other"] = 0.2
	w.run()
	d := exported(t, w.record(0))
	if d.Experiment != "speed" || d.Release != "" || d.Run != 1 || d.Outcome != "chosen" || d.Winner != "fast" || d.Cost < 1 || len(d.Gaps) > 0 {
		t.Errorf("%+v: outcome %s, winner %s, cost %v, gaps %v", d.Header, d.Outcome, d.Winner, d.Cost, d.Gaps)
	}
	var shares []string
	for _, s := range d.Splits {
		shares = append(shares, s.Shares.text())
		if s.Acked.IsZero() || s.Traffic != nil {
			t.Errorf("split %s: acknowledged %v, traffic %v", s.Shares.text(), s.Acked, s.Traffic)
		}
	}
	want := []string{"fast 30 %, other 20 %", "fast 30 %, other 0 %", "fast 0 %, other 0 %"}
	if diff := cmp.Diff(want, shares); diff != "" {
		t.Errorf("splits (-want +got):\n%s", diff)
	}
	if m := d.Splits[0].MeasuredShares; m[experiment.Stable] != 0.25 || m["other"] != 0.25 {
		t.Errorf("measured: %v", m)
	}
	last := w.state.Candidates[1]
	if v := d.Versions; len(v) != 3 || v[2].Name != "other" || v[2].Requests != last.Seen.Requests || v[2].Failures != last.Seen.Failures || v[1].Version.Label == "" {
		t.Errorf("versions: %+v", v)
	}
	var events []string
	for _, e := range d.Timeline {
		if e.Decision == nil {
			continue
		}
		for _, event := range e.Decision.Events {
			events = append(events, event.Reason)
			if event.Reason == "CandidateDropped" {
				c := e.Decision.Candidates[1]
				if c.Dropped == "" || c.Evidence.Verdict != analysis.Fail || c.Evidence.Counts.CanaryFailures == 0 || c.Evidence.LogE <= 0 {
					t.Errorf("dropped on %+v", c)
				}
			}
			if event.Reason == "ExperimentDecided" && e.Decision.Outcome == "chosen" {
				s := e.Decision.Showings[slices.IndexFunc(e.Decision.Showings, func(s experiment.Showing) bool {
					return s.Better == "fast" && s.Than == experiment.Stable
				})]
				if s.LogE < s.Limit || s.Limit < 8 {
					t.Errorf("chosen on %+v", s)
				}
			}
		}
	}
	if diff := cmp.Diff([]string{"ExperimentStarted", "TrafficSplit", "CandidateDropped", "ExperimentDecided", "WinnerPromoted", "ExperimentFinished"}, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestAnExperimentThatIsOnHasItsCost in the document, as far as it was decided on.
func TestAnExperimentThatIsOnHasItsCost(t *testing.T) {
	w := newExperimentWorld(t, t.TempDir())
	w.fails["fast"], w.fails["other"] = 0.2, 0.3
	var cost float64
	w.until(func() bool {
		cost = 0
		for i := range w.state.Candidates {
			cost += w.state.Candidates[i].Evidence.Cost
		}
		return w.state.Outcome == experiment.AllDropped
	})
	d := exported(t, w.record(0))
	if d.Outcome != "" || cost < 1 || d.Cost != cost {
		t.Errorf("cost %v of outcome %q, want %v of one that is on", d.Cost, d.Outcome, cost)
	}
}

func (s Shares) text() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		out = append(out, name+" "+s[name].String())
	}
	return strings.Join(out, ", ")
}

func TestTheRecordOfAnExperimentGoesOnAfterACrash(t *testing.T) {
	w := newExperimentWorld(t, t.TempDir())
	w.slow[experiment.Stable] = 20 * time.Millisecond
	w.until(func() bool { return !w.state.Began.IsZero() })
	stored := w.state
	for range 7 {
		w.look() // is lost
	}
	w.crash(stored)
	path := w.tear()
	w.until(func() bool { return w.state.Phase == experiment.Removing })
	stored = w.state

	// The end is in the record, which is packed, and not in the journal.
	w.run()
	w.store.packing.Wait()
	if _, err := os.Stat(path + packed); err != nil {
		t.Fatal(err)
	}
	w.crash(stored)
	w.run()
	r := w.record(1)
	got := replayedExperiment(t, r)
	if got.First != nil || got.End != "" || got.Lost != 1 {
		t.Errorf("replayed: %+v, want one line lost", got.Replayed)
	}
	if diff := cmp.Diff(toJSON(t, w.state), toJSON(t, got.State)); diff != "" {
		t.Errorf("state (-recorded +replayed):\n%s", diff)
	}
	if !r.End.At.Equal(w.state.Ended) {
		t.Errorf("it ends at %v, want %v", r.End.At, w.state.Ended)
	}
	doc := exported(t, r)
	notes := 0
	for _, e := range doc.Timeline {
		if strings.HasPrefix(e.Note, "Serin was started again") {
			notes++
		} else if e.Note != "" {
			t.Errorf("note: %s", e.Note)
		}
	}
	if notes != 2 {
		t.Errorf("%d restarts are told, want 2", notes)
	}
}

// TestALongRecordOfAnExperimentKeepsItsDecisions cuts it for its length.
func TestALongRecordOfAnExperimentKeepsItsDecisions(t *testing.T) {
	w := newExperimentWorld(t, t.TempDir())
	w.store.maxBytes = 2_000
	w.fails["other"] = 0.3
	w.run()
	r := w.record(0)
	d := exported(t, r)
	for _, s := range d.Splits {
		if s.Acked.IsZero() {
			t.Errorf("the proxies never had %s", s.Shares.text())
		}
	}
	got := replayedExperiment(t, r)
	if r.Cut == "" || got.First != nil || got.End != "" || got.Looks >= w.looks/2 || got.State.Outcome != w.state.Outcome {
		t.Errorf("cut %q, %d of %d looks kept, outcome %s, replayed %+v", r.Cut, got.Looks, w.looks, got.State.Outcome, got.Replayed)
	}
}

// TestExperimentsOfANameAreCounted by their order: each leaves a record.
func TestExperimentsOfANameAreCounted(t *testing.T) {
	w := newExperimentWorld(t, t.TempDir())
	for i := range keepRuns + 2 {
		w.key.UID, w.state, w.in.Blocked = "uid-"+string(rune('a'+i)), experiment.State{}, "a run is on"
		w.run()
	}
	if r := w.record(0); r.Run != keepRuns+2 || r.UID != w.key.UID {
		t.Errorf("the last one is run %d of %s", r.Run, r.UID)
	}
	if r := w.record(3); r.UID != "uid-c" {
		t.Errorf("run 3 is of %s", r.UID)
	}
	if _, err := w.store.Open(Experiment, "shop", "speed", 2); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "run 2 of experiment speed has no record; these have: 3, 4,") {
		t.Errorf("run 2: %v", err)
	}
	if _, err := w.store.Open(Experiment, "shop", "none", 0); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "experiment none has no record") {
		t.Errorf("none: %v", err)
	}
	if _, err := w.store.Open(Release, "shop", "speed", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a release of the name: %v", err)
	}
}

// TestAForgedExperimentIsFound changes what was decided, what was counted, and
// how it ended.
func TestAForgedExperimentIsFound(t *testing.T) {
	w := newExperimentWorld(t, t.TempDir())
	w.slow[experiment.Stable] = 20 * time.Millisecond
	w.fails["other"] = 0.2
	w.run()
	f := func(name string, forge func(*Record), differs, end string) {
		t.Helper()
		r := w.record(0)
		forge(r)
		got := replayedExperiment(t, r)
		what := ""
		if got.First != nil {
			what = strings.Join(got.First.What, ", ")
			if text := got.First.Recorded.String() + got.First.Now.String(); !strings.Contains(text, "other") {
				t.Errorf("%s: told as %q", name, text)
			}
		}
		if what != differs || !strings.Contains(got.End, end) || (end == "") != (got.End == "") {
			t.Errorf("%s: differs in %q, %q; want %q, %q", name, what, got.End, differs, end)
		}
	}
	decisions := func(r *Record, event string) *Decision {
		for i := range r.lines {
			if d := r.lines[i].Decision; d != nil && slices.ContainsFunc(d.Events, func(e rollout.Event) bool { return e.Reason == event }) {
				return d
			}
		}
		t.Fatalf("no decision with %s", event)
		return nil
	}
	f("nothing", func(*Record) {}, "", "")
	f("winner", func(r *Record) { decisions(r, "ExperimentDecided").Winner = "other" }, "winner", "")
	f("outcome", func(r *Record) { decisions(r, "ExperimentDecided").Outcome = "no-difference" }, "outcome", "")
	f("share", func(r *Record) { decisions(r, "CandidateDropped").Candidates[1].Share = 1 }, "candidates", "")
	f("dropped", func(r *Record) { decisions(r, "CandidateDropped").Candidates[0].Dropped = "slow" }, "candidates", "")
	f("event", func(r *Record) { decisions(r, "CandidateDropped").Events[0].Warning = false }, "events", "")
	f("failures", func(r *Record) { // as if the other one had failed seldom
		for i := range r.lines {
			r.lines[i].Look = json.RawMessage(strings.ReplaceAll(string(r.lines[i].Look), `"canaryFailures":`, `"stableFailures":`))
		}
	}, "decision", "")
	f("end's winner", func(r *Record) { r.End.Winner = "other" }, "", `ends with the winner "other", and its looks with "fast"`)
	f("end's counts", func(r *Record) { r.End.Seen.Versions[2].Failures = 0 }, "", "other requests of each version")
	f("end's cost", func(r *Record) { r.End.Cost = 0 }, "", "a cost of 0 failed requests")
	f("no end", func(r *Record) { r.End = nil }, "", "has no end")

	doc := exported(t, w.record(0))
	doc.Winner, doc.Versions[2].Failures = "other", 0
	if _, err := Parse([]byte(toJSON(t, doc))); err == nil || !strings.Contains(err.Error(), "versions, winner would be different") {
		t.Errorf("a forged document: %v", err)
	}
	_, err := ReplayExperiment(parse(t, []byte(strings.ReplaceAll(string(w.lines(0)), `"samples":{`, `"samples":{"canaryFailures":-5,`))), experiment.Step)
	if err == nil || !strings.Contains(err.Error(), "nobody counts") {
		t.Errorf("counts below nothing: %v", err)
	}
	_, err = ReplayExperiment(parse(t, []byte(strings.Replace(string(w.lines(0)), `"state":{`, `"state":{"contests":[{}],`, 1))), experiment.Step)
	if err == nil || !strings.Contains(err.Error(), "want one for each pair") {
		t.Errorf("a contest too many: %v", err)
	}
}

// TestARecordIsReplayedByItsOwnRules and by no others.
func TestARecordIsReplayedByItsOwnRules(t *testing.T) {
	x := newExperimentWorld(t, t.TempDir())
	x.run()
	if _, err := Replay(x.record(0), rollout.Step); err == nil || !strings.Contains(err.Error(), "not of a release, but of experiment speed") {
		t.Errorf("an experiment as a release: %v", err)
	}
	w := newWorld(t, t.TempDir())
	w.release("v2")
	if _, err := ReplayExperiment(w.record(1), experiment.Step); err == nil || !strings.Contains(err.Error(), "not of an experiment, but of release music") {
		t.Errorf("a release as an experiment: %v", err)
	}
	if _, err := Parse([]byte(`{"record":{"format":1,"release":"a","experiment":"b"}}` + "\n")); err == nil || !strings.Contains(err.Error(), "of a release and of an experiment") {
		t.Errorf("both: %v", err)
	}
}

// TestAnExperimentMayEndWithoutItsPlan when a spec that is refused is deleted.
func TestAnExperimentMayEndWithoutItsPlan(t *testing.T) {
	w := newExperimentWorld(t, t.TempDir())
	w.until(func() bool { return !w.state.Began.IsZero() })
	candidates := w.plan.Candidates
	w.plan = experiment.Plan{Candidates: candidates, Deadline: time.Minute}
	w.in.Cancel = "the experiment was deleted"
	bare := experiment.Plan{Deadline: time.Minute}
	for w.state.Phase != experiment.Finished {
		w.in.Now = w.in.Now.Add(time.Second)
		w.in.Candidates, w.in.Removed = make([]experiment.Observed, len(candidates)), true
		next, events := experiment.Step(bare, w.state, w.in)
		if err := w.store.AddExperiment(w.key, ExperimentLook{Plan: &bare, Was: &w.state, Next: &next, Input: &w.in, Events: events}); err != nil {
			t.Fatal(err)
		}
		w.state = next
	}
	if got := replayedExperiment(t, w.record(0)); got.First != nil || got.End != "" || got.State.Outcome != experiment.Cancelled {
		t.Errorf("replayed: %+v to %s", got.Replayed, got.State.Outcome)
	}
}

// TestEveryFieldOfAnExperimentsInputIsKept is TestEveryFieldOfAnInputIsKept for
// experiments.
func TestEveryFieldOfAnExperimentsInputIsKept(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	counts := analysis.Counts{CanaryRequests: 1, CanaryFailures: 2, StableRequests: 3, StableFailures: 4}
	some := experiment.Observed{Ready: true, Message: "m", Samples: analysis.Samples{Counts: counts}}
	full := experiment.Input{
		Now: at, Resumed: true, Blocked: "b", Cancel: "c", Target: "v1", Candidates: []experiment.Observed{some, {}, some},
		Unacked: "u", Promoted: true, Removed: true,
	}
	for i := range 2 { // the fields of a look, and those of a candidate
		allSetBut(t, "Samples", []any{full, some}[i])
	}
	bare := experiment.Input{Now: at.Add(time.Second)}
	half := full
	half.Now, half.Resumed, half.Candidates = at.Add(2*time.Second), false, []experiment.Observed{{Ready: true}, some}
	areKept(t, 1, `{}`, full, full, bare, full, half, full)
}
