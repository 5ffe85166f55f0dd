//go:build unix

package loop

import (
	"time"

	"golang.org/x/sys/unix"
)

// portablePoller is poll(2). That call reports states, not changes: so each time
// it is asked only for what the source does not know yet.
type portablePoller struct {
	interest func(fd int) events
	watched  []unix.PollFd // the first is the reading end of the pipe
	gens     []uint32      // of the same index
	index    map[int]int   // by file descriptor
	found    []event
	pipe     [2]int // written to by wake
}

func newPortablePoller(interest func(fd int) events) (poller, error) {
	p := &portablePoller{interest: interest, index: map[int]int{}}
	if err := sysPipe(&p.pipe); err != nil {
		return nil, err
	}
	p.watched = []unix.PollFd{{Fd: int32(p.pipe[0]), Events: unix.POLLIN}}
	p.gens = []uint32{0}
	return p, nil
}

func (p *portablePoller) add(fd int, gen uint32) error {
	if i, ok := p.index[fd]; ok { // of a listener that was closed from elsewhere
		p.gens[i] = gen
		return nil
	}
	p.index[fd] = len(p.watched)
	p.watched = append(p.watched, unix.PollFd{Fd: int32(fd)})
	p.gens = append(p.gens, gen)
	return nil
}

func (p *portablePoller) remove(fd int) {
	i, ok := p.index[fd]
	if !ok {
		return
	}
	last := len(p.watched) - 1
	p.watched[i], p.gens[i] = p.watched[last], p.gens[last]
	p.index[socketOf(p.watched[i])] = i
	p.watched, p.gens = p.watched[:last], p.gens[:last]
	delete(p.index, fd)
}

// socketOf is the file descriptor of an entry, whether or not it is asked for:
// poll(2) skips negative ones.
func socketOf(w unix.PollFd) int {
	if w.Fd < 0 {
		return int(^w.Fd)
	}
	return int(w.Fd)
}

func (p *portablePoller) poll() []event { return p.wait(0) }

func (p *portablePoller) wait(timeout time.Duration) []event {
	for i := range p.watched[1:] {
		w := &p.watched[i+1]
		fd := socketOf(*w)
		w.Events = pollEvents(p.interest(fd))
		w.Fd = int32(fd)
		if w.Events == 0 {
			w.Fd = ^w.Fd // or POLLHUP would be reported again and again
		}
	}
	p.found = p.found[:0]
	// An error is EINTR, or EINVAL for more sockets than the process may have.
	if n, err := unix.Poll(p.watched, milliseconds(timeout)); n == 0 || err != nil {
		return nil
	}
	if p.watched[0].Revents != 0 {
		sysDrain(p.pipe[0])
	}
	for i, w := range p.watched[1:] {
		if w.Fd >= 0 && w.Revents != 0 {
			p.found = append(p.found, event{socketOf(w), p.gens[i+1], eventsOf(w.Revents)})
		}
	}
	return p.found
}

func pollEvents(e events) (asked int16) {
	if e&canRead != 0 {
		asked |= unix.POLLIN
	}
	if e&canWrite != 0 {
		asked |= unix.POLLOUT
	}
	if e&peerDone != 0 {
		asked |= pollPeerDone
	}
	return asked
}

func eventsOf(got int16) (e events) {
	if got&unix.POLLIN != 0 {
		e |= canRead
	}
	if got&unix.POLLOUT != 0 {
		e |= canWrite
	}
	if got&pollPeerDone != 0 {
		e |= canRead | peerDone
	}
	if got&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
		e |= canRead | canWrite | peerDone
	}
	if got&(pollBroken|unix.POLLERR|unix.POLLNVAL) != 0 {
		e |= broken
	}
	return e
}

func (p *portablePoller) wake() { sysNotify(p.pipe[1], 1) }

func (p *portablePoller) close() {
	sysClose(p.pipe[0])
	sysClose(p.pipe[1])
}
