package proxy

import (
	"errors"
	"fmt"
	"io"
	"strconv"

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
// for it. It reports whether the request is to be sent once more, after
// ex.wait.
func (ex *exchange) try(u *upstream) (again bool) {
	r := &ex.record
	r.Destination, r.Upstream = u.workload, u.dial
	r.Attempts++
	admitted, ok := ex.admit()
	if !ok {
		ex.fail(503, flagOverflow, "too many requests are under way to "+ex.calleeName(u))
		return false
	}
	defer admitted.release()
	defer func() {
		if !again { // else it is the permit of the try that follows
			ex.retrying.release()
		}
	}()
	ex.tryCause, ex.answerAt = nil, 0
	c, err := ex.asked(u)
	ex.failure, ex.answerAt = err, 0
	if err == nil && ex.tryCause != nil && ex.cause == nil { // the answer came as its time was over
		ex.forgetInterrupt()
		ex.tryCause = nil
	}
	if ex.worker.proxy.access != nil && c != nil {
		ex.from = c.local()
	}
	out, f := ex.outcome(err)
	if ex.member != nil && !ex.isCallers() && err != errOverflow {
		ex.member.done(out, ex.worker.loop.Now())
	}
	if ex.isWorthARetry(u, out) {
		ex.letGo(c)
		return true
	}
	defer ex.noteLimit()
	if err != nil {
		ex.letGo(c)
		ex.failed(u, f, err)
		return false
	}
	ex.dec.editAnswer(&ex.answer)
	if ex.answer.Status == 101 {
		ex.upgrade(c)
		return false
	}
	whole := ex.deliver(c)
	ex.body.stop()
	if whole {
		c.put()
	} else {
		c.Close()
	}
	return false
}

// letGo ends a try whose answer nobody wants.
func (ex *exchange) letGo(c lease) {
	ex.body.stop()
	if c != nil {
		c.Close()
	}
}

// admit asks whether another request may be under way.
func (ex *exchange) admit() (permit, bool) {
	if ex.dec.group == nil {
		return permit{}, true
	}
	return ex.dec.group.admitRequest()
}

// asked sends the request to the endpoint and waits for the head of its answer.
func (ex *exchange) asked(u *upstream) (lease, error) {
	ex.startWhole() // a wait for a connection counts
	c, err := ex.worker.take(u, ex.dec.group, false)
	if err != nil {
		return nil, err
	}
	if ex.wholeIn == 0 && ex.request.Body != wire.NoBody {
		ex.wholeAt = 0 // its caller takes the time that follows
	}
	ex.body.mayBeRefused = c.refuses()
	err = ex.ask(c)
	if err == nil || !ex.isStale(c, err) && !ex.isRefused(err) {
		return c, err
	}
	ex.letGo(c)
	if c, err = ex.worker.take(u, ex.dec.group, true); err != nil {
		return nil, err
	}
	return c, ex.ask(c)
}

// outcome is how a try ended, and what its caller is told if it has no answer
// and there is no other try.
func (ex *exchange) outcome(err error) (outcome, failure) {
	switch {
	case err == nil:
		return outcome{kind: answered, status: ex.answer.Status, grpc: grpcStatus(&ex.answer), sent: true}, failure{}
	case ex.tryCause != nil || ex.cause == errTimeout || ex.cause == errStreamIdle:
		return outcome{kind: timedOut, grpc: noGRPC, sent: true}, failure{504, flagTimeout, "%s gave no answer in time"}
	}
	kind, f := classify(err)
	return outcome{kind: kind, grpc: noGRPC, sent: kind != connectFailed}, f
}

// grpcStatus is the status in a head; noGRPC for none. Answers with a body have
// it behind the body, where it is too late for another try.
func grpcStatus(h *wire.Head) int {
	value, ok := h.Get("grpc-status")
	if !ok {
		return noGRPC
	}
	status, err := strconv.Atoi(value)
	if err != nil {
		return 2 // UNKNOWN, as clients take it
	}
	return status
}

// isWorthARetry decides whether the request is sent once more, and prepares
// for that.
func (ex *exchange) isWorthARetry(u *upstream, out outcome) bool {
	if ex.cause != nil || ex.dec.group == nil {
		return false
	}
	next := retry(ex.retryPolicy(), ex.retries, out, &ex.listener.draws)
	switch {
	case next.flag != "":
		ex.limit = next.flag
		return false
	case !next.again || !ex.body.repeatable():
		return false
	}
	ex.retrying.release() // the try before was one, and is over
	allowed, ok := ex.dec.group.admitRetry()
	if !ok {
		ex.limit = flagOverflow
		return false
	}
	ex.retrying = allowed
	ex.retries++
	if out.isFailure() {
		ex.record.Masked = u.workload.Name
	}
	ex.wait = next.wait
	ex.tried = append(ex.tried, u)
	return true
}

// noteLimit adds why there was no other try, behind how the last one ended.
func (ex *exchange) noteLimit() {
	if ex.limit != "" {
		addFlag(&ex.record, ex.limit)
	}
}

// isStale reports whether a try failed because a kept connection had been
// closed, or was about to be, so that it may be repeated on a new one: if the
// endpoint has seen the request at all, repeating does no harm.
func (ex *exchange) isStale(c lease, err error) bool {
	if kind, _ := classify(err); !c.kept() || ex.cause != nil || ex.tryCause != nil || kind != broken || !isUnanswered(err) {
		return false
	}
	switch ex.request.Method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return ex.request.Body == wire.NoBody
	}
	return false
}

