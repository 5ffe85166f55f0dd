package loop

import (
	"math/bits"
	"time"
)

// tick is the grain of timers.
const tick = time.Millisecond

// The wheel has levels of 64 slots: a slot of level n spans 64^n ticks. Seven
// levels span 139 years.
const (
	levelBits = 6
	levels    = 7
	maxTick   = 1<<(levelBits*levels) - 1
)

// Timer calls a function once after some time. The zero value is ready. It is
// meant to be a field of what it watches: starting and stopping it costs a few
// nanoseconds and no allocation. It must not be copied while it runs.
type Timer struct {
	next, prev *Timer
	wheel      *wheel // nil: not running
	at         int64  // tick
	slot       uint16 // level<<levelBits | slot of the level
	owner      expirer
}

// expirer is what a timer calls. Connections and tasks are expirers
// themselves, so that their timers need no closure.
type expirer interface{ expire(*Timer) }

type timerFunc func()

func (f timerFunc) expire(*Timer) { f() }

// Start lets f run on the loop d after Now, up to a millisecond and a turn of
// the loop later, never earlier. A timer that runs is started anew. f must
// not wait; keep it where it would have to be made anew each time.
func (l *Loop) Start(t *Timer, d time.Duration, f func()) { l.start(t, d, timerFunc(f)) }

func (l *Loop) start(t *Timer, d time.Duration, owner expirer) {
	t.Stop()
	t.owner = owner
	l.wheel.add(t, ceilTick(l.elapsed, d))
}

// Stop ends the timer's run, if it has one; its function will not be called.
func (t *Timer) Stop() {
	if t.wheel != nil {
		t.wheel.remove(t)
	}
}

// Running reports whether the timer will call its function.
func (t *Timer) Running() bool { return t.wheel != nil }

// tickOf is the last tick that has begun.
func tickOf(elapsed time.Duration) int64 { return int64(elapsed / tick) }

// ceilTick is the first tick not before elapsed+d.
func ceilTick(elapsed, d time.Duration) int64 {
	if d > maxTick*tick-elapsed {
		return maxTick
	}
	return tickOf(elapsed + d + tick - 1)
}

func timeOf(at int64) time.Duration { return time.Duration(at) * tick }

// wheel is a hierarchical timing wheel (Varghese and Lauck, 1987). A timer is
// in the level of the highest digit, base 64, in which its tick differs from
// the current one, and there in the slot of its own digit. When the current
// tick reaches the beginning of a slot, its timers differ in a lower digit
// only and move down. So lower levels always come first, and no slot before
// the current one holds anything.
type wheel struct {
	now   int64          // tick up to which all timers have been called
	full  [levels]uint64 // bit n: slot n is not empty
	slots [levels][64]*Timer
}

func (w *wheel) add(t *Timer, at int64) {
	t.at = min(max(at, w.now+1), maxTick)
	t.wheel = w
	w.place(t)
}

func (w *wheel) place(t *Timer) {
	level := (bits.Len64(uint64(t.at^w.now)|1) - 1) / levelBits
	slot := int(t.at>>(level*levelBits)) & 63
	t.slot = uint16(level<<levelBits | slot)
	head := &w.slots[level][slot]
	t.prev, t.next = nil, *head
	if t.next != nil {
		t.next.prev = t
	}
	*head = t
	w.full[level] |= 1 << slot
}

func (w *wheel) remove(t *Timer) {
	level, slot := t.slot>>levelBits, t.slot&63
	if t.next != nil {
		t.next.prev = t.prev
	}
	if t.prev != nil {
		t.prev.next = t.next
	} else if w.slots[level][slot] = t.next; t.next == nil {
		w.full[level] &^= 1 << slot
	}
	t.next, t.prev, t.wheel = nil, nil, nil
}

// next is the tick at which advance has something to do: no timer is due
// before.
func (w *wheel) next() (at int64, ok bool) {
	level, slot, ok := w.first()
	return w.begin(level, slot), ok
}

// first is the slot that comes first.
func (w *wheel) first() (level, slot int, ok bool) {
	for level, full := range w.full {
		if full != 0 {
			return level, bits.TrailingZeros64(full), true
		}
	}
	return 0, 0, false
}

// begin is the first tick of a slot ahead.
func (w *wheel) begin(level, slot int) int64 {
	above := w.now >> ((level + 1) * levelBits) << ((level + 1) * levelBits)
	return above | int64(slot)<<(level*levelBits)
}

// advance calls what is due at tick now, in the order of ticks.
func (w *wheel) advance(now int64) {
	for {
		level, slot, ok := w.first()
		if !ok || w.begin(level, slot) > now {
			w.now = max(w.now, now)
			return
		}
		w.now = w.begin(level, slot)
		for t := w.slots[level][slot]; t != nil; t = w.slots[level][slot] {
			w.remove(t)
			if t.at <= w.now {
				t.owner.expire(t)
			} else {
				t.wheel = w
				w.place(t)
			}
		}
	}
}
