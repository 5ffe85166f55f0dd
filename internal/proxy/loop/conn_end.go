package loop

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// OnReadable lets f be called once, when there is something to read, the
// peer has ended or reset the connection, or it was interrupted: for a
// connection that waits without a task. If that is so already, f is called in
// this turn of the loop or the next. nil takes the request back. f must not
// wait; usually it calls Loop.Go.
func (c *Conn) OnReadable(f func()) {
	c.onReadable = f
	if f != nil && (c.can&canRead != 0 || c.err != nil) {
		c.loop.callSoon(c)
	}
}

// OnHangup lets f be called once, when the peer has ended its direction or the
// connection broke: for a connection that nobody reads, while its task waits
// for something else. If that is so already, f is called in this turn of the
// loop or the next. nil takes the request back. f must not wait; usually it
// calls Task.Interrupt.
//
// TCP does not tell a peer that is gone from one that only has nothing more to
// say; Broken does once the kernel knows. On systems without a better poller
// than poll(2) a hangup behind unread bytes may stay unseen.
func (c *Conn) OnHangup(f func()) {
	c.onHangup = f
	if f != nil && c.can&(peerDone|broken) != 0 {
		c.loop.callSoon(c)
	}
}

// callBack calls the functions that are due.
func (c *Conn) callBack() {
	if c.closed {
		return
	}
	if f := c.onHangup; f != nil && c.can&(peerDone|broken) != 0 {
		c.onHangup = nil
		f()
	}
	if f := c.onReadable; f != nil && (c.can&canRead != 0 || c.err != nil) {
		c.onReadable = nil
		f()
	}
}

// Broken reports whether the connection is known to be of no use in both
// directions: it was reset, or both ends have ended it.
func (c *Conn) Broken() bool { return c.closed || c.can&broken != 0 }

// HungUp reports whether the peer is known to send nothing more, though bytes
// of it may be unread. A kept connection for which this holds cannot be used
// again.
func (c *Conn) HungUp() bool { return c.closed || c.can&(peerDone|broken) != 0 }

// Readable reports whether Read would return without waiting.
func (c *Conn) Readable() bool { return c.closed || c.err != nil || c.can&canRead != 0 }

// Interrupt ends all waiting for the connection, and every later use except for
// Close, with err; nil means ErrInterrupted. Of several interrupts the first
// counts.
func (c *Conn) Interrupt(err error) {
	if c.closed || c.err != nil {
		return
	}
	if err == nil {
		err = ErrInterrupted
	}
	c.err = err
	c.loop.unblock(c.reader)
	c.loop.unblock(c.writer)
	if c.onReadable != nil {
		c.loop.callSoon(c)
	}
}

// CloseWrite ends this direction: the peer reads io.EOF after all that was
// written.
func (c *Conn) CloseWrite() error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.wroteEnd:
		return nil
	}
	c.wroteEnd = true
	if errno := sysCloseWrite(c.fd); errno != 0 {
		return os.NewSyscallError("shutdown", errno)
	}
	return nil
}

// Close closes the connection. Who waits for it gets net.ErrClosed; functions
// given to OnReadable and OnHangup are not called. If the peer has sent
// something that was not read, the kernel resets the connection, and the peer
// may lose the end of what was written; CloseGently avoids that.
func (c *Conn) Close() error { return c.shut(net.ErrClosed) }

// shut is Close with another error for those who wait.
func (c *Conn) shut(err error) error {
	if c.closed {
		return net.ErrClosed
	}
	if c.err == nil {
		c.err = err
	}
	c.closed = true
	c.onReadable, c.onHangup = nil, nil
	c.readTimer.Stop()
	c.writeTimer.Stop()
	c.loop.unblock(c.reader)
	c.loop.unblock(c.writer)
	c.loop.remove(c.fd)
	c.loop.conns.Add(-1)
	if errno := sysClose(c.fd); errno != 0 && errno != syscall.EINTR {
		return os.NewSyscallError("close", errno)
	}
	return nil
}

// CloseGently ends this direction at once, throws away what the peer still
// sends, and closes the connection when the peer has ended its own direction,
// or after limit. It does not wait and needs no task. A peer that still sends
// a body when it was answered can so read the answer. Nobody may use the
// connection afterwards.
func (c *Conn) CloseGently(limit time.Duration) {
	if c.closed {
		return
	}
	if c.err != nil || c.can&broken != 0 || c.CloseWrite() != nil {
		c.shut(net.ErrClosed)
		return
	}
	c.onHangup = nil
	c.readDeadline, c.writeDeadline = 0, 0
	c.loop.Start(&c.readTimer, limit, func() { c.shut(net.ErrClosed) })
	c.discard()
}

// discard reads at most one buffer at a time, so that a peer that never stops
// does not hold the loop.
func (c *Conn) discard() {
	b := c.loop.Buffer()
	_, err := c.TryRead(b)
	c.loop.Release(b)
	if err != nil && err != ErrWouldBlock {
		c.shut(io.EOF)
		return
	}
	c.OnReadable(c.discard)
}
