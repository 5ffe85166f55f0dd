package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
	"serin.dev/serin/internal/telemetry"
)

// callerStream is the caller's side of one request, whatever codec carries it.
// The half that reads (Next, Waits, Trailers) and the half that writes may be
// used by a task each.
type callerStream interface {
	// Next waits for the next piece of the request's body, good until it is
	// called again; io.EOF at the end.
	Next() ([]byte, error)
	// Waits reports whether Next would wait.
	Waits() bool
	// Trailers are the fields behind the body, after io.EOF.
	Trailers() []wire.Field
	// Inform sends a 1xx answer before the one that counts.
	Inform(h *wire.Head) error
	// Answer sends the head; end says that nothing follows.
	Answer(h *wire.Head, end bool) error
	// Write sends a piece of the body; it may wait for Flush or End.
	Write(p []byte) error
	Flush() error
	// End completes the answer.
	End(trailers []wire.Field) error
}

// calleeStream is the endpoint's side of one request.
type calleeStream interface {
	Send(h *wire.Head, end bool) error
	Write(p []byte) error
	Flush() error
	End(trailers []wire.Field) error
	// Answer waits for the head of an answer: 1xx ones, then the one that
	// counts.
	Answer(h *wire.Head) error
	Next() ([]byte, error)
	Waits() bool
	Trailers() []wire.Field
}

// Why an exchange is ended from outside of its task.
var (
	errCallerGone  = errors.New("the caller went away")
	errMalformed   = errors.New("the caller sent a body that is none")
	errTimeout     = errors.New("no answer in time")
	errTryTimeout  = errors.New("no answer to this try in time")
	errStreamIdle  = errors.New("nothing moved for too long")
	errUploadEnded = errors.New("the answer is complete")
)

// exchange is one request on its way from its caller to an endpoint and back.
// It belongs to the task that serves it; a second task may carry the body to
// the endpoint meanwhile. Exchanges are used again: what they hold of one
// request is void after it.
type exchange struct {
	worker   *worker
	listener *Listener
	conn     *callerConn
	caller   callerStream
	task     *loop.Task

	head    wire.Head   // memory for request, where the codec has none
	stream  http2Stream // memory for caller, where it speaks HTTP/2
	request *wire.Head  // as the caller sent it
	seen    glance
	call    call
	out     wire.Head // as the endpoint is sent it
	answer  wire.Head // as the endpoint gave it
	local   wire.Head // an answer made here
	record  telemetry.Request
	logged  logEntry

	table  *table
	target *target
	dec    decision
	member *member // of the endpoint that was picked; nil without a group

	prepared bool          // out is what the decision makes of the request
	retries  uint32        // so far
	retrying permit        // of the retry under way
	wait     time.Duration // before the next try
	tried    []*upstream
	limit    string // flag of what forbade another try

	mirrored bool    // mirrors were drawn
	twin     *twin   // of the copies whose answers are compared; nil = none are
	shadow   *shadow // for them, while the body is not whole

	names   identity
	forward []byte // memory of x-forwarded-for

	body upload

	cause    error // of the end, when it came from outside of the task
	tryCause error // the same, of this try alone
	answered bool  // the head of the final answer was given to the caller
	failure  error // of the last try; nil when it was answered

	// For the access log.
	from    netip.AddrPort // our end of the connection to the endpoint
	wholeIn time.Duration  // when the request was sent whole
	headIn  time.Duration  // when the head of its answer came

	timer    loop.Timer
	moved    time.Duration // when something moved last
	idle     time.Duration // ends the exchange when nothing has moved for so long; 0 = never
	wholeAt  time.Duration // when the answer has to be complete; 0 = any time
	answerAt time.Duration // when this try has to be answered; 0 = any time

	// Functions of this exchange, made once.
	onGone  func()
	onTimer func()
	picks   func(*table) *upstream
}

func newExchange(w *worker) *exchange {
	ex := &exchange{worker: w}
	ex.onGone = func() { ex.cancel(ex.whyGone()) }
	ex.onTimer = ex.expire
	ex.picks = ex.pickUnder
	ex.body.init(ex)
	return ex
}

