package http1

import (
	"errors"

	"serin.dev/serin/internal/proxy/wire"
)

// maxCopy is the largest piece that is gathered with others instead of being
// written from where it lies: copying so much costs less than the second part
// of a writev.
const maxCopy = 4 << 10

// slack is kept free behind a gathered piece for the lines of a chunked body
// around the next one: 2 + 18 bytes, or 2 + 5.
const slack = 32

// ErrBodyLength is returned when a body is not as long as its head has said.
// What was written then cannot be completed: close the connection.
var ErrBodyLength = errors.New("body is not as long as its head says")

// errBusy guards against two tasks that write. It happens when a peer takes
// nothing, not even the "100 Continue" it asked for, while its answer comes.
var errBusy = errors.New("peer does not read")

// output is the half of a connection that writes: one message after the other.
type output struct {
	conn Conn
	loop Loop

	out  []byte // gathered
	busy bool   // a task writes
	err  error  // of the connection; nothing more can be written

	body wire.BodyKind
	left int64 // of a Sized body
	done bool  // the message was written to its end
}

// gather returns the buffer to append to.
func (o *output) gather() []byte {
	if o.out == nil {
		o.out = o.loop.Buffer()[:0]
	}
	return o.out
}

// headEnd begins the body that the gathered head announced.
func (o *output) headEnd(body wire.BodyKind, length int64) {
	o.body, o.left = body, length
	o.done = body == wire.NoBody || body == wire.Sized && length == 0
}

// write takes a piece of the body. It is written, or copied.
func (o *output) write(p []byte) error {
	if len(p) == 0 {
		return o.err
	}
	if o.done && o.body != wire.Sized {
		return ErrBodyLength
	}
	switch o.body {
	case wire.Sized:
		if int64(len(p)) > o.left {
			return ErrBodyLength
		}
		o.left -= int64(len(p))
		o.done = o.left == 0
		return o.put(p)
	case wire.Chunked:
		o.out = wire.AppendChunkHeader(o.gather(), len(p))
		if err := o.put(p); err != nil {
			return err
		}
		o.out = append(o.gather(), "\r\n"...)
		return nil
	case wire.NoBody, wire.UntilClose:
	}
	return o.put(p)
}

// put gathers a small piece, and writes a large one behind what was gathered.
func (o *output) put(p []byte) error {
	if out := o.gather(); len(p) <= maxCopy && len(out)+len(p)+slack <= cap(out) {
		o.out = append(out, p...)
		return o.err
	}
	return o.send(p)
}

// end completes the message and writes it out.
func (o *output) end(trailers []wire.Field) error {
	switch {
	case o.body == wire.Sized && !o.done:
		return ErrBodyLength
	case o.body == wire.Chunked && !o.done:
		o.out = wire.AppendLastChunk(o.gather(), trailers)
	}
	o.done = true
	return o.flush()
}

// flush writes what was gathered.
func (o *output) flush() error {
	if len(o.out) == 0 {
		return o.err
	}
	return o.send(nil)
}

// send writes what was gathered and p, and gives the buffer back.
func (o *output) send(p []byte) error {
	if o.err != nil {
		return o.err
	}
	if o.busy {
		o.err = errBusy
		return o.err
	}
	o.busy = true
	var err error
	switch {
	case len(p) == 0:
		_, err = o.conn.Write(o.out)
	case len(o.out) == 0:
		_, err = o.conn.Write(p)
	default:
		err = o.conn.WriteTwo(o.out, p)
	}
	o.busy = false
	if err != nil && o.err == nil {
		o.err = err
	}
	o.drop()
	return o.err
}

// drop forgets what was gathered.
func (o *output) drop() {
	if o.out != nil && !o.busy {
		o.loop.Release(o.out)
		o.out = nil
	}
}
