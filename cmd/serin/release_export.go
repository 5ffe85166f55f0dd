package main

import (
	"github.com/spf13/cobra"

	"serin.dev/serin/internal/record"
)

func (rc *releaseCmds) newExportCmd() *cobra.Command {
	return rc.exportCmd(record.Release, &cobra.Command{
		Use:   "export NAME",
		Short: "Print the record of a run: every decision with its evidence",
		Long: `Print the record of a run as one JSON document: the plan, what was decided when
and on what evidence, gates, hooks, acknowledgements of the proxies, the measured
split, the cost, and every look at the traffic, so that 'serin release replay'
can decide it all again.`,
		Example: `  serin release export music > music.json
  serin release export music --run 7 | jq '.timeline[].decision.reason'`,
		Args:              exactName,
		ValidArgsFunction: rc.completeNames,
	})
}
