package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/xds"
	"serin.dev/serin/internal/xds/ads"
)

// nodeFlags say what a proxy is.
type nodeFlags struct {
	server    string
	id        string
	place     string
	namespace string
	workload  string
	service   string
	labels    map[string]string
	gateways  []string
	outbound  string
	inbounds  []string
	upstreams []string
}

func (f *nodeFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.server, "xds", ads.DefaultListen, "host:port of the server that gives out snapshots, of serin up")
	flags.StringVar(&f.id, "id", "", "name of the proxy, unique for the server (default: made of the workload, the machine and an address)")
	flags.StringVar(&f.place, "place", "", "where it runs, as region/zone/subzone")
	flags.StringArrayVar(&f.gateways, "gateway", nil, "serve the Gateways of a port at an address, as `PORT=IP:PORT`; may be repeated")
	flags.StringVar(&f.outbound, "outbound", "", "address for the workload's calls, `IP:PORT`: what its HTTP_PROXY says")
	flags.StringArrayVar(&f.upstreams, "upstream", nil, "local port that stands for one of a service, as `[IP:]PORT=SERVICE:PORT`; may be repeated")
	flags.StringArrayVar(&f.inbounds, "inbound", nil, "take calls at an address to the application at another, as `[IP:]PORT=[IP:]PORT`; may be repeated")
	flags.StringVar(&f.namespace, "namespace", "default", "namespace of the workload")
	flags.StringVar(&f.workload, "workload", "", "name of the workload whose calls these are")
	flags.StringVar(&f.service, "service", "", "name under which the workload is called, for the records of --inbound (default: the workload's)")
	flags.StringToStringVar(&f.labels, "label", nil, "label of the workload, `KEY=VALUE`; may be repeated")
}

// node makes the node of the flags.
func (f *nodeFlags) node(kind xds.Kind) (xds.Node, error) {
	n := xds.Node{ID: f.id, Kind: kind, Outbound: f.outbound}
	if host, port, err := net.SplitHostPort(f.server); err != nil || host == "" || port == "" {
		return n, fmt.Errorf("--xds %q: want HOST:PORT", f.server)
	}
	parts := strings.Split(f.place, "/")
	if len(parts) > 3 {
		return n, fmt.Errorf("--place %q: want region/zone/subzone", f.place)
	}
	for i, to := range []*string{&n.Place.Region, &n.Place.Zone, &n.Place.Subzone}[:len(parts)] {
		*to = parts[i]
	}
	for _, flag := range f.gateways {
		number, address, _ := strings.Cut(flag, "=")
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil || port == 0 || address == "" {
			return n, fmt.Errorf("--gateway %q: want PORT=IP:PORT", flag)
		}
		n.Gateways = append(n.Gateways, xds.GatewayListener{Port: uint16(port), Address: address})
	}
	for _, flag := range f.inbounds {
		address, application, _ := strings.Cut(flag, "=")
		if application == "" {
			return n, fmt.Errorf("--inbound %q: want [IP:]PORT=[IP:]PORT", flag)
		}
		n.Inbounds = append(n.Inbounds, xds.Inbound{Address: local(address), Application: local(application)})
	}
	for _, flag := range f.upstreams {
		address, target, _ := strings.Cut(flag, "=")
		service, number, _ := strings.Cut(target, ":")
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil || port == 0 || service == "" {
			return n, fmt.Errorf("--upstream %q: want [IP:]PORT=SERVICE:PORT", flag)
		}
		n.Upstreams = append(n.Upstreams, xds.Upstream{Address: local(address), Service: service, Port: uint16(port)})
	}
	if !n.Gateway() {
		if err := f.sidecar(&n); err != nil {
			return n, err
		}
	}
	if n.ID == "" {
		n.ID = defaultID(&n)
	}
	if w := &n.Caller.Workload; w.Name != "" {
		w.Pod = n.ID
	}
	return n, n.Validate()
}

func (f *nodeFlags) sidecar(n *xds.Node) error {
	if f.outbound == "" && len(f.upstreams)+len(f.inbounds) == 0 {
		return fmt.Errorf("nothing to do: give --gateway, --outbound, --upstream or --inbound")
	}
	if f.workload == "" {
		return fmt.Errorf("--workload is required: whose calls are these?")
	}
	n.Caller = mesh.Caller{
		Workload: mesh.Workload{Namespace: f.namespace, Name: f.workload, Version: f.labels["version"]},
		Labels:   f.labels,
	}
	service := f.service
	if service == "" {
		service = f.workload
	}
	if len(n.Inbounds) > 0 {
		n.Service = mesh.ServiceName(mesh.CanonicalHost(service, f.namespace))
	}
	return nil
}

// local is an address of which the host may be left out.
func local(address string) string {
	if strings.Contains(address, ":") {
		return address
	}
	return net.JoinHostPort("127.0.0.1", address)
}

// defaultID stays the same when the proxy is started again, and is another for
// each proxy of a machine.
func defaultID(n *xds.Node) string {
	machine, err := os.Hostname()
	if err != nil {
		machine = "unknown"
	}
	name, at := n.Caller.Workload.Name+"."+n.Caller.Workload.Namespace, n.Outbound
	switch {
	case n.Gateway():
		name, at = "gateway", n.Gateways[0].Address
	case at == "" && len(n.Inbounds) > 0:
		at = n.Inbounds[0].Address
	case at == "" && len(n.Upstreams) > 0:
		at = n.Upstreams[0].Address
	}
	if addr, err := netip.ParseAddrPort(at); err == nil && addr.Addr().IsLoopback() {
		at = strconv.Itoa(int(addr.Port()))
	}
	return name + "@" + machine + ":" + at
}

// systemCA is where this machine keeps the authorities that it trusts; "" when
// it is in none of the usual places.
func systemCA() string {
	places := []string{
		xds.DefaultSystemCA,
		"/etc/pki/tls/certs/ca-bundle.crt", // Fedora, RHEL
		"/etc/ssl/ca-bundle.pem",           // SUSE
		"/etc/ssl/cert.pem",                // macOS, BSD
	}
	i := slices.IndexFunc(places, func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	})
	if i < 0 {
		return ""
	}
	return places[i]
}
