package xds

import (
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	dfpclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	dfpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"serin.dev/serin/internal/mesh"
)

// Names that an Envoy's configuration has beside those of services.
const (
	// ServerCluster is the cluster of the server that an Envoy gets all this
	// from. Its bootstrap defines it; access logs go there, too.
	ServerCluster = "serin"

	outsideCluster = "outside"  // hosts that are not of the mesh
	inboundPrefix  = "inbound:" // an application, by the address that its proxy answers at
)

// encodeForEnvoy makes the layout for an Envoy.
func encodeForEnvoy(out *Resources, view *mesh.Snapshot, n *Node, m *memory) error {
	e := &envoy{out: out, view: view, node: n, memory: m, systemCA: n.SystemCA}
	if e.systemCA == "" {
		e.systemCA = DefaultSystemCA
	}
	for _, name := range sortedServices(view) {
		svc := view.Services[name]
		part, err := m.resources.of(svc, func() (*Resources, error) { return e.service(svc) })
		if err == nil {
			err = out.include(part)
		}
		if err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
	}
	if err := encodeCertificates(out, view); err != nil {
		return err
	}
	if n.Gateway() {
		return e.gateways()
	}
	return e.sidecar()
}

// envoy makes the resources of one Envoy.
type envoy struct {
	out      *Resources
	view     *mesh.Snapshot
	node     *Node
	memory   *memory
	systemCA string
	filters  map[filterKey]map[string]*anypb.Any // packed once, used by many routes
}

type filterKey struct {
	service mesh.ServiceName
	port    uint16
}

// service makes the clusters of a service and their endpoints.
func (e *envoy) service(svc *mesh.Service) (*Resources, error) {
	out := &Resources{}
	all := destinations(svc)
	for i := range all {
		if err := e.cluster(out, &all[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// cluster makes the cluster of a destination and its endpoints.
func (e *envoy) cluster(out *Resources, d *destination) error {
	c, err := encodeCluster(d, e.systemCA)
	if err != nil {
		return err
	}
	assignment, weighted, err := assign(d, e.node.Place)
	if err != nil {
		return err
	}
	if weighted {
		if c.LoadBalancingPolicy, err = weighLocalities(c.GetLoadBalancingPolicy()); err != nil {
			return err
		}
	}
	endpoints, _ := d.service.Select(d.port.Number, d.subset)
	if byName(endpoints) {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		c.EdsClusterConfig = nil
		c.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
		c.LoadAssignment = assignment
	} else if err := out.Set(Endpoints, c.GetName(), assignment); err != nil {
		return err
	}
	return out.Set(Clusters, c.GetName(), c)
}

// name is the cluster of a destination, as seen from the called port. One that
// does not exist has a name without a cluster, which answers 503.
func (e *envoy) name(called uint16) clusterNamer {
	return func(d mesh.Destination) string {
		d.Weight, d.Headers = 0, nil
		if svc := e.view.Services[d.Service]; svc != nil {
			if port, ok := svc.TargetPort(d.Port, called); ok {
				d.Port = port
			}
		}
		return d.String()
	}
}

// forDestination is what the filters do with requests to a destination that were
// called on a port, by the filters' names. The result must not be changed.
func (e *envoy) forDestination(d mesh.Destination, called uint16) (map[string]*anypb.Any, error) {
	key := filterKey{d.Service, called}
	if packed, ok := e.filters[key]; ok {
		return packed, nil
	}
	packed := map[string]*anypb.Any{}
	if svc := e.view.Services[d.Service]; svc != nil && len(svc.Access) > 0 {
		var err error
		if packed, err = accessForEnvoy(svc.Access, called); err != nil {
			return nil, fmt.Errorf("access to %s: %w", svc.Name, err)
		}
	}
	var err error
	if packed[filterRemember], err = pack(rememberRequest(d.Service)); err != nil {
		return nil, err
	}
	if e.filters == nil {
		e.filters = map[filterKey]map[string]*anypb.Any{}
	}
	e.filters[key] = packed
	return packed, nil
}

// admitsStreams reports whether the caller may open connections of bytes to all
// destinations of a split. What a rule says of requests is unknown then, and is
// taken so that less is admitted.
func (e *envoy) admitsStreams(split []mesh.Destination) bool {
	for _, d := range split {
		svc := e.view.Services[d.Service]
		if svc == nil {
			continue
		}
		restricted, allowed := false, false
		for i := range svc.Access {
			rule := &svc.Access[i]
			if rule.Deny {
				return false // the view has left the rules of other callers out
			}
			restricted = true
			allowed = allowed || len(rule.Matches) == 0
		}
		if restricted && !allowed {
			return false
		}
	}
	return true
}

// dnsCache is shared by the filter and the cluster for hosts outside.
func dnsCache() *dfpv3.DnsCacheConfig {
	return &dfpv3.DnsCacheConfig{Name: outsideCluster, DnsLookupFamily: clusterv3.Cluster_V4_PREFERRED}
}

// outside makes the cluster of hosts that are not of the mesh.
func (e *envoy) outside() error {
	packed, err := pack(&dfpclusterv3.ClusterConfig{
		ClusterImplementationSpecifier: &dfpclusterv3.ClusterConfig_DnsCacheConfig{DnsCacheConfig: dnsCache()},
		AllowInsecureClusterOptions:    true, // it is called by http alone: there is no name to check
	})
	if err != nil {
		return err
	}
	options, err := encodeHTTPOptions(&destination{policy: &mesh.Policy{}})
	if err != nil {
		return err
	}
	return e.out.Set(Clusters, outsideCluster, &clusterv3.Cluster{
		Name: outsideCluster,
		ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.clusters.dynamic_forward_proxy", TypedConfig: packed,
		}},
		LbPolicy:                      clusterv3.Cluster_CLUSTER_PROVIDED,
		ConnectTimeout:                durationpb.New(mesh.DefaultConnectTimeout),
		CircuitBreakers:               encodeBreakers(&mesh.Policy{}),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{httpOptions: options},
	})
}

// application makes the cluster of the application behind an inbound listener.
func (e *envoy) application(in Inbound) error {
	endpoint := mesh.Endpoint{Dial: in.Application, Workload: e.node.Caller.Workload}
	lb, err := encodeEndpoint(&endpoint)
	if err != nil {
		return err
	}
	svc := &mesh.Service{Name: e.node.Service}
	d := &destination{service: svc, policy: &mesh.Policy{}}
	c, err := encodeCluster(d, e.systemCA)
	if err != nil {
		return err
	}
	c.Name = inboundPrefix + in.Address
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	c.EdsClusterConfig = nil
	c.LoadAssignment = oneEndpoint(c.Name, lb)
	return e.out.Set(Clusters, c.Name, c)
}
