// Package http2 speaks HTTP/2 (RFC 9113) on the connections of an event loop: the
// server's side for callers and the client's side for endpoints.
//
//	doc.go       this
//	frame.go     frames as bytes
//	fields.go    heads and trailers through HPACK (RFC 7541), and what makes them malformed
//	encode.go    heads and trailers as bytes
//	conn.go      what both sides share: reading frames, gathering output, windows
//	guard.go     what a peer may make us do
//	stream.go    one request and its answer: what the proxy works with
//	server.go    streams that callers open
//	client.go    streams that we open
//
// Each connection is read by one task; what is to be sent is gathered in one
// buffer, which another task writes when everybody who is ready had a turn. So
// the frames of many streams leave in one system call. Streams are used by
// tasks of the same loop, in plain blocking style; nothing here takes a lock.
//
// Compression tables: golang.org/x/net/http2/hpack. What is sent is not put into
// the dynamic table, because the values are views of other connections' buffers
// and a table would have to copy each of them.
//
// The package must never know of routing, retries or records, wait for one
// stream on behalf of another, or hold more for a stream than its window.
//
// Not spoken: server push (we disable it and never do it), priorities (they are
// read and ignored, RFC 9113 section 5.3), the upgrade from HTTP/1.1
// (RFC 9113 removed it), extended CONNECT (RFC 8441) to endpoints. Callers may
// use that: Head.Upgrade of such a CONNECT is its :protocol.
//
// Read next: stream.go, then internal/proxy for who uses it.
package http2
