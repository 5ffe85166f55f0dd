package loop

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is the only one with unsafe. Its calls never block, and so they
// spare the scheduler the notice of a system call (syscall.RawSyscall); only
// sysEpollWait does.

// sysRead does not distinguish the end: n and errno are 0 then.
func sysRead(fd int, p []byte) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

// sysWrite writes a and then b, either of which may be empty.
func sysWrite(fd int, a, b []byte) (n int, errno syscall.Errno) {
	if len(a) == 0 {
		a, b = b, nil
	}
	var r uintptr
	if len(b) == 0 {
		r, _, errno = syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(a))), uintptr(len(a)), unix.MSG_NOSIGNAL, 0, 0)
	} else {
		vec := [2]syscall.Iovec{{Base: &a[0]}, {Base: &b[0]}}
		vec[0].SetLen(len(a))
		vec[1].SetLen(len(b))
		msg := syscall.Msghdr{Iov: &vec[0], Iovlen: 2}
		r, _, errno = syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_NOSIGNAL)
	}
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

func sysClose(fd int) syscall.Errno {
	_, _, errno := syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return errno
}

func sysCloseWrite(fd int) syscall.Errno {
	_, _, errno := syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return errno
}

// sysAccept returns a non-blocking socket.
func sysAccept(fd int) (conn int, remote netip.AddrPort, errno syscall.Errno) {
	var sa syscall.RawSockaddrAny
	size := uint32(unsafe.Sizeof(sa))
	r, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	return int(r), addrPort(&sa), 0
}

// sysLocal returns the zero value for anything but TCP.
func sysLocal(fd int) netip.AddrPort {
	var sa syscall.RawSockaddrAny
	size := uint32(unsafe.Sizeof(sa))
	if _, _, errno := syscall.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))); errno != 0 {
		return netip.AddrPort{}
	}
	return addrPort(&sa)
}

func addrPort(sa *syscall.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case syscall.AF_INET:
		in := (*syscall.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), port(&in.Port))
	case syscall.AF_INET6:
		in := (*syscall.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr).Unmap(), port(&in.Port))
	}
	return netip.AddrPort{}
}

// port is in network order, whatever the type says.
func port(p *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:])
}

func sysEpollAdd(epoll, fd int, e *syscall.EpollEvent) error {
	_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(e)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// sysEpollPoll does not wait.
func sysEpollPoll(epoll int, found []syscall.EpollEvent) int {
	r, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(found))), uintptr(len(found)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(r)
}

// sysEpollWait may wait, and lets the scheduler know. Its only error for valid
// arguments is EINTR, and then nothing was found.
func sysEpollWait(epoll int, found []syscall.EpollEvent, milliseconds int) int {
	r, _, errno := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(found))), uintptr(len(found)), uintptr(milliseconds), 0, 0)
	if errno != 0 {
		return 0
	}
	return int(r)
}

// sysNotify writes size bytes that are not all zero. It fails only where the
// reader has enough to wake up already.
func sysNotify(fd, size int) {
	one := uint64(1)
	b := binary.NativeEndian.AppendUint64(nil, one)[:size]
	syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(size))
}

// sysDrain empties a pipe.
func sysDrain(fd int) {
	var b [64]byte
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if errno != 0 || n < uintptr(len(b)) {
			return
		}
	}
}

func sysPipe(p *[2]int) error { return unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC) }

// sysSocket returns a non-blocking stream socket.
func sysSocket(family int) (int, error) {
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

const tcpKeepIdle = unix.TCP_KEEPIDLE
