package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// errOwn refuses a call that would come back to the proxy.
var errOwn = errors.New("the address is this proxy's own listener")

// lookUp finds the addresses of "host:port", off the loop. The task that runs
// waits, at most for the given time.
func (w *worker) lookUp(hostPort string, timeout time.Duration) ([]netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q is no number", port)
	}
	var ips []netip.Addr
	w.loop.Current().Offload(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		ips, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	})
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), uint16(number))
	}
	return addrs, nil
}

// outsideHost finds or makes the upstream of a host that is not of the mesh.
// It is of this worker alone and forgotten when nothing is kept for it.
func (w *worker) outsideHost(host string, port uint16) *upstream {
	var room [300]byte
	key := room[:0]
	if strings.Contains(host, ":") {
		key = append(append(append(key, '['), host...), ']')
	} else {
		key = append(key, host...)
	}
	key = strconv.AppendUint(append(key, ':'), uint64(port), 10)
	if u := w.outside[string(key)]; u != nil {
		return u
	}
	u := w.proxy.newUpstream(upstreamID{dial: string(key)})
	u.outside = true
	if len(w.outside) >= maxOutside {
		w.forgetOutside()
	}
	w.outside[u.dial] = u
	return u
}

// maxOutside is how many hosts a worker remembers before it looks for those of
// which it keeps no connection.
const maxOutside = 256

func (w *worker) forgetOutside() {
	for key, u := range w.outside {
		idle := u.active.Load() == 0
		for p := u.pools[w.index]; p != nil; p = p.next {
			idle = idle && len(p.idle) == 0
		}
		if idle {
			delete(w.outside, key)
		}
	}
}

// isOwn reports whether an address is that of an outbound listener of ours.
func (p *Proxy) isOwn(addr netip.AddrPort) bool {
	own := *p.own.Load()
	if own[addr] {
		return true
	}
	// A listener on all interfaces answers at each address of this machine;
	// of those we know the loopback ones.
	return addr.Addr().IsLoopback() &&
		(own[netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port())] || own[netip.AddrPortFrom(netip.IPv6Unspecified(), addr.Port())])
}

// noteOwn keeps the addresses of outbound listeners. Under p.mu.
func (p *Proxy) noteOwn() {
	own := map[netip.AddrPort]bool{}
	for l := range p.listeners {
		if l.role == outbound {
			own[l.socket.Addr()] = true
		}
	}
	p.own.Store(&own)
}
