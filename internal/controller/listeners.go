package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy"
)

// drainTime bounds how long the requests of a listener that is not wanted any
// more may take: its pod is gone, so nobody waits for the answers.
const drainTime = 5 * time.Second

// listeners keeps one listener open per address that the API asks for: what
// pods call out through, what answers at their own addresses, and gateways
// besides the main one.
type listeners struct {
	proxy *proxy.Proxy
	log   *slog.Logger

	open    map[listenerKey]*proxy.Listener
	refused map[listenerKey]string // told once
	closing sync.WaitGroup
}

// listenerKey is everything a listener is opened with: another value is
// another listener.
type listenerKey struct {
	kind        listenerKind
	address     string
	workload    mesh.Workload    // outbound, upstream: the caller; inbound: the callee
	service     mesh.ServiceName // inbound, upstream
	application string           // inbound
	port        uint16           // gateway; upstream: of the service
}

type listenerKind uint8

const (
	outbound listenerKind = iota
	inbound
	gateway
	upstream
)

// want opens what is new and closes what is gone. It returns what could not be
// opened, each error once. The values are the callers' labels, which may change
// while a listener is open.
func (l *listeners) want(keys map[listenerKey]mesh.Labels) []error {
	if l.open == nil {
		l.open = map[listenerKey]*proxy.Listener{}
		l.refused = map[listenerKey]string{}
	}
	// Close first: a pod's successor may have its address.
	for key, listener := range l.open {
		if _, wanted := keys[key]; !wanted {
			delete(l.open, key)
			l.close(listener)
		}
	}
	for key := range l.refused {
		if _, wanted := keys[key]; !wanted {
			delete(l.refused, key)
		}
	}
	var errs []error
	for key, labels := range keys {
		if open := l.open[key]; open != nil {
			if key.kind == outbound || key.kind == upstream {
				open.SetCaller(mesh.Caller{Workload: key.workload, Labels: labels})
			}
			continue
		}
		listener, err := l.listen(key, labels)
		if err == nil {
			l.open[key] = listener
			if _, was := l.refused[key]; was {
				l.log.Info("the listener is open now", "address", key.address)
				delete(l.refused, key)
			}
			continue
		}
		if errors.Is(err, syscall.EADDRINUSE) && key.kind != gateway { // of those the Gateway's own objection says more
			err = fmt.Errorf("%w: stop the program that has it; this is tried again every %v", err, relisten)
		}
		if l.refused[key] != err.Error() {
			l.refused[key] = err.Error()
			errs = append(errs, err)
		}
	}
	return errs
}

// closedPorts are the ports of Gateways that could not be opened, and why.
func (l *listeners) closedPorts() map[uint16]string {
	out := map[uint16]string{}
	for key, reason := range l.refused {
		if key.kind == gateway {
			out[key.port] = reason
		}
	}
	return out
}

func (l *listeners) listen(key listenerKey, labels mesh.Labels) (*proxy.Listener, error) {
	caller := mesh.Caller{Workload: key.workload, Labels: labels}
	switch key.kind {
	case outbound:
		return l.proxy.ListenOutbound(key.address, caller)
	case upstream:
		return l.proxy.ListenUpstream(key.address, caller, key.service, key.port)
	case inbound:
		return l.proxy.ListenInbound(key.address, key.service, key.workload, key.application)
	case gateway:
		return l.proxy.ListenGateway(key.address, key.port)
	default:
		return nil, fmt.Errorf("listener of kind %d", key.kind)
	}
}

// close returns when the address is free; what is under way goes on.
func (l *listeners) close(listener *proxy.Listener) {
	l.closing.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		if err := listener.Shutdown(ctx); err != nil {
			l.log.Debug("listener closed with requests under way", "address", listener.Addr(), "err", err)
		}
	})
	<-listener.Stopped()
}

// closeAll closes everything and waits for it.
func (l *listeners) closeAll() {
	for key, listener := range l.open {
		delete(l.open, key)
		l.close(listener)
	}
	l.closing.Wait()
}

// listenersFor reads from the API's objects which listeners there have to be.
// main is the port of the main gateway listener, which is open already.
func listenersFor(m *kube.MeshObjects, snapshot *mesh.Snapshot, host string, main uint16, addresses map[uint16]string) map[listenerKey]mesh.Labels {
	// A pod can belong to several services; callers of its own address mean
	// none of them in particular, so the first by name stands for it.
	services := map[string]mesh.ServiceName{}
	for _, name := range slices.Sorted(maps.Keys(m.Endpoints)) {
		for _, e := range m.Endpoints[name] {
			if _, ok := services[e.Address.String()]; !ok {
				services[e.Address.String()] = name
			}
		}
	}
	keys := map[listenerKey]mesh.Labels{}
	for _, p := range m.Pods {
		keys[listenerKey{kind: outbound, address: p.Outbound, workload: p.Workload}] = p.Labels
		for address, application := range p.Inbound {
			if address == application {
				continue // the application listens there itself
			}
			keys[listenerKey{kind: inbound, address: address, workload: p.Workload, service: services[address], application: application}] = nil
		}
	}
	addUpstreams(keys, m.Pods, snapshot)
	for _, g := range snapshot.Gateways {
		if g.Port != MainGatewayPort && g.Port != main {
			address := addresses[g.Port]
			if address == "" {
				address = net.JoinHostPort(host, strconv.Itoa(int(g.Port)))
			}
			keys[listenerKey{kind: gateway, address: address, port: g.Port}] = nil
		}
	}
	return keys
}

// addUpstreams adds the addresses at which pods reach one service each: of the
// pod itself and, since applications were written for a network of their own,
// of localhost. There pods share the ports: of two services for one port, that
// of the first pod by name is reached.
func addUpstreams(keys map[listenerKey]mesh.Labels, pods []kube.PodListeners, snapshot *mesh.Snapshot) {
	pods = slices.SortedFunc(slices.Values(pods), func(a, b kube.PodListeners) int {
		return strings.Compare(a.Workload.Namespace+"/"+a.Workload.Pod, b.Workload.Namespace+"/"+b.Workload.Pod)
	})
	shared := map[uint16]listenerKey{}
	for _, p := range pods {
		for _, u := range p.Upstreams {
			svc := snapshot.Services[u.Service]
			if svc == nil || len(svc.Ports) == 0 {
				continue // its arrival makes the next snapshot
			}
			key := listenerKey{kind: upstream, address: u.Address.String(), workload: p.Workload, service: u.Service, port: svc.Ports[0].Number}
			keys[key] = p.Labels
			key.address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), u.Address.Port()).String()
			first, taken := shared[u.Address.Port()]
			switch {
			case !taken:
				shared[u.Address.Port()] = key
			case first.service == key.service && first.workload.Namespace == key.workload.Namespace:
				first.workload = commonWorkload(first.workload, key.workload)
				shared[u.Address.Port()] = first
			}
		}
	}
	for _, key := range shared {
		keys[key] = nil // who calls there is known as far as all who share it are the same
	}
}

// commonWorkload is what two workloads of a namespace have in common.
func commonWorkload(a, b mesh.Workload) mesh.Workload {
	out := mesh.Workload{Namespace: a.Namespace}
	if a.Name == b.Name {
		out.Name = a.Name
		if a.Revision == b.Revision {
			out.Version, out.Revision = a.Version, a.Revision
		}
	}
	return out
}
