package controller

import (
	"context"
	"log/slog"
	"strings"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/translate/flagger"
)

// Canaries gives each Flagger Canary a Release of the same name that does its
// work, and shows in the Canary's status what the Release does. All fields
// must be set.
type Canaries struct {
	API *kube.Client
	Log *slog.Logger

	told map[string]string // by UID: the last complaint
}

// Run works until ctx ends.
func (c *Canaries) Run(ctx context.Context) {
	c.told = map[string]string{}
	for {
		for _, cn := range c.API.Canaries() {
			if err := c.one(ctx, cn); err != nil && ctx.Err() == nil {
				c.complain(cn, err.Error())
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
		return nil // the Release goes with its owner
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
	switch {
	case len(wrong) > 0:
		// A Release that is there goes on with the last spec that was right.
		c.complain(cn, strings.Join(wrong, "; "))
	default:
		if err := c.API.MakeCanaryRelease(ctx, cn, spec); err != nil {
			return err
		}
		c.complain(cn, strings.Join(ignored, "; "))
	}
	return c.API.WriteCanaryStatus(ctx, cn.Canary, flagger.Status(cn.Canary, cn.Release, strings.Join(wrong, "; ")))
}

// complain tells once what is wrong with a Canary.
func (c *Canaries) complain(cn kube.Canary, what string) {
	uid := string(cn.Canary.UID)
	if c.told[uid] == what {
		return
	}
	c.told[uid] = what
	if what == "" {
		return
	}
	c.Log.Warn("canary", "namespace", cn.Canary.Namespace, "canary", cn.Canary.Name, "finding", what)
	c.API.CanaryEvent(cn, true, "Finding", what)
}
