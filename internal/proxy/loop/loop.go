package loop

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// BufferSize is the length of the buffers that a loop lends: 16 KiB hold a
// whole TLS record and every usual message head, and a large body moves with
// few enough system calls that copying dominates.
const BufferSize = 16 << 10

const (
	// keptBuffers and keptTasks bound what a loop keeps for reuse after a
	// burst: 4 MiB of buffers, and about as much of stacks.
	keptBuffers = 256
	keptTasks   = 1024
	// turnTasks bounds how many tasks run before the kernel is asked again,
	// so that tasks that wake each other do not keep sockets waiting.
	turnTasks = 512
)

// ErrStopped is what tasks and connections get when their loop ends before
// they do.
var ErrStopped = errors.New("event loop stopped")

// Options of a loop; the zero value is ready to use.
type Options struct {
	// KeepAlive is how long a connection is silent before the kernel asks
	// whether the peer is still there, and how long between such probes. It is
	// counted in whole seconds. 0 means 15 s, as in package net; negative: never.
	KeepAlive time.Duration
	// Log gets what no caller can be told: that accepting fails for lack of
	// file descriptors. nil: nothing is logged.
	Log *slog.Logger
	// Portable asks for the poller that every Unix has, poll(2), where there is a
	// better one. Its cost grows with the number of connections.
	Portable bool
}

// Loop is one event loop. See the package comment for what may be called from
// where.
type Loop struct {
	poller  poller
	sources []slot // by file descriptor
	gen     uint32 // of the source added last
	keep    time.Duration
	log     *slog.Logger

	begin   time.Time     // when the loop was made
	now     time.Time     // of this turn
	elapsed time.Duration // now - begin, by the monotonic clock
	wheel   wheel

	running    taskQueue // to be resumed
	current    *Task
	live       []*Task // that have a function to run or to finish
	free       []*Task // whose function has ended
	callbacks  []*Conn // with a callback due
	callbacks2 []*Conn // spare, to swap with callbacks
	buffers    [][]byte

	mu      sync.Mutex
	posted  []func()
	posted2 []func()    // spare, to swap with posted
	ended   bool        // Run has returned: nothing is posted any more
	waiting atomic.Bool // posted is not empty
	asleep  atomic.Bool

	stopping  atomic.Bool
	abortion  error // why the loop was aborted
	conns     atomic.Int64
	taskCount atomic.Int64
}

// slot is what the loop knows of one file descriptor.
type slot struct {
	source source
	gen    uint32 // tells events of a closed socket from those of its number's next owner
}

// source is something that has a file descriptor.
type source interface {
	// ready reports what became possible since the last call.
	ready(events)
	// interest is what the source does not know to be possible; only these
	// events can be news to it.
	interest() events
}

// New makes a loop. It holds resources of the kernel until Run has returned.
func New(o Options) (*Loop, error) {
	l := &Loop{begin: time.Now(), keep: o.KeepAlive, log: o.Log}
	if l.keep == 0 {
		l.keep = 15 * time.Second
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.now = l.begin
	open := newPoller
	if o.Portable {
		open = newPortablePoller
	}
	var err error
	if l.poller, err = open(l.interest); err != nil {
		return nil, fmt.Errorf("event loop: %w", err)
	}
	return l, nil
}

// Run turns the loop. It returns after Stop, when all connections are closed
// and all tasks have ended, or after Abort, when all tasks have ended. A loop
// runs once.
func (l *Loop) Run() {
	orderly := false
	defer func() {
		if orderly {
			return
		}
		if p := recover(); p != nil {
			panic(p)
		}
		panic("loop: a task ended its goroutine (runtime.Goexit)")
	}()
	l.turns()
	orderly = true
}

func (l *Loop) turns() {
	for {
		l.poll()
		l.wheel.advance(tickOf(l.elapsed))
		l.runPosted()
		l.runCallbacks()
		l.runTasks()
		if n := int64(len(l.live)); n != l.taskCount.Load() {
			l.taskCount.Store(n)
		}
		if l.done() {
			return
		}
	}
}

// poll asks the kernel what is ready and tells the sources. It sleeps when
// nothing is ready and nothing to be done.
func (l *Loop) poll() {
	found := l.poller.poll()
	if len(found) == 0 && l.running.empty() && len(l.callbacks) == 0 {
		found = l.sleep()
	}
	l.now = time.Now()
	l.elapsed = l.now.Sub(l.begin)
	for _, e := range found {
		if s := l.sources[e.fd]; s.source != nil && s.gen == e.gen {
			s.source.ready(e.events)
		}
	}
}

// sleep waits for an event, for the next timer, or for somebody who posts.
func (l *Loop) sleep() []event {
	timeout := time.Duration(-1)
	if at, ok := l.wheel.next(); ok {
		timeout = max(timeOf(at)-time.Since(l.begin), 0)
	}
	// Who posts after this line wakes the loop; who posted before is seen here.
	l.asleep.Store(true)
	var found []event
	if !l.waiting.Load() {
		found = l.poller.wait(timeout)
	}
	l.asleep.Store(false)
	return found
}

// interest is what the poller must ask for; only poll(2) needs to be told.
func (l *Loop) interest(fd int) events { return l.sources[fd].source.interest() }

func (l *Loop) add(fd int, s source) (err error) {
	for fd >= len(l.sources) {
		l.sources = append(l.sources, make([]slot, max(64, len(l.sources)))...)
	}
	l.gen++
	l.sources[fd] = slot{s, l.gen}
	if err := l.poller.add(fd, l.gen); err != nil {
		l.sources[fd] = slot{}
		return err
	}
	return nil
}

// remove must come before fd is closed.
func (l *Loop) remove(fd int) {
	l.sources[fd] = slot{}
	l.poller.remove(fd)
}

// Post lets f run on the loop soon, in the order of posting. It may be called
// from any goroutine. It returns false, and f never runs, when the loop has ended.
func (l *Loop) Post(f func()) bool {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return false
	}
	l.posted = append(l.posted, f)
	l.waiting.Store(true)
	l.mu.Unlock()
	l.wake()
	return true
}

