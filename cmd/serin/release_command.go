package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/live"
	"serin.dev/serin/internal/rollout"
)

// command is something that a person decides for a run.
type command struct {
	verb    rollout.Verb
	outcome rollout.Outcome // of the run that obeyed
	short   string
	long    string
}

func (rc *releaseCmds) newPromoteCmd() *cobra.Command {
	return rc.newCommandCmd(command{
		verb:    rollout.Promote,
		outcome: rollout.Promoted,
		short:   "Make the new version serve all users now",
		long: `Make the new version serve all users now, without the steps that are left.

What the judge has not seen yet, it will not see: use it when you know more
than the samples do.`,
	})
}

func (rc *releaseCmds) newAbortCmd() *cobra.Command {
	return rc.newCommandCmd(command{
		verb:    rollout.Abort,
		outcome: rollout.Aborted,
		short:   "Take all traffic back from the new version now",
		long: `Take all traffic back from the new version now.

It is not tried again until the Deployment changes.`,
	})
}

func (rc *releaseCmds) newCommandCmd(c command) *cobra.Command {
	cmd := &cobra.Command{
		Use:               string(c.verb) + " NAME",
		Short:             c.short,
		Long:              c.long,
		Args:              exactName,
		ValidArgsFunction: rc.completeNames,
	}
	output := addOutputFlag(cmd, "json", "yaml")
	reason := cmd.Flags().String("reason", "", "why, for the history")
	wait := cmd.Flags().Bool("wait", true, "wait until the run ended")
	timeout := cmd.Flags().Duration("timeout", 2*time.Minute, "longest time to wait (0: no limit)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, namespace, err := rc.open()
		if err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context(), *timeout)
		defer stop()
		before, err := client.get(ctx, namespace, args[0])
		if err != nil {
			return err
		}
		if err := c.possible(before); err != nil {
			return err
		}
		r, err := client.order(ctx, before, c.verb, *reason)
		if err != nil {
			return err
		}
		_, version := live.VersionNames(before.Status.Stable, before.Status.Canary)
		said := fmt.Sprintf("release %s: asked to %s %s", r.Name, c.verb, version)
		if *wait {
			if r, err = client.await(ctx, before, c); err != nil {
				return fmt.Errorf("%s: %w", said, err)
			}
			said = fmt.Sprintf("release %s: %s %s", r.Name, version, c.outcome)
		}
		if output.structured() {
			r.ManagedFields = nil
			return output.print(rc.opts.Out, r)
		}
		_, err = fmt.Fprintln(rc.opts.Out, said)
		return err
	}
	return cmd
}

// possible says why there is nothing to decide.
func (c command) possible(r *v1alpha1.Release) error {
	_, version := live.VersionNames(r.Status.Stable, r.Status.Canary)
	switch phase := rollout.Phase(r.Status.Phase); {
	case phase == "" && r.Status.Reason != "":
		return fmt.Errorf("release %s has no run to %s: %s", r.Name, c.verb, r.Status.Reason)
	case !live.Running(r):
		at := ""
		if v := live.VersionName(r.Status.Stable); v != "" {
			at = " at " + v
		}
		return fmt.Errorf("release %s has no run to %s: it is %s%s; a run begins when the pod template of Deployment %s changes",
			r.Name, c.verb, orUnknown(r.Status.Phase), at, r.Spec.Target.Name)
	case phase == rollout.RollingBack:
		return fmt.Errorf("release %s: too late to %s %s: it is being rolled back already", r.Name, c.verb, version)
	case phase == rollout.Finalizing && c.verb == rollout.Promote:
		return fmt.Errorf("release %s: %s is promoted already, its run is about to end", r.Name, version)
	case r.Spec.Suspend && c.verb == rollout.Promote:
		return fmt.Errorf("release %s is suspended, so %s cannot be promoted: set spec.suspend to false first", r.Name, version)
	default:
		return nil
	}
}

func orUnknown(phase string) string {
	if phase == "" {
		return "not looked at yet (is 'serin up' running?)"
	}
	return phase
}

// order writes the command to the Release.
func (c *releaseClient) order(ctx context.Context, r *v1alpha1.Release, verb rollout.Verb, reason string) (*v1alpha1.Release, error) {
	annotations := map[string]any{
		v1alpha1.AnnotationCommand:       verb,
		v1alpha1.AnnotationCommandID:     rand.Text(),
		v1alpha1.AnnotationCommandReason: nil, // removes that of an earlier command
	}
	if reason != "" {
		annotations[v1alpha1.AnnotationCommandReason] = reason
	}
	doc, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": annotations}})
	if err != nil {
		return nil, err
	}
	return c.patch(ctx, r.Namespace, r.Name, doc)
}

// await waits until the run that was on in before has ended, and returns the
// Release then. Another outcome than the one that was asked for is an error.
func (c *releaseClient) await(ctx context.Context, before *v1alpha1.Release, asked command) (*v1alpha1.Release, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	updates := make(chan update)
	go func() { cancel(c.follow(ctx, before.Namespace, before.Name, updates)) }()
	for {
		select {
		case <-ctx.Done():
			err := context.Cause(ctx)
			if errors.Is(err, errTimeout) {
				err = fmt.Errorf("no effect yet: %w: see 'serin release get %s'", err, before.Name)
			}
			return nil, err
		case u := <-updates:
			if u.release == nil {
				continue
			}
			run := live.EndedSince(before, u.release)
			switch {
			case run == nil:
			case run.Outcome != string(asked.outcome):
				return nil, fmt.Errorf("the run ended otherwise: %s: %s", run.Outcome, run.Reason)
			default:
				return u.release, nil
			}
		}
	}
}
