package xds

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"serin.dev/serin/internal/mesh/meshtest"
)

// FuzzDecode takes one resource of each type, as a hostile server could send
// them. What is decoded is either refused or can be asked and sent on.
func FuzzDecode(f *testing.F) {
	for seed := range uint64(3) {
		s := meshtest.Snapshot(random(seed), meshtest.All())
		for _, n := range nodes(Serin) {
			r, err := Encode(s, n)
			if err != nil {
				f.Fatal(err)
			}
			first := func(t Type) []byte {
				for _, name := range sortedKeys(r.ByType[t]) {
					return r.ByType[t][name].Body.GetValue()
				}
				return nil
			}
			f.Add(first(Clusters), first(Endpoints), first(Secrets), first(Listeners), first(Routes))
		}
	}
	f.Fuzz(func(t *testing.T, cluster, endpoints, secret, listener, routes []byte) {
		r := Resources{Version: 1}
		add := func(of Type, name string, body []byte) {
			if err := r.Add(name, &anypb.Any{TypeUrl: of.URL(), Value: body}); err != nil {
				t.Fatal(err)
			}
		}
		var c clusterv3.Cluster
		if proto.Unmarshal(cluster, &c) != nil {
			return
		}
		add(Clusters, c.GetName(), cluster)
		add(Endpoints, c.GetName(), endpoints)
		add(Secrets, "secret", secret)
		add(Listeners, "listener", listener)
		add(Routes, "listener", routes)
		add(Routes, nounsMesh, routes)
		s, err := Decode(r)
		if err != nil || s.Validate() != nil {
			return
		}
		s.Resolve(meshtest.Call(random(1), s))
		for _, n := range append(nodes(Serin), nodes(Envoy)...) {
			if _, err := Encode(s, n); err != nil {
				t.Errorf("a valid snapshot cannot be encoded: %v", err)
			}
		}
	})
}

func FuzzMessagesOfProxies(f *testing.F) {
	for _, n := range nodes(Envoy) {
		b, err := proto.Marshal(n.Message())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, []byte{})
	}
	f.Fuzz(func(t *testing.T, node, entry []byte) {
		var m corev3.Node
		if proto.Unmarshal(node, &m) == nil {
			if n, err := NodeOf(&m); err == nil && n.Validate() != nil {
				t.Errorf("an invalid node was read: %+v", n)
			}
		}
		var e datav3.HTTPAccessLogEntry
		if proto.Unmarshal(entry, &e) == nil {
			DecodeRequest(&recordNode, &e, notRouted)
		}
		var c datav3.TCPAccessLogEntry
		if proto.Unmarshal(entry, &c) == nil {
			DecodeConnection(&recordNode, &c, notRouted)
		}
	})
}
