package controller

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
)

func TestUpstreamsListenAtThePodAndAtLocalhost(t *testing.T) {
	pod := func(ip, name, revision string, port uint16, service mesh.ServiceName) kube.PodListeners {
		return kube.PodListeners{
			Workload:  mesh.Workload{Namespace: "default", Name: name, Revision: revision, Pod: name + "-" + revision},
			Upstreams: []kube.PodUpstream{{Address: netip.AddrPortFrom(netip.MustParseAddr(ip), port), Service: service}},
		}
	}
	snapshot := &mesh.Snapshot{Services: map[mesh.ServiceName]*mesh.Service{
		"currency.default": {Ports: []mesh.Port{{Number: 80}, {Number: 81}}},
		"rates.default":    {Ports: []mesh.Port{{Number: 90}}},
	}}
	keys := map[listenerKey]mesh.Labels{}
	addUpstreams(keys, []kube.PodListeners{
		pod("127.0.1.3", "shop", "r1", 9091, "rates.default"), // localhost is taken by payment
		pod("127.0.1.1", "payment", "r1", 9091, "currency.default"),
		pod("127.0.1.2", "payment", "r2", 9091, "currency.default"),
		pod("127.0.1.4", "shop", "r1", 9092, "ghost.default"), // there is no such service
	}, snapshot)
	var got []string
	for key := range keys {
		got = append(got, key.address+" "+key.workload.Name+"/"+key.workload.Revision+" → "+string(key.service))
	}
	slices.Sort(got)
	want := []string{
		"127.0.0.1:9091 payment/ → currency.default",
		"127.0.1.1:9091 payment/r1 → currency.default",
		"127.0.1.2:9091 payment/r2 → currency.default",
		"127.0.1.3:9091 shop/r1 → rates.default",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
}
