package proxy

import (
	"cmp"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/telemetry"
)

// relay is one connection that carries bytes on its way from its caller to an
// endpoint, as the exchange is for requests. It belongs to the task that serves
// it.
type relay struct {
	worker   *worker
	listener *Listener
	task     *loop.Task
	record   *telemetry.Request
	host     string // that is called; "" at a gateway
	seen     connection
	hello    hello

	table  *table
	target *target
	dec    decision
	tls    *mesh.ServerTLS // what ends the caller's TLS at a gateway
	member *member         // that was picked; nil for a host outside of the mesh
	tried  []*upstream

	refusal  error          // why nothing was made of the caller's connection
	failure  error          // to connect
	upstream netip.AddrPort // our end of the connection to the endpoint
}

// maxConnects is how many endpoints are tried: as often as a request by the
// mesh's default retry. No byte was sent, so nothing happens twice.
const maxConnects = 3

// arrival is what was found out about a caller's connection before it was
// served.
type arrival struct {
	requests bool   // it carries such; else it is over
	early    []byte // was read already
	// relay is set where a gateway ends the caller's TLS by relay.tls. What
	// comes out of that are the bytes of relay.serve if it carries any, else
	// requests.
	relay *relay
}

// start lets a new connection wait for its first bytes; where it may be one on
// which the callee speaks first, it is served at once. On the port for one
// service nobody knows before the first snapshot what is spoken: there it waits
// for that, no longer than others wait for a head.
func (c *callerConn) start() {
	p, t := c.worker.proxy, c.worker.proxy.table.Load()
	c.unknown = c.listener.role == toOne && t.snapshot == nil
	switch {
	case c.unknown:
		c.worker.loop.Start(&c.idle, p.limits.HeaderTime, c.expire)
	case c.listener.mayListenFirst(t):
		c.worker.loop.Go(c.serves)
	default:
		c.rest()
	}
}

// startUnknown starts the connections that waited for the first snapshot. Under
// p.mu.
func (p *Proxy) startUnknown() {
	for l := range p.listeners {
		if l.role == toOne {
			l.each(func(c *callerConn) {
				if c.unknown {
					c.idle.Stop()
					c.start()
				}
			})
		}
	}
}

// mayListenFirst reports whether callers may wait for the callee to speak.
func (l *Listener) mayListenFirst(t *table) bool {
	if l.role == atEdge {
		g := t.gateways[l.port]
		return g != nil && len(g.plain) > 0
	}
	return l.carriesBytes(t)
}

// carriesBytes reports whether connections to the listener's one service are
// not looked into, by the protocol of its port.
func (l *Listener) carriesBytes(t *table) bool {
	if t.snapshot == nil || l.service == "" {
		return false
	}
	svc := t.snapshot.Services[l.service]
	if svc == nil {
		return false
	}
	port := l.port
	if l.role == inbound {
		at := l.addr.(*net.TCPAddr).AddrPort() // of the TCP listener it was made with
		at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		if i := slices.IndexFunc(svc.Endpoints, func(e mesh.Endpoint) bool { return e.Address == at }); i >= 0 {
			port = svc.Endpoints[i].Port
		}
	}
	p, _ := svc.Port(port)
	return p.Protocol == mesh.TCP || p.Protocol == mesh.HTTPS
}

// arrive finds out what a caller's connection carries. One of bytes is served
// to its end.
func (c *callerConn) arrive(t *loop.Task) arrival {
	l, table := c.listener, c.worker.proxy.table.Load()
	var g *gateway
	if l.role == atEdge {
		if g = table.gateways[l.port]; g == nil || len(g.tls)+len(g.plain)+len(g.passed) == 0 {
			return arrival{requests: true}
		}
	} else if !l.carriesBytes(table) {
		return arrival{requests: true}
	}
	y := newRelay(c, string(l.service), l.port)
	var early []byte
	if g != nil && len(g.tls)+len(g.passed) > 0 || l.role == toOne && y.asksForNames(table) {
		var ok bool
		if early, ok = y.look(c.conn, nil); !ok {
			return arrival{}
		}
	}
	if y.decide(table); g != nil && (y.tls != nil || !y.hello.tls && !y.carries()) {
		return arrival{requests: true, early: early, relay: y}
	}
	c.serveBytes(t, y, end{c.conn, early})
	return arrival{}
}

