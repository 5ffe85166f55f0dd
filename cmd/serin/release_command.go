package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/live"
	"serin.dev/serin/internal/rollout"
)

// command is something that a person decides for a release.
type command struct {
	verb  rollout.Verb
	short string
	long  string
	gate  bool // it answers a gate

	// possible says why the command could have no effect.
	possible func(order) error
	// outcomes of the run that obeyed; none: the command has its effect as soon
	// as it is taken in.
	outcomes func(before *v1alpha1.Release) []rollout.Outcome
	// done says what the effect was.
	done func(o order, after *v1alpha1.Release) string
}

// order is a command for a Release, as it was when it was given.
type order struct {
	command
	before           *v1alpha1.Release
	gate, by, reason string
}

// version is the one that a run is about.
func (o order) version() string {
	_, v := live.VersionNames(o.before.Status.Stable, o.before.Status.Canary)
	return v
}

func (rc *releaseCmds) newCommandCmds() []*cobra.Command {
	outcome := func(which ...rollout.Outcome) func(*v1alpha1.Release) []rollout.Outcome {
		return func(*v1alpha1.Release) []rollout.Outcome { return which }
	}
	atOnce := outcome()
	ended := func(o order, after *v1alpha1.Release) string {
		return o.version() + " " + after.Status.History[0].Outcome
	}
	return []*cobra.Command{
		rc.newCommandCmd(command{
			verb: rollout.Promote, possible: order.canPromote, outcomes: outcome(rollout.Promoted), done: ended,
			short: "Make the new version serve all users now",
			long: `Make the new version serve all users now, without the steps that are left.

What the judge has not seen yet, it will not see: use it when you know more
than the samples do.`,
		}),
		rc.newCommandCmd(command{
			verb: rollout.Abort, possible: order.canAbort, outcomes: abortOutcomes,
			done: func(o order, after *v1alpha1.Release) string {
				if !live.Running(o.before) {
					return "the version that waited is not released"
				}
				return ended(o, after)
			},
			short: "Take all traffic back from the new version now",
			long: `Take all traffic back from the new version now.

It is not tried again until the Deployment changes, or somebody says retry. A
version that waits for its run to begin is not begun.`,
		}),
		rc.newCommandCmd(command{
			verb: rollout.Approve, gate: true, possible: order.canApprove, outcomes: atOnce,
			done: func(o order, _ *v1alpha1.Release) string {
				return fmt.Sprintf("gate %s approved by %s", o.gate, orSomebody(o.by))
			},
			short: "Open a gate that waits for a person",
			long: `Open a gate that waits for a person. The canary is judged while a gate waits,
and afterwards: an approval lets the run go on, it does not make a version good.`,
		}),
		rc.newCommandCmd(command{
			verb: rollout.Reject, gate: true, possible: order.canReject, outcomes: outcome(rollout.Aborted),
			done: func(o order, _ *v1alpha1.Release) string {
				return fmt.Sprintf("%s rejected at gate %s by %s", o.version(), o.gate, orSomebody(o.by))
			},
			short: "Say no at a gate: the new version is taken back",
			long: `Say no at a gate that takes approvals, whether it is asked already or will be:
all traffic is taken back from the new version.`,
		}),
		rc.newCommandCmd(command{
			verb: rollout.Skip, possible: order.canSkip, outcomes: atOnce,
			done: func(o order, _ *v1alpha1.Release) string {
				return "the present step of " + o.version() + " is not waited for any longer"
			},
			short: "End the present step without waiting for its evidence",
			long: `End the present step without waiting for its evidence, its hold and its looks.
Gates are still asked, the judge goes on, and the history says who skipped.`,
		}),
		rc.newCommandCmd(command{
			verb: rollout.Retry, possible: order.canRetry, outcomes: atOnce,
			done:  func(order, *v1alpha1.Release) string { return "the version that was taken back is tried again" },
			short: "Release a version once more that was taken back",
			long: `Release a version once more that was rolled back or aborted, such as when the
fault was not its own. Otherwise it is not tried again until the Deployment
changes.`,
		}),
		rc.newCommandCmd(command{
			verb: rollout.Rollback, possible: order.canRollBack,
			outcomes: func(before *v1alpha1.Release) []rollout.Outcome {
				if live.Running(before) {
					return abortOutcomes(before)
				}
				return []rollout.Outcome{rollout.Reverted}
			},
			done: func(_ order, after *v1alpha1.Release) string {
				return live.VersionName(after.Status.Stable) + " serves all users again"
			},
			short: "Go back to the last good version",
			long: `Go back to the last good version: during a run to the stable one, otherwise
from the stable version to the one before it. With spec.keepWarm its pods are
still there, and the traffic is back within a second.`,
		}),
	}
}

// abortOutcomes are those with which a run may end that is aborted: the judge
// may have been faster. A version that waits has no run.
func abortOutcomes(before *v1alpha1.Release) []rollout.Outcome {
	if !live.Running(before) {
		return nil
	}
	return []rollout.Outcome{rollout.Aborted, rollout.RolledBack, rollout.Superseded}
}

func orSomebody(who string) string {
	if who == "" {
		return "somebody"
	}
	return who
}

