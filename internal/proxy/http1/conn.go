package http1

import (
	"time"
)

// Conn is a connection as this package uses it, in a task; *loop.Conn is one.
type Conn interface {
	// Read waits for at least one byte; io.EOF when the peer has ended.
	Read(p []byte) (int, error)
	// Write writes all of p or fails.
	Write(p []byte) (int, error)
	// WriteTwo writes all of a, then all of b, or fails.
	WriteTwo(a, b []byte) error
	// SetReadDeadline lets Read fail with os.ErrDeadlineExceeded; zero is none.
	SetReadDeadline(t time.Time) error
	// Close closes at once.
	Close() error
	// CloseGently ends the direction of writing, throws away what still comes,
	// and closes after limit at the latest. It does not wait.
	CloseGently(limit time.Duration)
}

// Loop lends buffers and tells the time; *loop.Loop does.
type Loop interface {
	// Buffer lends some KiB of undefined content.
	Buffer() []byte
	// Release takes a buffer back; ones that it did not lend it ignores.
	Release(b []byte)
	// Now is the time of the loop's turn.
	Now() time.Time
}