func newRelay(c *callerConn, host string, port uint16) *relay {
	y := &relay{worker: c.worker, listener: c.listener, host: host}
	y.seen = connection{port: port, caller: c.listener.caller.Load(), remote: c.conn.Remote()}
	return y
}

// asksForNames reports whether it matters for which name a caller asks by TLS.
func (y *relay) asksForNames(t *table) bool {
	found := t.inMesh(y.listener.namespace(), y.host)
	return found != nil && slices.ContainsFunc(found.streams, stream.asksForNames)
}

// look reads how the connection begins. ok is false when nothing is to be made
// of it: it broke, ended without a byte, or takes too long.
func (y *relay) look(c helloConn, read []byte) (early []byte, ok bool) {
	early, h, err := readHello(y.worker.loop, c, read, y.worker.proxy.limits.HeaderTime)
	y.hello, y.seen.sni = h, h.serverName
	return early, err == nil || isSilent(early, err) || err == io.EOF && len(early) > 0
}

// carries reports whether a gateway's decision is to carry bytes, if only to
// refuse that.
func (y *relay) carries() bool { return y.dec.bytes }

// serveBytes carries the bytes of a caller until the end, and records that.
func (c *callerConn) serveBytes(t *loop.Task, y *relay, caller end) {
	c.relay = y
	y.begin(t)
	c.conn.OnHangup(func() {
		if c.conn.Broken() { // one who has only ended still listens
			t.Interrupt(errCallerGone)
		}
	})
	if c.cutOff {
		t.Interrupt(errCut)
	}
	w, ok := y.reach()
	c.conn.OnHangup(nil)
	if ok {
		y.carry(caller, w)
	}
	c.relay = nil
	y.finish(c)
}

// begin begins the record of a connection.
func (y *relay) begin(t *loop.Task) {
	y.task, y.record = t, &telemetry.Request{}
	l, r := y.listener, y.record
	r.Start = y.worker.loop.Now()
	r.Protocol, r.Reporter = telemetry.TCP, l.reporter
	if c := l.caller.Load(); c != nil {
		r.Source = c.Workload
	}
	y.note()
}

// finish completes the record and hands it over.
func (y *relay) finish(c *callerConn) {
	r, p := y.record, y.worker.proxy
	r.Duration = y.worker.loop.Now().Sub(r.Start)
	if p.recorder != nil {
		p.recorder.Record(r)
	}
	if p.access != nil {
		p.access.add(y.entry(c))
	}
}

// namespace is that in which short hosts are looked for.
func (l *Listener) namespace() string {
	if l.role == outbound {
		return l.caller.Load().Workload.Namespace
	}
	return ""
}

// decide finds out under a table where the connection goes.
func (y *relay) decide(t *table) {
	l := y.listener
	y.table, y.target, y.tls = t, nil, nil
	switch l.role {
	case atEdge:
		y.dec, y.tls = t.streamAtGateway(&y.seen, &l.draws)
	case inbound:
		y.dec = decision{service: l.service}
	case outbound, toOne:
		y.dec = decision{}
		found := t.inMesh(l.namespace(), y.host)
		// Hosts that have routes alone are of the mesh for requests alone.
		if found != nil && (found.service != nil || len(found.streams) > 0) {
			y.target = found
			y.dec = found.stream(&y.seen, &l.draws)
		}
	}
	if y.record != nil {
		y.note()
	}
}

// note writes the decision into the record.
func (y *relay) note() {
	r, d := y.record, &y.dec
	r.Snapshot, r.Service, r.Route, r.Split, r.Backend, r.Flags = y.table.version, d.service, d.origin, d.several, "", d.flag
	switch {
	case d.backend != nil:
		r.Backend = d.backend.service
	case y.listener.role == inbound:
		r.Backend = d.service
	}
}

// pickUnder decides under a table, unless that was done already, and returns an
// endpoint; nil when there is none.
func (y *relay) pickUnder(t *table) *upstream {
	if t != y.table {
		y.decide(t)
	}
	y.member = nil
	switch {
	case y.dec.group != nil:
		if y.member = y.dec.pick(y.worker.loop.Now(), &y.listener.draws, y.tried); y.member == nil {
			return nil
		}
		return y.member.upstream
	case y.listener.role == inbound:
		return y.listener.inbound
	case y.target == nil && y.listener.role == outbound && t.version > 0:
		return y.worker.outsideHost(y.host, y.seen.port)
	}
	return nil
}

