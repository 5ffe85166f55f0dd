package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/live"
	"serin.dev/serin/internal/rollout"
)

const (
	// A command that was not taken in yet is not written over: that takes
	// milliseconds, unless nobody is there to take it in or a promotion waits
	// for the end of a freeze.
	orderPause = 50 * time.Millisecond
	orderWaits = 20
)

// order writes a command to the Release. The Release may have changed since it
// was looked at, but a command of somebody else that nobody has read yet is not
// lost by this one.
func (c *releaseClient) order(ctx context.Context, o order) (id string, _ *v1alpha1.Release, err error) {
	id = rand.Text()
	annotations := map[string]any{
		v1alpha1.AnnotationCommand:   o.verb,
		v1alpha1.AnnotationCommandID: id,
		// What an earlier command said goes.
		v1alpha1.AnnotationCommandReason: orNull(o.reason),
		v1alpha1.AnnotationCommandBy:     orNull(o.by),
		v1alpha1.AnnotationCommandGate:   orNull(o.gate),
	}
	for n := 0; ; n++ {
		r, err := c.get(ctx, o.before.Namespace, o.before.Name)
		if err != nil {
			return "", nil, err
		}
		if unread(r) && n < orderWaits {
			select {
			case <-ctx.Done():
				return "", nil, context.Cause(ctx)
			case <-time.After(orderPause):
			}
			continue
		}
		doc, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"annotations": annotations, "resourceVersion": r.ResourceVersion},
		})
		if err != nil {
			return "", nil, err
		}
		after, err := c.patch(ctx, r.Namespace, r.Name, doc)
		if !apierrors.IsConflict(err) {
			return id, after, err
		}
	}
}

// orNull removes an annotation that would say nothing.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// unread reports whether the last command was not taken in yet.
func unread(r *v1alpha1.Release) bool {
	id := r.Annotations[v1alpha1.AnnotationCommandID]
	return id != "" && (r.Status.Command == nil || r.Status.Command.ID != id)
}

// running says why there is no run that the command could be for.
func (o order) running() error {
	r := o.before
	switch phase := rollout.Phase(r.Status.Phase); {
	case phase == "" && r.Status.Reason != "":
		return fmt.Errorf("release %s has no run to %s: %s", r.Name, o.verb, r.Status.Reason)
	case !live.Running(r):
		at := ""
		if v := live.VersionName(r.Status.Stable); v != "" {
			at = " at " + v
		}
		return fmt.Errorf("release %s has no run to %s: it is %s%s; a run begins when the pod template of Deployment %s changes",
			r.Name, o.verb, orUnknown(r.Status.Phase), at, r.Spec.Target.Name)
	}
	return nil
}

func orUnknown(phase string) string {
	if phase == "" {
		return "not looked at yet (is 'serin up' running?)"
	}
	return phase
}

// held says why nothing of the release may advance.
func (o order) held() error {
	switch r := o.before; {
	case r.Status.Frozen != "":
		return fmt.Errorf("release %s is frozen (%s), so nothing can advance: remove the annotation %s first", r.Name, r.Status.Frozen, v1alpha1.AnnotationFreeze)
	case r.Spec.Suspend:
		return fmt.Errorf("release %s is suspended, so %s cannot be promoted: set spec.suspend to false first", r.Name, o.version())
	}
	return nil
}

func (o order) canPromote() error {
	if err := o.running(); err != nil {
		return err
	}
	switch r := o.before; rollout.Phase(r.Status.Phase) {
	case rollout.RollingBack:
		return fmt.Errorf("release %s: too late to promote %s: it is being rolled back already", r.Name, o.version())
	case rollout.Finalizing:
		return fmt.Errorf("release %s: %s is promoted already, its run is about to end", r.Name, o.version())
	case rollout.Initializing, rollout.Idle, rollout.Starting, rollout.Testing, rollout.Progressing, rollout.Promoting:
	}
	return o.held()
}

func (o order) canAbort() error {
	if o.before.Status.Phase == string(rollout.Idle) && o.before.Status.Wait != "" {
		return nil // a version waits for its run
	}
	return o.running()
}

func (o order) canSkip() error {
	if err := o.running(); err != nil {
		return err
	}
	switch phase := rollout.Phase(o.before.Status.Phase); phase {
	case rollout.Testing, rollout.Progressing:
	case rollout.Initializing, rollout.Idle, rollout.Starting, rollout.Promoting, rollout.Finalizing, rollout.RollingBack:
		return fmt.Errorf("release %s has no step to skip: it is %s", o.before.Name, phase)
	}
	return o.held()
}

func (o order) canRetry() error {
	if live.Running(o.before) {
		return fmt.Errorf("release %s: a run of %s is on: nothing was taken back that could be tried again", o.before.Name, o.version())
	}
	return nil // the engine knows
}

func (o order) canRollBack() error { return nil }

func (o order) canApprove() error {
	if err := o.canReject(); err != nil {
		return err
	}
	if slices.Contains(waitingGates(o.before), o.gate) {
		return nil
	}
	asked := "none is"
	if waiting := waitingGates(o.before); len(waiting) > 0 {
		asked = "asked: " + strings.Join(waiting, ", ")
	}
	return fmt.Errorf("release %s: gate %s is not asked now (%s): %s", o.before.Name, o.gate, asked, o.before.Status.Reason)
}

// canReject checks what holds for each answer to a gate.
func (o order) canReject() error {
	if err := o.running(); err != nil {
		return err
	}
	r := o.before
	var names []string
	for _, g := range r.Spec.Gates {
		if g.Manual == nil {
			continue
		}
		if g.Name != o.gate {
			names = append(names, g.Name)
			continue
		}
		if len(g.Manual.Approvers) > 0 && !slices.Contains(g.Manual.Approvers, o.by) {
			return fmt.Errorf("release %s: %s may not answer for gate %s: it is for %s (say who you are with --as)",
				r.Name, orSomebody(o.by), g.Name, strings.Join(g.Manual.Approvers, " or "))
		}
		return nil
	}
	if len(names) == 0 {
		return errors.New("release " + r.Name + " has no gate that takes an approval: see spec.gates")
	}
	return fmt.Errorf("release %s has no gate %q that takes an approval: it has %s", r.Name, o.gate, strings.Join(names, ", "))
}
