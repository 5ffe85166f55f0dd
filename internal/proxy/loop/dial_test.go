package loop

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

func TestDialReachesAListener(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		g := started(t, 2, o)
		ln := listen(t, g, echo)
		inTask(t, g.Loops()[0], func(task *Task) {
			c, err := task.Loop().Dial(ln.Addr(), time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if err := c.WriteTwo([]byte("head "), []byte("body")); err != nil {
				t.Error(err)
			}
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			if err != nil || string(buf[:n]) != "head body" {
				t.Errorf("Read = %q, %v; want what was written", buf[:n], err)
			}
			if c.Remote() != ln.Addr() || c.LocalAddr().String() == c.RemoteAddr().String() {
				t.Errorf("connected from %v to %v; want to %v", c.LocalAddr(), c.RemoteAddr(), ln.Addr())
			}
		})
	})
}

func TestDialIsRefused(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := free.Addr().(*net.TCPAddr).AddrPort()
		free.Close()
		inTask(t, started(t, 1, o).Loops()[0], func(task *Task) {
			if _, err := task.Loop().Dial(addr, time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("Dial of a closed port: %v; want ECONNREFUSED", err)
			}
			if _, err := task.Loop().Dial(netip.AddrPort{}, time.Second); err == nil {
				t.Error("Dial of no address: no error")
			}
		})
	})
}
