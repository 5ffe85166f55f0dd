package loop

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// Group is a number of loops that start and stop together. Its methods may be
// called from any goroutine.
type Group struct {
	loops  []*Loop
	homes  atomic.Uint32 // counts listeners
	turn   atomic.Uint32 // counts connections handed out
	start  sync.Once
	ending sync.WaitGroup
}

// NewGroup makes n loops; n = 0 means one for each processor of the machine.
//
// The program should allow Go one processor more than it has loops
// (runtime.GOMAXPROCS). Without a spare one, the runtime takes the processor of
// each loop that sleeps longer than 20 µs away, gives it back, and keeps a
// thread busy with that: measured on two cores, a relay without parsing costs a
// tenth more with one loop and a quarter more with two.
func NewGroup(n int, o Options) (*Group, error) {
	if n <= 0 {
		n = runtime.NumCPU()
	}
	g := &Group{}
	for range n {
		l, err := New(o)
		if err != nil {
			for _, l := range g.loops {
				l.poller.close()
			}
			return nil, err
		}
		g.loops = append(g.loops, l)
	}
	return g, nil
}

// Loops of the group, in a fixed order. The slice must not be changed.
func (g *Group) Loops() []*Loop { return g.loops }

// Start runs every loop on a goroutine of its own. Starting again does nothing.
func (g *Group) Start() {
	g.start.Do(func() {
		for _, l := range g.loops {
			g.ending.Go(l.Run)
		}
	})
}

// Stop ends the loops when all their connections are closed and all their
// tasks have ended, and returns then. When ctx ends before, it aborts them and
// returns the reason once their tasks have ended. Close the listeners first.
func (g *Group) Stop(ctx context.Context) error {
	g.Start() // also a loop that has never run holds what only Run gives back
	for _, l := range g.loops {
		l.Stop()
	}
	ended := make(chan struct{})
	go func() {
		g.ending.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	for _, l := range g.loops {
		l.Abort(ErrStopped)
	}
	<-ended
	return context.Cause(ctx)
}

// idlest is the loop with the fewest connections; equal ones take turns.
func (g *Group) idlest() *Loop {
	first := g.turn.Add(1)
	var best *Loop
	for i := range g.loops {
		l := g.loops[(int(first)+i)%len(g.loops)]
		if best == nil || l.conns.Load() < best.conns.Load() {
			best = l
		}
	}
	return best
}
