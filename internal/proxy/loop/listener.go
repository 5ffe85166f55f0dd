package loop

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// acceptBatch bounds how many connections are accepted per turn of the
	// loop, so that a burst of them does not hold up those that exist.
	acceptBatch = 64
	// acceptPause is how long accepting rests when the process or the system
	// has no file descriptor or no memory left: others have time to close some, and the
	// callers' handshakes wait in the kernel's queue.
	acceptPause = 100 * time.Millisecond
)

// Listener accepts connections for the loops of a group.
//
// One loop accepts, another one for each listener, and gives each connection
// to the loop that has the fewest: connections live long, so their number on
// each loop decides how well the cores share the load. If all loops accepted
// from one queue (EPOLLEXCLUSIVE), the one that sleeps least would take most.
// Sockets of their own (SO_REUSEPORT) split by a hash, which is uneven for the
// few connections of a sidecar, lose what is queued when one is closed, and
// let another process take a share of the port.
type Listener struct {
	group    *Group
	acceptor *acceptor
	addr     netip.AddrPort
}

// acceptor is a listener's side that belongs to a loop.
type acceptor struct {
	listener *Listener
	loop     *Loop
	serve    func(*Conn)
	pause    Timer
	resume   func()
	short    bool // of file descriptors, and that was logged

	mu sync.Mutex // held while the socket is used, so that Close can close it
	fd int        // -1: closed
}

// Listen opens a TCP address as net.Listen does; an empty host means all
// interfaces, port 0 a free one. Every connection is given to serve, on the
// loop that owns it from then on; serve must not wait. Connections are accepted
// once the group is started, and wait in the kernel until then.
func (g *Group) Listen(address string, serve func(*Conn)) (*Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return g.Serve(ln.(*net.TCPListener), serve)
}

// Serve is Listen on a listener that is open. It owns the listener from then
// on and closes it; the socket stays open for the group.
func (g *Group) Serve(ln *net.TCPListener, serve func(*Conn)) (*Listener, error) {
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	fd, err := takeSocket(ln)
	if err == nil {
		err = setTCP(fd, g.loops[0].keep)
	}
	if err != nil {
		return nil, fmt.Errorf("listen %v: %w", addr, err)
	}
	home := g.loops[g.homes.Add(1)%uint32(len(g.loops))]
	l := &Listener{group: g, addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())}
	a := &acceptor{listener: l, loop: home, serve: serve, fd: fd}
	a.resume = func() { a.ready(canRead) }
	l.acceptor = a
	home.Post(a.start)
	return l, nil
}

// takeSocket takes a listening socket away from the runtime's poller.
func takeSocket(ln *net.TCPListener) (fd int, err error) {
	defer func() {
		if closeErr := ln.Close(); err == nil {
			err = closeErr
		}
	}()
	raw, err := ln.SyscallConn()
	if err != nil {
		return -1, err
	}
	var dupErr error
	if err := raw.Control(func(s uintptr) { fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	return fd, dupErr
}

// Addr is the address that is listened on, with the port that port 0 became.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Close stops accepting and frees the address before it returns. Connections
// that were accepted live on; those still in the kernel's queue are reset. It
// may be called from any goroutine, and again.
func (l *Listener) Close() error {
	a := l.acceptor
	a.mu.Lock()
	fd := a.fd
	if fd >= 0 {
		// poll(2) holds the socket for as long as it waits. Systems that do not
		// shut listeners down refuse, and that is all the same.
		unix.Shutdown(fd, unix.SHUT_RDWR)
		sysClose(fd)
	}
	a.fd = -1
	a.mu.Unlock()
	if fd >= 0 {
		a.loop.Post(func() { a.forget(fd) })
	}
	return nil
}

// forget takes a closed socket off the loop.
func (a *acceptor) forget(fd int) {
	a.pause.Stop()
	if fd < len(a.loop.sources) && a.loop.sources[fd].source == a {
		a.loop.remove(fd)
	}
}

// stop is Close on the loop.
func (a *acceptor) stop() { a.listener.Close() }

func (a *acceptor) start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fd < 0 {
		return
	}
	if err := a.loop.add(a.fd, a); err != nil {
		a.loop.log.Error("cannot accept connections", "address", a.listener.addr, "error", err)
		sysClose(a.fd)
		a.fd = -1
	}
}

// interest implements source.
func (a *acceptor) interest() events {
	if a.pause.Running() {
		return 0
	}
	return canRead
}

// ready implements source.
func (a *acceptor) ready(events) {
	if a.pause.Running() {
		return
	}
	for range acceptBatch {
		fd, remote, errno := a.accept()
		switch errno {
		case 0:
			a.short = false
			a.hand(fd, remote)
		case syscall.EAGAIN, syscall.EBADF:
			return
		case syscall.ECONNABORTED, syscall.EPROTO, syscall.EPERM, syscall.EINTR:
			// Of one connection, which ended or was forbidden while it was queued.
		default: // EMFILE, ENFILE, ENOBUFS, ENOMEM
			if !a.short {
				a.short = true
				a.loop.log.Error("accepting connections rests", "address", a.listener.addr, "error", errno)
			}
			a.loop.Start(&a.pause, acceptPause, a.resume)
			return
		}
	}
	a.loop.Post(a.resume) // there may be more, and no new event for them
}

// accept returns EBADF when the listener was closed.
func (a *acceptor) accept() (fd int, remote netip.AddrPort, errno syscall.Errno) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fd < 0 {
		return -1, remote, syscall.EBADF
	}
	return sysAccept(a.fd)
}

// hand gives a connection to the loop with the fewest.
func (a *acceptor) hand(fd int, remote netip.AddrPort) {
	to := a.listener.group.idlest()
	to.conns.Add(1)
	serve := func() {
		if c, err := to.adopt(fd, remote); err == nil {
			a.serve(c)
		}
	}
	if to == a.loop {
		serve()
	} else if !to.Post(serve) {
		to.conns.Add(-1)
		sysClose(fd)
	}
}
