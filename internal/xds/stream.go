package xds

import (
	"fmt"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"serin.dev/serin/internal/mesh"
)

const filterTCPProxy = "envoy.filters.network.tcp_proxy"

// encodeStreams makes a filter chain of each match of each stream, in order.
func encodeStreams(streams []mesh.Stream) ([]*listenerv3.FilterChain, error) {
	var out []*listenerv3.FilterChain
	for i := range streams {
		s := &streams[i]
		f := fields{}
		f.setNumber("stream", uint32(i)+1)
		f.setFields("origin", encodeOrigin(s.Origin))
		f.setText("service", string(s.Service))
		matches := s.Matches
		if len(matches) == 0 {
			matches = []mesh.StreamMatch{{}}
		}
		for _, m := range matches {
			chain := &listenerv3.FilterChain{
				Name:             s.Name,
				FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: m.SNI, DestinationPort: number(uint32(m.Port))},
				Metadata:         f.metadata(),
			}
			if len(s.Split) > 0 {
				filter, err := packFilter(filterTCPProxy, encodeTCPProxy(s.Split, mesh.Destination.String))
				if err != nil {
					return nil, err
				}
				chain.Filters = []*listenerv3.Filter{filter}
			}
			out = append(out, chain)
		}
	}
	return out, nil
}

// encodeTCPProxy makes the filter that sends a connection to the split, which
// is not empty.
func encodeTCPProxy(split []mesh.Destination, name clusterNamer) *tcpproxyv3.TcpProxy {
	out := &tcpproxyv3.TcpProxy{StatPrefix: statPrefix}
	if len(split) == 1 {
		out.ClusterSpecifier = &tcpproxyv3.TcpProxy_Cluster{Cluster: name(split[0])}
		return out
	}
	w := &tcpproxyv3.TcpProxy_WeightedCluster{}
	for _, d := range split {
		w.Clusters = append(w.Clusters, &tcpproxyv3.TcpProxy_WeightedCluster_ClusterWeight{Name: name(d), Weight: d.Weight})
	}
	out.ClusterSpecifier = &tcpproxyv3.TcpProxy_WeightedClusters{WeightedClusters: w}
	return out
}

func decodeStreams(chains []*listenerv3.FilterChain) ([]mesh.Stream, error) {
	var out []mesh.Stream
	last := -1.0
	for i, chain := range chains {
		f := fieldsOf(chain.GetMetadata())
		if number := f["stream"].GetNumberValue(); number != last || len(out) == 0 {
			last = number
			s := mesh.Stream{
				Name: chain.GetName(), Origin: decodeOrigin(f.fields("origin")), Service: mesh.ServiceName(f.text("service")),
			}
			var err error
			if s.Split, err = decodeTCPSplit(chain.GetFilters()); err != nil {
				return nil, fmt.Errorf("stream %d: %w", i, err)
			}
			out = append(out, s)
		}
		m := mesh.StreamMatch{SNI: full(chain.GetFilterChainMatch().GetServerNames())}
		port := chain.GetFilterChainMatch().GetDestinationPort().GetValue()
		if port > 65535 {
			return nil, fmt.Errorf("stream %d: port %d is not in 1..65535", i, port)
		}
		m.Port = uint16(port)
		s := &out[len(out)-1]
		s.Matches = append(s.Matches, m)
	}
	for i := range out {
		if m := out[i].Matches; len(m) == 1 && m[0].Port == 0 && m[0].SNI == nil {
			out[i].Matches = nil
		}
	}
	return out, nil
}

func decodeTCPSplit(filters []*listenerv3.Filter) ([]mesh.Destination, error) {
	if len(filters) == 0 {
		return nil, nil
	}
	var m tcpproxyv3.TcpProxy
	if err := unpack(filters[0].GetTypedConfig(), &m); err != nil {
		return nil, err
	}
	switch c := m.GetClusterSpecifier().(type) {
	case *tcpproxyv3.TcpProxy_Cluster:
		d, err := parseDestination(c.Cluster)
		d.Weight = 1
		return []mesh.Destination{d}, err
	case *tcpproxyv3.TcpProxy_WeightedClusters:
		var split []mesh.Destination
		for _, w := range c.WeightedClusters.GetClusters() {
			d, err := parseDestination(w.GetName())
			if err != nil {
				return nil, err
			}
			d.Weight = w.GetWeight()
			split = append(split, d)
		}
		return split, nil
	default:
		return nil, fmt.Errorf("cluster specifier %T is none of ours", c)
	}
}

// streamForEnvoy leaves the shares that Envoy takes: those above zero.
func streamForEnvoy(split []mesh.Destination, name clusterNamer) *tcpproxyv3.TcpProxy {
	out := encodeTCPProxy(split, name)
	if w := out.GetWeightedClusters(); w != nil {
		var kept []*tcpproxyv3.TcpProxy_WeightedCluster_ClusterWeight
		for _, c := range w.GetClusters() {
			if c.GetWeight() > 0 {
				kept = append(kept, c)
			}
		}
		w.Clusters = kept
	}
	out.MaxConnectAttempts = wrapperspb.UInt32(1)
	return out
}
