package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/rollout"
)

func readAll(t testing.TB, r io.Reader) []byte {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestARecordedRunReplaysToTheSameState(t *testing.T) {
	f := func(name string, fails float64, slow time.Duration, want rollout.Outcome) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			w.fails["v1"], w.fails["v2"], w.slow["v2"] = 0.01, fails, slow
			w.release("v2")
			if w.state.Run.Outcome != want {
				t.Fatalf("outcome = %s (%s), want %s", w.state.Run.Outcome, w.state.Run.Reason, want)
			}
			r := w.record(1)
			got := replayed(t, r)
			if got.First != nil || got.Lost > 0 || got.Decisions < 5 {
				t.Fatalf("replayed: %+v", got)
			}
			if diff := cmp.Diff(toJSON(t, w.state), toJSON(t, got.State)); diff != "" {
				t.Errorf("state (-recorded +replayed):\n%s", diff)
			}
			if r.End == nil || r.End.Outcome != string(want) || r.End.Seen.Requests != w.seen.Requests {
				t.Errorf("end = %+v, want %s with %d requests", r.End, want, w.seen.Requests)
			}
		})
	}
	f("good", 0.01, 0, rollout.Promoted)
	f("bad", 0.3, 0, rollout.RolledBack)
	f("slow", 0.01, 20*time.Millisecond, rollout.RolledBack)
}

func TestARecordGoesOnAfterACrash(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.deploy("v2")
	w.until(func() bool { return w.state.Phase == rollout.Progressing })
	stored := w.state
	for range 7 {
		w.look() // is lost
	}
	w.crash(stored)
	w.tear()
	w.until(func() bool { return !on(&w.state) })
	r := w.record(1)
	got := replayed(t, r)
	if got.First != nil || got.Lost != 1 || got.Decisions < 5 {
		t.Errorf("replayed: %+v, want one line lost", got)
	}
	if diff := cmp.Diff(toJSON(t, w.state), toJSON(t, got.State)); diff != "" {
		t.Errorf("state (-recorded +replayed):\n%s", diff)
	}
}

func TestAnotherJudgeIsADifferenceWithAName(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.fails["v2"] = 0.2
	w.release("v2")
	lenient := func(p rollout.Plan, s rollout.State, in rollout.Input) (rollout.State, []rollout.Event) {
		p.Policy.FalseAlarm = 1e-60
		return rollout.Step(p, s, in)
	}
	got, err := Replay(w.record(1), lenient)
	if err != nil {
		t.Fatal(err)
	}
	if got.First == nil {
		t.Fatal("a judge that wants far more evidence decided the same")
	}
	if d := got.First; d.Recorded.Outcome != string(rollout.RolledBack) || d.Now != nil || d.At != w.state.Run.Decided {
		t.Errorf("difference = %v: recorded %v, now %v; want the rollback at %v", d.At, d.Recorded, d.Now, w.state.Run.Decided)
	}
}

func TestALongRecordKeepsItsDecisions(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.store.maxBytes = 20_000
	w.release("v2")
	r := w.record(1)
	if r.Cut == "" || r.End == nil || r.End.Outcome != string(rollout.Promoted) {
		t.Fatalf("cut %q, end %+v", r.Cut, r.End)
	}
	apart := 0
	for s, err := range looks(r, runs()) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Apart {
			apart++
		}
	}
	got := replayed(t, r)
	if got.First != nil || apart == 0 || got.Looks >= w.looks/2 {
		t.Errorf("%d of %d looks kept, %d apart; difference %+v", got.Looks, w.looks, apart, got.First)
	}
	if got.State.Run.Outcome != rollout.Promoted || got.State.Phase != rollout.Idle {
		t.Errorf("it ends in %s, %s", got.State.Phase, got.State.Run.Outcome)
	}
}

