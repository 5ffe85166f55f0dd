package main

import (
	"fmt"
	"io"
	"os"
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
			return printLines(rc.opts.Out, releaseTable([]v1alpha1.Release{*r}, false, true, 0, time.Now()))
		default:
			v := live.View{Release: r, Now: time.Now(), Width: columns(rc.opts.Out), Color: colorOn(rc.opts.Out)}
			return printLines(rc.opts.Out, releasePage(v))
		}
	}
	return cmd
}

// releasePage is all about one Release: what goes on, then what went on before.
func releasePage(v live.View) []string {
	lines := v.Lines()
	if runs := v.Release.Status.History; len(runs) > 0 {
		lines = append(lines, "", "Runs, latest first:")
		lines = append(lines, historyTable(runs, v.Width, v.Now)...)
	}
	return lines
}

// historyTable fits a terminal of that many columns; 0: no terminal.
func historyTable(runs []v1alpha1.Run, width int, now time.Time) []string {
	t := live.Table{Width: width, Long: []string{"FROM", "TO"}, Below: true}
	t.Row("OUTCOME", "FROM", "TO", "CANARY", "FAILED", "DECIDED", "EFFECT", "AFTER", "ENDED", "REASON")
	for _, run := range runs {
		from, to := live.VersionNames(run.From, run.To)
		t.Row(run.Outcome, from, to,
			fmt.Sprint(run.Canary.Requests), fmt.Sprintf("%d (%s)", run.Canary.Failures, live.Rate(run.Canary)),
			milliseconds(run.DecisionMillis), milliseconds(run.EffectMillis), fmt.Sprint(run.CanaryRequestsAfterEffect),
			duration.HumanDuration(now.Sub(run.Ended.Time))+" ago", run.Reason)
	}
	return t.Lines()
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

// columns is how wide the terminal w is; 0 if w is none.
func columns(w io.Writer) int {
	if !isTerminal(w) {
		return 0
	}
	width, _ := terminalSize(int(w.(*os.File).Fd()))
	return width
}

// terminalSize is the size of a terminal in columns and rows.
func terminalSize(fd int) (width, height int) {
	width, height, err := term.GetSize(fd)
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24 // a terminal that does not tell
	}
	return width, height
}