// isRefused reports whether an endpoint of HTTP/2 says that it has not begun to
// look at the request, which may then be repeated whatever it is and whatever
// the route's retries are (RFC 9113, section 8.7).
func (ex *exchange) isRefused(err error) bool {
	kind, _ := classify(err)
	return kind == refused && ex.cause == nil && ex.tryCause == nil && ex.body.repeatable()
}

// ask sends the request and waits for the head of the answer that counts.
func (ex *exchange) ask(c calleeStream) error {
	if !ex.prepared {
		ex.prepare()
		ex.mirror()
	}
	whole := ex.request.Body == wire.NoBody
	if err := c.Send(&ex.out, whole); err != nil && whole {
		// Answer tells the reason, or finds an answer that came early.
		ex.worker.proxy.log.Debug("request could not be sent whole", "id", ex.record.ID, "err", err)
	}
	if whole {
		ex.body.ended = true
		ex.startClocks()
	} else {
		ex.body.send(c)
		if ex.cause != nil { // what of a malformed request is gathered goes nowhere
			return ex.cause
		}
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
		case ex.answer.Status < 300 && ex.answer.Status >= 200 && ex.stream.extended:
			return errNoTunnel
		case ex.answer.Status >= 200:
			return nil
		}
		if err := ex.caller.Inform(&ex.answer); err != nil {
			ex.cancel(errCallerGone)
			return err
		}
	}
}

// prepare makes the head that the endpoint is sent, at the first try and after
// each decision: what every hop adds, then what the route wants.
func (ex *exchange) prepare() {
	ex.prepared = true
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
	ex.call.head = out
	ex.dec.editRequest(&ex.call)
	ex.call.head = q
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

// deliver passes the answer on, and reports whether that came to its end.
func (ex *exchange) deliver(c calleeStream) bool {
	h, r := &ex.answer, &ex.record
	ex.headIn = ex.moved
	r.Code = h.Status
	r.GRPC, _ = h.Get("grpc-status")
	ex.date(h)
	ex.answered = true
	if ex.twin != nil {
		ex.twin.user.head(h)
	}
	whole := h.Body == wire.NoBody
	if err := ex.caller.Answer(h, whole); err != nil {
		ex.broken(errCallerGone)
		return false
	}
	if whole {
		return true
	}
	for {
		piece, err := c.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			ex.broken(err)
			return false
		}
		ex.moved = ex.worker.now()
		if ex.twin != nil {
			ex.twin.user.piece(piece)
		}
		err = ex.caller.Write(piece)
		if err == nil && c.Waits() {
			err = ex.caller.Flush()
		}
		if err != nil {
			ex.broken(errCallerGone)
			return false
		}
		r.Sent += int64(len(piece))
	}
	trailers := c.Trailers()
	for i := range trailers {
		if trailers[i].Name == "grpc-status" {
			r.GRPC = trailers[i].Value
		}
	}
	if err := ex.caller.End(trailers); err != nil {
		ex.broken(errCallerGone)
		return false
	}
	return true
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
	case errMalformed:
		addFlag(&ex.record, flagMalformed)
	case errTimeout:
		addFlag(&ex.record, flagTimeout)
	case errStreamIdle:
		addFlag(&ex.record, flagIdle)
	default:
		_, f := classify(err)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			f.flag = flagProtocol // an end within a body of HTTP/1.1 that says its length
		}
		addFlag(&ex.record, f.flag)
	}
}

// failed answers a request that got no answer from its endpoint.
func (ex *exchange) failed(u *upstream, f failure, err error) {
	ex.worker.proxy.log.Debug("request failed", "id", ex.record.ID, "to", ex.calleeName(u), "err", err)
	if ex.cause != nil {
		ex.ended()
		return
	}
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
	case errMalformed:
		if ex.stream.Stream != nil { // was reset
			addFlag(&ex.record, flagMalformed)
			return
		}
		ex.fail(400, flagMalformed, "the body is malformed")
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
	text := own.head(ex.request, &ex.local)
	ex.dec.editAnswer(&ex.local)
	ex.say(text)
}

// reply sends an answer that routing made.
func (ex *exchange) reply() {
	body := ex.dec.reply.head(ex.request, &ex.local)
	ex.dec.editAnswer(&ex.local)
	ex.say(body)
}

// date dates an answer that its maker did not, as whoever passes it on must
// (RFC 9110, section 6.6.1): caches go by it.
func (ex *exchange) date(h *wire.Head) {
	if _, dated := h.Get("date"); !dated {
		h.Add("date", ex.worker.dateField())
	}
}

// say sends ex.local, an answer of the proxy itself.
func (ex *exchange) say(body string) {
	h, r := &ex.local, &ex.record
	ex.date(h)
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
