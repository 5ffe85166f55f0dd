package proxy

import (
	"io"
	"time"

	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
)

// errand is a request that the proxy sends on its own account, whole, and whose
// answer goes to no caller. It may be sent more than once.
type errand struct {
	worker   *worker
	head     wire.Head
	body     []byte
	trailers []wire.Field
	heard    *heard // what is kept of the answer; nil = nothing
}

// run sends the request to an endpoint and reads the answer to its end, within
// a time.
func (e *errand) run(t *loop.Task, m *member, within time.Duration) (outcome, error) {
	out := outcome{grpc: noGRPC}
	late, err := e.worker.within(t, within, func() (err error) {
		out, err = e.exchange(m)
		return err
	})
	if late {
		out.kind = timedOut
	}
	return out, err
}

// within interrupts what f waits for in the running task when the time is over.
func (w *worker) within(t *loop.Task, d time.Duration, f func() error) (late bool, err error) {
	var limit loop.Timer
	w.loop.Start(&limit, d, func() {
		late = true
		t.Interrupt(errTimeout)
	})
	err = f()
	limit.Stop()
	return late, err
}

// exchange sends the request, once more on a new connection if a kept one had
// been closed by the endpoint, or the endpoint says that it did not look at it.
func (e *errand) exchange(m *member) (outcome, error) {
	for fresh := false; ; fresh = true {
		c, err := e.worker.take(m.upstream, m.group, fresh)
		if err != nil {
			kind, _ := classify(err)
			return outcome{kind: kind, grpc: noGRPC}, err
		}
		var answer wire.Head
		if err = e.ask(c, &answer); err == nil {
			out := outcome{kind: answered, status: answer.Status, grpc: grpcStatus(&answer), sent: true}
			c.put()
			return out, nil
		}
		kind, _ := classify(err)
		again := !fresh && (kind == refused || c.kept() && isUnanswered(err))
		c.Close()
		if !again {
			return outcome{kind: kind, grpc: noGRPC, sent: true}, err
		}
	}
}

// ask sends the request and reads the answer to its end.
func (e *errand) ask(c calleeStream, answer *wire.Head) error {
	head, whole := e.head, e.head.Body == wire.NoBody
	err := c.Send(&head, whole)
	if err == nil && !whole {
		if err = c.Write(e.body); err == nil {
			err = c.End(e.trailers)
		}
	}
	// If that failed, there may be an answer that came early, or Answer tells
	// the reason.
	for answer.Status = 0; answer.Status < 200; {
		if failed := c.Answer(answer); failed != nil {
			return failed
		}
		if answer.Status == 101 {
			return errNoUpgrade
		}
	}
	if e.heard != nil {
		*e.heard = heard{}
		e.heard.head(answer)
	}
	for answer.Body != wire.NoBody {
		piece, failed := c.Next()
		if failed == io.EOF {
			break
		}
		if failed != nil {
			return failed
		}
		if e.heard != nil {
			e.heard.piece(piece)
		}
	}
	return err
}
