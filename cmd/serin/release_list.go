package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/live"
)

func (rc *releaseCmds) newListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List releases with their split and verdict",
		Args:    cobra.NoArgs,
	}
	output := addOutputFlag(cmd, "json", "yaml", "wide")
	all := cmd.Flags().BoolP("all-namespaces", "A", false, "list the releases of every namespace")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, namespace, err := rc.open()
		if err != nil {
			return err
		}
		if *all {
			namespace = metav1.NamespaceAll
		}
		list, err := client.list(cmd.Context(), namespace, fields.Everything())
		if err != nil {
			return err
		}
		if output.structured() {
			list.APIVersion, list.Kind = v1alpha1.GroupVersion.String(), "ReleaseList"
			for i := range list.Items {
				list.Items[i].ManagedFields = nil
			}
			return output.print(rc.opts.Out, list)
		}
		if len(list.Items) == 0 {
			where := "in namespace " + namespace
			if *all {
				where = "in any namespace"
			}
			_, err := fmt.Fprintf(rc.opts.ErrOut, "No releases %s.\n", where)
			return err
		}
		wide, width := output.value == "wide", columns(rc.opts.Out)
		if wide {
			width = 0 // everything was asked for
		}
		return printLines(rc.opts.Out, releaseTable(list.Items, *all, wide, width, time.Now()))
	}
	return cmd
}

// roomyWidth is how wide a terminal must be for all columns of the list beside
// a reason of more than its first words. In a narrower one the asked share
// stands alone, which the acked and measured ones follow in seconds.
const roomyWidth = 100

// releaseTable fits a terminal of that many columns; 0: no terminal, and
// nothing is left out. wide adds columns.
func releaseTable(releases []v1alpha1.Release, namespaces, wide bool, width int, now time.Time) []string {
	t := live.Table{Width: width, Long: []string{"NAMESPACE", "NAME", "STEP", "REASON"}}
	row := func(namespace, name, phase, step string, s [3]string, verdict, reason, age string, more ...string) {
		var cells []string
		if namespaces {
			cells = append(cells, namespace)
		}
		shares := s[:]
		if 0 < width && width < roomyWidth {
			shares = s[:1]
		}
		cells = append(append(cells, name, phase, step), shares...)
		cells = append(cells, verdict, reason, age)
		if wide {
			cells = append(cells, more...)
		}
		t.Row(cells...)
	}
	row("NAMESPACE", "NAME", "PHASE", "STEP", [3]string{"ASKED", "ACKED", "MEASURED"}, "VERDICT", "REASON", "AGE", "STABLE", "CANARY", "EVIDENCE")
	for _, r := range releases {
		s := r.Status
		shares := [3]string{live.Percent(s.Split.Asked), live.Percent(s.Split.Acked), withUnit(s.Split.Measured, "%")}
		stable, canary := live.VersionNames(s.Stable, s.Canary)
		reason := s.Reason
		if width > 0 {
			reason = live.ReasonAtStep(&s) // what is cut off must not be all that is new
		}
		row(r.Namespace, r.Name, s.Phase, s.StepText, shares, s.Verdict, reason,
			duration.HumanDuration(now.Sub(r.CreationTimestamp.Time)), stable, canary, s.Evidence)
	}
	return t.Lines()
}
