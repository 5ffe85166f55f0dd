// Package http1 speaks HTTP/1.x on one connection, as a server with
// [ServerConn] and as a client with [ClientConn]: one request and its answer at
// a time, bodies in pieces, in plain blocking style.
//
//	for {
//		if err := caller.ReadRequest(&request); err != nil {
//			break // recorded; what the caller must be told was written
//		}
//		callee.Send(&request, request.Body == wire.NoBody)
//		... caller.Next → callee.Write, callee.End
//		callee.Answer(&answer)
//		caller.Answer(&answer, answer.Body == wire.NoBody)
//		... callee.Next → caller.Write, caller.End
//		callee.Finish() // true: back to the pool
//		if !caller.Finish() {
//			break
//		}
//	}
//	caller.Close()
//
// A connection has two halves, one that reads and one that writes. Each may be
// used by a task of its own, so that an answer can overtake the request's body.
//
// What is read lies in one buffer of the loop, taken when something arrives and
// given back by Finish: heads, pieces and trailers are views of it, and
// nothing is read ahead of what the buffer holds. What is written is gathered
// in another one until Flush, End, or until it is large, so that a small message
// is one system call, and a large piece is written from where it lies.
//
// It must never route, retry, or set a time limit for anything but heads and
// what it throws away; it neither opens connections nor keeps them for later.
//
// Read next: input.go and output.go for the halves, internal/proxy/wire for the
// form of messages, internal/proxy/loop for the connections.
package http1
