package loop

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// ErrWouldBlock is returned by TryRead when nothing has arrived, and by
// TryWrite when there is no room for more.
var ErrWouldBlock = errors.New("the connection is not ready")

// Conn is a socket of a loop. It implements net.Conn for the tasks of that
// loop: Read and Write wait by giving the loop away. One task may read while
// another writes.
//
// The kernel reports each change once (edge-triggered), and the connection
// remembers it, so that no system call is made in vain: a read that returned
// less than it had room for has drained the socket, and the next one waits
// for an event first.
//
// A connection without a task costs some 400 bytes here and no buffer: set
// OnReadable and let the task end.
type Conn struct {
	loop *Loop
	fd   int
	can  events // what the kernel reported and nothing has used up yet

	closed   bool
	queued   bool // for callBack
	wroteEnd bool // CloseWrite was called

	reader, writer *Task // waiting
	err            error // from Interrupt

	onReadable, onHangup func()

	// Deadlines are by the loop's clock; 0 is none. A timer is started when a
	// task first waits under a deadline, and when it fires early, because the
	// deadline was moved since, it is started again: moving costs nothing.
	readDeadline, writeDeadline time.Duration
	readTimer, writeTimer       Timer

	local, remote netip.AddrPort
}

// Loop to which the connection belongs.
func (c *Conn) Loop() *Loop { return c.loop }

// Adopt makes a connection of a connected, non-blocking stream socket, and
// owns fd from then on: also on error, when it is closed. The address may be
// the zero value; it is only reported.
func (l *Loop) Adopt(fd int, remote netip.AddrPort) (*Conn, error) {
	l.conns.Add(1)
	return l.adopt(fd, remote)
}

// adopt expects the connection to be counted.
func (l *Loop) adopt(fd int, remote netip.AddrPort) (*Conn, error) {
	c := &Conn{loop: l, fd: fd, remote: remote, can: canWrite} // if not, a write finds out
	if err := l.add(fd, c); err != nil {
		sysClose(fd)
		l.conns.Add(-1)
		return nil, err
	}
	return c, nil
}

// ready implements source.
func (c *Conn) ready(e events) {
	c.can |= e
	if e&canRead != 0 {
		c.loop.unblock(c.reader)
	}
	if e&canWrite != 0 {
		c.loop.unblock(c.writer)
	}
	if c.onReadable != nil || c.onHangup != nil {
		c.loop.callSoon(c)
	}
}

// interest implements source.
func (c *Conn) interest() events { return (canRead | canWrite | peerDone | broken) &^ c.can }

// Read waits until there is at least one byte, the end (io.EOF) or an error:
// os.ErrDeadlineExceeded, net.ErrClosed, what Interrupt handed over, or one
// that wraps a syscall.Errno.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		n, err := c.TryRead(p)
		if err != ErrWouldBlock {
			if t := c.loop.current; t != nil {
				t.spend()
			}
			return n, err
		}
		if err := c.waitRead(); err != nil {
			return 0, err
		}
	}
}

// TryRead is Read that does not wait: it returns ErrWouldBlock when nothing is
// there. It may be called outside of tasks, too.
func (c *Conn) TryRead(p []byte) (int, error) {
	if err := c.usable(c.readDeadline); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	for c.can&canRead != 0 {
		n, errno := sysRead(c.fd, p)
		switch {
		case n > 0:
			if n < len(p) && c.can&peerDone == 0 {
				c.can &^= canRead // drained; the next byte is a new event
			}
			return n, nil
		case errno == 0:
			return 0, io.EOF
		case errno == syscall.EAGAIN:
			c.can &^= canRead
		case errno != syscall.EINTR:
			return 0, os.NewSyscallError("read", errno)
		}
	}
	return 0, ErrWouldBlock
}

// Write waits until the kernel took all of p. On error it returns how much of
// it was taken; the errors are those of Read, and syscall.EPIPE.
func (c *Conn) Write(p []byte) (int, error) { return c.write(p, nil) }

// WriteTwo writes a and then b, in one system call where there is room.
func (c *Conn) WriteTwo(a, b []byte) error {
	_, err := c.write(a, b)
	return err
}

