package proxy

import (
	"io"

	"serin.dev/serin/internal/proxy/loop"
)

// upload carries a request's body to its endpoint. What has arrived with the
// head goes at once; for the rest a second task runs, while the exchange's own
// waits for the answer, which may come before the body's end.
type upload struct {
	ex *exchange

	read    int64 // bytes that the caller has sent
	begun   bool  // a piece was taken
	ended   bool  // the caller's end was reached
	to      calleeStream
	running bool // a task carries
	stopped bool
	task    *loop.Task
	carries func(*loop.Task) // u.carry
}

func (u *upload) init(ex *exchange) {
	u.ex = ex
	u.carries = u.carry
}

func (u *upload) reset() {
	*u = upload{ex: u.ex, carries: u.carries}
}

// send begins to carry the body.
func (u *upload) send(to calleeStream) {
	u.to = to
	for !u.ex.caller.Waits() {
		if !u.piece() {
			return
		}
	}
	u.running, u.stopped = true, false
	u.ex.worker.loop.Go(u.carries)
}

// carry is the second task.
func (u *upload) carry(t *loop.Task) {
	u.task = t
	for !u.stopped && u.piece() {
	}
	u.task, u.running = nil, false
	u.ex.task.Wake() // stop may wait
}

// piece carries one piece and reports whether there is more to do.
func (u *upload) piece() bool {
	ex := u.ex
	if ex.caller.Waits() && u.to.Flush() != nil {
		return false // who waits for the answer finds out
	}
	p, err := ex.caller.Next()
	if err == io.EOF {
		u.ended = true
		// If this fails, who waits for the answer finds out.
		_ = u.to.End(ex.caller.Trailers())
		return false
	}
	if err != nil {
		if !u.stopped {
			ex.cancel(errCallerGone)
		}
		return false
	}
	ex.moved = ex.worker.now()
	u.read += int64(len(p))
	return u.to.Write(p) == nil
}

// stop ends the second task, if it runs, and waits for that.
func (u *upload) stop() {
	for u.running {
		u.stopped = true
		if u.task != nil {
			u.task.Interrupt(errUploadEnded)
		}
		// An interrupt of the exchange comes late: it is ending already.
		_ = u.ex.task.Park()
	}
}
