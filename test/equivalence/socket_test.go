package equivalence

import (
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// reserve returns an address on loopback that nobody else can take until the
// test ends, and at which nobody listens. A program that listens with
// SO_REUSEPORT, as Envoy does, can.
func reserve(t testing.TB) string {
	t.Helper()
	_, address := bind(t)
	return address
}

// full returns an address at which connecting takes for ever: the listener's
// queue is full, and nobody accepts.
func full(t testing.TB) string {
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
