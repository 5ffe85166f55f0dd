package demoapp

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os/signal"
	"strings"
	"syscall"
)

// app is one application. A new one is a file with its handlers and a line in
// apps.
type app struct {
	name   string
	port   int               // on which its callers know it
	calls  map[string]string // its upstreams' addresses by name, where NAME_URL says nothing else
	images []Image           // besides serin.dev/demo/NAME
	routes func(*service, *http.ServeMux)
}

func apps() []app {
	return []app{musicApp(), userApp(), dbApp(), productpageApp(), detailsApp(), reviewsApp(), ratingsApp()}
}

// Names lists the applications in the order they are documented.
func Names() []string {
	var names []string
	for _, a := range apps() {
		names = append(names, a.name)
	}
	return names
}

// Image says what runs in place of a container image.
type Image struct {
	// Pattern of node.ImageMapping: without a slash it is an image's name in
	// any registry. Every tag is meant.
	Pattern string
	// Args of the serin program itself, such as demoapp, music.
	Args []string
}

// Images lists the container images that the serin program stands in for. No
// two patterns match the same image.
func Images() []Image {
	var images []Image
	for _, a := range apps() {
		images = append(images, Image{"serin.dev/demo/" + a.name, []string{"demoapp", a.name}})
		images = append(images, a.images...)
	}
	return append(images, Image{"flagger-loadtester", []string{"load", "serve"}})
}

// Main runs the application args[0], at the version args[1] when there is one
// and $SERIN_VERSION otherwise. It logs to out and returns nil when ctx ended
// or SIGTERM or SIGINT arrived, and every request under way was answered.
func Main(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	if len(args) == 0 || len(args) > 2 {
		return fmt.Errorf("want NAME [VERSION], NAME one of %s", strings.Join(Names(), ", "))
	}
	a, err := find(args[0])
	if err != nil {
		return err
	}
	cfg, err := readConfig(a, getenv)
	if err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	if len(args) == 2 {
		cfg.version = args[1]
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	log := slog.New(slog.NewJSONHandler(out, nil)).With("app", a.name, "version", cfg.version, "pod", cfg.pod)
	transport := http.DefaultTransport.(*http.Transport).Clone() // its Proxy obeys HTTP_PROXY
	transport.MaxIdleConnsPerHost = 64                           // all calls go to one proxy
	defer transport.CloseIdleConnections()
	log.Info("starting", "percent_error", cfg.percentError, "seed", cfg.seed)
	if err := Serve(ctx, getenv, a.port, newHandler(a, cfg, transport, log), log); err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	return nil
}

func find(name string) (app, error) {
	for _, a := range apps() {
		if a.name == name {
			return a, nil
		}
	}
	return app{}, fmt.Errorf("no demo application %q: take one of %s", name, strings.Join(Names(), ", "))
}
