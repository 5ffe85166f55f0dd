package loop

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// pollers runs a story over each poller that this system has.
func pollers(t *testing.T, story func(t *testing.T, o Options)) {
	t.Run("default", func(t *testing.T) { story(t, Options{}) })
	t.Run("portable", func(t *testing.T) { story(t, Options{Portable: true}) })
}

// patience is how long a story waits for what must happen at once.
const patience = 20 * time.Second

// started returns a running group of n loops that is stopped, gracefully,
// when the test ends.
func started(t testing.TB, n int, o Options) *Group {
	t.Helper()
	g, err := NewGroup(n, o)
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := g.Stop(ctx); err != nil {
			t.Errorf("Stop: %v; something is still open: %+v", err, g.loops[0].Stats())
		}
	})
	return g
}

// listen serves connections on a free port, each in a task, until the test ends.
func listen(t testing.TB, g *Group, serve func(*Task, *Conn)) *Listener {
	t.Helper()
	ln, err := g.Listen("127.0.0.1:0", func(c *Conn) {
		c.Loop().Go(func(t *Task) {
			defer c.Close()
			serve(t, c)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// dialed returns the caller's end of a connection, by package net.
func dialed(t testing.TB, ln *Listener) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// inTask runs f as a task and waits for its end.
func inTask(t testing.TB, l *Loop, f func(*Task)) {
	t.Helper()
	done := make(chan struct{})
	l.Post(func() {
		l.Go(func(task *Task) {
			defer close(done)
			f(task)
		})
	})
	await(t, done)
}

func await[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("it did not happen")
	}
	return v
}

func echo(t *Task, c *Conn) {
	buf := t.Loop().Buffer()
	defer t.Loop().Release(buf)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

func TestEchoReturnsWhatWasSent(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		c := dialed(t, listen(t, started(t, 1, o), echo))
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // more than the kernel's buffers hold
		go func() {
			c.Write(sent)
			c.CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("read %d bytes, %v; want the %d that were sent", len(got), err, len(sent))
		}
	})
}
