// Package ports gives tests addresses at which nobody listens: to be refused
// at, and for programs that cannot say which port they took of their own
// choice.
//
// It must never give out a port that was free a moment ago: on a machine where
// many tests run, it is somebody else's by now. Read next:
// internal/xds/xdstest, whose Envoys listen at such addresses.
package ports

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Reserve returns an address, host:port on loopback, at which nobody listens
// and which the kernel gives to nobody else until the test ends: who connects
// is refused. Only a program that asks for it and shares it (SO_REUSEPORT), as
// Listen and Envoy do, can listen there.
func Reserve(t testing.TB) string {
	t.Helper()
	_, address := bind(t)
	return address
}

// Full returns an address at which connecting takes for ever: the listener's
// queue is full, and nobody accepts.
func Full(t testing.TB) string {
	t.Helper()
	fd, address := bind(t)
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return address
}

// Listen listens at a reserved address. The listener is the caller's to close;
// after that, the address is as reserved as before.
func Listen(t testing.TB, address string) net.Listener {
	t.Helper()
	share := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		if err != nil {
			return err
		}
		return failed
	}}
	l, err := share.Listen(context.Background(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// bind returns a socket at an address of its own, until the test ends.
func bind(t testing.TB) (fd int, address string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.CloseOnExec(fd)
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
}
