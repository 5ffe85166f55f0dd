package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/translate/flagger"
)

// Canaries gives each Flagger Canary a Release of the same name that does its
// work, and shows in the Canary's status what the Release does. All fields
// must be set.
type Canaries struct {
	API *kube.Client
	Log *slog.Logger

	told map[string][]string // by UID: the complaints told last
}

// Run works until ctx ends.
func (c *Canaries) Run(ctx context.Context) {
	c.told = map[string][]string{}
	for {
		for _, cn := range c.API.Canaries() {
			if err := c.one(ctx, cn); err != nil && ctx.Err() == nil {
				c.complain(cn, "HeldUp", []string{err.Error()})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-c.API.CanaryChanged():
		}
	}
}

func (c *Canaries) one(ctx context.Context, cn kube.Canary) error {
	if cn.Canary.DeletionTimestamp != nil {
		// The Release goes with its owner, which others may hold for a while.
		err := c.API.WriteCanaryStatus(ctx, cn.Canary, flagger.Status(cn.Canary, cn.Release, ""))
		if errors.Is(err, kube.ErrNotFound) {
			return nil // it is gone
		}
		return err
	}
	spec, findings := flagger.Release(cn.Canary)
	var wrong, ignored []string
	for _, f := range findings {
		if f.Severity == flagger.Error {
			wrong = append(wrong, f.String())
		} else {
			ignored = append(ignored, f.String())
		}
	}
	if len(wrong) == 0 {
		if err := Check(kube.CanaryRelease(cn.Canary, spec)); err != nil {
			wrong = strings.Split(err.Error(), "\n")
		}
	}
	wrong = append(wrong, renamed(cn, &spec)...)
	if len(wrong) > 0 {
		// A Release that is there goes on with the last spec that was right.
		c.complain(cn, "Refused", wrong)
	} else {
		if err := c.API.MakeCanaryRelease(ctx, cn, spec); err != nil {
			return err
		}
		c.complain(cn, "Ignored", ignored)
	}
	return c.API.WriteCanaryStatus(ctx, cn.Canary, flagger.Status(cn.Canary, cn.Release, strings.Join(wrong, "; ")))
}

// renamed says that a Canary asks for another target or Service than its Release
// has, which keeps both for life.
func renamed(cn kube.Canary, spec *v1alpha1.ReleaseSpec) []string {
	if !cn.Own() {
		return nil
	}
	was, is := kube.NamesOf(cn.Release), kube.NamesOf(&v1alpha1.Release{Spec: *spec})
	field, from, to := "spec.targetRef.name", was.Target, is.Target
	if from == to {
		field, from, to = "spec.service.name", was.Service, is.Service
	}
	if from == to {
		return nil
	}
	return []string{fmt.Sprintf("%s: cannot be changed from %s to %s: delete the Canary, which gives everything back, and make it anew", field, from, to)}
}

// complain tells once what is wrong with a Canary, an event for each line.
func (c *Canaries) complain(cn kube.Canary, reason string, lines []string) {
	uid := string(cn.Canary.UID)
	if slices.Equal(c.told[uid], lines) {
		return
	}
	c.told[uid] = lines
	for _, line := range lines {
		c.Log.Warn(line, "namespace", cn.Canary.Namespace, "canary", cn.Canary.Name, "event", reason)
		c.API.CanaryEvent(cn, true, reason, line)
	}
}
