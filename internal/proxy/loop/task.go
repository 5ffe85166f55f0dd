package loop

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime/debug"
	"time"
)

// taskBudget is how many reads and writes a task may do without having to
// wait, before others get their turn: a task whose both ends are always ready
// would otherwise never give the loop away. 64 of them take some 100 µs.
const taskBudget = 64

// ErrInterrupted is what Interrupt(nil) hands over.
var ErrInterrupted = errors.New("interrupted")

// Task is a function that runs on a loop and may wait. A *Task is valid until
// its function returns; then it serves the next one, so whoever may wake or
// interrupt it must forget it before.
type Task struct {
	loop   *Loop
	resume func() (struct{}, bool)
	end    func() // of the coroutine
	yield  func(struct{}) bool
	run    func(*Task)
	next   *Task // in the queue
	index  int   // in Loop.live
	timer  Timer
	err    error // an interrupt that nothing has returned yet
	budget int

	queued  bool // will be resumed
	waiting bool // for whatever
	parked  bool // for Wake
	woken   bool // Wake was called, and no Park has returned for it
	expired bool // the timer ended the wait
}

// Go runs f as a task, beginning in this turn of the loop or the next. It does
// not allocate once the loop has warmed up; keep f itself (a method value, a
// closure) where that matters, because making one does.
func (l *Loop) Go(f func(*Task)) {
	var t *Task
	if n := len(l.free) - 1; n >= 0 {
		t = l.free[n]
		l.free[n] = nil
		l.free = l.free[:n]
	} else {
		t = &Task{loop: l}
		t.resume, t.end = iter.Pull(t.coroutine)
	}
	t.run = f
	t.index = len(l.live)
	l.live = append(l.live, t)
	l.enqueue(t)
}

// coroutine runs one function after the other.
func (t *Task) coroutine(yield func(struct{}) bool) {
	defer t.crash()
	t.yield = yield
	for {
		t.run(t)
		t.run = nil
		if !yield(struct{}{}) {
			return
		}
	}
}

// crash adds the task's stack to a panic. It would be lost otherwise: the
// panic continues on the loop's goroutine.
func (t *Task) crash() {
	if p := recover(); p != nil {
		panic(&taskPanic{p, debug.Stack()})
	}
}

type taskPanic struct {
	value any
	stack []byte
}

func (p *taskPanic) Error() string {
	return fmt.Sprintf("%v\n\nin a task:\n%s", p.value, p.stack)
}

func (p *taskPanic) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

// recycle keeps a task whose function has ended for the next.
func (l *Loop) recycle(t *Task) {
	last := len(l.live) - 1
	l.live[t.index] = l.live[last]
	l.live[t.index].index = t.index
	l.live[last] = nil
	l.live = l.live[:last]
	t.err, t.woken = nil, false
	if len(l.free) < keptTasks {
		l.free = append(l.free, t)
	} else {
		t.end()
	}
}

func (l *Loop) enqueue(t *Task) {
	if !t.queued {
		t.queued = true
		l.running.push(t)
	}
}

// unblock ends the wait that t is in, if any.
func (l *Loop) unblock(t *Task) {
	if t != nil && t.waiting {
		l.enqueue(t)
	}
}

// Loop on which the task runs.
func (t *Task) Loop() *Loop { return t.loop }

// Park waits until Wake or Interrupt is called. A Wake that came before
// counts: it lets the next Park return at once. Several count as one.
func (t *Task) Park() error { return t.park(-1) }

// ParkFor is Park for at most d; then it returns os.ErrDeadlineExceeded.
func (t *Task) ParkFor(d time.Duration) error { return t.park(max(d, 0)) }

func (t *Task) park(d time.Duration) error {
	if t.woken {
		t.woken = false
		return nil
	}
	t.parked = true
	err := t.waitFor(d)
	t.parked = false
	if t.woken && err == os.ErrDeadlineExceeded {
		err = nil // both came before the task ran
	}
	t.woken = false
	return err
}

// Wake ends the Park that the task is in, or else its next one. It has no
// effect on other waits.
func (t *Task) Wake() {
	t.woken = true
	if t.parked {
		t.loop.unblock(t)
	}
}

// Interrupt ends what the task waits for, whatever it is except for Offload,
// or else its next wait: that returns err (nil means ErrInterrupted). Of several
// interrupts before the task runs, the first counts.
func (t *Task) Interrupt(err error) {
	if err == nil {
		err = ErrInterrupted
	}
	if t.err == nil {
		t.err = err
	}
	t.loop.unblock(t)
}

// Sleep waits for d or longer.
func (t *Task) Sleep(d time.Duration) error {
	if err := t.waitFor(max(d, 0)); err != os.ErrDeadlineExceeded {
		return err
	}
	return nil
}

// Yield lets everybody else go first who is ready.
func (t *Task) Yield() {
	t.loop.enqueue(t)
	t.pause()
}

// Offload runs f on a goroutine of its own and waits for its end: for what
// must block, as looking up a name. It cannot be interrupted; f has to bound
// itself.
func (t *Task) Offload(f func()) {
	l, done := t.loop, false
	finish := func() {
		done = true
		l.unblock(t)
	}
	go func() {
		f()
		l.Post(finish)
	}()
	for !done {
		t.pause()
	}
}

// waitFor waits until unblock, or for d unless that is negative; then it
// returns os.ErrDeadlineExceeded.
func (t *Task) waitFor(d time.Duration) error {
	if d < 0 {
		return t.wait()
	}
	t.expired = false
	t.loop.start(&t.timer, d, t)
	err := t.wait()
	t.timer.Stop()
	if err == nil && t.expired {
		err = os.ErrDeadlineExceeded
	}
	return err
}

// expire implements expirer.
func (t *Task) expire(*Timer) {
	t.expired = true
	t.loop.unblock(t)
}

// wait gives the loop away until unblock. Whoever waits must look again at
// what it waits for, because an interrupt comes this way too.
func (t *Task) wait() error {
	switch {
	case t.err != nil:
	case t.loop.abortion == nil:
		t.pause()
	default:
		t.Yield() // it may look again until another task has ended
	}
	if err := t.err; err != nil {
		t.err = nil
		return err
	}
	return t.loop.abortion
}

func (t *Task) pause() {
	if t.loop.current != t {
		panic("loop: a task waits that is not the one running")
	}
	t.waiting = true
	t.yield(struct{}{})
	t.waiting = false
}

// spend counts one operation that had not to wait.
func (t *Task) spend() {
	if t.budget--; t.budget <= 0 {
		t.Yield()
	}
}

// taskQueue is first in, first out.
type taskQueue struct{ first, last *Task }

func (q *taskQueue) empty() bool { return q.first == nil }

func (q *taskQueue) push(t *Task) {
	if q.first == nil {
		q.first = t
	} else {
		q.last.next = t
	}
	q.last = t
}

func (q *taskQueue) pop() *Task {
	t := q.first
	if t == nil {
		return nil
	}
	q.first, t.next = t.next, nil
	t.queued = false
	return t
}
