package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"serin.dev/serin/internal/apiserver"
	"serin.dev/serin/internal/controller"
	"serin.dev/serin/internal/xds/ads"
)

// defaultGateway is where users' traffic comes in: the port that local
// examples of every mesh use, free of root.
const defaultGateway = "127.0.0.1:8080"

func newUpCmd(opts *options) *cobra.Command {
	c := loopConfig{}
	var accessLog string
	var limits limitsFlag
	var gateways map[string]string
	var level slog.LevelVar
	level.Set(slog.LevelWarn)
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run Serin on this machine until interrupted",
		Long: `Serve the API, run Deployments as local processes, route their traffic and
deliver their releases, all in this one process. State is kept in the data
directory; after a stop or a crash the next start goes on from there.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if c.dataDir, err = opts.dataDir(); err != nil {
				return err
			}
			if c.accessLog, err = accessLogTo(accessLog, opts.Out); err != nil {
				return err
			}
			c.limits = limits.Limits
			if c.gateways, err = gatewayPorts(gateways); err != nil {
				return err
			}
			c.log = slog.New(slog.NewTextHandler(opts.ErrOut, &slog.HandlerOptions{Level: &level}))
			apiserver.TuneProcess(c.log.With("part", "kubernetes"))
			outlivePipes()
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return up(ctx, opts, c)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.apiAddress, "api-address", apiserver.DefaultListen, "address of the Kubernetes API; port 0 takes a free one")
	flags.StringVar(&c.gatewayAddress, "gateway-address", defaultGateway, "address of the ingress gateway; port 0 takes a free one")
	flags.StringToStringVar(&gateways, "gateway-port", map[string]string{"443": "127.0.0.1:8443"},
		"where Gateways of other ports are served, as PORT=IP:PORT; may be repeated (others: at the host of the gateway address and their own port)")
	flags.StringVar(&c.xdsAddress, "xds-address", ads.DefaultListen, "address at which proxies of other processes get their routes (serin proxy, Envoy); port 0 takes a free one")
	flags.StringVar(&c.metricsAddress, "metrics-address", "", "address at which Prometheus finds the metrics of releases, at /metrics, such as 127.0.0.1:7070 (default: nowhere)")
	flags.StringVar(&accessLog, "access-log", "off", "write a line for each request: off, text or json")
	flags.Var(&limits, "limit", "a bound on what callers and endpoints can make the proxy hold, such as head-bytes=128Ki; may be repeated (docs/proxies.md lists them)")
	flags.StringSliceVar(&c.etcdServers, "etcd-servers", nil, "URLs of an etcd cluster to keep objects in; of several Serins on one cluster one leads, and the others stand by (default: an etcd of its own in the data directory)")
	flags.TextVar(&level, "log-level", &level, "debug, info, warn or error")
	return cmd
}

// gatewayPorts reads the value of --gateway-port.
func gatewayPorts(flags map[string]string) (map[uint16]string, error) {
	out := map[uint16]string{}
	for port, address := range flags {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return nil, usageErrorf("--gateway-port %s=%s: %q is not a port", port, address, port)
		}
		if n == controller.MainGatewayPort {
			return nil, usageErrorf("--gateway-port %s=%s: port %d is served at --gateway-address", port, address, n)
		}
		if _, err := netip.ParseAddrPort(address); err != nil {
			return nil, usageErrorf("--gateway-port %s=%s: %q is not IP:PORT", port, address, address)
		}
		out[uint16(n)] = address
	}
	return out, nil
}

func up(ctx context.Context, opts *options, c loopConfig) error {
	c.standingBy = func(holder, kubeconfig string) {
		fmt.Fprintf(opts.Out, "Standing by: %s leads. The API is served here as well, with %s\n", holder, kubeconfig)
	}
	l, err := startLoop(ctx, c)
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil // told to stop before it had begun, such as while standing by
	}
	if err != nil {
		return err
	}
	defer func() {
		l.stop()
		fmt.Fprintln(opts.Out, "Serin has stopped; the next start with this data goes on from here.")
	}()
	fmt.Fprint(opts.Out, banner(l.addresses(), l.started, c.dataDir))
	err = l.wait(ctx)
	fmt.Fprintln(opts.Out, "Stopping: requests under way are answered, then the processes end.")
	return err
}

// banner tells a person where everything is that works now.
func banner(a addresses, started time.Duration, dataDir string) string {
	metrics := ""
	if a.Metrics != "" {
		metrics = "  metrics  http://" + a.Metrics + "/metrics\n"
	}
	return fmt.Sprintf(`Serin is ready (%s).

  API      %s
  gateway  %s
  xDS      %s
%s  data     %s

In another terminal:

  export KUBECONFIG=%s
  kubectl apply -f examples/music

Stop with Ctrl-C.
`, started.Round(10*time.Millisecond), a.API, a.Gateway, a.XDS, metrics, dataDir, a.Kubeconfig)
}
