package xds

import (
	"cmp"
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"serin.dev/serin/internal/mesh"
)

// Decode turns what Encode made for our own proxy back into the node's View of
// the snapshot. Of anything else it makes an error or a snapshot that may not
// be valid; the caller validates it.
func Decode(r Resources) (*mesh.Snapshot, error) {
	out := &mesh.Snapshot{Version: r.Version}
	for _, step := range []func(Resources, *mesh.Snapshot) error{decodeServices, decodeCertificates, decodeHosts, decodeGateways} {
		if err := step(r, out); err != nil {
			return nil, fmt.Errorf("decode snapshot %d: %w", r.Version, err)
		}
	}
	return out, nil
}

func decodeServices(r Resources, out *mesh.Snapshot) error {
	for _, name := range sortedKeys(r.ByType[Clusters]) {
		var m clusterv3.Cluster
		if err := unpack(r.ByType[Clusters][name].Body, &m); err != nil {
			return fmt.Errorf("cluster %s: %w", name, err)
		}
		if err := addCluster(r, out, &m); err != nil {
			return fmt.Errorf("cluster %s: %w", name, err)
		}
	}
	for _, svc := range out.Services {
		slices.SortFunc(svc.Ports, func(a, b mesh.Port) int { return cmp.Compare(a.Number, b.Number) })
		slices.SortStableFunc(svc.Endpoints, func(a, b mesh.Endpoint) int { return cmp.Compare(a.Port, b.Port) })
	}
	return nil
}

func addCluster(r Resources, out *mesh.Snapshot, m *clusterv3.Cluster) error {
	parts, err := decodeCluster(m)
	if err != nil {
		return err
	}
	if out.Services == nil {
		out.Services = map[mesh.ServiceName]*mesh.Service{}
	}
	svc := out.Services[parts.service]
	if svc == nil {
		svc = &mesh.Service{Name: parts.service}
		out.Services[parts.service] = svc
	}
	var access routev3.VirtualHost
	if found, err := attached(m.GetMetadata(), "access", &access); err != nil {
		return err
	} else if found {
		if svc.Access, err = decodeAccess(&access); err != nil {
			return err
		}
	}
	if parts.port.Number == 0 {
		return nil
	}
	setPolicy(svc, parts.port, parts.subset, &parts.policy)
	if parts.subset != "" {
		if svc.Subsets == nil {
			svc.Subsets = map[string]mesh.Labels{}
		}
		svc.Subsets[parts.subset] = parts.labels
		return nil
	}
	svc.Ports = append(svc.Ports, parts.port)
	assignment := r.ByType[Endpoints][m.GetName()].Body
	if assignment == nil {
		return nil
	}
	var e endpointv3.ClusterLoadAssignment
	if err := unpack(assignment, &e); err != nil {
		return err
	}
	endpoints, err := decodeEndpoints(&e, parts.port.Number)
	svc.Endpoints = append(svc.Endpoints, endpoints...)
	return err
}

func decodeCertificates(r Resources, out *mesh.Snapshot) error {
	for _, name := range sortedKeys(r.ByType[Secrets]) {
		var m tlsv3.Secret
		err := unpack(r.ByType[Secrets][name].Body, &m)
		if err == nil {
			if out.Certificates == nil {
				out.Certificates = map[string]*mesh.Certificate{}
			}
			err = decodeSecret(&m, out.Certificates)
		}
		if err != nil {
			return fmt.Errorf("secret %s: %w", name, err)
		}
	}
	return nil
}

func decodeHosts(r Resources, out *mesh.Snapshot) error {
	if r.ByType[Routes][nounsMesh].Body == nil {
		return nil
	}
	var err error
	out.Hosts, err = virtualHosts(r, nounsMesh)
	return err
}

