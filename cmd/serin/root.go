package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Groups of the help, in the order in which a new user needs them.
const (
	groupStart    = "start"
	groupReleases = "releases"
	groupObjects  = "objects"
	groupTools    = "tools"
)

func newRootCmd(opts *options) *cobra.Command {
	root := &cobra.Command{
		Use:   "serin",
		Short: "Release new versions of services safely",
		Long: `Serin shifts traffic to a new version step by step, judges every request,
promotes what is good, rolls back what is bad within seconds, and says why.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(opts.In)
	root.SetOut(opts.Out)
	root.SetErr(opts.ErrOut)
	opts.addFlags(root.PersistentFlags())

	root.AddGroup(
		&cobra.Group{ID: groupStart, Title: "Start:"},
		&cobra.Group{ID: groupReleases, Title: "Releases:"},
		&cobra.Group{ID: groupObjects, Title: "Objects:"},
		&cobra.Group{ID: groupTools, Title: "Tools:"},
	)
	root.SetHelpCommandGroupID(groupTools)
	root.SetCompletionCommandGroupID(groupTools)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupStart, newUpCmd(opts), newDemoCmd(opts))
	add(groupReleases, newReleaseCmd(opts), newExperimentCmd(opts), newSimulateCmd(opts), newMetricCmd(opts))
	add(groupObjects, newObjectCmds(opts)...)
	add(groupTools, newConvertCmd(opts), newLoadCmd(opts), newProxyCmd(opts), newVersionCmd(opts))
	root.AddCommand(newDemoAppCmd(opts))

	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	strictUsage(root)
	return root
}

// strictUsage turns every mistake in a command line into a usage error of one
// line, below cmd and its children. Cobra alone prints the help and exits 0
// for an unknown subcommand.
func strictUsage(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return asUsageError(c, err)
	})
	args := cmd.Args
	if cmd.HasSubCommands() && !cmd.Runnable() {
		// A group: without arguments it shows its help, as cobra does for
		// this error.
		args = func(c *cobra.Command, given []string) error {
			if len(given) == 0 {
				return pflag.ErrHelp
			}
			return unknownCommand(c, given[0])
		}
		cmd.RunE = func(*cobra.Command, []string) error { return nil }
	}
	if args != nil {
		cmd.Args = func(c *cobra.Command, given []string) error { return asUsageError(c, args(c, given)) }
	}
	for _, c := range cmd.Commands() {
		strictUsage(c)
	}
}

func asUsageError(c *cobra.Command, err error) error {
	var coded *exitError
	if err == nil || errors.Is(err, pflag.ErrHelp) || errors.As(err, &coded) {
		return err
	}
	return usageErrorf("%v (see '%s --help')", err, c.CommandPath())
}

func unknownCommand(c *cobra.Command, name string) error {
	c.SuggestionsMinimumDistance = 2 // cobra's own default, set only on its other path
	hint := fmt.Sprintf("see '%s --help'", c.CommandPath())
	if near := c.SuggestionsFor(name); len(near) > 0 {
		hint = fmt.Sprintf("did you mean '%s'?", strings.Join(near, "' or '"))
	}
	return usageErrorf("unknown command %q for %q (%s)", name, c.CommandPath(), hint)
}
