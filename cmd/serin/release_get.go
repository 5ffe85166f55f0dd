package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/apimachinery/pkg/util/duration"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/live"
)

func (rc *releaseCmds) newGetCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "get NAME",
		Short:             "Show a release: split, samples, verdict, cause, last runs",
		Args:              exactName,
		ValidArgsFunction: rc.completeNames,
	}
	output := addOutputFlag(cmd, "json", "yaml", "wide")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, namespace, err := rc.open()
		if err != nil {
			return err
		}
		r, err := client.get(cmd.Context(), namespace, args[0])
		if err != nil {
			return err
		}
		switch {
		case output.structured():
			r.ManagedFields = nil
			return output.print(rc.opts.Out, r)
		case output.value == "wide":
			return printReleases(rc.opts.Out, []v1alpha1.Release{*r}, false, true, time.Now())
		default:
			return printRelease(rc.opts.Out, r, time.Now())
		}
	}
	return cmd
}

// printRelease writes the page of one Release: what goes on, then what went on
// before.
func printRelease(w io.Writer, r *v1alpha1.Release, now time.Time) error {
	v := live.View{Release: r, Now: now, Color: colorOn(w)}
	if _, err := fmt.Fprintln(w, strings.Join(v.Lines(), "\n")); err != nil {
		return err
	}
	if len(r.Status.History) == 0 {
		return nil
	}
	if _, err := fmt.Fprint(w, "\nRuns, latest first:\n"); err != nil {
		return err
	}
	return printHistory(w, r.Status.History, now)
}

func printHistory(w io.Writer, runs []v1alpha1.Run, now time.Time) error {
	t := newTable(w)
	t.row("OUTCOME", "FROM", "TO", "CANARY", "FAILED", "DECIDED", "EFFECT", "AFTER", "ENDED", "REASON")
	for _, run := range runs {
		from, to := live.VersionNames(run.From, run.To)
		t.row(run.Outcome, from, to,
			fmt.Sprint(run.Canary.Requests), fmt.Sprintf("%d (%s)", run.Canary.Failures, live.Rate(run.Canary)),
			milliseconds(run.DecisionMillis), milliseconds(run.EffectMillis), fmt.Sprint(run.CanaryRequestsAfterEffect),
			duration.HumanDuration(now.Sub(run.Ended.Time))+" ago", run.Reason)
	}
	return t.flush()
}

// milliseconds is empty when there is nothing to say, as for a run that was
// decided before the first request reached the canary.
func milliseconds(n int64) string {
	if n <= 0 {
		return ""
	}
	return live.Span(time.Duration(n) * time.Millisecond)
}

// colorOn follows no-color.org and the terminal's own word.
func colorOn(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