func decodeGateways(r Resources, out *mesh.Snapshot) error {
	type indexed struct {
		index   uint32
		gateway mesh.Gateway
	}
	var all []indexed
	for _, name := range sortedKeys(r.ByType[Listeners]) {
		var m listenerv3.Listener
		if err := unpack(r.ByType[Listeners][name].Body, &m); err != nil {
			return fmt.Errorf("listener %s: %w", name, err)
		}
		g, err := decodeGateway(&m)
		if err == nil && r.ByType[Routes][name].Body != nil {
			g.VirtualHosts, err = virtualHosts(r, name)
		}
		if err != nil {
			return fmt.Errorf("listener %s: %w", name, err)
		}
		index, err := fieldsOf(m.GetMetadata()).number("index", 1<<31)
		if err != nil {
			return fmt.Errorf("listener %s: %w", name, err)
		}
		all = append(all, indexed{index, g})
	}
	slices.SortStableFunc(all, func(a, b indexed) int { return cmp.Compare(a.index, b.index) })
	for _, g := range all {
		out.Gateways = append(out.Gateways, g.gateway)
	}
	return nil
}

func decodeGateway(m *listenerv3.Listener) (mesh.Gateway, error) {
	port := m.GetAddress().GetSocketAddress().GetPortValue()
	if port > 65535 {
		return mesh.Gateway{}, fmt.Errorf("port %d is not in 1..65535", port)
	}
	g := mesh.Gateway{Name: fieldsOf(m.GetMetadata()).text("name"), Port: uint16(port)}
	var streams []*listenerv3.FilterChain
	for _, chain := range m.GetFilterChains() {
		if chain.GetTransportSocket() == nil {
			streams = append(streams, chain)
			continue
		}
		t, err := decodeServerTLS(chain.GetTransportSocket(), chain.GetFilterChainMatch().GetServerNames())
		if err != nil {
			return g, err
		}
		g.TLS = append(g.TLS, t)
	}
	var err error
	g.Streams, err = decodeStreams(streams)
	return g, err
}

func virtualHosts(r Resources, name string) ([]mesh.VirtualHost, error) {
	var m routev3.RouteConfiguration
	if err := unpack(r.ByType[Routes][name].Body, &m); err != nil {
		return nil, fmt.Errorf("routes %s: %w", name, err)
	}
	var out []mesh.VirtualHost
	for _, vh := range m.GetVirtualHosts() {
		to, err := decodeHost(vh)
		if err != nil {
			return nil, fmt.Errorf("routes %s: host %s: %w", name, vh.GetName(), err)
		}
		out = append(out, to)
	}
	return out, nil
}

func decodeHost(vh *routev3.VirtualHost) (mesh.VirtualHost, error) {
	to := mesh.VirtualHost{Hosts: full(vh.GetDomains()), RequireTLS: vh.GetRequireTls() == routev3.VirtualHost_ALL}
	var chains listenerv3.Listener
	if _, err := attached(vh.GetMetadata(), "streams", &chains); err != nil {
		return to, err
	}
	var err error
	if to.Streams, err = decodeStreams(chains.GetFilterChains()); err != nil {
		return to, err
	}
	last := -1.0
	for i, in := range vh.GetRoutes() {
		f := fieldsOf(in.GetMetadata())
		if number := f["route"].GetNumberValue(); number != last || len(to.Routes) == 0 {
			last = number
			r := mesh.Route{Origin: decodeOrigin(f.fields("origin")), Service: mesh.ServiceName(f.text("service"))}
			if err := decodeRoute(in, f.isTrue(fieldUnserved), &r); err != nil {
				return to, fmt.Errorf("route %d: %w", i, err)
			}
			to.Routes = append(to.Routes, r)
		}
		m, err := decodeMatch(in.GetMatch(), f)
		if err != nil {
			return to, fmt.Errorf("route %d: %w", i, err)
		}
		r := &to.Routes[len(to.Routes)-1]
		r.Matches = append(r.Matches, m)
	}
	for i := range to.Routes {
		to.Routes[i].Matches = unlessAny(to.Routes[i].Matches)
	}
	return to, nil
}
