package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/load"
	"serin.dev/serin/internal/rollout"
)

// story is a release and what becomes of its versions while users come.
type story struct {
	release  string
	load     []users
	chapters []chapter
}

// users send requests through the gateway.
type users struct {
	paths []string
	rate  float64 // per second, over all paths
}

// chapter is one version and what has to become of it.
type chapter struct {
	manifest string // in the folder's own folder versions
	title    string
	outcome  rollout.Outcome
}

// music is the story that people see first.
func music() scenario {
	return scenario{
		name:  "music",
		title: "A music and a user service share a database. Five requests per second ask for music, one for users.",
		look:  "curl %s/api/v1/music/1",
		actor: story{
			release: "music",
			load: []users{
				{paths: []string{"/api/v1/music/1", "/api/v1/music/2", "/api/v1/music/3"}, rate: 5},
				{paths: []string{"/api/v1/user/1", "/api/v1/user/2"}, rate: 1},
			},
			chapters: []chapter{
				{"music-v2-bad.yaml", "Music v2 is released. Half of its reads fail.", rollout.RolledBack},
				{"music-v2-fixed.yaml", "The bug is fixed: v2.1 is released.", rollout.Promoted},
			},
		},
	}
}

// ready returns when the release serves users.
func (s story) ready(ctx context.Context, p *player) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := p.client.get(ctx, "default", s.release)
		if err != nil {
			return err
		}
		if meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionReady) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("release %s: %w: %s", s.release, context.Cause(ctx), r.Status.Reason)
		}
	}
}

// play tells the story from beginning to end.
func (s story) play(ctx context.Context, p *player, report *demoReport) error {
	stopLoad := s.send(ctx, p.gateway)
	defer stopLoad()
	for _, c := range s.chapters {
		p.say("── %s", c.title)
		run, err := s.tell(ctx, p, c)
		if err != nil {
			return err
		}
		report.Releases = append(report.Releases, reportOf(s.release, run))
		p.say("")
		if run.Outcome != string(c.outcome) {
			return fmt.Errorf("%s was %s, which the story does not expect: %s", c.manifest, run.Outcome, run.Reason)
		}
	}
	return nil
}

// send lets the users come until the function returned is called.
func (s story) send(ctx context.Context, gateway string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, u := range s.load {
		spec := load.Spec{Rate: u.rate}
		for _, path := range u.paths {
			spec.URLs = append(spec.URLs, gateway+path)
		}
		wg.Go(func() {
			// A Spec that cannot be run is a mistake in the table above.
			if _, err := load.Run(ctx, spec, nil); err != nil {
				panic(err)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// tell applies one version and shows its run to the end.
func (s story) tell(ctx context.Context, p *player, c chapter) (*v1alpha1.Run, error) {
	before, err := p.client.get(ctx, "default", s.release)
	if err != nil {
		return nil, err
	}
	if _, err := p.do(ctx, "versions/"+c.manifest, applyObject); err != nil {
		return nil, err
	}
	show, err := newShow(p.opts, "")
	if err != nil {
		return nil, err
	}
	w := &watching{client: p.client, show: show}
	err = errors.Join(w.run(ctx, "default", s.release), show.close())
	if coded, ok := errors.AsType[*exitError](err); err != nil && (!ok || coded.code != exitRolledBack) {
		return nil, err
	}
	after, err := p.client.get(ctx, "default", s.release)
	if err != nil {
		return nil, err
	}
	if len(after.Status.History) == len(before.Status.History) {
		return nil, fmt.Errorf("%s: the run did not end", c.manifest)
	}
	return &after.Status.History[0], nil
}

// releaseFact is one release as it went. Requests are those that the canary
// got, in the whole run.
type releaseFact struct {
	Release                   string  `json:"release"`
	From                      string  `json:"from"`
	To                        string  `json:"to"`
	Outcome                   string  `json:"outcome"`
	CanaryRequests            int64   `json:"canaryRequests"`
	FailedRequests            int64   `json:"failedRequests"`
	DecisionSeconds           float64 `json:"decisionSeconds"` // from the first request that reached the canary
	EffectMillis              int64   `json:"effectMillis"`    // from the decision to the last proxy's ack
	CanaryRequestsAfterEffect int64   `json:"canaryRequestsAfterEffect"`
	Cause                     string  `json:"cause"`
}

func reportOf(release string, r *v1alpha1.Run) releaseFact {
	f := releaseFact{
		Release: release, From: r.From.Label, To: r.To.Label, Outcome: r.Outcome,
		CanaryRequests: r.Canary.Requests, FailedRequests: r.Canary.Failures,
		DecisionSeconds: float64(r.DecisionMillis) / 1000, EffectMillis: r.EffectMillis,
		CanaryRequestsAfterEffect: r.CanaryRequestsAfterEffect, Cause: r.Reason,
	}
	if r.Cause != nil {
		f.Cause = r.Cause.Summary
	}
	return f
}
