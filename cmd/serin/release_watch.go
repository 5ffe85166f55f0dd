package main

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/live"
	"serin.dev/serin/internal/rollout"
)

func (rc *releaseCmds) newWatchCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch NAME",
		Short: "Follow a release live until its run ends",
		Long: `Follow a release live until its run ends.

In a terminal the picture is redrawn in place. Elsewhere every change is one
line, and with -o json one Release object per line.

When no run is on and none is about to begin, the way the last one ended is
shown at once. A run that a newer version supersedes is followed by that
version's run.

Exit codes:
  0  the version asked for serves users
  1  the release could not be followed, or --timeout is over
  3  the version asked for was rolled back or aborted`,
		Example: `  # Release a version and wait for the outcome
  serin apply -f music-v2.yaml && serin release watch music

  # Leave it open while you work
  serin release watch music --follow`,
		Args:              exactName,
		ValidArgsFunction: rc.completeNames,
	}
	output := addOutputFlag(cmd, "json")
	follow := cmd.Flags().BoolP("follow", "f", false, "go on with the runs after this one, until Ctrl-C")
	timeout := cmd.Flags().Duration("timeout", 0, "give up after this time (0: never)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, namespace, err := rc.open()
		if err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context(), *timeout)
		defer stop()
		show, err := newShow(rc.opts, output.value)
		if err != nil {
			return err
		}
		w := &watching{client: client, follow: *follow, show: show}
		return errors.Join(w.run(ctx, namespace, args[0]), show.close())
	}
	return cmd
}

// watching follows one Release.
type watching struct {
	client *releaseClient
	follow bool // over the end of a run
	show   show

	view   live.View
	since  time.Time      // events up to then belong to earlier runs
	events []releaseEvent // latest last
	sawRun bool
}

// run shows the Release until its run ended, or ctx. The error carries the
// exit code.
func (w *watching) run(ctx context.Context, namespace, name string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	updates := make(chan update)
	go func() { cancel(w.client.follow(ctx, namespace, name, updates)) }()

	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		var done bool
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case u := <-updates:
			done, err = w.take(ctx, u)
		case <-second.C:
			err = w.tick()
		case <-resized:
			err = w.tick()
		}
		if done || err != nil {
			return err
		}
	}
}

func (w *watching) tick() error {
	if w.view.Release == nil {
		return nil
	}
	w.view.Now = time.Now()
	return w.show.tick(w.view)
}

// take shows one piece of news. With done the run has ended, and err says how.
func (w *watching) take(ctx context.Context, u update) (done bool, err error) {
	w.view.Now = time.Now()
	switch {
	case u.release != nil:
		return w.state(ctx, u.release)
	case u.event != nil:
		return false, w.event(*u.event)
	case w.view.Release == nil:
		return false, u.lost // it never worked
	default:
		w.view.Notice = "No news from the API, trying again: " + brief(u.lost)
		return false, w.show.news(w.view)
	}
}

// brief leaves out which request failed: it is always the same one.
func brief(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err.Error()
	}
	return err.Error()
}

func (w *watching) state(ctx context.Context, r *v1alpha1.Release) (done bool, err error) {
	before := w.view.Release
	w.view.Release, w.view.Notice = r, ""
	w.sawRun = w.sawRun || live.Running(r)
	if !w.follow {
		done, err = w.ended(ctx, before)
	}
	if done && !w.sawRun {
		w.view.Notice = "No run is on; with --follow the next one is waited for."
	}
	var early []releaseEvent
	if before == nil {
		if h := r.Status.History; len(h) > 0 {
			w.since = h[0].Ended.Time
		}
		early, w.events = w.events, nil
		slices.SortStableFunc(early, inOrder)
		for _, e := range early {
			if e.Reason == runStarted && e.Time.After(w.since) {
				w.since = e.Time.Add(-1) // what came before is of no interest
			}
		}
	}
	errs := []error{w.show.news(w.view)}
	for _, e := range early {
		errs = append(errs, w.event(e))
	}
	return done, errors.Join(append(errs, err)...)
}

// runStarted is the reason of the event with which a run begins.
const runStarted = "RunStarted"

// inOrder compares two events by time, which the API keeps in seconds; a run's
// start comes before what happens in the same second.
func inOrder(a, b releaseEvent) int {
	started := func(e releaseEvent) int {
		if e.Reason == runStarted {
			return 0
		}
		return 1
	}
	return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(started(a), started(b)))
}

// event keeps the events of the present run: an API remembers those of earlier
// ones for an hour.
func (w *watching) event(e releaseEvent) error {
	if w.view.Release == nil {
		w.events = append(w.events, e)
		return nil
	}
	if !e.Time.After(w.since) {
		return nil
	}
	if slices.ContainsFunc(w.events, func(old releaseEvent) bool { return old.uid == e.uid && old.Time.Equal(e.Time) }) {
		return nil // told again because the connection was lost
	}
	w.events = slices.DeleteFunc(w.events, func(old releaseEvent) bool {
		return old.uid == e.uid || e.Reason == runStarted && old.Time.Before(e.Time)
	})
	w.events = append(w.events, e)
	slices.SortStableFunc(w.events, inOrder)
	w.view.Events = w.view.Events[:0]
	for _, e := range w.events {
		w.view.Events = append(w.view.Events, e.Event)
	}
	return w.show.event(w.view, e.Event)
}

// ended tells whether there is nothing more to wait for, since the state
// before; the error carries the exit code.
func (w *watching) ended(ctx context.Context, before *v1alpha1.Release) (bool, error) {
	r := w.view.Release
	if run := live.EndedSince(before, r); run != nil && run.Outcome != string(rollout.Superseded) {
		return true, exitOf(run)
	}
	if live.Running(r) || r.Status.Stable.Revision == "" {
		return false, nil
	}
	asked, err := w.client.targetRevision(ctx, r)
	switch {
	case err != nil:
		return true, err
	case asked == r.Status.Stable.Revision:
		return true, nil
	case len(r.Status.History) > 0 && asked == r.Status.History[0].To.Revision:
		return true, exitOf(&r.Status.History[0])
	default:
		return false, nil // asked for, but not begun
	}
}

// exitOf turns the outcome of a run into an exit code. How it went has been
// shown already.
func exitOf(run *v1alpha1.Run) error {
	if run.Outcome == string(rollout.Promoted) {
		return nil
	}
	return &exitError{code: exitRolledBack}
}

// configs reads what a revision is made of.
type configs struct {
	ctx  context.Context
	core kubernetes.Interface
}

func (c configs) ConfigMap(namespace, name string) (*corev1.ConfigMap, error) {
	return c.core.CoreV1().ConfigMaps(namespace).Get(c.ctx, name, metav1.GetOptions{})
}

func (c configs) Secret(namespace, name string) (*corev1.Secret, error) {
	return c.core.CoreV1().Secrets(namespace).Get(c.ctx, name, metav1.GetOptions{})
}

// targetRevision is the revision that the user asks for.
func (c *releaseClient) targetRevision(ctx context.Context, r *v1alpha1.Release) (string, error) {
	target, err := c.core.AppsV1().Deployments(r.Namespace).Get(ctx, r.Spec.Target.Name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	return kube.RevisionOf(target, configs{ctx, c.core}), nil
}
