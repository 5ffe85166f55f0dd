package main

import (
	"os"

	"github.com/spf13/cobra"

	"serin.dev/serin/internal/demoapp"
)

// newDemoAppCmd runs one of the demo applications: what the container images
// serin.dev/demo/NAME stand for. Users meet it in process lists only.
func newDemoAppCmd(opts *options) *cobra.Command {
	return &cobra.Command{
		Use:                "demoapp NAME [VERSION]",
		Short:              "Run a demo application in the foreground",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return demoapp.Main(cmd.Context(), args, os.Getenv, opts.Out)
		},
	}
}
