package ads

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"serin.dev/serin/internal/mesh"
)

// This file knows both protocols: what a session says and hears, in Envoy's
// messages.

// deltaRequest reads a request of the delta protocol.
func deltaRequest(m *discoveryv3.DeltaDiscoveryRequest) (request, error) {
	c, ok := channelOf(m.GetTypeUrl())
	if !ok {
		return request{}, fmt.Errorf("type %q is none that this server has", m.GetTypeUrl())
	}
	return request{
		channel:     c,
		subscribe:   m.GetResourceNamesSubscribe(),
		unsubscribe: m.GetResourceNamesUnsubscribe(),
		versions:    m.GetInitialResourceVersions(),
		nonce:       m.GetResponseNonce(),
		refusal:     reason(m.GetErrorDetail()),
	}, nil
}

// worldRequest reads a request of the state of the world.
func worldRequest(m *discoveryv3.DiscoveryRequest) (request, error) {
	c, ok := channelOf(m.GetTypeUrl())
	if !ok {
		return request{}, fmt.Errorf("type %q is none that this server has", m.GetTypeUrl())
	}
	return request{
		channel:   c,
		subscribe: m.GetResourceNames(),
		nonce:     m.GetResponseNonce(),
		refusal:   reason(m.GetErrorDetail()),
	}, nil
}

// reason of a refusal; "" when there is none.
func reason(status interface {
	GetCode() int32
	GetMessage() string
}) string {
	switch {
	case status.GetMessage() != "":
		return status.GetMessage()
	case status.GetCode() != 0:
		return fmt.Sprintf("code %d without a message", status.GetCode())
	}
	return ""
}

func (r *response) delta() *discoveryv3.DeltaDiscoveryResponse {
	out := &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl: r.channel.url(), Nonce: r.nonce, SystemVersionInfo: fmt.Sprint(r.version), RemovedResources: r.remove,
	}
	for _, one := range r.send {
		out.Resources = append(out.Resources, &discoveryv3.Resource{Name: one.name, Version: one.Version, Resource: one.Body})
	}
	return out
}

func (r *response) world() *discoveryv3.DiscoveryResponse {
	out := &discoveryv3.DiscoveryResponse{TypeUrl: r.channel.url(), Nonce: r.nonce, VersionInfo: fmt.Sprint(r.version)}
	for _, one := range r.send {
		out.Resources = append(out.Resources, one.Body)
	}
	return out
}

// manifestBody says which snapshot is complete.
func manifestBody(version mesh.SnapshotVersion) *anypb.Any {
	// As text: numbers in a Struct are floats.
	inner, err := anypb.New(structpb.NewStringValue(fmt.Sprint(version)))
	if err != nil {
		panic("ads: a string cannot be packed: " + err.Error())
	}
	body, err := anypb.New(&corev3.TypedExtensionConfig{Name: manifestName, TypedConfig: inner})
	if err != nil {
		panic("ads: an extension cannot be packed: " + err.Error())
	}
	return body
}

var errNoManifest = errors.New("is no manifest of a snapshot")

func readManifest(body *anypb.Any) (mesh.SnapshotVersion, error) {
	var m corev3.TypedExtensionConfig
	var v structpb.Value
	if body.UnmarshalTo(&m) != nil || proto.Unmarshal(m.GetTypedConfig().GetValue(), &v) != nil {
		return 0, errNoManifest
	}
	var version mesh.SnapshotVersion
	if _, err := fmt.Sscan(v.GetStringValue(), &version); err != nil || version == 0 {
		return 0, errNoManifest
	}
	return version, nil
}
