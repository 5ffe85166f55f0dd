package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/http1"
	"serin.dev/serin/internal/proxy/loop"
)

// socket is a connection as what is above uses it, in a task of its loop: a
// loop.Conn, or TLS over one.
type socket interface {
	http1.Conn
	SetWriteDeadline(t time.Time) error
	CloseWrite() error
	Interrupt(err error)
	OnReadable(f func())
	OnHangup(f func())
	Readable() bool
	HungUp() bool
	Local() netip.AddrPort
	Remote() netip.AddrPort
}

var (
	_ socket = (*loop.Conn)(nil)
	_ socket = (*tlsConn)(nil)
)

// transport is how endpoints are spoken to. Connections of different ones are
// never used for each other.
type transport struct {
	http2     bool
	tls       *clientTLS // nil = plain
	probes    bool       // keepAlive is in force, else the loop's own
	keepAlive loop.KeepAlive
}

// open opens a connection to an endpoint and shakes hands where the transport
// has TLS, all within the time. The running task waits.
func (w *worker) open(u *upstream, t transport, timeout time.Duration) (socket, error) {
	begun := w.loop.Now()
	c, err := w.connect(u, timeout)
	if err != nil {
		return nil, err
	}
	if t.probes {
		if err := c.SetKeepAlive(t.keepAlive); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	if t.tls == nil {
		return c, nil
	}
	s, err := t.tls.call(c, begun.Add(timeout))
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return s, nil
}

// transport finds out how the endpoints of a group are spoken to.
func (c *compiler) transport(g *group) transport {
	pool := &g.policy.Pool
	t := transport{
		http2:  pool.HTTP2 || g.protocol == mesh.HTTP2 || g.protocol == mesh.GRPC,
		probes: pool.TCPKeepalive,
	}
	if t.probes {
		t.keepAlive = loop.KeepAlive{Idle: pool.TCPKeepaliveTime, Interval: pool.TCPKeepaliveInterval, Probes: int(pool.TCPKeepaliveProbes)}
	}
	if g.policy.TLS != nil {
		t.tls = c.clientTLS(g, t.http2)
	}
	return t
}
