package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestParkWaitsForWake(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		inTask(t, started(t, 1, o).Loops()[0], func(task *Task) {
			var story []string
			tell := func(format string, args ...any) { story = append(story, fmt.Sprintf(format, args...)) }
			l := task.Loop()
			reason := errors.New("reason")

			l.Go(func(*Task) { tell("wake"); task.Wake(); task.Wake() })
			tell("park")
			tell("parked: %v", task.Park())
			tell("for 1 ms: %v", task.ParkFor(time.Millisecond))
			task.Wake()
			tell("woken before: %v", task.Park())
			task.Interrupt(reason)
			task.Interrupt(errors.New("too late"))
			tell("interrupted before: %v", task.Park())
			l.Go(func(*Task) { task.Interrupt(reason) })
			tell("interrupted: %v", task.Sleep(time.Hour))
			l.Go(func(*Task) { task.Wake() })
			tell("a sleeper is not woken: %v", task.Sleep(time.Millisecond))
			tell("but its next park: %v", task.ParkFor(time.Hour))
			tell("slept: %v", task.Sleep(0))

			want := []string{
				"park", "wake", "parked: <nil>",
				"for 1 ms: " + os.ErrDeadlineExceeded.Error(),
				"woken before: <nil>",
				"interrupted before: reason",
				"interrupted: reason",
				"a sleeper is not woken: <nil>", "but its next park: <nil>",
				"slept: <nil>",
			}
			if !slices.Equal(story, want) {
				t.Errorf("story:\n%s\nwant:\n%s", strings.Join(story, "\n"), strings.Join(want, "\n"))
			}
		})
	})
}

func TestSleepIsNeverShort(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		inTask(t, started(t, 1, o).Loops()[0], func(task *Task) {
			for d := range 8 {
				d := time.Duration(d) * 700 * time.Microsecond
				begin := task.Loop().Now()
				if err := task.Sleep(d); err != nil {
					t.Error(err)
				}
				if took := task.Loop().Now().Sub(begin); took < d {
					t.Errorf("Sleep(%v) took %v", d, took)
				}
			}
		})
	})
}

// What blocks runs elsewhere; meanwhile the loop serves others, and an
// interrupt waits until it is back.
func TestOffloadLeavesTheLoopFree(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		inTask(t, started(t, 1, o).Loops()[0], func(task *Task) {
			l := task.Loop()
			free := make(chan struct{})
			reason := errors.New("reason")
			l.Go(func(*Task) {
				task.Interrupt(reason)
				close(free)
			})
			result := 0
			task.Offload(func() {
				<-free
				result = 42
			})
			if result != 42 {
				t.Errorf("Offload returned before its function: result %d", result)
			}
			if err := task.Park(); err != reason {
				t.Errorf("Park = %v; want the interrupt that came during Offload", err)
			}
		})
	})
}

// Two tasks that always find their sockets ready would otherwise hold the loop
// for as long as they live.
func TestBusyTasksGiveOthersATurn(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		fds := pair(t)
		inTask(t, started(t, 1, o).Loops()[0], func(task *Task) {
			l := task.Loop()
			a, _ := l.Adopt(fds[0], noAddr)
			b, _ := l.Adopt(fds[1], noAddr)
			stop := false
			l.Go(func(*Task) {
				defer a.Close()
				defer b.Close()
				buf := make([]byte, 1)
				for !stop {
					a.Write(buf)
					b.Read(buf) // has arrived already
				}
			})
			if err := task.Sleep(5 * time.Millisecond); err != nil {
				t.Error(err)
			}
			task.Yield()
			stop = true
		})
	})
}

func TestPanicEndsTheProcessWithTheTasksStack(t *testing.T) {
	cause := errors.New("a bug")
	p := crash(t, func(*Task) { culprit(cause) })
	err, ok := p.(error)
	if !ok || !errors.Is(err, cause) || !strings.Contains(err.Error(), "loop.culprit") {
		t.Errorf("the loop panics with:\n%v\nwant the cause and the name of the function", p)
	}
}

func culprit(err error) { panic(err) }

func TestTaskMustNotEndItsGoroutine(t *testing.T) {
	if p := crash(t, func(*Task) { runtime.Goexit() }); !strings.Contains(fmt.Sprint(p), "Goexit") {
		t.Errorf("the loop panics with %v; want it to name Goexit", p)
	}
}

// crash returns what the loop panics with.
func crash(t *testing.T, f func(*Task)) (value any) {
	l, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.poller.close()
	panicked := make(chan any, 1)
	l.Post(func() { l.Go(f) })
	go func() {
		defer func() { panicked <- recover() }()
		l.Run()
	}()
	return await(t, panicked)
}

