package loop

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The wheel against a plain list of timers, under random operations.
func TestWheelCallsWhatAListWould(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		timers := make([]Timer, 30)
		var w wheel
		var got, want []firing
		list := map[int]int64{} // number of a timer → its tick
		start := func(n int) {
			// Of all magnitudes, so that every level is used.
			at := w.now + r.Int64N(1<<r.IntN(levels*levelBits))
			timers[n].Stop()
			timers[n].owner = timerFunc(func() { got = append(got, firing{w.now, n}) })
			w.add(&timers[n], at)
			list[n] = max(at, w.now+1)
		}
		for range 500 {
			n := r.IntN(len(timers))
			switch r.IntN(4) {
			case 0, 1:
				start(n)
			case 2:
				timers[n].Stop()
				delete(list, n)
			case 3:
				to := w.now + r.Int64N(1<<r.IntN(20))
				if next, ok := w.next(); ok && r.IntN(2) == 0 {
					to = next // where the loop would wake up
				}
				checkNext(t, &w, list)
				got, want = nil, nil
				for n, at := range list {
					if at <= to {
						want = append(want, firing{at, n})
						delete(list, n)
					}
				}
				w.advance(to)
				slices.SortFunc(want, firing.compare)
				slices.SortStableFunc(got, firing.compare)
				if diff := cmp.Diff(want, got, cmp.AllowUnexported(firing{})); diff != "" {
					t.Fatalf("seed %d: advance to %d (-list +wheel):\n%s", seed, to, diff)
				}
			}
			if timers[n].Running() != hasKey(list, n) {
				t.Fatalf("seed %d: timer %d: Running() = %v", seed, n, timers[n].Running())
			}
		}
	}
}

type firing struct {
	at    int64
	timer int
}

func (f firing) compare(g firing) int {
	if f.at != g.at {
		return int(max(min(f.at-g.at, 1), -1))
	}
	return f.timer - g.timer
}

func hasKey(m map[int]int64, k int) bool {
	_, ok := m[k]
	return ok
}

// checkNext: a loop that sleeps until next sleeps past no timer.
func checkNext(t *testing.T, w *wheel, list map[int]int64) {
	t.Helper()
	next, ok := w.next()
	if ok != (len(list) > 0) {
		t.Fatalf("next: %v with %d timers", ok, len(list))
	}
	for n, at := range list {
		if next > at || next <= w.now {
			t.Fatalf("at %d, next is %d, but timer %d is due at %d", w.now, next, n, at)
		}
	}
}

func TestTimersMayBeChangedByTimers(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		inTask(t, started(t, 1, o).Loops()[0], func(task *Task) {
			l := task.Loop()
			var again, victim, twin Timer
			calls := 0
			var f func()
			f = func() {
				if calls++; calls < 3 {
					l.Start(&again, 0, f)
					return
				}
				task.Wake()
			}
			l.Start(&again, time.Millisecond, f)
			// Due in the same tick: whichever comes first stops the other.
			fell := 0
			l.Start(&victim, 2*time.Millisecond, func() { fell++; twin.Stop() })
			l.Start(&twin, 2*time.Millisecond, func() { fell++; victim.Stop() })
			begin := l.Now()
			task.Park()
			if took := l.Now().Sub(begin); took < 3*time.Millisecond || calls != 3 {
				t.Errorf("%d calls after %v; want 3, each at least a tick after the other", calls, took)
			}
			task.Sleep(2 * time.Millisecond)
			if fell != 1 || victim.Running() || twin.Running() {
				t.Errorf("%d of the twins were called; want 1", fell)
			}
			// So long that it is beyond the wheel.
			l.Start(&victim, 1<<63-1, func() { t.Error("called after some milliseconds, not years") })
			task.Sleep(time.Millisecond)
			victim.Stop()
		})
	})
}
