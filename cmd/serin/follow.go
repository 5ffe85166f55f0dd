package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/live"
)

// Pauses between two tries to reach an API that does not answer. serin up is
// back within a second, and a person looks on.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// errNoRelease says that the followed Release does not exist, or not any more.
var errNoRelease = errors.New("not found")

// update is one piece of news about a followed Release; exactly one field is
// set.
type update struct {
	release *v1alpha1.Release
	event   *releaseEvent
	lost    error // no news for a while because of this
}

// releaseEvent is an event as the API holds it: it comes again with the same
// UID when it happens again.
type releaseEvent struct {
	live.Event
	uid types.UID
}

// follow sends every state of a Release, and its events, until ctx ends. It
// goes through restarts of the API, and then begins again with the present
// state. It returns errNoRelease when there is no such Release, or ctx's error.
func (c *releaseClient) follow(ctx context.Context, namespace, name string, updates chan<- update) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	send := func(u update) {
		select {
		case updates <- u:
		case <-ctx.Done():
		}
	}
	events := make(chan error, 1)
	go func() {
		events <- keepWatching(ctx, func() error { return c.streamEvents(ctx, namespace, name, send) }, func(error) {})
	}()
	err := keepWatching(ctx,
		func() error { return c.streamRelease(ctx, namespace, name, send) },
		func(err error) { send(update{lost: err}) })
	cancel()
	<-events
	return err
}

// keepWatching runs stream again and again until ctx ends or there is no such
// Release; lost is told of every error on the way.
func keepWatching(ctx context.Context, stream func() error, lost func(error)) error {
	pause := firstRetry
	for {
		begun := time.Now()
		err := stream()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errNoRelease):
			return err
		case err != nil:
			lost(err)
		}
		if time.Since(begun) > lastRetry {
			pause = firstRetry
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, lastRetry)
	}
}

// streamRelease sends the present state and every later one until the
// connection ends.
func (c *releaseClient) streamRelease(ctx context.Context, namespace, name string, send func(update)) error {
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, name)
	list, err := c.list(ctx, namespace, selector)
	if err != nil {
		return err
	}
	if len(list.Items) == 0 {
		return fmt.Errorf("release %q in namespace %q: %w", name, namespace, errNoRelease)
	}
	send(update{release: &list.Items[0]})
	w, err := c.watch(ctx, namespace, selector, list.ResourceVersion)
	if err != nil {
		return err
	}
	return eachEvent(w, func(ev watch.Event) error {
		r, ok := ev.Object.(*v1alpha1.Release)
		if !ok {
			return nil
		}
		if ev.Type == watch.Deleted {
			return fmt.Errorf("release %q in namespace %q was deleted: %w", name, namespace, errNoRelease)
		}
		send(update{release: setKind(r)})
		return nil
	})
}

// streamEvents sends the events about a Release until the connection ends.
func (c *releaseClient) streamEvents(ctx context.Context, namespace, name string, send func(update)) error {
	about := fields.Set{"involvedObject.kind": "Release", "involvedObject.name": name}.AsSelector().String()
	list, err := c.core.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: about})
	if err != nil {
		return err
	}
	for i := range list.Items {
		send(update{event: newReleaseEvent(&list.Items[i])})
	}
	w, err := c.core.CoreV1().Events(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: about, ResourceVersion: list.ResourceVersion})
	if err != nil {
		return err
	}
	return eachEvent(w, func(ev watch.Event) error {
		if e, ok := ev.Object.(*corev1.Event); ok && ev.Type != watch.Deleted {
			send(update{event: newReleaseEvent(e)})
		}
		return nil
	})
}

// eachEvent gives handle what w sends until w ends, an error comes or handle
// returns one.
func eachEvent(w watch.Interface, handle func(watch.Event) error) error {
	defer w.Stop()
	for ev := range w.ResultChan() {
		if ev.Type == watch.Error {
			return apierrors.FromObject(ev.Object)
		}
		if err := handle(ev); err != nil {
			return err
		}
	}
	return nil
}

func newReleaseEvent(e *corev1.Event) *releaseEvent {
	at := e.LastTimestamp.Time
	for _, other := range []time.Time{e.EventTime.Time, e.FirstTimestamp.Time, e.CreationTimestamp.Time} {
		if at.IsZero() {
			at = other
		}
	}
	return &releaseEvent{
		Event: live.Event{Time: at, Warning: e.Type == corev1.EventTypeWarning, Reason: e.Reason, Message: e.Message},
		uid:   e.UID,
	}
}
