package loop

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects to addr from within a task. A timeout of 0 means the kernel's
// (minutes). Errors wrap os.ErrDeadlineExceeded, a syscall.Errno as
// ECONNREFUSED, or what interrupted the task.
func (l *Loop) Dial(addr netip.AddrPort, timeout time.Duration) (*Conn, error) {
	c, err := l.dialTCP(addr, timeout)
	if err != nil {
		return nil, fmt.Errorf("dial %v: %w", addr, err)
	}
	return c, nil
}

func (l *Loop) dialTCP(addr netip.AddrPort, timeout time.Duration) (*Conn, error) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	family := unix.AF_INET6
	if addr.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := sysSocket(family)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return l.dialFrom(fd, addr, timeout)
}

// dialFrom owns fd.
func (l *Loop) dialFrom(fd int, addr netip.AddrPort, timeout time.Duration) (*Conn, error) {
	sa, err := sockaddr(addr)
	if err == nil {
		err = setTCP(fd, l.keep)
	}
	if err != nil {
		sysClose(fd)
		return nil, err
	}
	c, err := l.connect(fd, sa, addr, timeout)
	if err != nil {
		return nil, err
	}
	// A socket can connect to itself when nobody listens on a port from which
	// the kernel also takes those of callers.
	if c.Local() == addr {
		c.shut(net.ErrClosed)
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	return c, nil
}

func sockaddr(addr netip.AddrPort) (unix.Sockaddr, error) {
	ip, port := addr.Addr(), int(addr.Port())
	switch {
	case !ip.IsValid():
		return nil, syscall.EADDRNOTAVAIL
	case ip.Is4():
		return &unix.SockaddrInet4{Port: port, Addr: ip.As4()}, nil
	case ip.Zone() == "":
		return &unix.SockaddrInet6{Port: port, Addr: ip.As16()}, nil
	}
	zone, err := net.InterfaceByName(ip.Zone())
	if err != nil {
		return nil, err
	}
	return &unix.SockaddrInet6{Port: port, Addr: ip.As16(), ZoneId: uint32(zone.Index)}, nil
}

// DialUnix is Dial for a Unix socket; path beginning with "@" names an
// abstract one. The kernel connects it at once or, when the listener's queue
// is full, fails with EAGAIN.
func (l *Loop) DialUnix(path string) (*Conn, error) {
	fd, err := sysSocket(unix.AF_UNIX)
	if err == nil {
		var c *Conn
		if c, err = l.connect(fd, &unix.SockaddrUnix{Name: path}, netip.AddrPort{}, 0); err == nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("dial unix %s: %w", path, err)
}

// connect owns fd.
func (l *Loop) connect(fd int, sa unix.Sockaddr, remote netip.AddrPort, timeout time.Duration) (*Conn, error) {
	err := unix.Connect(fd, sa)
	if err != nil && err != unix.EINPROGRESS && err != unix.EINTR {
		sysClose(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	c, adoptErr := l.Adopt(fd, remote)
	if adoptErr != nil || err == nil {
		return c, adoptErr
	}
	c.can = 0 // until the kernel says that it is connected
	if timeout > 0 {
		c.writeDeadline = l.elapsed + timeout
	}
	for c.can&canWrite == 0 {
		if err := c.waitWrite(); err != nil {
			c.shut(net.ErrClosed)
			return nil, err
		}
	}
	c.writeDeadline = 0
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = syscall.Errno(errno)
	}
	if err != nil {
		c.shut(net.ErrClosed)
		return nil, os.NewSyscallError("connect", err)
	}
	return c, nil
}

// KeepAlive says when the kernel asks a silent peer whether it is still there.
// Durations are counted in whole seconds, upwards; 0 is the default of
// Linux: 2 h, 75 s, 9.
type KeepAlive struct {
	Idle     time.Duration // until the first probe
	Interval time.Duration // between probes
	Probes   int           // that go unanswered before the connection is broken
}

// SetKeepAlive takes the place of the loop's own.
func (c *Conn) SetKeepAlive(k KeepAlive) error {
	if c.closed {
		return net.ErrClosed
	}
	return setOptions(c.fd,
		option{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		option{unix.IPPROTO_TCP, tcpKeepIdle, seconds(cmp.Or(k.Idle, 2*time.Hour))},
		option{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(cmp.Or(k.Interval, 75*time.Second))},
		option{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, cmp.Or(k.Probes, 9)})
}

// setTCP sends without delay, and probes silent peers unless keep is negative.
// Accepted connections inherit both from their listener.
func setTCP(fd int, keep time.Duration) error {
	options := []option{{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}}
	if keep > 0 {
		options = append(options,
			option{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			option{unix.IPPROTO_TCP, tcpKeepIdle, seconds(keep)},
			option{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(keep)})
	}
	return setOptions(fd, options...)
}

type option struct{ level, name, value int }

func setOptions(fd int, options ...option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// seconds rounds up, to 1 at least.
func seconds(d time.Duration) int { return int(max((d+time.Second-1)/time.Second, 1)) }
