package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"serin.dev/serin/examples"
	"serin.dev/serin/internal/apiserver"
	"serin.dev/serin/internal/controller"
)

// scenario is something to watch, played with the manifests of a folder of
// package examples, through the API as anyone would.
type scenario struct {
	name  string // and folder
	title string
	look  string // how to look around; %s is the gateway's address
	actor actor
}

// actor plays a scenario.
type actor interface {
	// ready returns when what the folder holds serves users.
	ready(ctx context.Context, p *player) error
	// play tells what happens and notes it in the report.
	play(ctx context.Context, p *player, report *demoReport) error
}

func scenarios() []scenario { return []scenario{music(), bookinfo()} }

func newDemoCmd(opts *options) *cobra.Command {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	d := demo{opts: opts}
	report := ""
	cmd := &cobra.Command{
		Use:   "demo [SCENARIO]",
		Short: "Watch a bad release being caught and a good one promoted",
		Long: `Run Serin with real processes and real traffic in a directory of its own, play
a scenario, and clean up. Nothing else on the machine is touched.

  music     a bad release is caught and taken back, a good one promoted
  bookinfo  Istio's sample and its exercises: routes by user, shifted traffic,
            delays and errors put in on purpose`,
		ValidArgs: names,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return fmt.Errorf("name one scenario, not %d", len(args))
			case len(args) == 1 && !slices.Contains(names, args[0]):
				return fmt.Errorf("no scenario %q: take one of %s", args[0], strings.Join(names, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if report != "" && report != "json" {
				return usageErrorf("--report %s: only json is known", report)
			}
			d.report = report == "json"
			ctx, stop := interruptible(cmd.Context(), 0)
			defer stop()
			name := append(args, names[0])[0]
			return d.run(ctx, scenarios()[slices.Index(names, name)])
		},
	}
	cmd.Flags().StringVar(&report, "report", "", "json: print one JSON object about what happened as the last line")
	cmd.Flags().BoolVar(&d.keep, "keep", false, "go on running after the last scene, until interrupted")
	return cmd
}

// demo is one performance.
type demo struct {
	opts   *options
	report bool
	keep   bool
}

// run plays a scenario in a directory that is gone afterwards.
func (d *demo) run(ctx context.Context, s scenario) (err error) {
	dir, err := os.MkdirTemp("", "serin-demo-")
	if err != nil {
		return fmt.Errorf("directory for the demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	begun := time.Now()
	log := slog.New(slog.NewTextHandler(d.opts.ErrOut, &slog.HandlerOptions{Level: slog.LevelError}))
	apiserver.TuneProcess(log)
	l, err := startLoop(ctx, loopConfig{dataDir: dir, apiAddress: "127.0.0.1:0", gatewayAddress: "127.0.0.1:0", xdsAddress: "127.0.0.1:0", log: log})
	if err != nil {
		return err
	}
	defer l.stop()
	p, err := newPlayer(d.opts, s.name, l)
	if err != nil {
		return err
	}
	p.say("Serin is up. %s", s.title)
	p.say("Look around while it plays:\n\n  export KUBECONFIG=%s\n  "+s.look+"\n", l.addresses().Kubeconfig, p.gateway)
	if err := p.setScene(ctx, s.actor); err != nil {
		return fmt.Errorf("set the scene: %w", err)
	}
	report := demoReport{Scenario: s.name}
	failed := s.actor.play(ctx, p, &report)
	if ctx.Err() != nil {
		return failed
	}
	if failed == nil {
		p.say("Played in %s. Next: 'serin up', and examples/%s/README.md.", time.Since(begun).Round(time.Second), s.name)
	}
	if d.keep {
		p.say("Everything goes on running until Ctrl-C.")
	}
	if d.report {
		failed = errors.Join(failed, json.NewEncoder(d.opts.Out).Encode(report))
	}
	if d.keep {
		failed = errors.Join(failed, l.wait(ctx))
	}
	return failed
}

// player acts the user's part.
type player struct {
	opts    *options
	folder  string // of package examples
	gateway string // its address
	config  *rest.Config
	client  *releaseClient
	acks    *controller.Acks
	acked   chan struct{} // has a value after an ack
}

func newPlayer(opts *options, folder string, l *loop) (*player, error) {
	p := &player{
		opts: opts, folder: folder, gateway: l.addresses().Gateway, config: l.server.RESTConfig(),
		acks: l.acks, acked: make(chan struct{}, 1),
	}
	l.acks.OnChange(func() {
		select {
		case p.acked <- struct{}{}:
		default:
		}
	})
	var err error
	p.client, err = newReleaseClient(p.config)
	return p, err
}

func (p *player) say(format string, args ...any) { fmt.Fprintf(p.opts.Out, format+"\n", args...) }

// readyTime is how long the first pods may take; they need a second.
const readyTime = time.Minute

// setScene applies the folder and returns when it serves users.
func (p *player) setScene(ctx context.Context, a actor) error {
	entries, err := examples.Files.ReadDir(p.folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".yaml") {
			continue
		}
		if _, err := p.do(ctx, e.Name(), applyObject); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readyTime, fmt.Errorf("not ready after %v", readyTime))
	defer cancel()
	return a.ready(ctx, p)
}

// do does something with the objects of a file of the folder.
func (p *player) do(ctx context.Context, file string, do verb) ([]*unstructured.Unstructured, error) {
	data, err := examples.Files.ReadFile(p.folder + "/" + file)
	if err != nil {
		return nil, err
	}
	objects, err := doManifests(ctx, p.config, data, do)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return objects, nil
}

// demoReport is what --report json prints.
type demoReport struct {
	Scenario  string         `json:"scenario"`
	Releases  []releaseFact  `json:"releases,omitempty"`
	Exercises []exerciseFact `json:"exercises,omitempty"`
}
