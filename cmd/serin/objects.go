package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/cmd/apiresources"
	"k8s.io/kubectl/pkg/cmd/apply"
	"k8s.io/kubectl/pkg/cmd/delete"
	"k8s.io/kubectl/pkg/cmd/describe"
	"k8s.io/kubectl/pkg/cmd/explain"
	"k8s.io/kubectl/pkg/cmd/get"
	"k8s.io/kubectl/pkg/cmd/logs"
	"k8s.io/kubectl/pkg/cmd/scale"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/cmd/wait"

	_ "serin.dev/serin/cmd/serin/internal/english" // before any of the above
)

// newObjectCmds are kubectl's own commands, so that whoever knows kubectl
// knows them: same flags, same output, same behaviour.
func newObjectCmds(opts *options) []*cobra.Command {
	const name = "serin"
	api := newAPI(opts)
	factory := cmdutil.NewFactory(api)
	applyCmd := apply.NewCmdApply(name, factory, opts.IOStreams)
	applyCmd.PreRun = func(cmd *cobra.Command, _ []string) {
		files, err := cmd.Flags().GetStringSlice("filename")
		if err != nil {
			return // the flag has become another: messages have no places
		}
		cmdutil.BehaviorOnFatal(func(msg string, code int) {
			sayError(opts.ErrOut, placesOf(files).mark(msg))
			os.Exit(code)
		})
	}
	cmds := []*cobra.Command{
		applyCmd,
		get.NewCmdGet(name, factory, opts.IOStreams),
		describe.NewCmdDescribe(name, factory, opts.IOStreams),
		delete.NewCmdDelete(factory, opts.IOStreams),
		scale.NewCmdScale(factory, opts.IOStreams),
		logs.NewCmdLogs(factory, opts.IOStreams),
		wait.NewCmdWait(api, opts.IOStreams),
		explain.NewCmdExplain(name, factory, opts.IOStreams),
		apiresources.NewCmdAPIResources(api, opts.IOStreams),
	}
	for _, c := range cmds {
		api.addTo(c)
		sayOurName(c)
	}
	return cmds
}

// sayOurName makes the help of a kubectl command speak of serin.
func sayOurName(cmd *cobra.Command) {
	ours := strings.NewReplacer("kubectl ", "serin ")
	cmd.Long = ours.Replace(cmd.Long)
	cmd.Example = ours.Replace(cmd.Example)
	for _, c := range cmd.Commands() {
		sayOurName(c)
	}
}
