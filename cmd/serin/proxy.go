package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"serin.dev/serin/internal/apiserver"
	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy"
	"serin.dev/serin/internal/xds"
	"serin.dev/serin/internal/xds/ads"
)

// proxyGrace is how long requests under way may take when the proxy is told to
// stop: less than the 10 s that docker gives.
const proxyGrace = 8 * time.Second

func newProxyCmd(opts *options) *cobra.Command {
	var f nodeFlags
	var accessLog string
	var limits limitsFlag
	var level slog.LevelVar
	level.Set(slog.LevelWarn)
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Run a proxy of the mesh for processes of this machine",
		Long: `Run a proxy that gets its routes from a serin up, here or on another machine.

As a gateway (--gateway) it takes requests from outside of the mesh. As a
sidecar (--outbound, --upstream, --inbound) it carries those of one workload.
What the server said last stays in force while the server is away.`,
		Example: `  serin proxy --gateway 80=0.0.0.0:8080 --xds 10.0.0.5:15010
  serin proxy --outbound 127.0.0.1:15001 --workload front --label app=front`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := f.node(xds.Serin)
			if err != nil {
				return usageErrorf("%v", err)
			}
			access, err := accessLogTo(accessLog, opts.Out)
			if err != nil {
				return err
			}
			outlivePipes()
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			log := slog.New(slog.NewTextHandler(opts.ErrOut, &slog.HandlerOptions{Level: &level}))
			apiserver.TuneProcess(log.With("part", "libraries")) // gRPC logs by way of Kubernetes'
			r := remoteProxy{
				opts: opts, node: n, server: f.server,
				access: access, limits: limits.Limits,
				log: log,
			}
			return r.run(ctx)
		},
	}
	f.add(cmd.PersistentFlags())
	flags := cmd.Flags()
	flags.StringVar(&accessLog, "access-log", "off", "write a line for each request: off, text or json")
	flags.Var(&limits, "limit", "a bound on what callers and endpoints can make the proxy hold, such as head-bytes=128Ki; may be repeated (docs/proxies.md lists them)")
	flags.TextVar(&level, "log-level", &level, "debug, info, warn or error")
	cmd.AddCommand(newProxyBootstrapCmd(opts, &f))
	return cmd
}

// accessLogTo reads the value of --access-log.
func accessLogTo(format string, to io.Writer) (proxy.AccessLog, error) {
	formats := map[string]proxy.AccessLogFormat{"off": proxy.AccessLogOff, "text": proxy.AccessLogText, "json": proxy.AccessLogJSON}
	known, ok := formats[format]
	if !ok {
		return proxy.AccessLog{}, usageErrorf("--access-log %s: use off, text or json", format)
	}
	return proxy.AccessLog{Format: known, To: to}, nil
}

func newProxyBootstrapCmd(opts *options, f *nodeFlags) *cobra.Command {
	var o xds.BootstrapOptions
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Print the configuration with which an Envoy takes this proxy's place",
		Long: `Print the configuration with which an Envoy takes this proxy's place.

The flags are those of serin proxy; Envoy needs a port for each address. The
output is JSON, which is YAML, too.`,
		Example: `  envoy -c <(serin proxy bootstrap --gateway 80=127.0.0.1:8080)`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			n, err := f.node(xds.Envoy)
			if err != nil {
				return usageErrorf("%v", err)
			}
			n.SystemCA = systemCA()
			out, err := xds.Bootstrap(&n, f.server, o)
			if err != nil {
				return usageErrorf("%v", err)
			}
			_, err = fmt.Fprintln(opts.Out, string(out))
			return err
		},
	}
	cmd.Flags().StringVar(&o.Admin, "admin", "", "`IP:PORT` of Envoy's administration interface (default: none)")
	cmd.Flags().BoolVar(&o.StateOfTheWorld, "state-of-the-world", false, "have everything sent at every change, not only what changed")
	return cmd
}

// remoteProxy is a proxy that is fed by a server.
//
//	server ──snapshots──► client ──Apply──► proxy ──records──► log ──► server
type remoteProxy struct {
	opts   *options
	node   xds.Node
	server string
	access proxy.AccessLog
	limits proxy.Limits
	log    *slog.Logger

	proxy *proxy.Proxy
	where []string // its listeners, for people
	ready bool
}

func (r *remoteProxy) run(ctx context.Context) error {
	conn, err := ads.Dial(r.server)
	if err != nil {
		return err
	}
	defer conn.Close()
	records := ads.NewLog()
	r.proxy = proxy.New(proxy.Config{
		Recorder: records, Logger: r.log.With("part", "proxy"), AccessLog: r.access, Limits: r.limits, Place: r.node.Place,
		Loops: loops(),
	})
	if err := r.listen(); err != nil {
		return errors.Join(err, r.shutdown())
	}
	client := &ads.Client{Server: r.server, Node: r.node, Apply: r.apply, Logger: r.log.With("part", "xds")}

	// Records are sent until the last request is answered.
	logging, endLog := context.WithCancel(context.WithoutCancel(ctx))
	var wait sync.WaitGroup
	wait.Go(func() { records.Run(logging, conn) })
	err = client.Run(ctx, conn)
	if err == nil {
		fmt.Fprintln(r.opts.Out, "Stopping: requests under way are answered.")
	}
	err = errors.Join(err, r.shutdown())
	endLog()
	wait.Wait()
	if n := records.Dropped(); n > 0 {
		r.log.Warn("the server was not told of all requests", "dropped", n)
	}
	return err
}

// loops is how many event loops a proxy gets: one for each processor that Go
// may use. Go itself is given one more, see loop.NewGroup. It is called once.
func loops() int {
	n := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(n + 1)
	return n
}

func (r *remoteProxy) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), proxyGrace)
	defer cancel()
	if err := r.proxy.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// listen opens what the node listens on.
func (r *remoteProxy) listen() error {
	n := &r.node
	opened := func(what string, l *proxy.Listener, err error) error {
		if err == nil {
			r.where = append(r.where, what+" "+l.Addr().String())
		}
		return err
	}
	for _, g := range n.Gateways {
		l, err := r.proxy.ListenGateway(g.Address, g.Port)
		if err := opened(fmt.Sprintf("gateway port %d at", g.Port), l, err); err != nil {
			return err
		}
	}
	if n.Outbound != "" {
		l, err := r.proxy.ListenOutbound(n.Outbound, n.Caller)
		if err := opened("outbound", l, err); err != nil {
			return err
		}
	}
	for _, u := range n.Upstreams {
		service := mesh.ServiceName(mesh.CanonicalHost(u.Service, n.Caller.Workload.Namespace))
		l, err := r.proxy.ListenUpstream(u.Address, n.Caller, service, u.Port)
		if err := opened(fmt.Sprintf("%s:%d at", service, u.Port), l, err); err != nil {
			return err
		}
	}
	for _, in := range n.Inbounds {
		l, err := r.proxy.ListenInbound(in.Address, n.Service, n.Caller.Workload, in.Application)
		if err := opened("inbound", l, err); err != nil {
			return err
		}
	}
	return nil
}

func (r *remoteProxy) apply(s *mesh.Snapshot) error {
	if err := r.proxy.Apply(s); err != nil {
		return err
	}
	if !r.ready {
		r.ready = true
		fmt.Fprintf(r.opts.Out, "Proxy %s is ready (%s), routed by %s.\n", r.node.ID, strings.Join(r.where, ", "), r.server)
	}
	return nil
}
