package proxy

import (
	"errors"
	"fmt"
	"io"

	"serin.dev/serin/internal/proxy/http1"
	"serin.dev/serin/internal/proxy/wire"
	"serin.dev/serin/internal/telemetry"
)

// failure is why a try got no answer.
type failure struct {
	code   int
	flag   string
	reason string // follows the name of who was called
}

// try sends the request to an endpoint and passes the answer on, or answers
// for it. It reports whether the request is to be sent once more.
func (ex *exchange) try(u *upstream) (again bool) {
	r := &ex.record
	r.Destination, r.Upstream = u.workload, u.dial
	r.Attempts++
	pool := ex.worker.poolOf(u, nil)
	c, err := pool.take(false)
	if err == nil {
		err = ex.ask(c)
		if err != nil && ex.isStale(c, err) {
			ex.body.stop()
			c.Close()
			if c, err = pool.take(true); err == nil {
				err = ex.ask(c)
			}
		}
	}
	if err != nil {
		ex.body.stop()
		if c != nil {
			c.Close()
		}
		ex.failed(u, err)
		return false
	}
	if ex.answer.Status == 101 {
		ex.upgrade(c)
		return false
	}
	ex.deliver(c)
	ex.body.stop()
	c.put()
	return false
}

// isStale reports whether a try failed because a kept connection had been
// closed, or was about to be, so that it may be repeated on a new one: if the
// endpoint has seen the request at all, repeating does no harm.
func (ex *exchange) isStale(c *upstreamConn, err error) bool {
	var answer *http1.AnswerError
	if !c.used || ex.cause != nil || ex.tryCause != nil || !errors.As(err, &answer) || answer.Kind != http1.Unanswered {
		return false
	}
	switch ex.request.Method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return ex.request.Body == wire.NoBody
	}
	return false
}

// ask sends the request and waits for the head of the answer that counts.
func (ex *exchange) ask(c calleeStream) error {
	ex.prepare()
	whole := ex.request.Body == wire.NoBody
	if err := c.Send(&ex.out, whole); err != nil && whole {
		// Answer tells the reason, or finds an answer that came early.
		ex.worker.proxy.log.Debug("request could not be sent whole", "id", ex.record.ID, "err", err)
	}
	if !whole {
		ex.body.send(c)
	}
	for {
		if err := c.Answer(&ex.answer); err != nil {
			return err
		}
		ex.moved = ex.worker.now()
		switch {
		case ex.answer.Status == 101:
			if ex.request.Upgrade == "" {
				return errNoUpgrade
			}
			return nil
		case ex.answer.Status >= 200:
			return nil
		}
		if err := ex.caller.Inform(&ex.answer); err != nil {
			ex.cancel(errCallerGone)
			return err
		}
	}
}

var errNoUpgrade = errors.New("101 to a request that asked for no upgrade")

// prepare makes the head that the endpoint is sent.
func (ex *exchange) prepare() {
	q, out := ex.request, &ex.out
	fields := append(out.Fields[:0], q.Fields...)
	*out = *q
	out.Fields = fields
	out.Expect100 = false // the caller is told to go on by us
	out.Set("x-request-id", ex.seen.requestID)
	if !ex.seen.traced {
		out.Add("traceparent", ex.names.traceParent())
	}
	reporter := ex.listener.reporter
	// Where a request enters the mesh, the caller's address is worth noting,
	// and at the edge its word on the protocol is not to be trusted.
	if reporter != telemetry.SourceSide {
		out.Set("x-forwarded-for", ex.forwardedFor())
	}
	if ex.seen.proto == "" {
		out.Add("x-forwarded-proto", ex.conn.scheme)
	} else if reporter == telemetry.GatewaySide {
		out.Set("x-forwarded-proto", ex.conn.scheme)
	}
}

// forwardedFor is the caller's address behind those that it names.
func (ex *exchange) forwardedFor() string {
	if ex.seen.forwardedFor == "" {
		return ex.conn.remoteIP
	}
	b := ex.forward[:0]
	for i := range ex.request.Fields {
		if f := &ex.request.Fields[i]; f.Name == "x-forwarded-for" {
			b = append(append(b, f.Value...), ", "...)
		}
	}
	ex.forward = append(b, ex.conn.remoteIP...)
	return view(ex.forward)
}

