package controller

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy"
)

func TestATakenAddressIsToldOnceAndOpenedWhenItIsFree(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.New(proxy.Config{Loops: 1})
	defer p.Shutdown(context.Background())
	l := &listeners{proxy: p, log: slog.New(slog.DiscardHandler)}
	defer l.closeAll()
	want := map[listenerKey]mesh.Labels{{kind: outbound, address: other.Addr().String()}: nil}

	errs := l.want(want)
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), other.Addr().String()) || !strings.Contains(errs[0].Error(), "stop the program that has it") {
		t.Fatalf("a taken address gives %v, want what to do about it", errs)
	}
	if errs := l.want(want); len(errs) != 0 {
		t.Errorf("it is told again: %v", errs)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if errs := l.want(want); len(errs) != 0 || len(l.open) != 1 || len(l.refused) != 0 {
		t.Errorf("with the address free: %v, %d open, %d refused", errs, len(l.open), len(l.refused))
	}
}

// Somebody labels a pod that calls others: who calls changes, and the listener
// stays, with the calls that are on their way to it.
func TestALabelOpensNoListenerAnew(t *testing.T) {
	p := proxy.New(proxy.Config{Loops: 1})
	defer p.Shutdown(context.Background())
	l := &listeners{proxy: p, log: slog.New(slog.DiscardHandler)}
	defer l.closeAll()
	seen := map[*proxy.Listener]bool{}
	for _, labels := range []mesh.Labels{{"app": "music"}, {"app": "music", "serin.dev/config": "c1"}} {
		keys := listenersFor(&kube.MeshObjects{Pods: []kube.PodListeners{{
			Workload: mesh.Workload{Namespace: "default", Name: "music"}, Labels: labels, Outbound: "127.0.0.1:0",
		}}}, &mesh.Snapshot{}, "127.0.0.1", 0, nil)
		if errs := l.want(keys); len(errs) > 0 {
			t.Fatal(errs)
		}
		for _, open := range l.open {
			seen[open] = true
		}
	}
	if len(seen) != 1 || len(l.open) != 1 {
		t.Errorf("%d listeners were opened for one pod, %d are open", len(seen), len(l.open))
	}
}

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
