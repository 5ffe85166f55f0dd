package equivalence

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tooFar is the distance from the expected count, in standard deviations, that
// a share reaches by chance in one of 10⁸ tests.
const tooFar = 5.8

// shares are what a story expects of many calls.
type shares struct {
	keys []string
	of   map[string]float64 // 0..1, by key
}

// parseShares reads "shares KEY=PERCENT…".
func parseShares(recorded string) (shares, error) {
	out := shares{of: map[string]float64{}}
	for _, word := range strings.Fields(strings.TrimPrefix(recorded, "shares")) {
		key, percent, _ := strings.Cut(word, "=")
		share, err := strconv.ParseFloat(percent, 64)
		if err != nil {
			return out, fmt.Errorf("%q is not KEY=PERCENT", word)
		}
		out.of[key] = share / 100
		out.keys = append(out.keys, key)
	}
	return out, nil
}

// compare says what is too far from the shares, of what was counted of so many.
func (want *shares) compare(got map[string]int, all int) []string {
	var wrong []string
	for key, count := range got {
		if _, ok := want.of[key]; !ok {
			wrong = append(wrong, fmt.Sprintf("%d of %d were %s, which is not expected", count, all, key))
		}
	}
	for _, key := range want.keys {
		mean := float64(all) * want.of[key]
		far := tooFar*math.Sqrt(mean*(1-want.of[key])) + 1
		if want.of[key] == 1 {
			far = 0
		}
		if math.Abs(float64(got[key])-mean) > far {
			wrong = append(wrong, fmt.Sprintf("%d of %d were %s, want %.0f ± %.0f", got[key], all, key, mean, far))
		}
	}
	return wrong
}

// askShares makes many calls and compares how often each thing became of them
// with what is expected; with "until", again and again until it is so.
func (s *suite) askShares(t *testing.T, q *question, recorded string) string {
	want, err := parseShares(recorded)
	if err != nil {
		t.Fatalf("%s: %v", q.text(), err)
	}
	s.both(func(p *party) {
		deadline := time.Now().Add(patience)
		for {
			got, took := p.count(t, q)
			wrong := want.compare(got, q.times)
			if q.until && len(wrong) > 0 && time.Now().Before(deadline) {
				continue
			}
			if took < q.atLeast || q.atMost > 0 && took > q.atMost {
				wrong = append(wrong, fmt.Sprintf("they took %v, want %v to %v", took, q.atLeast, q.atMost))
			}
			for _, line := range wrong {
				t.Errorf("%s on %s: %s", q.text(), p.name(), line)
			}
			return
		}
	})
	return recorded
}

// lanes is how many calls are made at a time where some of them are slow: so
// slow that a busy machine makes none of the others as slow as they are.
const lanes = 10

// count makes many calls and counts what became of them, or the copies that
// mirrors got of them.
func (p *party) count(t *testing.T, q *question) (got map[string]int, took time.Duration) {
	got = map[string]int{}
	var ids []string
	note := func(o *outcome) {
		took += o.Took
		ids = append(ids, o.id)
		got[o.key(q.slow)]++
	}
	if q.slow == 0 {
		for n := range q.times {
			note(p.call(t, q.numbered(n), q.sees))
		}
	} else {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for lane := range lanes {
			wg.Go(func() {
				alone := p.alone()
				defer alone.callers.hangUp()
				for n := lane; n < q.times; n += lanes {
					o := alone.call(t, q.numbered(n), q.sees)
					mu.Lock()
					note(o)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	if !q.copies {
		return got, took
	}
	// A copy may come later than the answer, but not later than one that was
	// made after it: a connection or two are on their way at most.
	clear(got)
	for _, id := range ids {
		for _, v := range p.suite.fleet.visits(id, 0, 0) {
			if isCopy(&v) {
				got[v.Endpoint]++
			}
		}
	}
	return got, took
}

// askEach makes numbered calls, twice.
func (s *suite) askEach(t *testing.T, q *question) string {
	var mu sync.Mutex
	first := make([]string, q.each)
	used := map[string]bool{}
	s.both(func(p *party) {
		for range 2 {
			for n := range q.each {
				key := p.call(t, q.numbered(n), q.sees).key(0)
				mu.Lock()
				if first[n] == "" {
					first[n] = key
				}
				if first[n] != key && !t.Failed() {
					t.Errorf("%s number %d on %s: went to %s, and before to %s", q.text(), n, p.name(), key, first[n])
				}
				used[key] = true
				mu.Unlock()
			}
		}
	})
	if len(used) < 2 && q.each >= 30 {
		t.Errorf("%s: all %d numbers went to one", q.text(), q.each)
	}
	return "each finds its own"
}

// askParallel makes calls at once and counts what became of them.
func (s *suite) askParallel(t *testing.T, q *question) string {
	texts := map[string]string{}
	var mu sync.Mutex
	s.both(func(p *party) {
		counts := map[string]int{}
		release, done := s.fleet.holdCalls(p.name()), 0
		var wg sync.WaitGroup
		for range q.parallel {
			wg.Go(func() {
				o := p.alone().call(t, &q.call, q.sees)
				mu.Lock()
				if done++; done == q.first {
					release()
				}
				mu.Unlock()
				p.complete(t, &q.call, o)
				mu.Lock()
				counts[o.key(0)+" "+o.Flags]++
				mu.Unlock()
			})
		}
		wg.Wait()
		release()
		var lines []string
		for key, n := range counts {
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%d × %s", n, key)))
		}
		slices.Sort(lines)
		mu.Lock()
		texts[p.name()] = strings.Join(lines, "\n")
		mu.Unlock()
	})
	ours := texts["serin"]
	if envoys, ok := texts["envoy"]; ok && ours != envoys {
		t.Errorf("%s: the planes differ (-ours +Envoy):\n%s", q.text(), cmp.Diff(ours, envoys))
	}
	return ours
}
