package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/examples"
	"serin.dev/serin/internal/apiserver"
	"serin.dev/serin/internal/load"
	"serin.dev/serin/internal/rollout"
)

// scenario is a story that the demo plays with the manifests of a folder of
// package examples, through the API as anyone would.
type scenario struct {
	name, release string
	title         string
	load          []users
	chapters      []chapter
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

func scenarios() []scenario {
	return []scenario{{
		name: "music", release: "music",
		title: "A music and a user service share a database. Five requests per second ask for music, one for users.",
		load: []users{
			{paths: []string{"/api/v1/music/1", "/api/v1/music/2", "/api/v1/music/3"}, rate: 5},
			{paths: []string{"/api/v1/user/1", "/api/v1/user/2"}, rate: 1},
		},
		chapters: []chapter{
			{"music-v2-bad.yaml", "Music v2 is released. Half of its reads fail.", rollout.RolledBack},
			{"music-v2-fixed.yaml", "The bug is fixed: v2.1 is released.", rollout.Promoted},
		},
	}}
}

func newDemoCmd(opts *options) *cobra.Command {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	report := ""
	cmd := &cobra.Command{
		Use:   "demo [SCENARIO]",
		Short: "Watch a bad release being caught and a good one promoted",
		Long: `Run Serin with real processes and real traffic in a directory of its own, play
a scenario, and clean up. Nothing else on the machine is touched.

Scenarios: ` + strings.Join(names, ", "),
		ValidArgs: names,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if report != "" && report != "json" {
				return usageErrorf("--report %s: only json is known", report)
			}
			ctx, stop := interruptible(cmd.Context(), 0)
			defer stop()
			return playByName(ctx, opts, append(args, names[0])[0], report == "json")
		},
	}
	cmd.Flags().StringVar(&report, "report", "", "json: print one JSON object about the releases as the last line")
	return cmd
}

func playByName(ctx context.Context, opts *options, name string, report bool) (err error) {
	for _, s := range scenarios() {
		if s.name != name {
			continue
		}
		dir, err := os.MkdirTemp("", "serin-demo-")
		if err != nil {
			return fmt.Errorf("directory for the demo: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		return play(ctx, opts, s, dir, report)
	}
	return usageErrorf("unknown scenario %q", name)
}

// play tells the story from beginning to end.
func play(ctx context.Context, opts *options, s scenario, dir string, report bool) error {
	begun := time.Now()
	log := slog.New(slog.NewTextHandler(opts.ErrOut, &slog.HandlerOptions{Level: slog.LevelError}))
	apiserver.TuneProcess(log)
	l, err := startLoop(ctx, loopConfig{dataDir: dir, apiAddress: "127.0.0.1:0", gatewayAddress: "127.0.0.1:0", log: log})
	if err != nil {
		return err
	}
	defer l.stop()
	a := l.addresses()
	say := func(format string, args ...any) { fmt.Fprintf(opts.Out, format+"\n", args...) }
	say("Serin is up. %s", s.title)
	say("Look around while it plays:\n\n  export KUBECONFIG=%s\n  curl %s%s\n", a.Kubeconfig, a.Gateway, s.load[0].paths[0])

	p := &player{opts: opts, scenario: s, config: l.server.RESTConfig()}
	if err := p.prepare(ctx); err != nil {
		return fmt.Errorf("set the scene: %w", err)
	}
	stopLoad, err := p.send(ctx, a.Gateway)
	if err != nil {
		return err
	}
	defer stopLoad()
	out := demoReport{Scenario: s.name}
	for _, c := range s.chapters {
		say("── %s", c.title)
		run, err := p.release(ctx, c)
		if err != nil {
			return err
		}
		out.Releases = append(out.Releases, reportOf(s.release, run))
		say("")
		if run.Outcome != string(c.outcome) {
			return fmt.Errorf("%s was %s, which the story does not expect: %s", c.manifest, run.Outcome, run.Reason)
		}
	}
	say("Played in %s. Next: 'serin up', and examples/%s/README.md.", time.Since(begun).Round(time.Second), s.name)
	if report {
		return json.NewEncoder(opts.Out).Encode(out)
	}
	return nil
}

// player acts the user's part.
type player struct {
	opts     *options
	scenario scenario
	config   *rest.Config
	client   *releaseClient
}

func (p *player) prepare(ctx context.Context) (err error) {
	if p.client, err = newReleaseClient(p.config); err != nil {
		return err
	}
	entries, err := examples.Files.ReadDir(p.scenario.name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".yaml") {
			if err := p.apply(ctx, e.Name()); err != nil {
				return err
			}
		}
	}
	return p.awaitReady(ctx)
}

// readyTime is how long the first pods may take; they need a second.
const readyTime = time.Minute

// awaitReady returns when the release serves users.
func (p *player) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := p.client.get(ctx, "default", p.scenario.release)
		if err != nil {
			return err
		}
		if meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionReady) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("release %s does not get ready: %s", p.scenario.release, r.Status.Reason)
		}
	}
}

func (p *player) apply(ctx context.Context, file string) error {
	data, err := examples.Files.ReadFile(p.scenario.name + "/" + file)
	if err != nil {
		return err
	}
	if err := applyManifests(ctx, p.config, data); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// send lets the users come until the function returned is called.
func (p *player) send(ctx context.Context, gateway string) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, u := range p.scenario.load {
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
	return func() { cancel(); wg.Wait() }, nil
}

// release applies one version and shows its run to the end.
func (p *player) release(ctx context.Context, c chapter) (*v1alpha1.Run, error) {
	before, err := p.client.get(ctx, "default", p.scenario.release)
	if err != nil {
		return nil, err
	}
	if err := p.apply(ctx, "versions/"+c.manifest); err != nil {
		return nil, err
	}
	show, err := newShow(p.opts, "")
	if err != nil {
		return nil, err
	}
	w := &watching{client: p.client, show: show}
	err = errors.Join(w.run(ctx, "default", p.scenario.release), show.close())
	if coded, ok := errors.AsType[*exitError](err); err != nil && (!ok || coded.code != exitRolledBack) {
		return nil, err
	}
	after, err := p.client.get(ctx, "default", p.scenario.release)
	if err != nil {
		return nil, err
	}
	if len(after.Status.History) == len(before.Status.History) {
		return nil, fmt.Errorf("%s: the run did not end", c.manifest)
	}
	return &after.Status.History[0], nil
}

// demoReport is what --report json prints.
type demoReport struct {
	Scenario string        `json:"scenario"`
	Releases []releaseFact `json:"releases"`
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
