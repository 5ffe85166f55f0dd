package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"serin.dev/serin/internal/translate/argo"
)

func newConvertCmd(opts *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "convert -f FILE",
		Short: "Convert Rollouts of Argo into Deployments and Releases",
		Long: `Convert Rollouts of Argo, with the AnalysisTemplates, Services and
VirtualServices that they refer to, into Deployments, Releases and
MetricTemplates. All of them are in one file, and what comes out is written to
the standard output.

What cannot be kept as it was is told on the standard error, each with its path
and the reason, and as comments. Nothing is changed anywhere.`,
		Example: `  serin convert -f rollout.yaml >release.yaml
  kubectl get rollouts,analysistemplates,services,virtualservices -o yaml | serin convert -f -`,
		Args: cobra.NoArgs,
	}
	file := cmd.Flags().StringP("filename", "f", "", "file with the objects; - for standard input")
	cmd.RunE = func(*cobra.Command, []string) error {
		if *file == "" {
			return usageErrorf("name the file with -f (see 'serin convert --help')")
		}
		var data []byte
		var err error
		if *file == "-" {
			data, err = io.ReadAll(opts.In)
		} else {
			data, err = os.ReadFile(*file)
		}
		if err != nil {
			return err
		}
		out, notes, err := argo.Convert(data)
		if err != nil {
			return fmt.Errorf("%s: %w", *file, err)
		}
		for _, n := range notes {
			fmt.Fprintln(opts.ErrOut, n)
		}
		_, err = opts.Out.Write(out)
		return err
	}
	return cmd
}