func TestOldRecordsGo(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.plan.Skip = true
	for i := range keepRuns + 3 {
		w.release(rollout.Revision(fmt.Sprint("v", i+2)))
	}
	got := w.files()
	if len(got) != keepRuns || got[0] != "0004.jsonl.gz" {
		t.Errorf("kept %v", got)
	}
	if _, err := w.store.Open(Release, key.Namespace, key.Name, 3); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "these have: 4, 5,") {
		t.Errorf("of run 3: %v", err)
	}
	if w.record(0).Run != keepRuns+3 {
		t.Errorf("the last one is of run %d", w.record(0).Run)
	}

	// Another Release of the name begins anew.
	key := Key{key.Namespace, key.Name, "uid-2"}
	was, next := rollout.State{}, rollout.State{Run: rollout.Run{Number: 1}}
	if err := w.store.Add(key, Look{Plan: &w.plan, Was: &was, Next: &next, Input: &w.in}); err != nil {
		t.Fatal(err)
	}
	if got := w.files(); len(got) != 1 || got[0] != "0001.jsonl" {
		t.Errorf("kept %v", got)
	}
}

func TestAStoreThatIsNilKeepsNothing(t *testing.T) {
	var s *Store
	was, next := rollout.State{}, rollout.State{Run: rollout.Run{Number: 1}}
	if err := s.Add(key, Look{Was: &was, Next: &next}); err != nil {
		t.Error(err)
	}
	s.Forget(key)
}

func TestAStateThatCannotBeIsAnError(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.release("v2")
	outOfRange := func(_ rollout.Plan, s rollout.State, _ rollout.Input) (rollout.State, []rollout.Event) {
		_ = w.plan.Steps[s.Step-1] // as a step that no plan has would be
		return s, nil
	}
	if got, err := Replay(w.record(1), outOfRange); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("replayed %+v, error %v", got, err)
	}
}

func TestARecordOfALaterFormatIsRefused(t *testing.T) {
	_, err := Parse([]byte(`{"record":{"format":2,"run":1}}` + "\n"))
	if err == nil || !strings.Contains(err.Error(), "use a newer one") {
		t.Errorf("error = %v", err)
	}
}

// TestEveryFieldOfAnInputIsKept fills each field of an Input, then takes each
// back, and reads what was written.
func TestEveryFieldOfAnInputIsKept(t *testing.T) {
	var h analysis.Histogram
	h.Observe(time.Second)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	counts := analysis.Counts{CanaryRequests: 1, CanaryFailures: 2, StableRequests: 3, StableFailures: 4}
	users := &analysis.Users{Counts: counts, CanaryLatency: h, StableLatency: h, Canary: analysis.UserSum{Users: 1, Failing: 0.5}, Stable: analysis.UserSum{Users: 2, Failing: -0.25}}
	work := rollout.Workload{Revision: "v1", Ready: true, Pods: 1, Wanted: 2, ScaledAway: true, Message: "m"}
	full := rollout.Input{
		Now: at, Target: work, Stable: work, Warm: work,
		Ack: rollout.Ack{OK: true, Traffic: rollout.Traffic{Share: 1, Match: true, Mirror: 2, Warm: true}, Since: at},
		Samples: analysis.Samples{
			Counts: counts, Spared: analysis.Counts{CanaryRequests: 1, CanaryFailures: 1, StableRequests: 2, StableFailures: 2},
			CanaryLatency: h, StableLatency: h, ByUser: true, Users: users, StableDown: true,
			Strata:         []analysis.Stratum{{Name: "GET /", Counts: counts, CanaryLatency: h, StableLatency: h, Users: users}},
			DirectRequests: 1, DirectFailures: 2, DirectLatency: h, DirectSpared: 1,
			Own: analysis.Own{
				Counts: counts, CanaryLatency: h, StableLatency: h,
				Strata: []analysis.Stratum{{Name: "GET /", Counts: counts, CanaryLatency: h, StableLatency: h, Users: users}},
			},
			Measured: []analysis.Measured{{Check: 1, Canary: analysis.Value(math.Inf(1)), Stable: 1e-300, HasCanary: true, HasStable: true, Err: "e", At: at}},
		},
		FirstCanary: at, Arrived: 1, Served: 2, Late: 3,
		Command:   rollout.Command{ID: "i", Verb: "v", Reason: "r", By: "b", Gate: "g"},
		Approvals: []rollout.Approval{{ID: "i", Gate: "g", By: "b", At: at, Reject: true, Reason: "r"}},
		Hooks:     []rollout.HookResult{{ID: "i", OK: true, Reason: "r"}},
		Mirrored:  rollout.Mirrored{Compared: 1, Differ: 2, NoiseCompared: 3, NoiseDiffer: 4, Example: "e"},
		Pods:      3, Suspended: true, Frozen: "f", Blocked: "b", Paused: "p", DependsOn: []string{"d"}, Set: []rollout.Member{{Name: "m", Standing: rollout.Failed, Why: "w", Started: at, Decided: at}},
	}
	allSet(t, full)
	bare := rollout.Input{Now: at.Add(time.Second)}
	later := rollout.Input{Now: at.Add(2 * time.Second)}
	half := full
	half.Now, half.Ack.Traffic, half.Target.Pods, half.Approvals = at.Add(2), rollout.Traffic{}, 0, []rollout.Approval{{ID: "j"}}
	areKept(t, 3, `{"now":"2026-01-02T03:04:07.000000006Z"}`, full, full, bare, later, full, half, full)
}

