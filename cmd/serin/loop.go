package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/apiserver"
	"serin.dev/serin/internal/controller"
	"serin.dev/serin/internal/demoapp"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/node"
	"serin.dev/serin/internal/proxy"
	"serin.dev/serin/internal/record"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/internal/xds/ads"
)

// loop is the whole product in one process:
//
//	        objects                       snapshot
//	API ───────────────► publish ─────────────────► proxy, and by xDS those of others
//	 ▲ ▲                    │ acks                    │ every request
//	 │ │                    ▼                         ▼
//	 │ └────────────── deliver ◄──────────────── telemetry
//	 │   weights, scale, status
//	 └── node: Deployments → processes, Pods, EndpointSlices
//
// It is built in the order in which data flows and taken down in reverse.
type loop struct {
	server  *apiserver.Server
	gateway *proxy.Listener
	xds     net.Listener // for proxies of other processes
	metrics string       // where they are served; "" = nowhere
	acks    *controller.Acks
	started time.Duration

	cancel context.CancelCauseFunc
	parts  sync.WaitGroup
	failed chan error
	close  []func() // in the order of opening
}

// loopConfig says where the loop lives.
type loopConfig struct {
	dataDir        string
	apiAddress     string
	gatewayAddress string
	gateways       map[uint16]string // where further ports of Gateways are served
	xdsAddress     string
	metricsAddress string // "" = metrics are not served
	accessLog      proxy.AccessLog
	limits         proxy.Limits
	etcdServers    []string
	standingBy     func(holder, kubeconfig string) // told who leads, while that is another process
	log            *slog.Logger
}

// startLoop returns when everything works; stop must be called afterwards.
func startLoop(ctx context.Context, c loopConfig) (_ *loop, err error) {
	begun := time.Now()
	apiserver.GrowMemory() // until everything works
	ctx, cancel := context.WithCancelCause(ctx)
	l := &loop{cancel: cancel, failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			l.stop()
		}
	}()

	logs := node.NewLogSource(filepath.Join(c.dataDir, "logs"))
	judge := &admission{}
	records := record.NewStore(c.dataDir)
	l.close = append(l.close, records.Close)
	var here atomic.Pointer[node.Node]                                // runs the pods; it needs the API first
	apiCtx, stopAPI := context.WithCancel(context.WithoutCancel(ctx)) // outlives the parts that write to it
	l.close = append(l.close, stopAPI)
	l.server, err = apiserver.Start(apiCtx, apiserver.Config{
		DataDir: c.dataDir, Listen: c.apiAddress, EtcdServers: c.etcdServers,
		Logs: logs, Usage: usageOf(&here), Admit: judge.admit, Precheck: precheck, Subresources: recordsOf(records), Logger: c.log.With("part", "api"),
	})
	if err != nil {
		return nil, err
	}
	l.close = append(l.close, func() {
		if err := l.server.Stop(); err != nil {
			c.log.Error("API", "err", err)
		}
	})

	access, err := l.lead(ctx, c)
	if err != nil {
		return nil, err
	}

	var hub telemetry.Hub
	plane, err := l.listen(c, &hub)
	if err != nil {
		return nil, err
	}
	own, err := plane.ListenOutbound("127.0.0.1:0", mesh.Caller{Workload: mesh.Workload{Namespace: "kube-system", Name: "serin"}})
	if err != nil {
		return nil, err
	}

	sender := mesh.Workload{Namespace: "kube-system", Name: "serin-load"}
	loads, err := plane.ListenOutbound("127.0.0.1:0", mesh.Caller{Workload: sender})
	if err != nil {
		return nil, err
	}

	api, err := kube.NewClient(access, c.log.With("part", "kube"))
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return nil, err
	}
	images, err := imageMappings()
	if err != nil {
		return nil, err
	}
	workloads, err := node.New(ctx, node.Config{
		Client: client, DataDir: c.dataDir, Logs: logs, Images: images,
		Drain: drain(plane), Logger: c.log.With("part", "node"),
	})
	if err != nil {
		return nil, err
	}
	here.Store(workloads)
	l.run("node", func() error { return workloads.Run(ctx) })
	if err := api.Run(ctx); err != nil {
		return nil, err
	}
	l.acks = &controller.Acks{}
	publish := &controller.Publish{API: api, Proxy: plane, Acks: l.acks, Gateway: l.gateway.Addr(), Addresses: c.gateways, Log: c.log.With("part", "publish")}
	others := ads.New(ads.Config{Recorder: &hub, OnChange: publish.Report, Logger: c.log.With("part", "xds")})
	publish.Remote = remotes{others}
	standings := &controller.Standings{API: api, Acks: l.acks, Log: c.log.With("part", "publish")}
	metrics := controller.NewMetrics(func() ([]*v1alpha1.Release, error) { return releasesOf(api) })
	if err := l.serveMetrics(c.metricsAddress, metrics.Handler()); err != nil {
		return nil, err
	}
	deliver := &controller.Deliver{API: api, Metrics: metrics, Acks: l.acks, Hub: &hub, Records: records, Hooks: through(own, nil), LaxHooks: through(own, &tls.Config{InsecureSkipVerify: true}), OwnLoad: controller.OwnLoad{Proxy: addressOf(loads), From: sender}, Busy: apiserver.BusyMemory, Log: c.log.With("part", "deliver")}
	judge.among.Store(deliver)
	canaries := &controller.Canaries{API: api, Log: c.log.With("part", "canaries")}
	l.run("xds", func() error { return others.Serve(ctx, l.xds) })
	l.run("standings", func() error { standings.Run(ctx); return nil })
	l.run("publish", func() error { publish.Run(ctx); return nil })
	apiserver.SettleMemory() // before anybody says that it is busy
	l.run("deliver", func() error { deliver.Run(ctx); return nil })
	l.run("canaries", func() error { canaries.Run(ctx); return nil })
	l.started = time.Since(begun)
	if err := l.writeAddresses(c.dataDir); err != nil {
		return nil, err
	}
	return l, nil
}

