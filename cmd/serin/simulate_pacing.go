package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"serin.dev/serin/internal/forecast"
)

const (
	// usualRuns of each version are played unless --runs says how many, or fewer
	// but leastRuns when playFor is over: an outcome that one version in twenty
	// has is then still seen.
	usualRuns = 1000
	leastRuns = 100
	playFor   = 10 * time.Second

	tellEvery = 200 * time.Millisecond
)

// pacing decides how many runs are enough, and tells who watches at a terminal
// how far they are.
type pacing struct {
	most  int
	exact bool      // most were asked for
	w     io.Writer // nil = nobody watches
	began time.Time
	told  time.Time
}

// newPacing begins now.
func newPacing(w io.Writer, most int, exact bool) *pacing {
	p := &pacing{most: most, exact: exact, began: time.Now()}
	if isTerminal(w) && os.Getenv("TERM") != "dumb" {
		p.w = w
		p.tell(0)
	}
	return p
}

// more is called with the runs of each version that are done, and says whether to
// go on.
func (p *pacing) more(done int) bool {
	if !p.exact && done >= leastRuns && time.Since(p.began) >= playFor {
		return false
	}
	if p.w != nil && time.Since(p.told) >= tellEvery {
		p.tell(done)
	}
	return true
}

// left is how long it will take from now on, when the runs to come take as long
// as those before; done is more than 0.
func (p *pacing) left(done int) time.Duration {
	took := time.Since(p.began)
	each := took / time.Duration(done)
	all := each * time.Duration(p.most-done)
	if p.exact {
		return all
	}
	return min(all, max(playFor-took, each*time.Duration(leastRuns-done), 0))
}

// tell writes over the line that it wrote before.
func (p *pacing) tell(done int) {
	p.told = time.Now()
	of := fmt.Sprintf("%d of %d runs", done, p.most)
	if !p.exact {
		of = fmt.Sprintf("%d of at most %d runs", done, p.most)
	}
	if done > 0 {
		of += fmt.Sprintf(", %s left", forecast.Words(p.left(done).Round(time.Second)))
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", of)
}

// close leaves the terminal as it was found.
func (p *pacing) close() {
	if p.w != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