// reset lets go of everything that belongs to the request.
func (ex *exchange) reset() {
	ex.timer.Stop()
	ex.listener, ex.conn, ex.caller, ex.task, ex.stream = nil, nil, nil, nil, http2Stream{}
	ex.request, ex.table, ex.target, ex.member = nil, nil, nil, nil
	ex.dec, ex.call, ex.seen = decision{}, call{}, glance{}
	ex.prepared, ex.retries, ex.wait, ex.limit = false, 0, 0, ""
	ex.retrying.release()
	ex.dropShadow("the request was not whole")
	ex.mirrored, ex.twin = false, nil
	clear(ex.tried)
	ex.tried = ex.tried[:0]
	ex.record = telemetry.Request{}
	ex.cause, ex.tryCause, ex.answered, ex.failure = nil, nil, false, nil
	ex.from, ex.wholeIn, ex.headIn = netip.AddrPort{}, 0, 0
	ex.wholeAt, ex.answerAt = 0, 0
	ex.body.reset()
}

// serve carries one request. When it returns, the request is recorded.
func (ex *exchange) serve(t *loop.Task, caller callerStream, request *wire.Head) {
	ex.task, ex.caller, ex.request = t, caller, request
	ex.begin()
	ex.run()
	ex.finish()
}

// begin fills in what the head tells.
func (ex *exchange) begin() {
	q := ex.request
	ex.seen = glanceAt(q.Fields)
	if ex.seen.fromEnvoy {
		q.Fields = withoutEnvoys(q.Fields)
	}
	if ex.seen.requestID == "" {
		ex.seen.requestID = ex.names.requestID()
	}
	path, query, _ := strings.Cut(q.Path, "?")
	if path == "" {
		path = "/"
	}
	ex.call = call{head: q, path: path, query: query, scheme: ex.conn.scheme, caller: ex.listener.caller.Load(), remote: ex.conn.conn.Remote(), now: ex.worker.loop.Now()}
	r := &ex.record
	r.ID = ex.seen.requestID
	r.Start = ex.worker.loop.Now()
	r.Protocol = protocolOf(q)
	r.Reporter = ex.listener.reporter
	if c := ex.listener.caller.Load(); c != nil {
		r.Source = c.Workload
	}
	r.Method, r.Host, r.Path = q.Method, q.Authority, path
	r.Probe = telemetry.IsProbe(ex.seen.userAgent)
	ex.idle = mesh.DefaultStreamIdle
	ex.moved = ex.worker.now()
	ex.arm()
}

// finish completes the record and hands it over.
func (ex *exchange) finish() {
	ex.timer.Stop()
	r := &ex.record
	r.Read += ex.body.read
	r.Duration = ex.worker.loop.Now().Sub(r.Start)
	p := ex.worker.proxy
	if p.recorder != nil {
		p.recorder.Record(r)
	}
	if ex.twin != nil {
		ex.twin.answered(r)
	}
	if p.access != nil {
		p.access.add(ex.entry())
	}
	if ex.cause != nil && ex.cause != errCallerGone || ex.tryCause != nil {
		ex.forgetInterrupt()
	}
}

// forgetInterrupt makes sure that an interrupt that no wait has returned does
// not hit the next request of this task.
func (ex *exchange) forgetInterrupt() { _ = ex.task.ParkFor(0) }

// unreadable records a request that was refused by its codec, with the code
// that its caller was answered; 0 = none.
func (ex *exchange) unreadable(q *wire.Head, code int) {
	ex.request = q
	r := &ex.record
	r.Start = ex.worker.loop.Now()
	r.Reporter = ex.listener.reporter
	if c := ex.listener.caller.Load(); c != nil {
		r.Source = c.Workload
	}
	r.Protocol = protocolOf(ex.request)
	r.Method, r.Host = ex.request.Method, ex.request.Authority
	r.Path, _, _ = strings.Cut(ex.request.Path, "?")
	r.Snapshot = ex.worker.proxy.table.Load().version
	r.Code, r.Flags = code, flagMalformed
	ex.finish()
}

