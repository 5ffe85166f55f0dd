package proxy

import (
	"errors"
	"io"

	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
)

// upload carries a request's body to its endpoint. What has arrived with the
// head goes at once; for the rest a second task runs, while the exchange's own
// waits for the answer, which may come before the body's end.
type upload struct {
	ex *exchange

	read int64  // bytes that the caller has sent
	kept []byte // all of them, while another try may need them
	lost bool   // they are not kept: more came than the limit allows
	// mayBeRefused is set where an endpoint may say that it has not looked at
	// the request, so that it is sent again without a retry.
	mayBeRefused bool
	ended        bool // the caller's end was reached
	to           calleeStream
	running      bool // a task carries
	stopped      bool
	task         *loop.Task
	carries      func(*loop.Task) // u.carry
}

func (u *upload) init(ex *exchange) {
	u.ex = ex
	u.carries = u.carry
}

func (u *upload) reset() {
	kept := u.kept[:0]
	if cap(kept) > keptBody {
		kept = nil
	}
	*u = upload{ex: u.ex, carries: u.carries, kept: kept}
}

// keptBody is how much memory an exchange keeps for the bodies of later
// requests.
const keptBody = 4 << 10

// repeatable reports whether another try can be sent the body.
func (u *upload) repeatable() bool { return !u.lost }

// keep remembers a piece for another try, as long as there may be one.
func (u *upload) keep(p []byte) {
	ex := u.ex
	again := !ex.answered && (u.mayBeRefused || ex.retries < ex.retryPolicy().Attempts)
	switch {
	case u.lost:
	case !again || len(u.kept)+len(p) > ex.worker.proxy.limits.RetryBuffer:
		u.lost, u.kept = true, u.kept[:0]
	default:
		u.kept = append(u.kept, p...)
	}
}

// send begins to carry the body: what an earlier try was sent, then what the
// caller sends.
func (u *upload) send(to calleeStream) {
	u.to, u.stopped = to, false
	if len(u.kept) > 0 && to.Write(u.kept) != nil {
		return // who waits for the answer finds out
	}
	if u.ended {
		u.finish()
		return
	}
	for !u.ex.caller.Waits() {
		if !u.piece() {
			return
		}
	}
	u.running = true
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
		u.finish()
		return false
	}
	if err != nil {
		u.broken(err)
		return false
	}
	ex.moved = ex.worker.now()
	u.read += int64(len(p))
	u.keep(p)
	ex.mirrorPiece(p)
	return u.to.Write(p) == nil
}

// broken ends the exchange because the body has no end.
func (u *upload) broken(err error) {
	var malformed *wire.ParseError
	switch {
	case u.stopped: // nobody waits for it any more
	case errors.As(err, &malformed):
		u.ex.cancel(errMalformed)
	default:
		u.ex.cancel(errCallerGone)
	}
}

// finish ends the request, whose time for the answer begins.
func (u *upload) finish() {
	// If this fails, who waits for the answer finds out.
	_ = u.to.End(u.ex.caller.Trailers())
	u.ex.mirrorEnd(u.ex.caller.Trailers())
	u.ex.startClocks()
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
