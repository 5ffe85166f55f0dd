package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// buildInfo says which Serin this is, as the Go toolchain recorded it.
type buildInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Date     string `json:"date,omitempty"`     // of the commit
	Modified bool   `json:"modified,omitempty"` // built from an edited work tree
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersionCmd(opts *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
	}
	output := addOutputFlag(cmd, "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		b := readBuildInfo()
		if output.value == "json" {
			return json.NewEncoder(opts.Out).Encode(b)
		}
		_, err := fmt.Fprintf(opts.Out, "serin %s (%s, %s)\n", b.Version, b.Go, b.Platform)
		return err
	}
	return cmd
}

func readBuildInfo() buildInfo {
	b := buildInfo{
		Version:  "(devel)",
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}
