package proxy

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// full is an address at which connecting takes for ever: the listener's queue
// is full, and nobody accepts.
func full(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}
	c, err := net.DialTCP("tcp", nil, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return address.String()
}

func TestClosingDoesNotWaitForAConnect(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(tcpService("db.default", full(t)))
	l := r.upstreamOf("db.default")
	c := r.dialTo(l)
	for l.open.Load() == 0 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if q := r.recorded(); q.Flags != "DC" {
		t.Errorf("record = %+v", q)
	}
}
