package forecast

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// story is a case whose runs differ from each other.
func story(runs int) Case {
	return Case{Plan: plain(time.Minute, 10), Rate: 20, Errors: 0.01, Regression: 0.05, Runs: runs, Seed: 3}
}

func TestAForecastThatIsStoppedIsThatOfSoManyRuns(t *testing.T) {
	const enough = 7
	asked := 0
	stopped, err := story(100).Play(t.Context(), func(done int) bool {
		asked++
		if done != asked {
			t.Errorf("asked with %d runs done; want %d", done, asked)
		}
		return done < enough
	})
	if err != nil {
		t.Fatal(err)
	}
	if stopped.Runs != enough || asked != enough {
		t.Errorf("%d runs, asked %d times; want %d of both", stopped.Runs, asked, enough)
	}
	if diff := cmp.Diff(play(t, story(enough)), stopped); diff != "" {
		t.Errorf("not what %d runs give (-want +got):\n%s", enough, diff)
	}
}

func TestAForecastEndsWithItsContext(t *testing.T) {
	const enough = 5
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped, err := story(100).Play(ctx, func(done int) bool {
		if done == enough {
			cancel()
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if stopped.Runs < enough || stopped.Runs == 100 {
		t.Errorf("%d of 100 runs; want those until it was stopped after %d", stopped.Runs, enough)
	}
	if diff := cmp.Diff(play(t, story(stopped.Runs)), stopped); diff != "" {
		t.Errorf("not what %d runs give (-want +got):\n%s", stopped.Runs, diff)
	}
	if f, err := story(100).Play(ctx, nil); err == nil {
		t.Errorf("a forecast of no run: %+v; want an error", f)
	}
}

func TestAsManyRunsAsAreAskedFor(t *testing.T) {
	last := 0
	f, err := story(30).Play(t.Context(), func(done int) bool { last = done; return true })
	if err != nil {
		t.Fatal(err)
	}
	if f.Runs != 30 || last != 30 {
		t.Errorf("%d runs, the last told was %d; want 30", f.Runs, last)
	}
}
