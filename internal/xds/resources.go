package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"serin.dev/serin/internal/mesh"
)

// Type is a kind of resource of the discovery protocol.
type Type uint8

// The types, in the order in which a change has to arrive: a listener's routes
// lead to clusters, and those to endpoints, that are there already.
const (
	Clusters Type = iota
	Endpoints
	Secrets
	Listeners
	Routes
	typeCount
)

// Types lists all, in their order.
func Types() []Type { return []Type{Clusters, Endpoints, Secrets, Listeners, Routes} }

var typeNames = [typeCount]string{
	Clusters:  "envoy.config.cluster.v3.Cluster",
	Endpoints: "envoy.config.endpoint.v3.ClusterLoadAssignment",
	Secrets:   "envoy.extensions.transport_sockets.tls.v3.Secret",
	Listeners: "envoy.config.listener.v3.Listener",
	Routes:    "envoy.config.route.v3.RouteConfiguration",
}

const urlPrefix = "type.googleapis.com/"

// URL is the type's name in the protocol.
func (t Type) URL() string { return urlPrefix + typeNames[t] }

// String names the type for people.
func (t Type) String() string {
	return [...]string{"clusters", "endpoints", "secrets", "listeners", "routes"}[t]
}

// TypeOf finds the type of a URL.
func TypeOf(url string) (Type, bool) {
	for _, t := range Types() {
		if t.URL() == url {
			return t, true
		}
	}
	return 0, false
}

// Resource is one message, ready to be sent.
type Resource struct {
	Version string // a hash: the same for the same body
	Body    *anypb.Any
}

// Resources is what one node gets of one snapshot.
type Resources struct {
	Version mesh.SnapshotVersion
	ByType  [typeCount]map[string]Resource // by type and name
	// Routings are hashes of what routes requests. Each route to an Envoy has
	// that of its virtual host, and the access log sends it back: it tells under
	// which snapshots a request may have been routed. None in the other layout.
	Routings []string
}

// Set adds a message.
func (r *Resources) Set(t Type, name string, m proto.Message) error {
	body, err := pack(m)
	if err != nil {
		return fmt.Errorf("%s %s: %w", t, name, err)
	}
	return r.set(t, name, body)
}

func (r *Resources) set(t Type, name string, body *anypb.Any) error {
	return r.setResource(t, name, Resource{Version: digest(body.GetValue()), Body: body})
}

func (r *Resources) setResource(t Type, name string, one Resource) error {
	if r.ByType[t] == nil {
		r.ByType[t] = map[string]Resource{}
	}
	if _, twice := r.ByType[t][name]; twice {
		return fmt.Errorf("%s %s: made twice", t, name)
	}
	r.ByType[t][name] = one
	return nil
}

// Add adds a resource as it was received.
func (r *Resources) Add(name string, body *anypb.Any) error {
	t, ok := TypeOf(body.GetTypeUrl())
	if !ok {
		return fmt.Errorf("resource %s: type %q is none of ours", name, body.GetTypeUrl())
	}
	return r.set(t, name, body)
}

// digest tells bodies apart: 64 bits of a hash in which nobody finds two that
// are equal by accident.
func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:8])
}