// listen starts the proxy with its gateway, and the listener for those of other
// processes.
func (l *loop) listen(c loopConfig, hub *telemetry.Hub) (*proxy.Proxy, error) {
	plane := proxy.New(proxy.Config{Recorder: hub, Logger: c.log.With("part", "proxy"), AccessLog: c.accessLog, Limits: c.limits, Loops: loops()})
	l.close = append(l.close, func() { shutdown(plane, c.log) })
	var err error
	if l.gateway, err = plane.ListenGateway(c.gatewayAddress, controller.MainGatewayPort); err != nil {
		return nil, fmt.Errorf("ingress gateway: %w: choose another address with --gateway-address", err)
	}
	if l.xds, err = net.Listen("tcp", c.xdsAddress); err != nil {
		return nil, fmt.Errorf("proxies of other processes: %w: choose another address with --xds-address", err)
	}
	l.close = append(l.close, func() { l.xds.Close() })
	return plane, nil
}

// lead returns when this process may act on objects that other processes keep as
// well: proxies, pods and decisions are one process's at a time, the others
// serve the API and stand by. A process that loses the right ends.
func (l *loop) lead(ctx context.Context, c loopConfig) (*rest.Config, error) {
	config := l.server.RESTConfig()
	if len(c.etcdServers) == 0 {
		return config, nil // the data directory is locked, and there is nobody else
	}
	lease, err := kube.AwaitLease(ctx, config, func(holder string) {
		c.standingBy(holder, l.server.KubeconfigPath())
		apiserver.SettleMemory() // it may be long
	})
	if err != nil {
		return nil, err
	}
	l.close = append(l.close, lease.Release)
	l.run("lease", func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-lease.Lost():
			return errors.New("it was not renewed in time, and another process may lead by now: start serin up again to stand by")
		}
	})
	return lease.Guard(config), nil
}

// releasesOf are all Releases.
func releasesOf(api *kube.Client) ([]*v1alpha1.Release, error) {
	deliveries, err := api.Releases()
	var out []*v1alpha1.Release
	for _, d := range deliveries {
		out = append(out, d.Release)
	}
	return out, err
}

// serveMetrics answers Prometheus at an address; "" = nowhere.
func (l *loop) serveMetrics(address string, metrics http.Handler) error {
	if address == "" {
		return nil
	}
	at, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("metrics: %w: choose another address with --metrics-address", err)
	}
	l.metrics = at.Addr().String()
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	l.close = append(l.close, func() { server.Close() })
	go func() {
		if err := server.Serve(at); !errors.Is(err, http.ErrServerClosed) {
			l.fail("metrics", err)
		}
	}()
	return nil
}

// remotes are the proxies of a server, as the controller knows proxies.
type remotes struct{ *ads.Server }

