package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"serin.dev/serin/api/v1alpha1"
)

func (rc *releaseCmds) newHistoryCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "history NAME",
		Short:             "List the runs that ended, with what they cost and why they ended so",
		Args:              exactName,
		ValidArgsFunction: rc.completeNames,
	}
	output := addOutputFlag(cmd, "json", "yaml")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, namespace, err := rc.open()
		if err != nil {
			return err
		}
		r, err := client.get(cmd.Context(), namespace, args[0])
		if err != nil {
			return err
		}
		runs := r.Status.History
		switch {
		case output.structured():
			if runs == nil {
				runs = []v1alpha1.Run{} // "[]" rather than "null"
			}
			return output.print(rc.opts.Out, runs)
		case len(runs) == 0:
			_, err := fmt.Fprintf(rc.opts.ErrOut, "No run of %s has ended yet.\n", r.Name)
			return err
		default:
			return printLines(rc.opts.Out, historyTable(runs, columns(rc.opts.Out), time.Now()))
		}
	}
	return cmd
}
