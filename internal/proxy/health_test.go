package proxy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/test/story"
)

// TestHealthStories plays the scripts of testdata/health: what becomes of
// endpoints that fail, by outlier ejection and by active checks. A section is a
// story; after "----" it says for each line when it happened and, if that
// changed, whom the balancer may call from then on. The lines are
//
//	policy key=value ...   5xx, gateway, local, interval, base, max, percent, minhealth; up, down (of checks)
//	endpoints names        a snapshot with these endpoints, as endpointsOf reads them
//	+1m30s                 time passes
//	call a outcomes        tries on a end: a status, grpc-N, connect, reset, timeout or refused, each ×N
//	check a good|bad ...   active checks
func TestHealthStories(t *testing.T) {
	story.EachArchive(t, "testdata/health/*.txtar", func(t *testing.T, told *txtar.Archive) {
		for i := range told.Files {
			f := &told.Files[i]
			t.Run(f.Name, func(t *testing.T) {
				script, _, _ := strings.Cut(string(f.Data), story.Rule)
				f.Data = []byte(script + story.Rule + tell(t, script))
			})
		}
	})
}

// teller plays one story.
type teller struct {
	*world
	group *group
	at    time.Duration
}

func tell(t *testing.T, script string) string {
	s := &teller{world: newWorld(t, &mesh.Policy{})}
	var out strings.Builder
	before := ""
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		s.play(words)
		fmt.Fprintf(&out, "%v %s", s.at, strings.Join(words, " "))
		if now := s.callable(); now != before {
			fmt.Fprintf(&out, ": calls %s", now)
			before = now
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func (s *teller) play(words []string) {
	s.tb.Helper()
	switch verb := words[0]; {
	case verb == "policy":
		s.policy = s.parsePolicy(words[1:])
	case verb == "endpoints":
		s.group = s.apply(s.at, endpointsOf(strings.Join(words[1:], " "))...)
	case verb == "call":
		for _, w := range words[2:] {
			what, times, _ := strings.Cut(w, "×")
			n, err := strconv.Atoi(times)
			if err != nil {
				n = 1
			}
			for range n {
				s.group.member(words[1]).done(s.parseOutcome(what), epoch.Add(s.at))
			}
		}
	case verb == "check":
		for _, w := range words[2:] {
			s.group.member(words[1]).checked(w == "good", epoch.Add(s.at))
		}
	case verb[0] == '+':
		d, err := time.ParseDuration(verb[1:])
		if err != nil {
			s.tb.Fatal(err)
		}
		s.at += d
	default:
		s.tb.Fatalf("unknown line %q", words)
	}
}

// callable names those whom a pick may find now.
func (s *teller) callable() string {
	if s.group == nil || s.group.pick(0, false, epoch.Add(s.at), &s.draws, nil) == nil {
		return "nobody"
	}
	var names []string
	for _, l := range s.group.roster.Load().levels {
		for _, set := range l.sets {
			for _, m := range set.members {
				names = append(names, strings.TrimSuffix(m.dial, ":80"))
			}
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (s *teller) parsePolicy(pairs []string) *mesh.Policy {
	p := &mesh.Policy{}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		n, _ := strconv.ParseUint(value, 10, 32)
		d, _ := time.ParseDuration(value)
		if key == "up" || key == "down" {
			if p.Health == nil {
				p.Health = &mesh.HealthCheck{Interval: time.Second, Timeout: time.Second, HealthyAfter: 1, UnhealthyAfter: 1}
			}
		} else if p.Outlier == nil {
			p.Outlier = &mesh.Outlier{}
		}
		switch o := p.Outlier; key {
		case "5xx":
			o.Consecutive5xx = uint32(n)
		case "gateway":
			o.ConsecutiveGateway = uint32(n)
		case "local":
			o.ConsecutiveLocal, o.SplitLocal = uint32(n), true
		case "interval":
			o.Interval = d
		case "base":
			o.BaseEjection = d
		case "max":
			o.MaxEjection = d
		case "percent":
			o.MaxPercent = uint32(n)
		case "minhealth":
			o.MinHealthPercent = uint32(n)
		case "up":
			p.Health.HealthyAfter = uint32(n)
		case "down":
			p.Health.UnhealthyAfter = uint32(n)
		default:
			s.tb.Fatalf("unknown part of a policy: %s", pair)
		}
	}
	return p
}

func (s *teller) parseOutcome(word string) outcome {
	kinds := map[string]outcomeKind{"connect": connectFailed, "reset": broken, "timeout": timedOut, "refused": refused}
	if kind, ok := kinds[word]; ok {
		return outcome{kind: kind, grpc: noGRPC}
	}
	if status, ok := strings.CutPrefix(word, "grpc-"); ok {
		n, err := strconv.Atoi(status)
		if err != nil {
			s.tb.Fatalf("outcome %q", word)
		}
		return outcome{status: 200, grpc: n}
	}
	n, err := strconv.Atoi(word)
	if err != nil {
		s.tb.Fatalf("outcome %q", word)
	}
	return outcome{status: n, grpc: noGRPC}
}

// TestHealthChangesWhileOthersPick: loops pick, report and check, and snapshots
// come, all at once. Whoever is picked is of one of the snapshots, and in the
// end everybody is healthy again.
func TestHealthChangesWhileOthersPick(t *testing.T) {
	for _, b := range []mesh.Balancer{mesh.LeastRequest, mesh.RingHash} {
		w := newWorld(t, &mesh.Policy{
			Balancer: b, Warmup: &mesh.Warmup{Duration: time.Minute},
			Outlier: &mesh.Outlier{Consecutive5xx: 2, MaxPercent: 50, Interval: time.Second, BaseEjection: time.Second},
			Health:  &mesh.HealthCheck{Interval: 1, Timeout: 1, UnhealthyAfter: 1, HealthyAfter: 1},
		})
		var current atomic.Pointer[group]
		current.Store(w.apply(0, endpointsOf("a b c d e")...))
		var wg sync.WaitGroup
		for loop := range 4 {
			wg.Go(func() {
				var d draws
				for i := range 3000 {
					now := epoch.Add(time.Duration(i) * 10 * time.Millisecond)
					g := current.Load()
					m := g.pick(uint64(i), true, now, &d, nil)
					if m == nil {
						continue
					}
					m.done(outcome{status: 200 + 300*int(d.below(2)), grpc: noGRPC}, now)
					if loop == 0 {
						m.checked(d.below(4) > 0, now)
					}
				}
			})
		}
		for i := range 100 {
			current.Store(w.apply(time.Duration(i)*time.Millisecond, endpointsOf("a b c d e")...))
		}
		wg.Wait()
		g := current.Load()
		for _, m := range g.members {
			m.checked(true, epoch.Add(time.Hour))
		}
		if got := (&teller{world: w, group: g, at: time.Hour}).callable(); got != "a b c d e" {
			t.Errorf("%s: in the end %q can be called, want all", b, got)
		}
	}
}
