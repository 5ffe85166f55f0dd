// Package proxy is the Go data plane: it accepts requests, routes each under
// the snapshot in force, sends it to one endpoint and records what happened.
//
// A request passes these files in this order:
//
//	listener.go   accept; outbound, to one service, gateway or inbound
//	caller.go     a caller's connection: one request after the other, or with
//	              caller_http2.go many at once
//	exchange.go   one request: what becomes of it
//	authority.go  which host and port are called
//	table.go      the snapshot compiled: host → route → split
//	decide.go     the decision by that table: an answer, or a group of endpoints
//	upstream.go   an endpoint: its requests under way, its drain
//	pool.go       the connections to it, of which a request leases one:
//	              callee_http1.go, callee_http2.go
//	transport.go  how it is spoken to
//	forward.go    send the request, pass the answer on
//	upload.go     the request's body meanwhile
//	record.go     one telemetry.Request, however it ended
//
// Where a gateway's callers or an endpoint's policy have TLS, tls.go has its
// configuration, and tlsconn.go puts it over a connection.
//
// A connection that carries bytes takes relay.go in place of exchange.go, then
// tcp.go: from ports that do not speak HTTP, from gateways by the name in sni.go,
// and by CONNECT (connect.go). What the proxy sends on its own account is an
// errand (errand.go): copies of requests (mirror.go) and health checks
// (checker.go).
//
// What a decision obeys has a file of its own: match.go, access.go, cors.go,
// limit.go, fault.go, redirect.go, reply.go, edit.go, hash.go, retry.go, and
// stream.go for connections without requests. A group (group.go) is the endpoints
// behind a port and subset. Whom of them a balancer (balance.go) may call is its
// roster (roster.go, place.go, warmup.go, hashtable.go), made anew when health
// changes (outlier.go, health.go). These files read no clock and do no I/O: time
// and results of tries are told to them.
//
// Everything that carries bytes runs on event loops (loop), in tasks written in
// blocking style. A worker has what belongs to one loop: exchanges, pools. What
// loops share is atomic: the table, the requests under way. So there is no lock
// on a request's path, and in steady state no allocation. The codecs (http1,
// http2) know connections and nothing of routing; the routing files know heads and
// nothing of connections.
//
// It must never send a request where the snapshot does not allow, wait for a
// recorder, take a lock of its own on a request's path, block a loop, or know
// of Kubernetes.
//
// Read next: internal/mesh for the nouns, proxy.go for Apply and Drained,
// internal/proxy/loop for what a task may do.
package proxy
