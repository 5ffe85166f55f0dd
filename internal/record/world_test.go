package record

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/rollout"
)

var key = Key{"shop", "music", "uid-1"}

var policy = analysis.Policy{
	FalseAlarm: 0.001, Tolerance: 0.05, Confidence: 0.95, LatencyTolerance: 0.1, FailureLimit: 1, Interval: 10 * time.Second,
}

// recorder is what the worlds of a release and of an experiment have alike: they
// do what is wanted by the next look, with users who ask at a steady rate and
// versions that fail at random by a seed, and each look goes to a store.
type recorder struct {
	t     testing.TB
	kind  Kind
	key   Key
	store *Store
	rand  *rand.Rand
	rate  int                // requests per look
	fails map[string]float64 // by version, 0 to 1
	slow  map[string]time.Duration
	look  func() // plays one
	looks int

	full      bool // the disk may be, so that looks are lost
	unwritten int  // looks
}

func newRecorder(t testing.TB, dir string, kind Kind, key Key, rate int) *recorder {
	w := &recorder{
		t: t, kind: kind, key: key, store: NewStore(dir), rand: rand.New(rand.NewPCG(1, 2)), rate: rate,
		fails: map[string]float64{}, slow: map[string]time.Duration{},
	}
	t.Cleanup(func() { w.store.Close() })
	return w
}

// until looks until done, and fails when that takes too many looks.
func (w *recorder) until(done func() bool) {
	w.t.Helper()
	for range 2000 {
		w.look()
		if done() {
			return
		}
	}
	w.t.Fatalf("it is not done after %d looks", w.looks)
}

// wrote counts what became of a look.
func (w *recorder) wrote(err error) {
	w.t.Helper()
	w.looks++
	if err == nil {
		return
	}
	if w.unwritten++; !w.full {
		w.t.Fatal(err)
	}
}

// dies is the end of the process. What it kept in memory is gone.
func (w *recorder) dies() {
	clear(w.store.endings)
	w.store.Close()
	w.store = NewStore(w.store.dir)
}

// tear takes the end of the first run's last line away, as a crash may.
func (w *recorder) tear() (path string) {
	w.t.Helper()
	path = filepath.Join(w.dir(), "0001.jsonl")
	fi, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, fi.Size()-9)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return path
}

// record reads what was kept of a run; 0 is the last.
func (w *recorder) record(run int64) *Record {
	w.t.Helper()
	return parse(w.t, w.lines(run))
}

func (w *recorder) lines(run int64) []byte {
	w.t.Helper()
	w.store.packing.Wait()
	r, err := w.store.Open(w.kind, w.key.Namespace, w.key.Name, run)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	return readAll(w.t, r)
}

// dir is where the records are.
func (w *recorder) dir() string { return w.store.dirOf(w.kind, w.key.Namespace, w.key.Name) }

// files are the records.
func (w *recorder) files() []string {
	w.t.Helper()
	w.store.packing.Wait()
	entries, err := os.ReadDir(w.dir())
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// fullDisk is a file that nothing can be written to.
func fullDisk(t testing.TB) string {
	t.Helper()
	const full = "/dev/full"
	if _, err := os.Stat(full); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("a full disk is not played: %v", err)
	}
	return full
}

