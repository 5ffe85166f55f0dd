package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// backend answers HTTP/1.1 as cheaply as this machine can, because it shares a
// core with the load generator: one epoll loop, answers made in advance. It
// understands requests without a body and looks at nothing but the path.
type backend struct {
	epoll        int
	conns        []*connection // by descriptor; nil for the listeners
	buf          []byte
	small, large []byte
}

// connection is what is left over from the last read and write.
type connection struct {
	in, out []byte
	full    bool // waits until it can write
}

// What backendMain finds open: two ports of HTTP/1.1 and one of gRPC, which is
// answered by the health service of google.golang.org/grpc.
const (
	backendA = 3 + iota
	backendB
	backendGRPC
)

// startBackend starts this program once more, as the backend, and returns the
// ports it serves.
func startBackend(core int, dir string) (g *group, ports [3]int, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, ports, err
	}
	var files []*os.File
	for i := range ports {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, ports, err
		}
		defer l.Close()
		file, err := l.File()
		if err != nil {
			return nil, ports, err
		}
		defer file.Close()
		files, ports[i] = append(files, file), l.Addr().(*net.TCPAddr).Port
	}
	g, err = start(core, dir, files, self, "backend")
	return g, ports, err
}

// backendMain is what runs in that process.
func backendMain() error {
	b := &backend{buf: make([]byte, 64<<10)}
	b.small = answer(bytes.Repeat([]byte("x"), small))
	b.large = answer(bytes.Repeat([]byte("x"), large))
	l, err := net.FileListener(os.NewFile(backendGRPC, "grpc"))
	if err != nil {
		return err
	}
	rpc := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(rpc, health.NewServer())
	failed := make(chan error, 2)
	go func() { failed <- rpc.Serve(l) }()
	go func() { failed <- b.serve() }()
	return <-failed
}

func answer(body []byte) []byte {
	head := "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	return slices.Clip(append([]byte(head), body...))
}

func (b *backend) watch(op, fd int, events uint32) error {
	return unix.EpollCtl(b.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

func (b *backend) serve() (err error) {
	if b.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	for _, l := range []int{backendA, backendB} {
		if err := errors.Join(unix.SetNonblock(l, true), b.watch(unix.EPOLL_CTL_ADD, l, unix.EPOLLIN)); err != nil {
			return err
		}
	}
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(b.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if err := b.turn(int(e.Fd)); err != nil {
				return err
			}
		}
	}
}

// turn does what can be done now with one descriptor.
func (b *backend) turn(fd int) error {
	if fd == backendA || fd == backendB {
		return b.accept(fd)
	}
	c := b.conns[fd]
	if !c.full && !b.read(fd, c) || !b.flush(fd, c) {
		return unix.Close(fd) // takes it out of the epoll set, too
	}
	// Nothing is read from a connection that has not taken its answers.
	if full := len(c.out) > 0; full != c.full {
		c.full = full
		if full {
			return b.watch(unix.EPOLL_CTL_MOD, fd, unix.EPOLLOUT)
		}
		return b.watch(unix.EPOLL_CTL_MOD, fd, unix.EPOLLIN)
	}
	return nil
}

func (b *backend) accept(listener int) error {
	fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return nil // the caller has given up
	}
	for fd >= len(b.conns) {
		b.conns = append(b.conns, make([]*connection, 256)...)
	}
	b.conns[fd] = &connection{}
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		b.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN),
	)
}

var (
	endOfHead = []byte("\r\n\r\n")
	wantLarge = []byte(pathLarge + " ")
	wantEcho  = []byte(pathEcho + " ")
)

// read reads once and answers every whole request. It reports whether the
// connection lives.
func (b *backend) read(fd int, c *connection) bool {
	n, err := unix.Read(fd, b.buf)
	if err == unix.EAGAIN || err == unix.EINTR {
		return true
	}
	if err != nil || n == 0 {
		return false
	}
	in := b.buf[:n]
	if len(c.in) > 0 {
		in = append(c.in, in...)
	}
	for {
		end := bytes.Index(in, endOfHead)
		if end < 0 {
			break
		}
		head := in[:end+len(endOfHead)]
		in = in[len(head):]
		out := b.small
		if line := head[:bytes.IndexByte(head, '\n')]; bytes.Contains(line, wantLarge) {
			out = b.large
		} else if bytes.Contains(line, wantEcho) {
			out = answer(head)
		}
		if len(c.out) > 0 {
			out = append(c.out, out...)
		}
		c.out = out // clipped: whoever appends to it makes a copy
	}
	c.in = append([]byte(nil), in...)
	return true
}

// flush writes what the connection takes and reports whether it lives.
func (b *backend) flush(fd int, c *connection) bool {
	if len(c.out) == 0 {
		return true
	}
	n, err := unix.Write(fd, c.out)
	if err != nil && err != unix.EAGAIN && err != unix.EINTR {
		return false
	}
	c.out = c.out[max(n, 0):]
	return true
}