func (rc *releaseCmds) newCommandCmd(c command) *cobra.Command {
	cmd := &cobra.Command{
		Use:               string(c.verb) + " NAME",
		Short:             c.short,
		Long:              c.long,
		Args:              exactName,
		ValidArgsFunction: rc.completeNames,
	}
	o := order{command: c}
	output := addOutputFlag(cmd, "json", "yaml")
	flags := cmd.Flags()
	flags.StringVar(&o.reason, "reason", "", "why, for the history")
	flags.StringVar(&o.by, "as", "", "who you are, for the history and for gates with approvers (default: your user name)")
	if c.gate {
		flags.StringVar(&o.gate, "gate", "", "which gate (default: the one that waits)")
	}
	wait := flags.Bool("wait", true, "wait for the effect")
	timeout := flags.Duration("timeout", 2*time.Minute, "longest time to wait (0: no limit)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, namespace, err := rc.open()
		if err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context(), *timeout)
		defer stop()
		if o.before, err = client.get(ctx, namespace, args[0]); err != nil {
			return err
		}
		if o.by == "" {
			o.by = userName()
		}
		if err := o.findGate(); err != nil {
			return err
		}
		after, said := o.before, o.alreadyDone()
		if said == "" {
			if after, said, err = client.carryOut(ctx, o, *wait); err != nil {
				return err
			}
		}
		if output.structured() {
			after.ManagedFields = nil
			return output.print(rc.opts.Out, after)
		}
		_, err = fmt.Fprintf(rc.opts.Out, "release %s: %s\n", after.Name, said)
		return err
	}
	return cmd
}

// userName is whom the machine takes the caller for; "" when it does not know.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}

// findGate takes the gate that waits when none is named.
func (o *order) findGate() error {
	if !o.command.gate || o.gate != "" {
		return nil
	}
	waiting := waitingGates(o.before)
	switch len(waiting) {
	case 0:
		return fmt.Errorf("release %s: no gate waits for an answer: name one with --gate", o.before.Name)
	case 1:
		o.gate = waiting[0]
		return nil
	default:
		return fmt.Errorf("release %s: %d gates wait: name one with --gate: %s", o.before.Name, len(waiting), strings.Join(waiting, ", "))
	}
}

// waitingGates are the gates that wait for a person.
func waitingGates(r *v1alpha1.Release) []string {
	var out []string
	for _, g := range r.Spec.Gates {
		i := slices.IndexFunc(r.Status.Gates, func(s v1alpha1.GateStatus) bool { return s.Name == g.Name })
		if g.Manual != nil && i >= 0 && r.Status.Gates[i].By == "" {
			out = append(out, g.Name)
		}
	}
	return out
}

// alreadyDone says what nobody has to order any more; "" = it has to be ordered.
func (o order) alreadyDone() string {
	for _, g := range o.before.Status.Gates {
		if o.verb == rollout.Approve && g.Name == o.gate && g.By != "" {
			return fmt.Sprintf("gate %s is approved already, by %s", g.Name, g.By)
		}
	}
	return ""
}

// carryOut writes the order to the Release and says what became of it.
func (c *releaseClient) carryOut(ctx context.Context, o order, wait bool) (after *v1alpha1.Release, said string, err error) {
	if err := o.possible(o); err != nil {
		return nil, "", err
	}
	id, after, err := c.order(ctx, o)
	if err != nil {
		return nil, "", err
	}
	asked := fmt.Sprintf("asked to %s %s", o.verb, o.version())
	if o.command.gate {
		asked = fmt.Sprintf("asked to %s at gate %s", o.verb, o.gate)
	}
	asked = strings.TrimSpace(asked)
	if !wait {
		return after, asked, nil
	}
	if after, err = c.await(ctx, o, id); err != nil {
		return nil, "", fmt.Errorf("release %s: %s: %w", o.before.Name, asked, err)
	}
	return after, o.done(o, after), nil
}

// await waits until the order has its effect, and returns the Release then. A
// run that ended otherwise is an error.
func (c *releaseClient) await(ctx context.Context, o order, id string) (*v1alpha1.Release, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	updates := make(chan update)
	go func() { cancel(c.follow(ctx, o.before.Namespace, o.before.Name, updates)) }()
	for {
		select {
		case <-ctx.Done():
			err := context.Cause(ctx)
			if errors.Is(err, errTimeout) {
				err = fmt.Errorf("no effect yet: %w: see 'serin release get %s'", err, o.before.Name)
			}
			return nil, err
		case u := <-updates:
			if u.release == nil {
				continue
			}
			if done, err := o.effect(u.release, id); done || err != nil {
				return u.release, err
			}
		}
	}
}

// effect reports whether the order had its effect by now.
func (o order) effect(now *v1alpha1.Release, id string) (bool, error) {
	taken := now.Status.Command
	if taken != nil && taken.ID == id && taken.Refused != "" {
		return false, errors.New(taken.Refused)
	}
	outcomes := o.outcomes(o.before)
	if len(outcomes) == 0 {
		return taken != nil && taken.ID == id, nil
	}
	run := live.EndedSince(o.before, now)
	if run != nil && !slices.Contains(outcomes, rollout.Outcome(run.Outcome)) {
		return false, fmt.Errorf("the run ended otherwise: %s: %s", run.Outcome, run.Reason)
	}
	return run != nil, nil
}
