package proxy

import (
	"io"
	"time"

	"serin.dev/serin/internal/proxy/loop"
)

// tunnel carries bytes both ways between two connections until both have
// ended, one broke, or nothing moved for too long.
type tunnel struct {
	worker   *worker
	idle     time.Duration // 0 = no limit
	sent     [2]int64      // bytes from the first to the second, and back
	timedOut bool

	ends    [2]end
	moved   time.Duration
	timer   loop.Timer
	running bool // the second direction
	main    *loop.Task
}

// run returns when it is over. It does not close the connections.
func (t *tunnel) run(task *loop.Task, a, b end) {
	t.ends, t.main = [2]end{a, b}, task
	t.moved = t.worker.now()
	t.watch()
	t.running = true
	t.worker.loop.Go(func(*loop.Task) {
		t.pump(1)
		t.running = false
		task.Wake()
	})
	t.pump(0)
	for t.running {
		// Both connections are interrupted by whoever cuts the caller off.
		_ = task.Park()
	}
	t.timer.Stop()
}

// pump carries one direction: what one side sends goes to the other, and so
// does its end. A connection that breaks ends both directions.
func (t *tunnel) pump(from int) {
	in, out := t.ends[from], t.ends[1-from].conn
	l := t.worker.loop
	buf := l.Buffer()
	defer l.Release(buf)
	n := len(in.early)
	piece := in.early
	for {
		if n > 0 {
			if _, err := out.Write(piece[:n]); err != nil {
				t.broke(err)
				return
			}
			t.sent[from] += int64(n)
			t.moved = t.worker.now()
		}
		var err error
		if n, err = in.conn.Read(buf); err != nil && n == 0 {
			if err == io.EOF {
				err = out.CloseWrite()
			}
			if err != nil {
				t.broke(err)
			}
			return
		}
		piece = buf
	}
}

// broke ends both directions.
func (t *tunnel) broke(err error) {
	for _, e := range t.ends {
		e.conn.Interrupt(err)
	}
}

// watch ends the tunnel when nothing has moved for too long.
func (t *tunnel) watch() {
	if t.idle <= 0 {
		return
	}
	if left := t.moved + t.idle - t.worker.now(); left > 0 {
		t.worker.loop.Start(&t.timer, left, t.watch)
		return
	}
	t.timedOut = true
	t.broke(errStreamIdle)
}

// connect opens a connection of bytes to what a CONNECT asks for.
func (ex *exchange) connect(host string, port uint16) {
	ex.refuse(405, "", "CONNECT is not supported; call the service by http://")
}