// areKept writes inputs one after the other, and reads them. What is new in one
// of them is written as news.
func areKept[I any](t *testing.T, one int, news string, inputs ...I) {
	t.Helper()
	w, r := inputWriter{last: map[string]string{}}, inputReader[I]{}
	for i, in := range inputs {
		look, err := w.write(&in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.read(look)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(in, got); diff != "" {
			t.Errorf("look %d (-observed +read):\n%s", i, diff)
		}
		if i == one && string(look) != news {
			t.Errorf("%s is written as %s", news, look)
		}
	}
}

func TestATornRecordKeepsWhatIsWhole(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.fails["v2"] = 0.3
	w.release("v2")
	data := w.lines(1)
	whole := replayed(t, parse(t, data))
	for cut := bytes.IndexByte(data, '\n') + 1; cut < len(data); cut += 997 {
		r, err := Parse(data[:cut])
		if err != nil {
			if cut > 20_000 {
				t.Errorf("cut at %d: %v", cut, err)
			}
			continue // no look is left
		}
		if got := replayed(t, r); got.First != nil || got.Lost > 1 || got.Looks > whole.Looks {
			t.Errorf("cut at %d: %+v", cut, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	w := newWorld(f, f.TempDir())
	w.rate = 1
	w.release("v2")
	lines := bytes.SplitAfter(w.lines(1), []byte("\n"))
	f.Add(bytes.Join(lines[:8], nil)) // short, so that much is tried
	f.Add(bytes.Join(slices.Concat(lines[:4], lines[len(lines)-3:]), nil))
	x := newExperimentWorld(f, f.TempDir())
	x.rate = 3
	x.run()
	lines = bytes.SplitAfter(x.lines(0), []byte("\n"))
	f.Add(bytes.Join(lines[:9], nil))
	f.Add(bytes.Join(slices.Concat(lines[:4], lines[len(lines)-3:]), nil))
	f.Add([]byte(`{"lines":[{"record":{"format":1}},{"state":{}},{"look":{"now":"2026-01-01T00:00:00Z"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			return
		}
		// Whatever could be read can be decided on, or is refused.
		if r.Kind() == Experiment {
			_, err = ReplayExperiment(r, experiment.Step)
		} else {
			_, err = Replay(r, rollout.Step)
		}
		if err != nil {
			return
		}
		// And be told.
		if _, err := Export(r); err != nil {
			t.Errorf("it was replayed, and cannot be exported: %v", err)
		}
	})
}

func TestNamesAreRenamedAndValuesAreNot(t *testing.T) {
	type inner struct {
		ID        string
		DependsOn []string
		Zero      *float64
	}
	v := struct {
		OK     bool
		Text   string
		Many   []inner
		None   []inner
		Number float64
		ByName map[string]int
		At     time.Time
	}{
		Text: `a "b", {C}: [\` + "\n", Many: []inner{{ID: "X", DependsOn: []string{"", "Y"}}, {}},
		Number: -1e-300, ByName: map[string]int{"12": 3},
	}
	for brief, want := range map[bool]string{
		true:  `{"text":"a \"b\", {C}: [\\\n","many":[{"id":"X","dependsOn":["","Y"]},{}],"number":-1e-300,"byName":{"12":3}}`,
		false: `{"ok":false,"text":"a \"b\", {C}: [\\\n","many":[{"id":"X","dependsOn":["","Y"],"zero":null},{"id":"","dependsOn":null,"zero":null}],"none":null,"number":-1e-300,"byName":{"12":3},"at":"0001-01-01T00:00:00Z"}`,
	} {
		got, err := marshal(v, brief)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("brief %v (-want +got):\n%s", brief, diff)
		}
	}
}

// TestAForgedDocumentIsRefused changes what people read of an export.
func TestAForgedDocumentIsRefused(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.fails["v2"] = 0.3
	w.release("v2")
	export := func(r *Record) map[string]any {
		doc := exported(t, r)
		var out map[string]any
		if err := json.Unmarshal([]byte(toJSON(t, doc)), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	whole := w.record(1)
	f := func(name string, forge func(doc map[string]any), want string) {
		t.Helper()
		doc := export(whole)
		forge(doc)
		if _, err := Parse([]byte(toJSON(t, doc))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
	set := func(field string, value any) func(map[string]any) {
		return func(doc map[string]any) { doc[field] = value }
	}
	if r := parse(t, []byte(toJSON(t, export(whole)))); r.End == nil || replayed(t, r).End != "" {
		t.Errorf("what Export made ends with %+v, %q", r.End, replayed(t, r).End)
	}
	f("outcome", set("outcome", "promoted"), "outcome would be different")
	f("reason", set("reason", "all is well"), "reason would be different")
	f("cost", set("cost", 0), "cost would be different")
	f("requests", set("requests", 1e6), "requests would be different")
	f("run", set("run", 7), "run would be different")
	f("format", set("format", 99), "its format is 99")
	f("another field", set("approved", "boss"), "approved would be different")
	f("timeline", func(doc map[string]any) { doc["timeline"] = doc["timeline"].([]any)[1:] }, "timeline would be different")
	f("two", func(doc map[string]any) { delete(doc, "splits"); doc["cost"] = 0 }, "cost, splits would be different")
	f("end", func(doc map[string]any) {
		lines := doc["lines"].([]any)
		doc["lines"] = lines[:len(lines)-1]
	}, "ended, gaps, outcome")

	// Two looks in a row, in which nothing was decided.
	all := export(whole)["lines"].([]any)
	counts := func(line any) bool {
		l := line.(map[string]any)
		return l["look"] != nil && l["decision"] == nil && l["state"] == nil
	}
	at := 0
	for !counts(all[at]) || !counts(all[at+1]) {
		at++
	}
	for name, lines := range map[string][]any{
		"a look less":         slices.Concat(all[:at], all[at+1:]),
		"a look twice":        slices.Concat(all[:at+1], all[at:]),
		"looks the wrong way": slices.Concat(all[:at], []any{all[at+1], all[at]}, all[at+2:]),
	} {
		f(name, set("lines", lines), "looks were taken out, doubled or moved")
	}

	// What a crash tore is lost in the document, too.
	lines := bytes.SplitAfter(w.lines(1), []byte("\n"))
	lines[len(lines)/2] = []byte("{\"loo\n")
	torn := parse(t, bytes.Join(lines, nil))
	again := parse(t, []byte(toJSON(t, export(torn))))
	if torn.Lost == 0 || again.Lost != torn.Lost {
		t.Errorf("%d lines lost, %d in the export", torn.Lost, again.Lost)
	}
}

// TestAForgedEndIsFound changes the last line of a record.
func TestAForgedEndIsFound(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.fails["v2"] = 0.3
	w.release("v2")
	f := func(forge func(*Record), want string) {
		t.Helper()
		r := w.record(1)
		forge(r)
		if got := replayed(t, r); got.First != nil || !strings.Contains(got.End, want) || (want == "") != (got.End == "") {
			t.Errorf("end: %q, want %q", got.End, want)
		}
	}
	f(func(*Record) {}, "")
	f(func(r *Record) { r.End = nil }, "has no end, and its looks come to one: rolled-back")
	f(func(r *Record) { r.End.Outcome = string(rollout.Promoted) }, "ends with promoted, and its looks with rolled-back")
	f(func(r *Record) { r.End.At = r.End.At.Add(1) }, "ends at ")
	f(func(r *Record) { r.End.Cost = 0 }, "a cost of 0 failed requests")
	f(func(r *Record) { // as if retries had spared users the failures
		for i := range r.lines {
			r.lines[i].Look = spareAll(t, r.lines[i].Look)
		}
	}, "and its looks with 0")
	f(func(r *Record) { r.End.Seen.Failures-- }, "and its last look with")
	f(func(r *Record) {
		r.lines = r.lines[:len(r.lines)-2]
	}, "its looks do not come to an end")
}

// spareAll forges a look as if no user had met any of its failures.
func spareAll(t *testing.T, look json.RawMessage) json.RawMessage {
	t.Helper()
	var in struct {
		Samples struct{ CanaryFailures, StableFailures int64 }
	}
	if look == nil {
		return nil
	}
	if err := json.Unmarshal(look, &in); err != nil {
		t.Fatal(err)
	}
	with := fmt.Sprintf(`"samples":{"spared":{"canaryFailures":%d,"stableFailures":%d},`, in.Samples.CanaryFailures, in.Samples.StableFailures)
	return bytes.Replace(look, []byte(`"samples":{`), []byte(with), 1)
}

// TestCountsThatNobodyCanHaveSeenAreRefused before memory is asked for them.
func TestCountsThatNobodyCanHaveSeenAreRefused(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.release("v2")
	data := w.lines(1)
	f := func(old, forged string) {
		t.Helper()
		if !bytes.Contains(data, []byte(old)) {
			t.Fatalf("the record has no %s", old)
		}
		_, err := Replay(parse(t, bytes.ReplaceAll(data, []byte(old), []byte(forged))), rollout.Step)
		if err == nil || !strings.Contains(err.Error(), "nobody counts") {
			t.Errorf("%s: error %v", forged, err)
		}
	}
	f(`"samples":{`, `"samples":{"canaryFailures":-5,`)
	f(`"samples":{`, `"samples":{"spared":{"canaryFailures":-5},`)
	f(`"samples":{`, `"samples":{"spared":{"stableFailures":9999},`)              // more than failed
	f(`"samples":{`, `"samples":{"directSpared":1,`)                              // likewise
	f(`"state":{`, `"state":{"judge":{"spared":{"block":{"canaryFailures":1}}},`) // likewise
	f(`"samples":{`, `"samples":{"own":{"stableRequests":4000000000000000000},`)
	f(`"samples":{`, `"samples":{"directLatency":{"5":4294967295},`)
	f(`"state":{`, `"state":{"judge":{"block":{"canaryRequests":4000000000000000000}},`)
}

// A record that has to go while it is packed does not come back.
func TestARecordThatIsRemovedWhileItIsPackedIsGone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0001.jsonl")
	if err := os.WriteFile(path, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := packFile(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	(&file{path: path, f: f}).unpacked()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
