package http1

import (
	"io"

	"serin.dev/serin/internal/proxy/wire"
)

// minRoom is the least space for reading a body that is left behind a large
// head: below it, one system call would bring too little. It is more than the
// longest line of a chunk's size.
const minRoom = 4 << 10

// input is the half of a connection that reads: one message after the other,
// its head and the pieces of its body.
//
//	buf:  | free | head | handed out | unread | room |
//	           start   keep          r        w
type input struct {
	conn Conn
	loop Loop

	buf         []byte
	start, keep int
	r, w        int
	old         [][]byte // earlier buffers that this message has views of

	body   wire.BodyKind
	left   int64 // of a Sized body
	chunks wire.Chunks
	done   bool // the message was read to its end
}

// unread are the bytes read from the connection that nobody has seen.
func (in *input) unread() []byte { return in.buf[in.r:in.w] }

// feed puts bytes in front of what is read from the connection.
func (in *input) feed(p []byte) {
	if len(p) == 0 {
		return
	}
	in.buf = in.loop.Buffer()
	if len(p) > len(in.buf) {
		in.loop.Release(in.buf)
		in.buf = make([]byte, 2*len(p))
	}
	in.w = copy(in.buf, p)
}

// begin makes what is unread the beginning of a message.
func (in *input) begin() {
	in.start, in.keep = in.r, in.r
	in.body, in.done = wire.NoBody, false
}

// headEnd takes n bytes as the head, which stay where they are until finish.
func (in *input) headEnd(n int, h *wire.Head) {
	in.r += n
	in.keep = in.r
	in.body, in.left = h.Body, h.Length
	in.done = h.Body == wire.NoBody
	if h.Body == wire.Chunked {
		in.chunks.Reset()
	}
}

// fill waits for more bytes behind those unread. What next has handed out is
// overwritten.
func (in *input) fill() error {
	in.makeRoom()
	n, err := in.conn.Read(in.buf[in.w:])
	in.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

func (in *input) makeRoom() {
	if in.buf == nil {
		in.buf = in.loop.Buffer()
		return
	}
	unread := in.unread()
	if len(unread) == 0 {
		in.r, in.w = in.keep, in.keep
	}
	inHead := in.keep == in.start
	switch {
	case len(in.buf)-in.w >= minRoom:
	case inHead && in.start > 0:
		in.w = copy(in.buf, unread)
		in.start, in.keep, in.r = 0, 0, 0
	case inHead && in.w < len(in.buf):
	case !inHead && in.r > in.keep && len(in.buf)-in.keep-len(unread) >= minRoom:
		in.w = in.keep + copy(in.buf[in.keep:], unread)
		in.r = in.keep
	default:
		in.move(unread, inHead)
	}
}

// move goes on in another buffer: a larger one when what is unread needs it.
func (in *input) move(unread []byte, inHead bool) {
	buf := in.loop.Buffer()
	if len(buf) < len(unread)+minRoom {
		in.loop.Release(buf)
		buf = make([]byte, 2*len(unread)+minRoom)
	}
	copy(buf, unread)
	if inHead {
		in.loop.Release(in.buf)
	} else {
		in.old = append(in.old, in.buf)
	}
	in.buf = buf
	in.start, in.keep, in.r, in.w = 0, 0, 0, len(unread)
	if !inHead {
		in.start = -1 // the head is elsewhere
	}
}

// next returns the next piece of the body, at least one byte, valid until it is
// called again, or io.EOF at the body's end. It waits only when it has nothing
// to return.
func (in *input) next() ([]byte, error) {
	for !in.done {
		piece, err := in.take()
		if err != nil || len(piece) > 0 {
			return piece, err
		}
		if in.done {
			break
		}
		switch err := in.fill(); {
		case err == io.EOF && in.body == wire.UntilClose:
			in.done = true
		case err == io.EOF:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
	}
	return nil, io.EOF
}

// take returns a piece out of what is unread, if there is one.
func (in *input) take() (piece []byte, err error) {
	unread := in.unread()
	switch in.body {
	case wire.Sized:
		piece = unread[:min(int64(len(unread)), in.left)]
		in.left -= int64(len(piece))
		in.done = in.left == 0
		in.r += len(piece)
	case wire.UntilClose:
		piece = unread
		in.r = in.w
	case wire.Chunked:
		for len(piece) == 0 && err == nil && !in.done {
			var n int
			piece, n, in.done, err = in.chunks.Next(in.unread())
			in.r += n
			if n == 0 {
				break
			}
		}
	case wire.NoBody:
	}
	return piece, err
}

// waits reports whether next would wait for the connection, as far as is known
// without asking it.
func (in *input) waits() bool { return !in.done && in.r == in.w }

func (in *input) trailers() []wire.Field {
	if in.body != wire.Chunked || !in.done {
		return nil
	}
	return in.chunks.Trailers()
}

// finish ends the message: its views are void. Buffers without unread bytes go
// back to the loop.
func (in *input) finish() {
	for i, b := range in.old {
		in.loop.Release(b)
		in.old[i] = nil
	}
	in.old = in.old[:0]
	in.start, in.keep = in.r, in.r
	in.body = wire.NoBody
	if in.r == in.w && in.buf != nil {
		in.loop.Release(in.buf)
		in.buf = nil
		in.start, in.keep, in.r, in.w = 0, 0, 0, 0
	}
}
