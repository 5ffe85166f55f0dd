package controller

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
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
	workload    mesh.Workload    // outbound: the caller; inbound: the callee
	service     mesh.ServiceName // inbound
	application string           // inbound
	port        uint16           // gateway
}

type listenerKind uint8

const (
	outbound listenerKind = iota
	inbound
	gateway
)

// want opens what is new and closes what is gone. It returns what could not be
// opened, each error once.
func (l *listeners) want(keys map[listenerKey]bool) []error {
	if l.open == nil {
		l.open = map[listenerKey]*proxy.Listener{}
		l.refused = map[listenerKey]string{}
	}
	// Close first: a pod's successor may have its address.
	for key, listener := range l.open {
		if !keys[key] {
			delete(l.open, key)
			l.close(listener)
		}
	}
	for key := range l.refused {
		if !keys[key] {
			delete(l.refused, key)
		}
	}
	var errs []error
	for key := range keys {
		if l.open[key] != nil {
			continue
		}
		listener, err := l.listen(key)
		if err == nil {
			l.open[key] = listener
			delete(l.refused, key)
			continue
		}
		if l.refused[key] != err.Error() {
			l.refused[key] = err.Error()
			errs = append(errs, err)
		}
	}
	return errs
}

func (l *listeners) listen(key listenerKey) (*proxy.Listener, error) {
	switch key.kind {
	case outbound:
		return l.proxy.ListenOutbound(key.address, mesh.Caller{Workload: key.workload})
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
func listenersFor(m *kube.MeshObjects, snapshot *mesh.Snapshot, host string, main uint16) map[listenerKey]bool {
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
	keys := map[listenerKey]bool{}
	for _, p := range m.Pods {
		keys[listenerKey{kind: outbound, address: p.Outbound, workload: p.Workload}] = true
		for address, application := range p.Inbound {
			if address == application {
				continue // the application listens there itself
			}
			keys[listenerKey{kind: inbound, address: address, workload: p.Workload, service: services[address], application: application}] = true
		}
	}
	for _, g := range snapshot.Gateways {
		if g.Port != MainGatewayPort && g.Port != main {
			address := net.JoinHostPort(host, strconv.Itoa(int(g.Port)))
			keys[listenerKey{kind: gateway, address: address, port: g.Port}] = true
		}
	}
	return keys
}
