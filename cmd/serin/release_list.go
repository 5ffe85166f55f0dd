package main

import (
	"fmt"
	"io"
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
		return printReleases(rc.opts.Out, list.Items, *all, output.value == "wide", time.Now())
	}
	return cmd
}

// reasonWidth keeps a row of the list on one line of a usual terminal; -o wide
// shows the whole reason.
const reasonWidth = 40

func printReleases(w io.Writer, releases []v1alpha1.Release, namespaces, wide bool, now time.Time) error {
	t := newTable(w)
	header := []string{"NAME", "PHASE", "STEP", "ASKED", "ACKED", "MEASURED", "VERDICT", "REASON", "AGE"}
	if wide {
		header = append(header, "STABLE", "CANARY", "EVIDENCE")
	}
	if namespaces {
		header = append([]string{"NAMESPACE"}, header...)
	}
	t.row(header...)
	for _, r := range releases {
		s := r.Status
		cells := []string{
			r.Name, s.Phase, s.StepText, live.Percent(s.Split.Asked), live.Percent(s.Split.Acked), "",
			s.Verdict, s.Reason, duration.HumanDuration(now.Sub(r.CreationTimestamp.Time)),
		}
		if !wide {
			cells[7] = live.Cut(s.Reason, reasonWidth)
		}
		if s.Split.Measured != "" {
			cells[5] = s.Split.Measured + "%"
		}
		if wide {
			stable, canary := live.VersionNames(s.Stable, s.Canary)
			cells = append(cells, stable, canary, s.Evidence)
		}
		if namespaces {
			cells = append([]string{r.Namespace}, cells...)
		}
		t.row(cells...)
	}
	return t.flush()
}