func TestPostsFromEverywhereArriveInOrder(t *testing.T) {
	const loops, posters, posts = 3, 8, 2000
	pollers(t, func(t *testing.T, o Options) {
		g := started(t, loops, o)
		var all sync.WaitGroup
		last := make([][posters]int, loops) // each belongs to its loop
		for p := range posters {
			for i := range posts {
				all.Add(loops)
				go func() {}() // others want the processors, too
				for n, l := range g.Loops() {
					l.Post(func() {
						if got := last[n][p]; got != i {
							t.Errorf("loop %d, poster %d: post %d after %d", n, p, i, got)
						}
						last[n][p] = i + 1
						// From loop to loop.
						g.Loops()[(n+1)%loops].Post(all.Done)
					})
				}
			}
		}
		done := make(chan struct{})
		go func() { all.Wait(); close(done) }()
		await(t, done)
	})
}

func TestPostWakesASleepingLoop(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		l := started(t, 1, o).Loops()[0]
		for range 1000 {
			done := make(chan struct{})
			l.Post(func() { close(done) })
			await(t, done) // now it falls asleep, or is about to
		}
	})
}

func TestStopWaitsForWhatIsOpen(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		g := started(t, 2, o)
		ln := listen(t, g, echo)
		c := dialed(t, ln)
		c.Write([]byte("x"))
		c.Read(make([]byte, 1))
		ln.Close()
		stopped := make(chan error, 1)
		go func() { stopped <- g.Stop(context.Background()) }()
		for !g.Loops()[0].Stopping() || !g.Loops()[1].Stopping() {
			runtime.Gosched()
		}
		c.Write([]byte("y"))
		if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("Read while stopping: %d, %v; want the echo", n, err)
		}
		select {
		case err := <-stopped:
			t.Errorf("Stop returned with a connection open: %v", err)
		default:
		}
		c.Close()
		if err := await(t, stopped); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if g.Loops()[0].Post(func() {}) {
			t.Error("a loop that has ended accepts posts")
		}
	})
}

func TestAbortEndsWhatWaits(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		g, err := NewGroup(2, o)
		if err != nil {
			t.Fatal(err)
		}
		g.Start()
		results := make(chan error, 4)
		ln := listen(t, g, func(task *Task, c *Conn) {
			c.Write([]byte("x"))
			_, err := c.Read(make([]byte, 1))
			results <- err
			results <- task.Sleep(time.Hour)
		})
		idle, err := g.Listen("127.0.0.1:0", func(c *Conn) {
			// Nobody ever reads or closes it.
			c.OnReadable(func() {})
		})
		if err != nil {
			t.Fatal(err)
		}
		busy, lazy := dialed(t, ln), dialed(t, idle)
		busy.Read(make([]byte, 1))
		ctx, cancel := context.WithCancelCause(context.Background())
		impatient := errors.New("impatient")
		cancel(impatient)
		if err := g.Stop(ctx); err != impatient {
			t.Errorf("Stop = %v; want the context's cause", err)
		}
		for range 2 {
			if err := await(t, results); err != ErrStopped {
				t.Errorf("a wait ended with %v; want %v", err, ErrStopped)
			}
		}
		for _, c := range []interface{ Read([]byte) (int, error) }{busy, lazy} {
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Read of the peer: %v; want the connection to be closed", err)
			}
		}
	})
}

func TestTasksAreKeptWithinBounds(t *testing.T) {
	inTask(t, started(t, 1, Options{}).Loops()[0], func(task *Task) {
		l := task.Loop()
		const many = 3 * keptTasks
		left := many
		for range many {
			l.Go(func(*Task) {
				if left--; left == 0 {
					task.Wake()
				}
			})
		}
		task.Park()
		task.Yield()
		if len(l.free) > keptTasks || len(l.live) != 1 {
			t.Errorf("%d tasks are kept and %d live; want at most %d and 1", len(l.free), len(l.live), keptTasks)
		}
		var lent [][]byte
		for range 2 * keptBuffers {
			lent = append(lent, l.Buffer())
		}
		for _, b := range lent {
			l.Release(b[:10])
		}
		l.Release(nil)
		if len(l.buffers) != keptBuffers || len(l.Buffer()) != BufferSize {
			t.Errorf("%d buffers are kept; want %d", len(l.buffers), keptBuffers)
		}
	})
}

func TestAbortedTasksMayWaitForEachOther(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		l, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		begun := make(chan bool)
		l.Post(func() {
			ended := false
			l.Go(func(first *Task) {
				l.Go(func(second *Task) {
					close(begun)
					if second.Park() == nil {
						t.Error("nobody woke it")
					}
					ended = true
					first.Wake()
				})
				for !ended {
					if err := first.Park(); err != nil && !errors.Is(err, errTest) {
						t.Error(err)
						return
					}
				}
			})
		})
		go func() {
			<-begun
			l.Stop()
			l.Abort(errTest)
		}()
		l.Run()
	})
}

var errTest = errors.New("test")