func (c *Conn) write(a, b []byte) (written int, err error) {
	if err := c.usable(c.writeDeadline); err != nil {
		return 0, err
	}
	for len(a)+len(b) > 0 {
		for c.can&canWrite == 0 {
			if err := c.waitWrite(); err != nil {
				return written, err
			}
		}
		n, errno := sysWrite(c.fd, a, b)
		switch errno {
		case 0:
			written += n
			if n < len(a)+len(b) {
				c.can &^= canWrite // full; the next room is a new event
			}
			k := min(n, len(a))
			a, b = a[k:], b[n-k:]
		case syscall.EAGAIN:
			c.can &^= canWrite
		case syscall.EINTR:
		default:
			return written, os.NewSyscallError("write", errno)
		}
	}
	if t := c.loop.current; t != nil {
		t.spend()
	}
	return written, nil
}

// TryWrite is Write that does not wait: it returns how much the kernel took,
// with ErrWouldBlock if that is not all. It may be called outside of tasks,
// too, but not while a task waits in Write.
func (c *Conn) TryWrite(p []byte) (written int, err error) {
	if err := c.usable(c.writeDeadline); err != nil {
		return 0, err
	}
	for written < len(p) && c.can&canWrite != 0 {
		n, errno := sysWrite(c.fd, p[written:], nil)
		switch errno {
		case 0:
			if written += n; written < len(p) {
				c.can &^= canWrite // full; the next room is a new event
			}
		case syscall.EAGAIN:
			c.can &^= canWrite
		case syscall.EINTR:
		default:
			return written, os.NewSyscallError("write", errno)
		}
	}
	if written < len(p) {
		return written, ErrWouldBlock
	}
	return written, nil
}

// usable is the error with which a use of the connection must end.
func (c *Conn) usable(deadline time.Duration) error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.err != nil:
		return c.err
	case deadline != 0 && deadline <= c.loop.elapsed:
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (c *Conn) waitRead() error {
	return c.wait(&c.reader, &c.readDeadline, &c.readTimer)
}

func (c *Conn) waitWrite() error {
	return c.wait(&c.writer, &c.writeDeadline, &c.writeTimer)
}

// wait lets the running task wait for one direction.
func (c *Conn) wait(waiter **Task, deadline *time.Duration, timer *Timer) error {
	t := c.loop.current
	if t == nil {
		panic("loop: a connection is waited for outside of a task")
	}
	if *waiter != nil {
		panic("loop: two tasks wait for the same direction of a connection")
	}
	c.arm(*deadline, timer)
	*waiter = t
	err := t.wait()
	*waiter = nil
	if err != nil {
		return err
	}
	return c.usable(*deadline)
}

// arm makes sure that the timer fires at the deadline or before.
func (c *Conn) arm(deadline time.Duration, timer *Timer) {
	if deadline == 0 {
		return
	}
	if at := ceilTick(deadline, 0); !timer.Running() || timer.at > at {
		timer.Stop()
		timer.owner = c
		c.loop.wheel.add(timer, at)
	}
}

// expire implements expirer.
func (c *Conn) expire(timer *Timer) {
	waiter, deadline := c.reader, c.readDeadline
	if timer == &c.writeTimer {
		waiter, deadline = c.writer, c.writeDeadline
	}
	switch {
	case waiter == nil || deadline == 0:
	case deadline <= c.loop.elapsed:
		c.loop.unblock(waiter)
	default:
		c.arm(deadline, timer)
	}
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn. It takes effect within a millisecond
// and a turn of the loop, never early by Loop.Now. Moving a deadline on from
// message to message costs a few nanoseconds.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(t, &c.readDeadline, c.reader, &c.readTimer)
}

// SetWriteDeadline implements net.Conn, as SetReadDeadline does.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(t, &c.writeDeadline, c.writer, &c.writeTimer)
}

func (c *Conn) setDeadline(at time.Time, deadline *time.Duration, waiter *Task, timer *Timer) error {
	if c.closed {
		return net.ErrClosed
	}
	*deadline = 0
	if !at.IsZero() {
		*deadline = max(at.Sub(c.loop.begin), 1)
	}
	if waiter != nil {
		c.arm(*deadline, timer)
	}
	return nil
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return addrOf(c.Local()) }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return addrOf(c.remote) }

func addrOf(a netip.AddrPort) net.Addr {
	if !a.IsValid() {
		return &net.UnixAddr{Net: "unix"}
	}
	return net.TCPAddrFromAddrPort(a)
}

// Local is the address of this end; the zero value for a Unix socket and for a
// connection that was closed before anybody asked.
func (c *Conn) Local() netip.AddrPort {
	if !c.local.IsValid() && !c.closed {
		c.local = sysLocal(c.fd)
	}
	return c.local
}

// Remote is the address of the peer; the zero value for a Unix socket.
func (c *Conn) Remote() netip.AddrPort { return c.remote }
