package proxy

import (
	"errors"
	"io"
	"time"

	"serin.dev/serin/internal/proxy/loop"
)

// tunnel carries bytes both ways between two connections until both have
// ended, one broke, or nothing moved for too long. While nothing moves, it
// holds no buffer.
type tunnel struct {
	worker *worker
	idle   time.Duration // 0 = no limit
	sent   [2]int64      // bytes from the first, the caller, to the second, and back
	flag   string        // why it was broken off; "" when both have ended

	ends    [2]end
	moved   time.Duration
	timer   loop.Timer
	running bool // the second direction
}

// run returns when it is over. It does not close the connections.
func (t *tunnel) run(task *loop.Task, a, b end) {
	t.ends = [2]end{a, b}
	t.moved = t.worker.now()
	t.watch()
	t.running = true
	t.worker.loop.Go(func(second *loop.Task) {
		t.pump(second, 1)
		t.running = false
		task.Wake()
	})
	t.pump(task, 0)
	for t.running {
		if task.Park() != nil {
			t.broke(flagCallerGone)
		}
	}
	t.timer.Stop()
}

// pump carries one direction: what one side sends goes to the other, and so
// does its end.
func (t *tunnel) pump(task *loop.Task, from int) {
	in, out := t.ends[from].conn, t.ends[1-from].conn
	if early := t.ends[from].early; len(early) > 0 {
		t.ends[from].early = nil
		if !t.pass(out, from, early) {
			return
		}
	}
	wake := task.Wake
	for {
		if await(task, in, wake) != nil {
			t.broke(flagCallerGone) // the task is interrupted when the listener closes
			return
		}
		switch err := t.piece(in, out, from); err {
		case nil:
			continue
		case io.EOF:
			// If it fails, the connection is gone, and it may be that all was
			// said: the other direction finds out.
			_ = out.CloseWrite()
		case errUnread:
		default:
			t.broke(brokenBy[from])
		}
		return
	}
}

// brokenBy has the flags for the side that broke its connection before it had
// ended its direction.
var brokenBy = [2]string{flagCallerGone, flagReset}

// await waits until there is something to read, for which no buffer is needed.
func await(task *loop.Task, in byteConn, wake func()) error {
	quiet, ok := in.(interface {
		Readable() bool
		OnReadable(func())
	})
	if !ok {
		return in.(*streamConn).Await()
	}
	defer quiet.OnReadable(nil) // the task may end before it is called
	for !quiet.Readable() {
		quiet.OnReadable(wake)
		if err := task.Park(); err != nil {
			return err
		}
	}
	return nil
}

// piece reads once and passes that on.
func (t *tunnel) piece(in, out byteConn, from int) error {
	l := t.worker.loop
	buf := l.Buffer()
	defer l.Release(buf)
	n, err := in.Read(buf)
	if n > 0 && !t.pass(out, from, buf[:n]) {
		return errUnread
	}
	return err
}

// errUnread ends a direction that nobody reads from any more.
var errUnread = errors.New("the other side is gone")

// pass writes what was read. One who has closed its connection may have said
// something before that the other side is still to get: the other direction
// finds the end.
func (t *tunnel) pass(out byteConn, from int, p []byte) bool {
	n, err := out.Write(p)
	t.sent[from] += int64(n)
	t.moved = t.worker.now()
	return err == nil
}

// broke ends both directions. The first reason counts.
func (t *tunnel) broke(flag string) {
	if t.flag == "" {
		t.flag = flag
	}
	for _, e := range t.ends {
		e.conn.Interrupt(errBroken)
	}
}

// errBroken ends what is under way in a tunnel when it is broken off.
var errBroken = errors.New("the other side of the tunnel is gone")

// watch ends the tunnel when nothing has moved for too long.
func (t *tunnel) watch() {
	if t.idle <= 0 {
		return
	}
	if left := t.moved + t.idle - t.worker.now(); left > 0 {
		t.worker.loop.Start(&t.timer, left, t.watch)
		return
	}
	t.broke(flagIdle)
}
