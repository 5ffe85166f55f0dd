package loop

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// epollBatch: with more events at once a turn becomes so long that what
	// arrives meanwhile waits; with fewer the call is shared by fewer.
	epollBatch = 128
	// pollPeerDone and pollBroken of poll(2): on Linux POLLHUP says that both
	// directions have ended.
	pollPeerDone = unix.POLLRDHUP
	pollBroken   = unix.POLLHUP
)

// epoller is epoll(7), edge-triggered: a socket is registered once for
// everything, and reported when something about it changes.
type epoller struct {
	fd     int
	bell   int // eventfd, written to by wake
	raw    [epollBatch]syscall.EpollEvent
	events [epollBatch]event
}

func newPoller(func(fd int) events) (poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		sysClose(fd)
		return nil, err
	}
	p := &epoller{fd: fd, bell: bell}
	if err := p.add(bell, 0); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *epoller) add(fd int, gen uint32) error {
	e := syscall.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET,
		Fd:     int32(fd),
		Pad:    int32(gen),
	}
	return sysEpollAdd(p.fd, fd, &e)
}

// remove does nothing: closing a socket ends its registration.
func (p *epoller) remove(int) {}

func (p *epoller) poll() []event { return p.convert(sysEpollPoll(p.fd, p.raw[:])) }

func (p *epoller) wait(timeout time.Duration) []event {
	return p.convert(sysEpollWait(p.fd, p.raw[:], milliseconds(timeout)))
}

func (p *epoller) convert(n int) []event {
	found := p.events[:0]
	for i := range p.raw[:n] {
		r := &p.raw[i]
		if int(r.Fd) == p.bell {
			continue // edge-triggered: the next write is a new event without a read
		}
		var e events
		if r.Events&unix.EPOLLIN != 0 {
			e |= canRead
		}
		if r.Events&unix.EPOLLOUT != 0 {
			e |= canWrite
		}
		if r.Events&unix.EPOLLRDHUP != 0 {
			e |= canRead | peerDone
		}
		if r.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			e |= canRead | canWrite | peerDone | broken
		}
		found = append(found, event{int(r.Fd), uint32(r.Pad), e})
	}
	return found
}

func (p *epoller) wake() { sysNotify(p.bell, 8) }

func (p *epoller) close() {
	sysClose(p.bell)
	sysClose(p.fd)
}