// deliver passes the answer on.
func (ex *exchange) deliver(c calleeStream) {
	h, r := &ex.answer, &ex.record
	r.Code = h.Status
	ex.answered = true
	whole := h.Body == wire.NoBody
	if err := ex.caller.Answer(h, whole); err != nil {
		ex.broken(errCallerGone)
		return
	}
	if whole {
		return
	}
	for {
		piece, err := c.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			ex.broken(err)
			return
		}
		ex.moved = ex.worker.now()
		err = ex.caller.Write(piece)
		if err == nil && c.Waits() {
			err = ex.caller.Flush()
		}
		if err != nil {
			ex.broken(errCallerGone)
			return
		}
		r.Sent += int64(len(piece))
	}
	if err := ex.caller.End(c.Trailers()); err != nil {
		ex.broken(errCallerGone)
	}
}

// broken notes that an answer could not be passed on to its end. The caller
// learns it from the end of its connection.
func (ex *exchange) broken(err error) {
	if ex.cause != nil {
		err = ex.cause
	}
	// What is gathered may still help.
	_ = ex.caller.Flush()
	switch err {
	case errCallerGone, errCut:
		addFlag(&ex.record, flagCallerGone)
	case errTimeout:
		addFlag(&ex.record, flagTimeout)
	case errStreamIdle:
		addFlag(&ex.record, flagIdle)
	default:
		addFlag(&ex.record, flagReset)
	}
}

// failed answers a request that got no answer from its endpoint.
func (ex *exchange) failed(u *upstream, err error) {
	ex.worker.proxy.log.Debug("request failed", "id", ex.record.ID, "to", ex.calleeName(u), "err", err)
	if ex.cause != nil {
		ex.ended()
		return
	}
	f := ex.explain(err)
	ex.fail(f.code, f.flag, fmt.Sprintf(f.reason, ex.calleeName(u)))
}

// ended answers a request that was ended from outside of its task, if there is
// somebody to answer.
func (ex *exchange) ended() {
	switch ex.cause {
	case errTimeout:
		ex.fail(504, flagTimeout, "no answer in time")
	case errStreamIdle:
		ex.fail(504, flagIdle, "nothing moved for too long")
	default:
		addFlag(&ex.record, flagCallerGone)
	}
}

// calleeName is who was called, for people.
func (ex *exchange) calleeName(u *upstream) string {
	if ex.record.Backend != "" {
		return string(ex.record.Backend)
	}
	return u.dial
}

// explain finds the answer for why there is none.
func (ex *exchange) explain(err error) failure {
	var connect errConnect
	var answer *http1.AnswerError
	switch {
	case ex.tryCause != nil:
		return failure{504, flagTimeout, "%s gave no answer in time"}
	case errors.As(err, &connect):
		return failure{503, flagConnect, "could not connect to %s"}
	case errors.Is(err, errNoUpgrade),
		errors.As(err, &answer) && (answer.Kind == http1.Malformed || answer.Kind == http1.Oversize):
		return failure{502, flagProtocol, "not an HTTP/1.1 answer from %s"}
	}
	return failure{503, flagReset, "%s closed the connection before an answer"}
}

// fail answers in place of an endpoint.
func (ex *exchange) fail(code int, flag, reason string) {
	ex.refuse(code, flag, flag+": "+reason)
}

// refuse answers a request in one line that says what is wrong.
func (ex *exchange) refuse(code int, flag, reason string) {
	if flag != "" {
		addFlag(&ex.record, flag)
	}
	own := reply{status: code, grpc: noGRPC, body: "serin: " + reason + "\n"}
	ex.say(own.head(ex.request, &ex.local))
}

// reply sends an answer that routing made.
func (ex *exchange) reply() {
	body := ex.dec.reply.head(ex.request, &ex.local)
	ex.dec.editAnswer(&ex.local)
	ex.say(body)
}

// say sends ex.local, an answer of the proxy itself.
func (ex *exchange) say(body string) {
	h, r := &ex.local, &ex.record
	h.Add("date", ex.worker.dateField())
	r.Code = h.Status
	r.GRPC, _ = h.Get("grpc-status")
	ex.answered = true
	err := ex.caller.Answer(h, body == "")
	if err == nil && body != "" {
		if ex.request.Method != "HEAD" {
			r.Sent = int64(len(body))
		}
		if err = ex.caller.Write([]byte(body)); err == nil {
			err = ex.caller.End(nil)
		}
	}
	if err != nil {
		addFlag(r, flagCallerGone)
	}
}
