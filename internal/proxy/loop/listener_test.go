package loop

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var noAddr netip.AddrPort

func TestCloseOfAListenerKeepsItsConnections(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		g := started(t, 2, o)
		ln := listen(t, g, echo)
		c := dialed(t, ln)
		c.Write([]byte("x"))
		io.ReadFull(c, make([]byte, 1))
		for range 2 {
			if err := ln.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := net.Dial("tcp", ln.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Dial of a closed listener: %v; want ECONNREFUSED", err)
		}
		again, err := g.Listen(ln.Addr().String(), func(c *Conn) { c.Close() })
		if err != nil {
			t.Fatalf("the address is not free at once: %v", err)
		}
		defer again.Close()
		c.Write([]byte("y"))
		b := make([]byte, 1)
		if _, err := io.ReadFull(c, b); err != nil || b[0] != 'y' {
			t.Errorf("read %q, %v; want the connection to live on", b, err)
		}
	})
}

func TestAddressInUseIsSaidAtOnce(t *testing.T) {
	g := started(t, 1, Options{})
	ln := listen(t, g, echo)
	_, err := g.Listen(ln.Addr().String(), func(*Conn) {})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), ln.Addr().String()) {
		t.Errorf("Listen on an address in use: %v; want EADDRINUSE and the address", err)
	}
}

func TestConnectionsSpreadEvenly(t *testing.T) {
	const conns, loops = 30, 3
	pollers(t, func(t *testing.T, o Options) {
		g := started(t, loops, o)
		ln := listen(t, g, func(task *Task, c *Conn) {
			if n, err := unix.GetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY); n == 0 || err != nil {
				t.Errorf("TCP_NODELAY = %d, %v; want it on", n, err)
			}
			if n, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE); n == 0 || err != nil {
				t.Errorf("SO_KEEPALIVE = %d, %v; want it on", n, err)
			}
			echo(task, c)
		})
		for range conns {
			c := dialed(t, ln)
			c.Write([]byte("x"))
			io.ReadFull(c, make([]byte, 1))
		}
		for i, l := range g.Loops() {
			if n := l.Stats().Conns; n != conns/loops {
				t.Errorf("loop %d has %d connections; want %d", i, n, conns/loops)
			}
		}
	})
}

func TestListenersComeAndGoUnderLoad(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		g := started(t, 2, o)
		for range 50 {
			ln := listen(t, g, echo)
			var callers sync.WaitGroup
			for range 4 {
				callers.Go(func() {
					c, err := net.Dial("tcp", ln.Addr().String())
					if err != nil {
						return // closed before
					}
					defer c.Close()
					c.SetDeadline(time.Now().Add(patience))
					c.Write([]byte("x"))
					if _, err := c.Read(make([]byte, 1)); errors.Is(err, syscall.ETIMEDOUT) {
						t.Error(err)
					}
				})
			}
			ln.Close()
			callers.Wait()
		}
	})
}

// Without file descriptors accepting rests; the callers wait in the kernel.
func TestAcceptRestsWithoutFileDescriptors(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		var log logBuffer
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		g := started(t, 1, o)
		ln := listen(t, g, echo)
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		restore := exhaust(t)
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(ln.Addr().Port()), Addr: [4]byte{127, 0, 0, 1}})
		if err == nil {
			_, err = unix.Write(fd, []byte("x"))
		}
		// Two rests pass: logged once.
		inTask(t, g.Loops()[0], func(task *Task) { task.Sleep(2*acceptPause + acceptPause/2) })
		restore()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		if n, err := unix.Read(fd, b); n != 1 || err != nil {
			t.Errorf("Read = %d, %v; want the echo once there are file descriptors", n, err)
		}
		unix.Close(fd)
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "too many open files") {
			t.Errorf("log:\n%swant one line that says why", got)
		}
	})
}

// exhaust takes all file descriptors that the process may have.
func exhaust(t *testing.T) (restore func()) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	top, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	taken := []int{top}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(top) + 10, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	for {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			break
		}
		taken = append(taken, fd)
	}
	return func() {
		for _, fd := range taken {
			unix.Close(fd)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	}
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestServeTakesAnOpenListener(t *testing.T) {
	g := started(t, 1, Options{KeepAlive: -1})
	open, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served atomic.Int32
	ln, err := g.Serve(open.(*net.TCPListener), func(c *Conn) {
		served.Add(1)
		if n, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE); n != 0 || err != nil {
			t.Errorf("SO_KEEPALIVE = %d, %v; want it off", n, err)
		}
		c.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := dialed(t, ln)
	if _, err := c.Read(make([]byte, 1)); err != io.EOF || served.Load() != 1 {
		t.Errorf("Read = %v, served %d connections; want EOF and 1", err, served.Load())
	}
}
