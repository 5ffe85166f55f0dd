// Package wire is the form of HTTP messages: what a head holds, and how heads
// and chunked bodies are read from and written to the bytes of HTTP/1.x
// (RFC 9110, RFC 9112).
//
// A proxy stands between two parsers that it does not know. Bytes that two of
// them could read in two ways let one request hide in another, so what is
// not plainly well-formed is refused, also where the RFCs allow a recipient to
// be lenient: a line ends in CR LF alone, framing is given once and one way,
// lines are not folded. Nothing that is written here carries a line break that
// a value brought along.
//
// The package does no I/O and, once a Head and its buffers have grown to the
// traffic, allocates nothing: names and values are views of the bytes parsed
// (view.go). Whoever keeps one longer than the buffer clones it.
//
// It must never guess, never repair a message, and never know of connections,
// time or routing.
//
// Read next: head.go for the nouns, fields.go for what is refused,
// internal/proxy/http1 for the connections that speak it.
package wire
