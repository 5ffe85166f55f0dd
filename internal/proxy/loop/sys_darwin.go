package loop

import (
	"errors"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// poll(2) is the poller here. It has no flag for the end of the peer; POLLHUP
// says that instead, whatever the other direction does.
const (
	pollPeerDone = 0
	pollBroken   = 0
	tcpKeepIdle  = unix.TCP_KEEPALIVE
)

func newPoller(interest func(fd int) events) (poller, error) { return newPortablePoller(interest) }

// errnoOf expects what package unix returns: nil or an Errno.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return syscall.EINVAL
	}
	return errno
}

// sysRead does not distinguish the end: n and errno are 0 then.
func sysRead(fd int, p []byte) (n int, errno syscall.Errno) {
	n, err := unix.Read(fd, p)
	return max(n, 0), errnoOf(err)
}

// sysWrite writes a and then b, either of which may be empty.
func sysWrite(fd int, a, b []byte) (n int, errno syscall.Errno) {
	if len(a) == 0 {
		a, b = b, nil
	}
	if len(b) == 0 {
		n, err := unix.Write(fd, a)
		return max(n, 0), errnoOf(err)
	}
	n, err := unix.Writev(fd, [][]byte{a, b})
	return max(n, 0), errnoOf(err)
}

func sysClose(fd int) syscall.Errno { return errnoOf(unix.Close(fd)) }

func sysCloseWrite(fd int) syscall.Errno { return errnoOf(unix.Shutdown(fd, unix.SHUT_WR)) }

// sysAccept returns a non-blocking socket.
func sysAccept(fd int) (conn int, remote netip.AddrPort, errno syscall.Errno) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	conn, sa, err := unix.Accept(fd)
	if err != nil {
		return -1, netip.AddrPort{}, errnoOf(err)
	}
	unix.CloseOnExec(conn)
	if err := unix.SetNonblock(conn, true); err != nil {
		sysClose(conn)
		return -1, netip.AddrPort{}, errnoOf(err)
	}
	return conn, addrPort(sa), 0
}

// sysLocal returns the zero value for anything but TCP.
func sysLocal(fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// sysNotify writes size bytes that are not all zero. It fails only where the
// reader has enough to wake up already.
func sysNotify(fd, size int) {
	b := [8]byte{1}
	for {
		if _, err := unix.Write(fd, b[:size]); err != unix.EINTR {
			return
		}
	}
}

// sysDrain empties a pipe.
func sysDrain(fd int) {
	var b [64]byte
	for {
		n, err := unix.Read(fd, b[:])
		if err != unix.EINTR && n < len(b) {
			return
		}
	}
}

func sysPipe(p *[2]int) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := unix.Pipe(p[:]); err != nil {
		return err
	}
	for _, fd := range p {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			return errors.Join(err, unix.Close(p[0]), unix.Close(p[1]))
		}
	}
	return nil
}

// sysSocket returns a non-blocking stream socket.
func sysSocket(family int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}
