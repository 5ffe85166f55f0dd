package forecast

import (
	"context"
	"runtime"
	"sync"

	"serin.dev/serin/internal/traffic"
)

// versions are played in turn, the bad and the good one, so that there are as many
// runs of either whenever somebody stops them.
const versions = 2

// series are the runs of all versions under way. They are handed out in the order of
// their seeds and end in any; what counts is how many ended from the first on, so
// that a forecast of so many is the same wherever it stopped.
type series struct {
	mu    sync.Mutex
	all   [versions][]run
	ended []bool // the versions in turn
	taken int
	whole int // how many of ended are true before the first that is not
	more  func(done int) bool
	stop  context.CancelFunc
}

// playAll plays all runs, spread over the cores, until more says no or ctx ends.
// It returns the same number of each version.
func (c *Case) playAll(ctx context.Context, days [versions]*traffic.Day, more func(done int) bool) [versions][]run {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	r := &series{ended: make([]bool, versions*c.Runs), more: more, stop: stop}
	for i := range r.all {
		r.all[i] = make([]run, c.Runs)
	}
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for at, ok := r.take(ctx); ok; at, ok = r.take(ctx) {
				version, i := at%versions, at/versions
				out := c.play(ctx, days[version], c.Seed+uint64(version)<<32+uint64(i))
				r.end(ctx, at, out)
			}
		})
	}
	workers.Wait()
	for i := range r.all {
		r.all[i] = r.all[i][:r.whole/versions]
	}
	return r.all
}

// take hands out the next run; none when there is none left or wanted.
func (r *series) take(ctx context.Context) (int, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken == len(r.ended) || ctx.Err() != nil {
		return 0, false
	}
	r.taken++
	return r.taken - 1, true
}

// end keeps a run. One that may have been cut short does not count.
func (r *series) end(ctx context.Context, at int, out run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	r.all[at%versions][at/versions], r.ended[at] = out, true
	for r.whole < len(r.ended) && r.ended[r.whole] {
		r.whole++
		if r.whole%versions == 0 && r.more != nil && !r.more(r.whole/versions) {
			r.stop()
			return
		}
	}
}
