package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/fields"
)

func newReleaseCmd(opts *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "release",
		Aliases: []string{"releases", "rel"},
		Short:   "See and steer releases",
		Long: `See how a new version is doing, and decide for it.

Every command reads the API and writes to it, nothing else: a release goes on
whether or not anyone looks.`,
	}
	rc := &releaseCmds{opts: opts, api: newAPI(opts)}
	rc.api.addTo(cmd)
	cmd.AddCommand(
		rc.newListCmd(),
		rc.newGetCmd(),
		rc.newWatchCmd(),
		rc.newHistoryCmd(),
		rc.newExportCmd(),
		rc.newReplayCmd(),
	)
	cmd.AddCommand(rc.newCommandCmds()...)
	return cmd
}

// releaseCmds is what the subcommands of release share.
type releaseCmds struct {
	opts *options
	api  *api
}

// exactName accepts the name of one Release.
func exactName(_ *cobra.Command, args []string) error { return oneName("release", "music", args) }

func oneName(kind, such string, args []string) error {
	switch len(args) {
	case 0:
		return fmt.Errorf("name the %s, such as '%s'", kind, such)
	case 1:
		return nil
	default:
		return fmt.Errorf("name one %s, not %d", kind, len(args))
	}
}

// open connects to the API and says in which namespace to work.
func (rc *releaseCmds) open() (client *releaseClient, namespace string, err error) {
	namespace, err = rc.api.namespace()
	if err != nil {
		return nil, "", err
	}
	config, err := rc.api.ToRESTConfig()
	if err != nil {
		return nil, "", err
	}
	client, err = newReleaseClient(config)
	return client, namespace, err
}

// completeNames offers the names of the Releases that exist.
func (rc *releaseCmds) completeNames(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return rc.complete(cmd, args, func(ctx context.Context, client *releaseClient, namespace string) ([]cobra.Completion, error) {
		list, err := client.list(ctx, namespace, fields.Everything())
		if err != nil {
			return nil, err
		}
		var names []cobra.Completion
		for _, r := range list.Items {
			names = append(names, cobra.CompletionWithDesc(r.Name, r.Status.Phase))
		}
		return names, nil
	})
}

// complete offers names for the only argument. When the API cannot be asked
// there is nothing to offer.
func (rc *releaseCmds) complete(cmd *cobra.Command, args []string, names func(context.Context, *releaseClient, string) ([]cobra.Completion, error)) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), dialTimeout)
	defer cancel()
	client, namespace, err := rc.open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	out, err := names(ctx, client, namespace)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
