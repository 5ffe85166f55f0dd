package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"serin.dev/serin/internal/demoapp"
	"serin.dev/serin/internal/load"
)

// loadServerPort is where load serve listens unless $PORT says otherwise; in
// a pod it always does.
const loadServerPort = 8081

func newLoadCmd(opts *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Send requests at a steady rate",
		Long: `Send requests at a steady rate.

Requests start when they are due, however slow the answers to those before are:
a slow server cannot hide by slowing its clients down.`,
	}
	cmd.AddCommand(newLoadRunCmd(opts), newLoadServeCmd(opts))
	return cmd
}

func newLoadRunCmd(opts *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run URL...",
		Short: "Send requests to URLs in turn and report what came back",
		Long: `Send requests to URLs in turn and report what came back.

Ctrl-C ends the run and prints the report. $HTTP_PROXY is obeyed, so a name of
the mesh works where the mesh is the proxy. Exits 1 when no request was
answered; answers with an error are part of the report.`,
		Example: `  serin load run http://127.0.0.1:8080/api/v1/music --rate 5 --duration 1m`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("give a URL")
			}
			return nil
		},
	}
	output := addOutputFlag(cmd, "json")
	var spec load.Spec
	var body string
	var headers []string
	var random bool
	flags := cmd.Flags()
	flags.Float64Var(&spec.Rate, "rate", 10, "requests per second (0: as fast as --concurrency allows)")
	flags.DurationVar(&spec.Duration, "duration", 0, "end after this time (default: with Ctrl-C)")
	flags.IntVar(&spec.Count, "count", 0, "end after this many requests (default: no limit)")
	flags.BoolVar(&random, "random", false, "send at random times, as independent users do, at the same rate on average")
	flags.StringVarP(&spec.Method, "method", "X", http.MethodGet, "HTTP method")
	flags.StringArrayVarP(&headers, "header", "H", nil, "header, such as 'Accept: text/plain'; may be repeated")
	flags.StringVarP(&body, "data", "d", "", "body of each request")
	flags.IntVar(&spec.Concurrency, "concurrency", 100, "most requests under way at once")
	flags.DurationVar(&spec.Timeout, "timeout", 20*time.Second, "longest time for one request")

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var err error
		if spec.Header, spec.Host, err = parseHeaders(headers); err != nil {
			return err
		}
		spec.URLs, spec.Body, spec.Proxy = args, []byte(body), http.ProxyFromEnvironment
		if random {
			spec.Arrivals, spec.Seed = load.Poisson, uint64(time.Now().UnixNano())
		}
		ctx, stop := interruptible(cmd.Context(), 0)
		defer stop()
		report, err := load.Run(ctx, spec, nil)
		if err != nil {
			return usageErrorf("%v", err)
		}
		if output.value == "json" {
			err = json.NewEncoder(opts.Out).Encode(report)
		} else {
			_, err = fmt.Fprintln(opts.Out, report)
		}
		if err == nil && len(report.Codes) == 0 {
			return errors.New("no request was answered")
		}
		return err
	}
	return cmd
}

// parseHeaders reads "Name: value" headers. Host is no header for net/http, so
// it is returned apart.
func parseHeaders(lines []string) (header http.Header, host string, err error) {
	header = http.Header{}
	for _, l := range lines {
		name, value, ok := strings.Cut(l, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !ok || name == "":
			return nil, "", usageErrorf("header %q: want 'Name: value'", l)
		case strings.EqualFold(name, "Host"):
			host = value
		default:
			header.Add(name, value)
		}
	}
	return header, host, nil
}

func newLoadServeCmd(opts *options) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Answer Flagger's load-test webhooks by sending load",
		Long: fmt.Sprintf(`Answer Flagger's load-test webhooks by sending the load that metadata.cmd
describes, as a hey command, and keep the gates that webhooks ask for. Listens
on $PORT (default %d).

The image of Flagger's load tester stands for this command, so its manifests
work as they are.`, loadServerPort),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context(), 0)
			defer stop()
			log := slog.New(slog.NewJSONHandler(opts.Out, nil)).With("app", "load")
			server := load.NewServer(ctx, http.ProxyFromEnvironment, log)
			err := demoapp.Serve(ctx, os.Getenv, loadServerPort, server, log)
			server.Wait()
			return err
		},
	}
}
