package loop

import "time"

// events are what a socket can do or has had happen.
type events uint8

const (
	canRead  events = 1 << iota // bytes, the end, an error or a connection to accept
	canWrite                    // room, or an error
	peerDone                    // the peer sends nothing more
	broken                      // reset, or both directions have ended
)

// event is news of one file descriptor.
type event struct {
	fd     int
	gen    uint32 // as given to add
	events events
}

// poller is the kernel's side of a loop. It reports each change once, and only
// changes: a socket that stays readable is not reported again.
//
// All but wake is called by the loop alone. The returned slices are valid until
// the next call.
type poller interface {
	// add begins to watch fd. gen comes back with its events.
	add(fd int, gen uint32) error
	// remove ends it. Events that were already returned may still name fd.
	remove(fd int)
	// poll returns what is ready now.
	poll() []event
	// wait waits for events, for wake, or for the timeout, rounded up to
	// milliseconds; negative: without end. It may return nothing earlier.
	wait(timeout time.Duration) []event
	// wake ends a wait, also one that begins later.
	wake()
	close()
}

// milliseconds rounds up, so that no timer is waited for in vain.
func milliseconds(d time.Duration) int {
	if d < 0 {
		return -1
	}
	return int(min((d+time.Millisecond-1)/time.Millisecond, 1<<30))
}
