package proxy

import (
	"fmt"

	"serin.dev/serin/internal/telemetry"
)

// connect opens a connection of bytes to what a CONNECT asks for (RFC 9110,
// section 9.3.6): a service's port, or a host outside of the mesh. Whatever the
// port speaks, its routes for requests and the rules that look at requests do
// not see what is inside; those for connections do.
//
// The caller is told 200 once an endpoint is reached. Only where it matters for
// which name the caller asks by TLS, which it does after the 200, a failure can
// do no more than end the connection.
func (ex *exchange) connect(host string, port uint16) {
	if ex.listener.role != outbound {
		ex.refuse(405, "", "CONNECT is served by a workload's proxy alone")
		return
	}
	y := newRelay(ex.conn, host, port)
	y.task, y.record = ex.task, &ex.record
	table := ex.worker.proxy.table.Load()
	y.decide(table)
	if y.target != nil && y.asksForNames(table) {
		caller, ok := ex.accept()
		if !ok {
			return
		}
		if caller.early, ok = y.look(caller.conn, caller.early); !ok {
			addFlag(&ex.record, flagCallerGone)
			return
		}
		y.decide(table)
		if w, ok := y.reach(); ok {
			y.carry(caller, w)
		}
		return
	}
	w, ok := y.reach()
	switch {
	case ok:
	case ex.cause != nil:
		ex.ended()
		return
	default:
		ex.unconnected(y)
		return
	}
	caller, ok := ex.accept()
	if !ok {
		y.close(w)
		return
	}
	y.carry(caller, w)
}

// accept answers a CONNECT with 200, after which what it came on carries bytes.
// From then on the record is that of a connection.
func (ex *exchange) accept() (caller end, ok bool) {
	ex.answered = true
	ex.local.Reset()
	ex.local.Major, ex.local.Minor, ex.local.Status = 1, 1, 200
	err := ex.caller.Answer(&ex.local, false)
	if err == nil {
		caller, err = ex.hijack()
	}
	if err != nil {
		ex.broken(errCallerGone)
		return end{}, false
	}
	r := &ex.record
	r.Protocol, r.ID, r.Path = telemetry.TCP, "", ""
	return caller, true
}

// unconnected answers a CONNECT for which no endpoint was reached; the record
// has the flags.
func (ex *exchange) unconnected(y *relay) {
	code, reason := 503, "could not connect to "+y.host
	switch d := &y.dec; {
	case d.flag == flagDenied:
		code, reason = 403, "access denied"
	case d.flag == flagNoRoute:
		code, reason = 404, fmt.Sprintf("no route for connections to %s on port %d", y.host, y.seen.port)
	case y.table.version == 0:
		reason = "the mesh has no configuration yet"
	case d.flag == flagNoCluster:
		reason = "no such service, port or subset: " + d.destination()
	case y.failure == errOverflow:
		reason = "too many connections to " + d.destination()
	case y.failure == nil:
		reason = "no ready endpoint: " + d.destination()
	}
	ex.refuse(code, "", ex.record.Flags+": "+reason)
}