// run decides what becomes of the request.
func (ex *exchange) run() {
	l, q := ex.listener, ex.request
	host, port, ok := parseAuthority(q.Authority)
	switch {
	case !ok:
		ex.refuse(400, "", fmt.Sprintf("%q is not host:port", q.Authority))
		return
	case q.Method == "CONNECT": // an extended one is a GET by now
		ex.connect(host, port)
		return
	case q.Scheme != "" && q.Scheme != ex.conn.scheme:
		ex.refuse(400, "", fmt.Sprintf("only %s:// can be called through this proxy", ex.conn.scheme))
		return
	}
	switch l.role {
	case inbound:
		ex.toApplication()
		return
	case toOne:
		host, port = string(l.service), l.port
	case atEdge:
		port = l.port
	case outbound:
	}
	ex.call.host, ex.call.port = host, port
	ex.route()
}

// toApplication hands a request to the application behind an inbound listener.
func (ex *exchange) toApplication() {
	l, r := ex.listener, &ex.record
	r.Service, r.Backend = l.service, l.service
	r.Snapshot = ex.worker.proxy.table.Load().version
	ex.try(l.inbound)
}

// route sends the request where the snapshot in force wants it, as often as
// the route's retries allow.
func (ex *exchange) route() {
	p := ex.worker.proxy
	ex.decide(p.table.Load())
	if ex.dec.delay > 0 && !ex.sleep(ex.dec.delay) {
		return
	}
	for {
		u := p.acquire(ex.picks)
		if u == nil {
			ex.undeliverable()
			return
		}
		again := ex.try(u)
		p.release(u)
		if !again || !ex.sleep(ex.wait) {
			return
		}
	}
}

// sleep waits, and reports whether the request is to go on. If not, it is
// answered, or its caller gone.
func (ex *exchange) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	if err := ex.task.Sleep(d); err != nil {
		ex.ended()
		return false
	}
	ex.moved = ex.worker.now()
	return true
}

// pickUnder routes the request under a table, unless that was done already,
// and returns an endpoint; nil when there is none, or the answer is made here.
func (ex *exchange) pickUnder(t *table) *upstream {
	if t != ex.table {
		ex.decide(t)
	}
	if ex.member = nil; ex.dec.group == nil {
		return ex.outsideHost()
	}
	m := ex.dec.pick(ex.worker.loop.Now(), &ex.listener.draws, ex.avoided())
	if m == nil {
		return nil
	}
	ex.member = m
	return m.upstream
}

// avoided is the endpoints that a retry stays away from.
func (ex *exchange) avoided() []*upstream {
	if len(ex.tried) == 0 || !ex.retryPolicy().AvoidPrevious {
		return nil
	}
	return ex.tried
}

// retryPolicy says what is done when a try fails.
func (ex *exchange) retryPolicy() *mesh.Retry {
	switch {
	case ex.dec.route != nil:
		return ex.dec.route.retry
	case ex.dec.group != nil:
		return ex.worker.proxy.retry
	}
	return ex.worker.proxy.noRetry
}

// outsideHost is the upstream of a host that is not of the mesh; nil when the
// call is not for one.
func (ex *exchange) outsideHost() *upstream {
	if ex.target != nil || ex.listener.role != outbound || ex.table.version == 0 {
		return nil
	}
	return ex.worker.outsideHost(ex.call.host, ex.call.port)
}

// decide routes the request under a table.
func (ex *exchange) decide(t *table) {
	l := ex.listener
	ex.table, ex.dec, ex.prepared = t, decision{}, false
	switch l.role {
	case atEdge:
		ex.target = t.atGateway(l.port, ex.call.host)
	case toOne:
		ex.target = t.inMesh("", ex.call.host)
	case outbound, inbound:
		ex.target = t.inMesh(l.caller.Load().Workload.Namespace, ex.call.host)
	}
	switch {
	case l.role == atEdge && t.misdirected(l.port, ex.conn.serverName, ex.call.host):
		ex.target, ex.dec.reply = nil, misdirectedReply
	case ex.target != nil:
		ex.dec = ex.target.decide(&ex.call, &l.draws)
	}
	r := &ex.record
	r.Snapshot, r.Service, r.Route, r.Split, r.User, r.Backend = t.version, ex.dec.service, ex.dec.origin, ex.dec.several, ex.dec.user, ""
	r.Flags = ex.dec.flag
	if ex.dec.backend != nil {
		r.Backend = ex.dec.backend.service
	}
	if ex.dec.route != nil {
		ex.idle = ex.dec.route.idle
	}
}

