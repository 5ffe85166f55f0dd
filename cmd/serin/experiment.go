package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/live"
	"serin.dev/serin/internal/record"
)

func newExperimentCmd(opts *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "experiment",
		Aliases: []string{"experiments", "exp"},
		Short:   "See experiments with several versions",
		Long: `See how the candidates of an experiment do beside the running version.

An experiment begins when its object is applied, and ends by itself, or when the
object is deleted: then all traffic goes back to the running version.`,
	}
	rc := &releaseCmds{opts: opts, api: newAPI(opts)}
	rc.api.addTo(cmd)
	get := &cobra.Command{
		Use:               "get NAME",
		Short:             "Show an experiment: shares, samples, verdicts, winner",
		Args:              exactExperiment,
		ValidArgsFunction: rc.completeExperiments,
	}
	output := addOutputFlag(get, "json", "yaml")
	get.RunE = func(cmd *cobra.Command, args []string) error {
		client, namespace, err := rc.open()
		if err != nil {
			return err
		}
		x, err := client.experiment(cmd.Context(), namespace, args[0])
		if err != nil {
			return err
		}
		if output.structured() {
			x.ManagedFields = nil
			return output.print(opts.Out, x)
		}
		return printExperiment(opts.Out, x, time.Now())
	}
	export := &cobra.Command{
		Use:   "export NAME",
		Short: "Print the record of an experiment: every decision with its evidence",
		Long: `Print the record of an experiment as one JSON document: the plan, what was
decided when and on what evidence about which candidate, acknowledgements of the
proxies, the measured shares, the cost, and every look at the traffic, so that
'serin experiment replay' can decide it all again.

Each Experiment that was made with a name is a run of it.`,
		Example: `  serin experiment export speed > speed.json
  serin experiment export speed | jq '.timeline[].decision.reason'`,
		Args:              exactExperiment,
		ValidArgsFunction: rc.completeExperiments,
	}
	replay := &cobra.Command{
		Use:   "replay NAME | replay -f FILE",
		Short: "Decide a recorded experiment again",
		Long: `Decide a recorded experiment again: the looks of its record go through the same
rules, and each decision is compared with the recorded one. Exits 1 when they
differ.`,
		Example: `  serin experiment replay speed
  serin experiment replay -f speed.json`,
		Args:              exactExperiment,
		ValidArgsFunction: rc.completeExperiments,
	}
	cmd.AddCommand(
		get,
		rc.exportCmd(record.Experiment, export),
		rc.replayCmd(record.Experiment, replay, func(r *record.Record) error { return replayRun(opts.Out, r) }),
	)
	return cmd
}

// exactExperiment accepts the name of one Experiment.
func exactExperiment(_ *cobra.Command, args []string) error {
	return oneName("experiment", "speed", args)
}

// completeExperiments offers the names of the Experiments that exist.
func (rc *releaseCmds) completeExperiments(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return rc.complete(cmd, args, func(ctx context.Context, client *releaseClient, namespace string) ([]cobra.Completion, error) {
		var list v1alpha1.ExperimentList
		if err := client.rest.Get().Namespace(namespace).Resource("experiments").Do(ctx).Into(&list); err != nil {
			return nil, err
		}
		var names []cobra.Completion
		for _, x := range list.Items {
			names = append(names, cobra.CompletionWithDesc(x.Name, x.Status.Phase))
		}
		return names, nil
	})
}

func (c *releaseClient) experiment(ctx context.Context, namespace, name string) (*v1alpha1.Experiment, error) {
	var out v1alpha1.Experiment
	if err := c.rest.Get().Namespace(namespace).Resource("experiments").Name(name).Do(ctx).Into(&out); err != nil {
		return nil, sayWhy(err)
	}
	out.APIVersion, out.Kind = v1alpha1.GroupVersion.String(), "Experiment"
	return &out, nil
}

// printExperiment writes the page of one Experiment: what it is at, then what
// each version did.
func printExperiment(w io.Writer, x *v1alpha1.Experiment, now time.Time) error {
	s := &x.Status
	head := newTable(w)
	head.row("experiment", x.Name+" on deployment "+x.Spec.Target.Name)
	phase := s.Phase
	switch {
	case s.Deadline != nil:
		phase += ", until " + s.Deadline.Local().Format(time.TimeOnly) + " at the latest"
	case s.Ends != nil && now.Before(s.Ends.Time) && s.Outcome == "":
		phase += ", " + duration.HumanDuration(s.Ends.Sub(now)) + " left"
	}
	head.row("phase", phase)
	if s.Outcome != "" {
		head.row("outcome", s.Outcome)
	}
	if s.Winner != "" {
		head.row("winner", s.Winner)
	}
	head.row("reason", s.Reason)
	if err := head.flush(); err != nil || len(s.Versions) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	t := newTable(w)
	t.row("VERSION", "RUNS", "ASKED", "ACKED", "MEASURED", "REQUESTS", "FAILED", "P50", "P99", "VERDICT", "EVIDENCE")
	for _, v := range s.Versions {
		evidence := v.Evidence
		if v.Dropped != "" {
			evidence = "dropped: " + v.Dropped
		}
		count := v1alpha1.Count{Requests: v.Requests, Failures: v.Failures}
		t.row(v.Name, live.VersionName(v.Version), withUnit(v.Split.Asked, "%"), withUnit(v.Split.Acked, "%"), withUnit(v.Split.Measured, "%"),
			fmt.Sprint(v.Requests), fmt.Sprintf("%d (%s)", v.Failures, live.Rate(count)),
			withUnit(v.P50, "ms"), withUnit(v.P99, "ms"), v.Verdict, evidence)
	}
	return t.flush()
}

// withUnit adds the unit to a number that is known.
func withUnit(number, unit string) string {
	if number == "" {
		return ""
	}
	return number + unit
}
