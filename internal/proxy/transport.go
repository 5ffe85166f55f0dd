package proxy

import (
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
)

// transport is how endpoints are spoken to. Connections of different ones are
// never used for each other.
type transport struct {
	http2 bool
	tls   *clientTLS // nil = plain
}

// transport finds out how the endpoints of a group are spoken to.
func (c *compiler) transport(g *group) transport {
	t := transport{http2: g.protocol == mesh.HTTP2 || g.protocol == mesh.GRPC || g.policy.Pool.HTTP2}
	if g.policy.TLS != nil {
		t.tls = c.clientTLS(g)
	}
	return t
}

// open opens a connection to an endpoint and shakes hands where the transport
// has TLS, all within the time. The running task waits.
func (w *worker) open(u *upstream, t transport, timeout time.Duration) (socket, error) {
	begun := w.loop.Now()
	c, err := w.connect(u, timeout)
	if err != nil {
		return nil, err
	}
	if t.tls == nil {
		return c, nil
	}
	return t.tls.shake(c, t.http2, begun.Add(timeout))
}

type clientTLS struct{}
func (c *compiler) clientTLS(g *group) *clientTLS { return nil }
func (c *clientTLS) shake(*loop.Conn, bool, time.Time) (socket, error) { return nil, nil }
