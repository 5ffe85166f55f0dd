package xds

import (
	"fmt"
	"math"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	commonlbv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastrequestv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	maglevv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	ringhashv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	roundrobinv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"serin.dev/serin/internal/mesh"
)

// encodeBalancer makes the policy for one locality; weighLocalities changes it
// for several.
func encodeBalancer(p *mesh.Policy) (*clusterv3.LoadBalancingPolicy, error) {
	var warmup *commonlbv3.SlowStartConfig
	if p.Warmup != nil {
		warmup = encodeWarmup(p.Warmup)
	}
	// The key is the policy's and not the route's, whose own hash picks the
	// share of a split.
	hashing := &commonlbv3.ConsistentHashingLbConfig{HashPolicy: encodeHash(p.Hash)}
	size := func(n uint32) *wrapperspb.UInt64Value {
		if n == 0 {
			return nil
		}
		return wrapperspb.UInt64(uint64(n))
	}
	var m proto.Message
	switch p.Balancer {
	case mesh.LeastRequest:
		m = &leastrequestv3.LeastRequest{SlowStartConfig: warmup}
	case mesh.RoundRobin:
		m = &roundrobinv3.RoundRobin{SlowStartConfig: warmup}
	case mesh.Random:
		m = &randomv3.Random{}
	case mesh.RingHash:
		m = &ringhashv3.RingHash{MinimumRingSize: size(p.RingSize), ConsistentHashingLbConfig: hashing}
	case mesh.Maglev:
		m = &maglevv3.Maglev{TableSize: size(p.TableSize), ConsistentHashingLbConfig: hashing}
	default:
		return nil, fmt.Errorf("unknown %v", p.Balancer)
	}
	return packBalancer(m)
}

func packBalancer(m proto.Message) (*clusterv3.LoadBalancingPolicy, error) {
	packed, err := pack(m)
	if err != nil {
		return nil, err
	}
	return &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{{
		TypedExtensionConfig: &corev3.TypedExtensionConfig{Name: packed.GetTypeUrl(), TypedConfig: packed},
	}}}, nil
}

// unpackBalancer returns the one policy of ours.
func unpackBalancer(in *clusterv3.LoadBalancingPolicy) (proto.Message, error) {
	if len(in.GetPolicies()) != 1 {
		return nil, fmt.Errorf("%d balancers, want 1", len(in.GetPolicies()))
	}
	packed := in.GetPolicies()[0].GetTypedExtensionConfig().GetTypedConfig()
	for _, m := range []proto.Message{
		&leastrequestv3.LeastRequest{}, &roundrobinv3.RoundRobin{}, &randomv3.Random{}, &ringhashv3.RingHash{}, &maglevv3.Maglev{},
	} {
		if packed.MessageIs(m) {
			return m, unpack(packed, m)
		}
	}
	return nil, fmt.Errorf("balancer %q is none of ours", packed.GetTypeUrl())
}

func decodeBalancer(in *clusterv3.LoadBalancingPolicy, p *mesh.Policy) error {
	m, err := unpackBalancer(in)
	if err != nil {
		return err
	}
	var warmup *commonlbv3.SlowStartConfig
	var hashing *commonlbv3.ConsistentHashingLbConfig
	switch m := m.(type) {
	case *leastrequestv3.LeastRequest:
		p.Balancer, warmup = mesh.LeastRequest, m.GetSlowStartConfig()
	case *roundrobinv3.RoundRobin:
		p.Balancer, warmup = mesh.RoundRobin, m.GetSlowStartConfig()
	case *randomv3.Random:
		p.Balancer = mesh.Random
	case *ringhashv3.RingHash:
		p.Balancer, hashing = mesh.RingHash, m.GetConsistentHashingLbConfig()
		p.RingSize = uint32(min(m.GetMinimumRingSize().GetValue(), math.MaxUint32))
	case *maglevv3.Maglev:
		p.Balancer, hashing = mesh.Maglev, m.GetConsistentHashingLbConfig()
		p.TableSize = uint32(min(m.GetTableSize().GetValue(), math.MaxUint32))
	}
	if warmup != nil {
		p.Warmup = decodeWarmup(warmup)
	}
	p.Hash, err = decodeHash(hashing.GetHashPolicy())
	return err
}

// weighLocalities makes the balancer choose between localities by their
// weights first.
func weighLocalities(in *clusterv3.LoadBalancingPolicy) (*clusterv3.LoadBalancingPolicy, error) {
	m, err := unpackBalancer(in)
	if err != nil {
		return nil, err
	}
	weighted := &commonlbv3.LocalityLbConfig_LocalityWeightedLbConfig{}
	config := &commonlbv3.LocalityLbConfig{
		LocalityConfigSpecifier: &commonlbv3.LocalityLbConfig_LocalityWeightedLbConfig_{LocalityWeightedLbConfig: weighted},
	}
	switch m := m.(type) {
	case *leastrequestv3.LeastRequest:
		m.LocalityLbConfig = config
	case *roundrobinv3.RoundRobin:
		m.LocalityLbConfig = config
	case *randomv3.Random:
		m.LocalityLbConfig = config
	case *ringhashv3.RingHash:
		m.LocalityWeightedLbConfig = weighted
	case *maglevv3.Maglev:
		m.LocalityWeightedLbConfig = weighted
	}
	return packBalancer(m)
}

// warmsUp reports whether Envoy's balancer of that name has a slow start.
func warmsUp(b mesh.Balancer) bool { return b == mesh.LeastRequest || b == mesh.RoundRobin }

func encodeWarmup(w *mesh.Warmup) *commonlbv3.SlowStartConfig {
	out := &commonlbv3.SlowStartConfig{SlowStartWindow: durationpb.New(w.Duration)}
	if w.MinPercent != 0 {
		out.MinWeightPercent = &typev3.Percent{Value: float64(w.MinPercent)}
	}
	if w.Aggression != 0 {
		out.Aggression = &corev3.RuntimeDouble{DefaultValue: w.Aggression, RuntimeKey: "serin.warmup"}
	}
	return out
}

func decodeWarmup(m *commonlbv3.SlowStartConfig) *mesh.Warmup {
	return &mesh.Warmup{
		Duration:   m.GetSlowStartWindow().AsDuration(),
		MinPercent: uint32(min(100, max(0, m.GetMinWeightPercent().GetValue()))),
		Aggression: m.GetAggression().GetDefaultValue(),
	}
}

func decodeAttachedWarmup(m *corev3.Metadata, p *mesh.Policy) error {
	var warmup commonlbv3.SlowStartConfig
	found, err := attached(m, "warmup", &warmup)
	if found && err == nil {
		p.Warmup = decodeWarmup(&warmup)
	}
	return err
}