// way is a connection to an endpoint, with what is held for as long as it is
// used.
type way struct {
	upstream *upstream
	conn     socket
	admitted permit
}

// close ends the use of the connection.
func (y *relay) close(w way) {
	_ = w.conn.Close() // a close that fails has closed nevertheless
	w.admitted.release()
	y.worker.proxy.release(w.upstream)
}

// reach connects to an endpoint, or another one where that fails. If none is
// reached, the record's flags tell why.
func (y *relay) reach() (w way, ok bool) {
	p := y.worker.proxy
	for {
		u := p.acquire(y.pickUnder)
		if u == nil {
			y.unreachable()
			return way{}, false
		}
		w, err := y.connect(u)
		if err == nil {
			return w, true
		}
		p.release(u)
		if !y.goesOn(u, err) {
			return way{}, false
		}
	}
}

// connect makes one try.
func (y *relay) connect(u *upstream) (way, error) {
	r, g := y.record, y.dec.group
	r.Destination, r.Upstream = u.workload, u.dial
	w, timeout := way{upstream: u}, time.Duration(mesh.DefaultConnectTimeout)
	var by transport
	if g != nil {
		var ok bool
		if w.admitted, ok = g.admitConnection(); !ok {
			return way{}, errOverflow
		}
		timeout, by.tls = cmp.Or(g.policy.Pool.ConnectTimeout, timeout), g.transport.tls
	}
	r.Attempts++
	var err error
	if w.conn, err = y.worker.open(u, by, timeout); err != nil {
		w.admitted.release()
		return way{}, err
	}
	y.upstream = w.conn.Local()
	y.tell(outcome{kind: answered, status: 200, grpc: noGRPC})
	return w, nil
}

// tell lets the endpoint's health hear of a try.
func (y *relay) tell(o outcome) {
	if y.member != nil {
		y.member.done(o, y.worker.loop.Now())
	}
}

// errOverflow says that the destination's limit of connections is reached.
var errOverflow = errors.New("too many connections")

// goesOn reports whether another endpoint is tried after a failure. If not, it
// is noted.
func (y *relay) goesOn(u *upstream, err error) bool {
	r := y.record
	y.worker.proxy.log.Debug("connection failed", "to", u.dial, "err", err)
	y.failure = err
	switch {
	case err == errOverflow:
		addFlag(r, flagOverflow)
		return false
	case errors.Is(err, errCallerGone), errors.Is(err, errCut), errors.Is(err, loop.ErrStopped):
		addFlag(r, flagCallerGone)
		return false
	}
	y.tell(outcome{kind: connectFailed, grpc: noGRPC})
	if y.member == nil {
		addFlag(r, flagConnect)
		return false
	}
	if y.tried = append(y.tried, u); len(y.tried) == maxConnects {
		addFlag(r, flagConnect)
		addFlag(r, flagRetryLimit)
		return false
	}
	return true
}

// unreachable notes that there is nobody to connect to.
func (y *relay) unreachable() {
	switch {
	case y.record.Flags != "":
	case y.dec.group != nil:
		addFlag(y.record, flagNoHealthy)
	default:
		addFlag(y.record, flagNoCluster)
	}
}

// carry carries bytes between the caller and the endpoint until the end.
func (y *relay) carry(caller end, w way) {
	r := y.record
	t := tunnel{worker: y.worker, idle: y.worker.proxy.limits.StreamIdle}
	t.run(y.task, caller, end{conn: w.conn})
	y.close(w)
	r.Read, r.Sent = t.sent[0], t.sent[1]
	if t.flag != "" {
		addFlag(r, t.flag)
	}
}

// entry is what the access log tells of the connection.
func (y *relay) entry(c *callerConn) *logEntry {
	e := &logEntry{Request: y.record, upstream: y.upstream, local: c.conn.Local(), remote: c.conn.Remote(), serverName: y.hello.serverName}
	if y.failure != nil {
		e.failure = y.failure.Error()
	}
	if y.refusal != nil {
		e.termination = strings.ReplaceAll(y.refusal.Error(), " ", "_")
	}
	if g := y.dec.group; g != nil {
		e.cluster = clusterName{g.port, g.subset, g.service}
	}
	return e
}

// asksForNames reports whether the stream takes connections by the name that
// their callers ask for.
func (s stream) asksForNames() bool {
	return slices.ContainsFunc(s.matches, func(m mesh.StreamMatch) bool { return len(m.SNI) > 0 })
}