func (l *Loop) wake() {
	if l.asleep.Load() && l.asleep.CompareAndSwap(true, false) {
		l.poller.wake()
	}
}

func (l *Loop) runPosted() {
	if !l.waiting.Load() {
		return
	}
	l.mu.Lock()
	due := l.posted
	l.posted, l.posted2 = l.posted2, nil
	l.waiting.Store(false)
	l.mu.Unlock()
	for i, f := range due {
		f()
		due[i] = nil
	}
	l.posted2 = due[:0]
}

// callSoon lets the connection's due callbacks run in this turn or the next.
func (l *Loop) callSoon(c *Conn) {
	if !c.queued {
		c.queued = true
		l.callbacks = append(l.callbacks, c)
	}
}

func (l *Loop) runCallbacks() {
	due := l.callbacks
	l.callbacks = l.callbacks2
	for i, c := range due {
		due[i] = nil
		c.queued = false
		c.callBack()
	}
	l.callbacks2 = due[:0]
}

func (l *Loop) runTasks() {
	for range turnTasks {
		t := l.running.pop()
		if t == nil {
			return
		}
		t.budget = taskBudget
		l.current = t
		t.resume()
		l.current = nil
		if t.run == nil {
			l.recycle(t)
		}
	}
}

// done reports whether the loop has nothing left to do, and ends it if so.
func (l *Loop) done() bool {
	if !l.stopping.Load() || len(l.live) > 0 || l.abortion == nil && l.conns.Load() > 0 {
		return false
	}
	l.mu.Lock()
	if len(l.posted) > 0 {
		l.mu.Unlock()
		return false
	}
	l.ended = true
	l.mu.Unlock()
	for _, s := range l.sources {
		switch s := s.source.(type) {
		case *Conn:
			s.shut(ErrStopped)
		case *acceptor:
			s.stop()
		}
	}
	for _, t := range l.free {
		t.end()
	}
	l.free, l.buffers = nil, nil
	l.poller.close()
	return true
}

// Stop lets Run return once all connections are closed and all tasks have
// ended. It does not wait, and it may be called from any goroutine, again, and
// before Run.
func (l *Loop) Stop() {
	l.stopping.Store(true)
	l.Post(func() {})
}

// Abort ends the loop now: everything that waits on it gets err (nil means
// ErrStopped), also every later wait, and connections that are still
// open when the tasks have ended are closed. It does not wait for that. It may
// be called from any goroutine.
func (l *Loop) Abort(err error) {
	if err == nil {
		err = ErrStopped
	}
	l.stopping.Store(true)
	l.Post(func() {
		if l.abortion != nil {
			return
		}
		l.abortion = err
		for _, t := range l.live {
			t.Interrupt(err)
		}
		for _, s := range l.sources {
			if c, ok := s.source.(*Conn); ok {
				c.Interrupt(err)
			}
		}
	})
}

// Now is the time at which this turn of the loop began: cheap, and as exact as
// a turn is long. It carries a monotonic reading.
func (l *Loop) Now() time.Time { return l.now }

// Current is the task that runs, or nil outside of tasks.
func (l *Loop) Current() *Task { return l.current }

// Stopping reports whether Stop or Abort was called.
func (l *Loop) Stopping() bool { return l.stopping.Load() }

// Buffer lends BufferSize bytes with undefined content. They are taken for as
// long as there is something in them, and then given back by Release.
func (l *Loop) Buffer() []byte {
	if n := len(l.buffers) - 1; n >= 0 {
		b := l.buffers[n]
		l.buffers[n] = nil
		l.buffers = l.buffers[:n]
		return b
	}
	return make([]byte, BufferSize)
}

// Release takes a buffer back. b must begin where the lent buffer began;
// nobody may use it afterwards. Slices that do not have the capacity of a
// lent buffer are ignored.
func (l *Loop) Release(b []byte) {
	if cap(b) == BufferSize && len(l.buffers) < keptBuffers {
		l.buffers = append(l.buffers, b[:BufferSize])
	}
}

// Stats are counts of one moment.
type Stats struct {
	Conns int // open, or handed to the loop to be opened
	Tasks int // that have not ended
}

// Stats may be called from any goroutine.
func (l *Loop) Stats() Stats {
	return Stats{Conns: int(l.conns.Load()), Tasks: int(l.taskCount.Load())}
}
