package sim

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"serin.dev/serin/internal/rollout"
)

// interleavings is how many random scenarios are played. A million of them:
//
//	go test ./internal/rollout/sim -interleavings 1000000 -timeout 0
//
// With as many the other tests play more seeds, too.
// -first moves on to scenarios that were not played before.
var (
	interleavings = flag.Int("interleavings", 2000, "random scenarios to play")
	first         = flag.Uint64("first", 0, "the first of their seeds")
)

// thorough reports whether a night is asked for, not a minute.
func thorough() bool { return *interleavings >= 100_000 }

// outcomes of one strategy's scenarios.
type outcomes struct {
	played, promoted, rolledBack, other, crashes int
	took                                         time.Duration
}

// TestRandomReleasesAreNeitherStuckNorWronglyPromoted plays releases with any
// strategy, plan, people and faults. Whatever happens, each comes to an end; a
// version that fails nearly half of its requests or more is promoted by persons
// alone; and no moment breaks a rule that engine.violate names.
func TestRandomReleasesAreNeitherStuckNorWronglyPromoted(t *testing.T) {
	count := *interleavings
	if testing.Short() {
		count = min(count, 500)
	}
	var mu sync.Mutex
	table := map[rollout.Strategy]*outcomes{}
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		wg.Go(func() {
			for i := worker; i < count; i += workers {
				seed := *first + uint64(i)
				sc, bad := Random(seed)
				if err := sc.Plan.Validate(); err != nil {
					t.Errorf("seed %d: a plan that is refused: %v", seed, err)
					continue
				}
				r := Play(sc, seed)
				mu.Lock()
				report(t, seed, sc, bad, r)
				tell(table, sc.Plan.Strategy, r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, strategy := range []rollout.Strategy{rollout.Canary, rollout.ABTest, rollout.BlueGreen, rollout.Mirror, rollout.Replicas} {
		if o := table[strategy]; o != nil {
			t.Logf("%-10s %8d played, %8d promoted, %8d rolled back, %8d other, %8d crashes, %v on average",
				strategy, o.played, o.promoted, o.rolledBack, o.other, o.crashes, (o.took / time.Duration(o.played)).Round(time.Second))
		}
	}
}

func tell(table map[rollout.Strategy]*outcomes, strategy rollout.Strategy, r Result) {
	o := table[strategy]
	if o == nil {
		o = &outcomes{}
		table[strategy] = o
	}
	o.played++
	o.crashes += r.Crashes
	o.took += r.Took
	switch r.Last() {
	case rollout.Promoted:
		o.promoted++
	case rollout.RolledBack:
		o.rolledBack++
	case rollout.Aborted, rollout.Superseded, rollout.Reverted, "":
		o.other++
	}
}

func report(t *testing.T, seed uint64, sc Scenario, bad bool, r Result) {
	t.Helper()
	about := fmt.Sprintf("seed %d (%s)", seed, sc.Plan.Strategy)
	if !r.Settled {
		t.Errorf("%s is stuck\n%v", about, r)
	}
	for _, v := range r.Violations {
		t.Errorf("%s: %s", about, v)
	}
	for _, run := range r.Runs {
		byHand := sc.Plan.Skip || slices.ContainsFunc(run.Commands, func(o rollout.Obeyed) bool {
			return o.Verb == rollout.Promote || o.Verb == rollout.Skip
		})
		if bad && run.To == "v2" && run.Outcome == rollout.Promoted && !byHand {
			t.Errorf("%s: a version that fails %.0f %% was promoted\n%v", about, 100*sc.Fails["v2"], r)
		}
		if sc.Broken != "" && run.To == sc.Broken && run.Outcome == rollout.Promoted {
			t.Errorf("%s: a version without a ready pod was promoted\n%v", about, r)
		}
	}
}