// plant puts a file among records.
func plant(t testing.TB, text string, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// world is that of a release.
type world struct {
	*recorder
	plan  rollout.Plan
	state rollout.State
	in    rollout.Input
	seen  Seen
}

func newWorld(t testing.TB, dir string) *world {
	w := &world{recorder: newRecorder(t, dir, Release, key, 50), in: rollout.Input{Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}}
	w.look = w.step
	w.plan = rollout.Plan{
		Steps: []rollout.Share{10 * rollout.Percent, 50 * rollout.Percent}, Hold: 5 * time.Second, Deadline: time.Minute,
		Hooks: []rollout.Hook{{Name: "smoke", Type: rollout.HookPreRollout}}, Policy: policy,
	}
	w.deploy("v1")
	w.until(func() bool { return w.state.Phase == rollout.Idle })
	return w
}

func (w *world) deploy(rev rollout.Revision) {
	w.in.Target.Revision = rev
	w.seen = Seen{}
	w.in.FirstCanary = time.Time{}
}

// release plays a whole run.
func (w *world) release(rev rollout.Revision) {
	w.t.Helper()
	w.deploy(rev)
	w.until(func() bool { return w.state.Run.To == rev && !on(&w.state) })
}

// step plays a look.
func (w *world) step() {
	want := w.state.Want()
	in := &w.in
	in.Now = in.Now.Add(time.Duration(200+w.rand.IntN(100))*time.Millisecond + time.Duration(w.rand.IntN(1e6)))
	in.Target.Ready = want.CanaryScaled
	if want.StableRevision != "" {
		in.Stable = rollout.Workload{Revision: want.StableRevision, Ready: true}
	}
	w.traffic(want)
	if want.Split && (!in.Ack.OK || in.Ack.Traffic != want.Traffic) {
		in.Ack = rollout.Ack{OK: true, Traffic: want.Traffic, Since: in.Now.Add(-100 * time.Millisecond)}
	}
	in.Hooks = nil
	for _, c := range want.Hooks {
		in.Hooks = append(in.Hooks, rollout.HookResult{ID: c.ID, OK: true})
	}
	next, events := rollout.Step(w.plan, w.state, *in)
	w.wrote(w.store.Add(w.key, Look{
		Plan: &w.plan, Was: &w.state, Next: &next, Input: in, Events: events,
		From: Version{Revision: next.Run.From}, To: Version{Revision: next.Run.To, Label: "the new one"}, Seen: w.seen,
	}))
	w.state = next
}

// traffic is what users did since the last look.
func (w *world) traffic(want rollout.World) {
	in := &w.in
	in.Samples, in.Arrived, in.Served = analysis.Samples{}, int64(w.rate), 0
	if !in.Ack.OK || in.Ack.Traffic != want.Traffic {
		return
	}
	s := &in.Samples
	names := [...]string{"GET /songs", "GET /songs/{id}"}
	for _, name := range names {
		s.Strata = append(s.Strata, analysis.Stratum{Name: name})
	}
	for range w.rate {
		one := analysis.Stratum{}
		rev, counts, latency := w.state.Stable, [2]*int64{&one.StableRequests, &one.StableFailures}, &one.StableLatency
		if w.rand.Float64() < want.Traffic.Share.Fraction() {
			rev, counts, latency = w.state.Canary, [2]*int64{&one.CanaryRequests, &one.CanaryFailures}, &one.CanaryLatency
		} else {
			in.Served++
		}
		*counts[0]++
		if w.rand.Float64() < w.fails[string(rev)] {
			*counts[1]++
		}
		latency.Observe(w.slow[string(rev)] + time.Duration((10+5*w.rand.NormFloat64())*float64(time.Millisecond)))
		at := &s.Strata[w.rand.IntN(len(names))]
		at.Counts = at.Counts.Add(one.Counts)
		at.CanaryLatency.Merge(&one.CanaryLatency)
		at.StableLatency.Merge(&one.StableLatency)
		s.Counts = s.Counts.Add(one.Counts)
		s.CanaryLatency.Merge(&one.CanaryLatency)
		s.StableLatency.Merge(&one.StableLatency)
	}
	w.seen.Requests += s.CanaryRequests
	w.seen.Failures += s.CanaryFailures
	if s.CanaryRequests > 0 && in.FirstCanary.IsZero() {
		in.FirstCanary = in.Now
	}
}

// crash is the end of the process: what was not stored is forgotten.
func (w *world) crash(stored rollout.State) {
	w.dies()
	w.state = stored
}

func parse(t testing.TB, data []byte) *Record {
	t.Helper()
	r, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func exported(t testing.TB, r *Record) *Document {
	t.Helper()
	doc, err := Export(r)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// outcome is what became of a record, and the state after it.
type outcome[S any] struct {
	*Replayed
	State S
}

func replayed(t *testing.T, r *Record) outcome[rollout.State] {
	t.Helper()
	return replayedBy(t, r, runs(), rollout.Step)
}

func replayedExperiment(t *testing.T, r *Record) outcome[experiment.State] {
	t.Helper()
	return replayedBy(t, r, experiments(), experiment.Step)
}

func replayedBy[P, S, I, V any](t *testing.T, r *Record, m machine[P, S, I, V], step func(P, S, I) (S, []V)) outcome[S] {
	t.Helper()
	out, state, err := replay(r, m, step)
	if err != nil {
		t.Fatal(err)
	}
	return outcome[S]{out, state}
}

// allSet fails for each field of a value, at any depth, that is zero.
func allSet(t *testing.T, v any) {
	t.Helper()
	setIn(t, "", reflect.ValueOf(v))
}

func setIn(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	if v.IsZero() {
		t.Errorf("%s is not set: a field that this test does not know may not be kept", path)
	}
	switch {
	case v.Type() == reflect.TypeFor[*analysis.Users](): // no users and users who say nothing new are the same
		setIn(t, path, v.Elem())
	case v.Kind() == reflect.Pointer:
		t.Errorf("%s is a pointer: its zero is not told from nothing", path)
	case v.Kind() == reflect.Slice && v.Len() > 0:
		setIn(t, path+"[0]", v.Index(0))
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[time.Time]():
		for i := range v.NumField() {
			setIn(t, path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	}
}

// allSetBut is allSet for the fields of a struct themselves; a field that is
// looked at elsewhere is left out.
func allSetBut(t *testing.T, but string, v any) {
	t.Helper()
	s := reflect.ValueOf(v)
	for i := range s.NumField() {
		if name := s.Type().Field(i).Name; name != but && s.Field(i).IsZero() {
			t.Errorf("%s is not set: a field that this test does not know may not be kept", name)
		}
	}
}
