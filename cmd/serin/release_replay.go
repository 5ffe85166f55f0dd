package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/apiserver"
	"serin.dev/serin/internal/controller"
	"serin.dev/serin/internal/live"
	"serin.dev/serin/internal/record"
	"serin.dev/serin/internal/rollout"
)

func (rc *releaseCmds) newReplayCmd() *cobra.Command {
	var plan string
	cmd := &cobra.Command{
		Use:   "replay NAME | replay -f FILE",
		Short: "Decide a recorded run again, by the same plan or by another",
		Long: `Decide a recorded run again: the looks of its record go through the same rules,
and each decision is compared with the recorded one. Exits 1 when they differ.

With --plan, the recorded traffic is played to the plan of another Release
instead: what it would have decided, when, and how many failed requests users
would have met. That is an estimate: at other shares, each version is taken to
have had the same requests in another number.`,
		Example: `  serin release replay music
  serin release replay -f music.json
  serin release replay music --plan stricter.yaml`,
		Args:              exactName,
		ValidArgsFunction: rc.completeNames,
	}
	cmd.Flags().StringVar(&plan, "plan", "", "file with a Release: try its steps and judge on the recorded traffic")
	return rc.replayCmd(record.Release, cmd, func(r *record.Record) error {
		if plan == "" {
			return replayRun(rc.opts.Out, r)
		}
		other, err := planFrom(plan, r.Release)
		if err != nil {
			return fmt.Errorf("%s: %w", plan, err)
		}
		c, err := record.Backtest(r, other)
		if err != nil {
			return err
		}
		return printComparison(rc.opts.Out, r, c)
	})
}

// planFrom reads the plan of a Release from a file: of the one with a name if it
// holds several.
func planFrom(file, name string) (rollout.Plan, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return rollout.Plan{}, err
	}
	var found []*unstructured.Unstructured
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		obj := &unstructured.Unstructured{}
		if err := cmp.Or(err, yaml.Unmarshal(doc, &obj.Object)); err != nil {
			return rollout.Plan{}, err
		}
		if obj.GroupVersionKind().GroupKind() == v1alpha1.GroupVersion.WithKind("Release").GroupKind() {
			found = append(found, obj)
		}
	}
	i := 0
	switch {
	case len(found) == 0:
		return rollout.Plan{}, errors.New("there is no Release in it")
	case len(found) > 1:
		for i < len(found) && found[i].GetName() != name {
			i++
		}
		if i == len(found) {
			return rollout.Plan{}, fmt.Errorf("there are %d Releases in it, and none is called %s", len(found), name)
		}
	}
	if err := apiserver.Complete("releases."+v1alpha1.GroupVersion.Group, found[i]); err != nil {
		return rollout.Plan{}, err
	}
	r := &v1alpha1.Release{}
	if err := decode(found[i].Object, r); err != nil {
		return rollout.Plan{}, err
	}
	return controller.PlanOf(r)
}

// printComparison prints what two plans made of the same traffic.
func printComparison(w io.Writer, r *record.Record, c *record.Comparison) error {
	fmt.Fprintf(w, "Run %d of %s, on the recorded traffic:\n\n", r.Run, r.Release)
	t := newTable(w)
	row := func(name string, of func(*record.Course) string) { t.row(name, of(&c.Recorded), of(&c.Estimated)) }
	t.row("", "RECORDED", "ESTIMATED")
	row("decision", func(c *record.Course) string { return cmp.Or(string(c.Outcome), "none") })
	row("after", func(c *record.Course) string { return live.Span(c.Decided) })
	row("at step", func(c *record.Course) string { return fmt.Sprintf("%d of %d", c.Step, c.Steps) })
	row("canary requests", func(c *record.Course) string { return fmt.Sprint(c.Counts.CanaryRequests) })
	row("failed requests", func(c *record.Course) string { return fmt.Sprint(c.Counts.CanaryFailures) })
	row("caused by the release", func(c *record.Course) string { return fmt.Sprintf("about %.3g", c.Cost) })
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nRecorded:  %s\nEstimated: %s\n\nThis is an estimate: the requests are those of the recorded run, as many as the other shares would have\ngiven each version.\n",
		live.Plain(c.Recorded.Reason), live.Plain(c.Estimated.Reason))
	for _, note := range c.Notes {
		fmt.Fprintf(w, "- %s\n", note)
	}
	return nil
}
