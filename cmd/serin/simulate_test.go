package main

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"serin.dev/serin/internal/forecast"
)

// TestRunsAreEnoughInTime plays runs that take so long each, by a false clock.
func TestRunsAreEnoughInTime(t *testing.T) {
	for _, story := range []struct {
		name  string
		takes time.Duration
		exact bool
		want  int
	}{
		{"quick ones are all played", time.Millisecond, false, usualRuns},
		{"as many as there is time for", 50 * time.Millisecond, false, 200},
		{"slow ones, but not too few", time.Minute, false, leastRuns},
		{"as many as are asked for", time.Minute, true, usualRuns},
	} {
		t.Run(story.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var terminal bytes.Buffer
				p := newPacing(&terminal, usualRuns, story.exact)
				done, predicted := 0, time.Time{}
				for more := true; more && done < usualRuns; {
					time.Sleep(story.takes)
					done++
					if more = p.more(done); done == 10 {
						predicted = time.Now().Add(p.left(done))
					}
				}
				if done != story.want {
					t.Errorf("%d runs; want %d", done, story.want)
				}
				if !time.Now().Equal(predicted) {
					t.Errorf("it was over %v after the predicted time", time.Since(predicted))
				}
				if p.close(); terminal.Len() > 0 {
					t.Errorf("progress %q where no terminal is", &terminal)
				}
			})
		})
	}
}

func TestProgressIsOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var terminal bytes.Buffer
		p := &pacing{most: usualRuns, w: &terminal, began: time.Now()}
		for done := range 50 {
			time.Sleep(100 * time.Millisecond)
			p.more(done + 1)
		}
		p.close()
		lines := strings.Split(terminal.String(), "\r\x1b[K")
		if n := len(lines); n < 20 || n > 30 {
			t.Errorf("%d pictures in 5 s; want one in %v", n, tellEvery)
		}
		if got, want := lines[len(lines)-2], "49 of at most 1000 runs, 5 s left"; got != want {
			t.Errorf("last told: %q; want %q", got, want)
		}
		if lines[len(lines)-1] != "" {
			t.Error("the line is left on the terminal")
		}
	})
}

func TestTheFirstLineSaysHowManyRuns(t *testing.T) {
	for want, f := range map[string]struct {
		runs    int
		stopped bool
	}{
		"; 1000 runs each\n":                       {1000, false},
		"; 312 runs each (--runs asks for more)\n": {312, false},
		"; stopped after 212 of 1000 runs each\n":  {212, true},
	} {
		var out bytes.Buffer
		err := printForecast(&out, "Release music", forecast.Case{Runs: 1000}, &forecast.Forecast{Runs: f.runs}, f.stopped)
		if first, _, _ := strings.Cut(out.String(), "\n"); err != nil || !strings.HasSuffix(first+"\n", want) {
			t.Errorf("%q, error %v; want %q at its end", first, err, want)
		}
	}
}

// TestSimulateEndsWithASignal that comes before there is anything to say.
func TestSimulateEndsWithASignal(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&exitError{code: 143})
	var out, errOut bytes.Buffer
	root := newRootCmd(&options{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &errOut}})
	root.SetArgs([]string{"simulate", "-f", filepath.FromSlash("../../examples/music/release.yaml")})
	err := root.ExecuteContext(ctx)
	if coded, ok := errors.AsType[*exitError](err); !ok || coded.code != 143 {
		t.Errorf("error %v; want exit code 143", err)
	}
	if err == nil || !strings.Contains(err.Error(), "stopped before one run of each version was over") || out.Len() > 0 {
		t.Errorf("error %v, output %q; want no forecast of nothing", err, &out)
	}
}