// States implements controller.Remote.
func (r remotes) States() []controller.ProxyState {
	var out []controller.ProxyState
	for _, p := range r.Proxies() {
		state := controller.ProxyState{Name: p.Node.ID, Version: p.Version, At: p.At, Lost: !p.Connected}
		if p.Refused != nil {
			state.Refused, state.Reason = p.Refused.Version, p.Refused.Reason
		}
		out = append(out, state)
	}
	return out
}

// run starts one part; its failure ends the loop.
func (l *loop) run(name string, f func() error) {
	l.parts.Go(func() {
		if err := f(); err != nil {
			l.fail(name, err)
		}
	})
}

// fail ends the loop because of a part.
func (l *loop) fail(name string, err error) {
	select {
	case l.failed <- fmt.Errorf("%s: %w", name, err):
	default:
	}
}

// wait blocks until ctx ends, or a part or the API fails.
func (l *loop) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-l.failed:
		return err
	case <-l.server.Done():
		return l.server.Wait()
	}
}

// stop takes everything down and returns when no process is left.
func (l *loop) stop() {
	l.cancel(errors.New("serin is stopping"))
	l.parts.Wait()
	for i := len(l.close) - 1; i >= 0; i-- {
		l.close[i]()
	}
}

// addresses is what other programs read to find a running Serin, from
// addresses.json in its data directory.
type addresses struct {
	Kubeconfig string `json:"kubeconfig"`
	API        string `json:"api"`
	Gateway    string `json:"gateway"`
	XDS        string `json:"xds"`               // host:port
	Metrics    string `json:"metrics,omitempty"` // host:port
	PID        int    `json:"pid"`
}

func (l *loop) addresses() addresses {
	return addresses{
		Kubeconfig: l.server.KubeconfigPath(), API: l.server.URL(),
		Gateway: "http://" + l.gateway.Addr().String(), XDS: l.xds.Addr().String(), Metrics: l.metrics, PID: os.Getpid(),
	}
}

// writeAddresses replaces the file in one step, so that a reader sees a whole one.
func (l *loop) writeAddresses(dataDir string) error {
	data, err := json.Marshal(l.addresses())
	if err != nil {
		return fmt.Errorf("addresses: %w", err)
	}
	path := filepath.Join(dataDir, "addresses.json")
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("addresses: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("addresses: %w", err)
	}
	l.close = append(l.close, func() { os.Remove(path) })
	return nil
}

// shutdownTime bounds how long requests under way may take when Serin stops:
// the processes that answer them are being stopped as well.
const shutdownTime = time.Second

func shutdown(plane *proxy.Proxy, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := plane.Shutdown(ctx); err != nil {
		log.Debug("requests were cut off", "err", err)
	}
}

// drain lets the node wait until the proxies have let go of a pod.
func drain(plane *proxy.Proxy) func(ctx context.Context, namespace, pod, podIP string) {
	return func(ctx context.Context, _, _, podIP string) {
		ip, err := netip.ParseAddr(podIP)
		if err != nil {
			return // it never had an address, so nobody sends to it
		}
		// The error is the end of ctx: the pod's grace period counts from then.
		_ = plane.Drained(ctx, ip)
	}
}

// through makes a client whose calls go through an outbound listener; nil = the
// usual TLS.
func through(l *proxy.Listener, tls *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:           http.ProxyURL(addressOf(l)),
		DialContext:     (&net.Dialer{}).DialContext,
		IdleConnTimeout: time.Minute,
		TLSClientConfig: tls,
	}}
}

// addressOf is where an outbound listener takes calls.
func addressOf(l *proxy.Listener) *url.URL { return &url.URL{Scheme: "http", Host: l.Addr().String()} }

// imageMappings lets this binary stand for the images that are built into it.
func imageMappings() ([]node.ImageMapping, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("own executable: %w", err)
	}
	var out []node.ImageMapping
	for _, i := range demoapp.Images() {
		out = append(out, node.ImageMapping{Image: i.Pattern, Command: append([]string{self}, i.Args...)})
	}
	return out, nil
}

// usageOf tells what the pods of a node use, from when there is one.
func usageOf(here *atomic.Pointer[node.Node]) apiserver.UsageSource {
	return func(namespace, pod string) []apiserver.ContainerUsage {
		n := here.Load()
		if n == nil {
			return nil
		}
		var out []apiserver.ContainerUsage
		for _, u := range n.Usage(namespace, pod) {
			out = append(out, apiserver.ContainerUsage{Name: u.Container, CPU: u.CPU, Memory: u.Memory, At: u.At, Window: u.Window})
		}
		return out
	}
}
