package loop

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"serin.dev/serin/test/ports"
)

func TestDialReachesAListener(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		g := started(t, 2, o)
		ln := listen(t, g, echo)
		inTask(t, g.Loops()[0], func(task *Task) {
			c, err := task.Loop().Dial(ln.Addr(), patience)
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
		addr := netip.MustParseAddrPort(ports.Reserve(t))
		inTask(t, started(t, 1, o).Loops()[0], func(task *Task) {
			if _, err := task.Loop().Dial(addr, patience); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("Dial of a closed port: %v; want ECONNREFUSED", err)
			}
			if _, err := task.Loop().Dial(netip.AddrPort{}, patience); err == nil {
				t.Error("Dial of no address: no error")
			}
		})
	})
}

// A listener whose queue is full does not answer.
func TestDialTakesNoLongerThanItsTimeout(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
			t.Fatal(err)
		}
		addr := sysLocal(fd)
		gone := errors.New("gone")
		inTask(t, started(t, 1, o).Loops()[0], func(task *Task) {
			l := task.Loop()
			var conns []*Conn
			defer func() {
				for _, c := range conns {
					c.Close()
				}
			}()
			for range 10 {
				begin := l.Now()
				c, err := l.Dial(addr, 30*time.Millisecond)
				if err == nil {
					conns = append(conns, c) // the queue takes it
					continue
				}
				if took := l.Now().Sub(begin); !errors.Is(err, os.ErrDeadlineExceeded) || took < 30*time.Millisecond {
					t.Errorf("Dial: %v after %v; want the deadline after 30 ms", err, took)
				}
				l.Go(func(*Task) { task.Interrupt(gone) })
				if _, err := l.Dial(addr, 0); !errors.Is(err, gone) {
					t.Errorf("Dial that is interrupted: %v; want %v", err, gone)
				}
				if n := l.Stats().Conns; n != len(conns) {
					t.Errorf("%d connections are counted, %d are open", n, len(conns))
				}
				return
			}
			t.Error("the listener's queue was never full")
		})
	})
}

func TestDialUnix(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		path := filepath.Join(t.TempDir(), "s")
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			if c, err := ln.Accept(); err == nil {
				c.Write([]byte("hi"))
				c.Close()
			}
		}()
		inTask(t, started(t, 1, o).Loops()[0], func(task *Task) {
			c, err := task.Loop().DialUnix(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if got, err := io.ReadAll(c); string(got) != "hi" || err != nil {
				t.Errorf("read %q, %v", got, err)
			}
			if _, err := task.Loop().DialUnix(path + "x"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("DialUnix of nothing: %v; want that it does not exist", err)
			}
		})
	})
}

// On loopback the kernel may choose the called port itself for the caller.
func TestDialDoesNotConnectToItself(t *testing.T) {
	inTask(t, started(t, 1, Options{}).Loops()[0], func(task *Task) {
		fd, err := sysSocket(unix.AF_INET)
		if err != nil {
			t.Error(err)
			return
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Error(err)
		}
		addr := sysLocal(fd)
		c, err := task.Loop().dialFrom(fd, addr, patience)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("connected from %v to %v: %v; want ECONNREFUSED", c.Local(), addr, err)
		}
	})
}

func TestSetKeepAlive(t *testing.T) {
	g := started(t, 1, Options{KeepAlive: -1})
	ln := listen(t, g, echo)
	inTask(t, g.Loops()[0], func(task *Task) {
		c, err := task.Loop().Dial(ln.Addr(), patience)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for _, tt := range []struct {
			k                      KeepAlive
			idle, interval, probes int
		}{
			{KeepAlive{}, 7200, 75, 9},
			{KeepAlive{Idle: 1500 * time.Millisecond, Interval: time.Millisecond, Probes: 3}, 2, 1, 3},
		} {
			if err := c.SetKeepAlive(tt.k); err != nil {
				t.Error(err)
			}
			for name, want := range map[int]int{tcpKeepIdle: tt.idle, unix.TCP_KEEPINTVL: tt.interval, unix.TCP_KEEPCNT: tt.probes} {
				if got, err := unix.GetsockoptInt(c.fd, unix.IPPROTO_TCP, name); got != want || err != nil {
					t.Errorf("%+v: option %d = %d, %v; want %d", tt.k, name, got, err, want)
				}
			}
			if on, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE); on == 0 || err != nil {
				t.Errorf("%+v: SO_KEEPALIVE = %d, %v", tt.k, on, err)
			}
		}
	})
}

func TestTryWriteDoesNotWait(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		g := started(t, 1, o)
		ln := listen(t, g, func(*Task, *Conn) {}) // nobody reads
		inTask(t, g.Loops()[0], func(task *Task) {
			c, err := task.Loop().Dial(ln.Addr(), patience)
			if err != nil {
				t.Error(err)
				return
			}
			p := make([]byte, 1<<20)
			for range 1000 {
				var n int
				if n, err = c.TryWrite(p); err != nil {
					if n == len(p) {
						t.Error("all was written, and an error")
					}
					break
				}
			}
			if err != ErrWouldBlock {
				t.Errorf("TryWrite = %v; want ErrWouldBlock", err)
			}
			c.Close()
			if _, err := c.TryWrite(p); err != net.ErrClosed {
				t.Errorf("TryWrite on a closed connection = %v", err)
			}
		})
	})
}