// startClocks begins to count the time for the answer: once the request is
// sent whole, as its caller takes the time before.
func (ex *exchange) startClocks() {
	now := ex.worker.now()
	ex.wholeIn = now
	r := ex.dec.route
	if r == nil {
		return
	}
	ex.startWhole()
	if r.retry.PerTryTimeout > 0 && !ex.answered {
		ex.answerAt = now + r.retry.PerTryTimeout
	}
	ex.arm()
}

// startWhole begins to count the time for the whole answer, unless it has begun.
func (ex *exchange) startWhole() {
	if r := ex.dec.route; r != nil && r.timeout > 0 && ex.wholeAt == 0 {
		ex.wholeAt = ex.worker.now() + r.timeout
		ex.arm()
	}
}

// undeliverable answers a request for which there is no endpoint.
func (ex *exchange) undeliverable() {
	c, d := &ex.call, &ex.dec
	switch {
	case d.reply != nil:
		ex.reply()
	case ex.retries > 0:
		ex.fail(503, flagNoHealthy, "no ready endpoint is left: "+d.destination())
	case ex.table.version == 0:
		ex.fail(503, flagNoCluster, "the mesh has no configuration yet")
	case ex.target == nil && ex.listener.role == atEdge:
		ex.fail(404, flagNoRoute, fmt.Sprintf("no gateway on port %d has host %s", ex.listener.port, c.host))
	case ex.target == nil:
		ex.fail(503, flagNoCluster, "no such service: "+c.host)
	case d.backend == nil:
		ex.fail(404, flagNoRoute, fmt.Sprintf("no route for %s %s on port %d", c.host, c.path, c.port))
	case d.group == nil:
		ex.fail(503, flagNoCluster, "no such service, port or subset: "+d.destination())
	default:
		ex.fail(503, flagNoHealthy, "no ready endpoint: "+d.destination())
	}
}

// destination names where the call was to go.
func (out *decision) destination() string {
	return mesh.Destination{Service: out.backend.service, Subset: out.backend.subset}.String()
}

// isCallers reports whether the exchange was ended for what is no doing of the
// endpoint.
func (ex *exchange) isCallers() bool {
	return ex.cause == errCallerGone || ex.cause == errMalformed || ex.cause == errCut
}

// whyGone tells a caller that left from one that broke the rules of HTTP/2.
func (ex *exchange) whyGone() error {
	if s := ex.stream.Stream; s != nil && isFault(s.Err()) {
		ex.conn.faulty = true
		return errMalformed
	}
	return errCallerGone
}

// cancel ends the exchange from outside of its task. The first cause counts.
func (ex *exchange) cancel(cause error) {
	if ex.cause == nil {
		ex.cause = cause
		ex.task.Interrupt(cause)
	}
}

// arm starts the timer for whichever limit comes first. That something has
// moved since costs the one who moved it nothing but noting when.
func (ex *exchange) arm() {
	at := time.Duration(0)
	if ex.idle > 0 {
		at = ex.moved + ex.idle
	}
	for _, limit := range [...]time.Duration{ex.wholeAt, ex.answerAt} {
		if limit != 0 && (at == 0 || limit < at) {
			at = limit
		}
	}
	if at != 0 {
		ex.worker.loop.Start(&ex.timer, at-ex.worker.now(), ex.onTimer)
	}
}

// expire is called when a limit may be reached.
func (ex *exchange) expire() {
	now := ex.worker.now()
	switch {
	case ex.wholeAt != 0 && now >= ex.wholeAt:
		ex.cancel(errTimeout)
	case ex.answerAt != 0 && now >= ex.answerAt:
		ex.tryCause, ex.answerAt = errTryTimeout, 0
		ex.task.Interrupt(errTryTimeout)
	case ex.idle > 0 && now >= ex.moved+ex.idle:
		ex.cancel(errStreamIdle)
	default:
		ex.arm()
	}
}
