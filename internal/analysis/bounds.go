package analysis

import (
	"fmt"
	"math"
)

// mostCounted is how much one look, and what waits to be scored, may count of
// anything: more than a look ever sees, and little enough to be reckoned with,
// which takes memory for each.
const mostCounted = 10_000_000

// Validate returns an error unless the judge can take the samples: one for those
// that come from outside, and that nobody can have seen.
func (s *Samples) Validate() error {
	latencies := []*Histogram{
		&s.CanaryLatency, &s.StableLatency, &s.DirectLatency, &s.Own.CanaryLatency, &s.Own.StableLatency,
	}
	counts := []quad{
		quadOf(s.Counts), quadOf(s.Spared), quadOf(s.Counts.Less(s.Spared)), quadOf(s.Own.Counts),
		{s.Spared.CanaryFailures - s.Spared.CanaryRequests, s.Spared.StableFailures - s.Spared.StableRequests},
		{s.DirectRequests, s.DirectFailures, s.DirectSpared, s.DirectFailures - s.DirectSpared},
	}
	sums := userTest{}
	users := func(u *Users) {
		if u != nil {
			sums = sums.add(u)
			counts = append(counts, quadOf(u.Counts), quad{u.Canary.Users, u.Stable.Users})
			latencies = append(latencies, &u.CanaryLatency, &u.StableLatency)
		}
	}
	users(s.Users)
	for _, strata := range [][]Stratum{s.Strata, s.Own.Strata} {
		for i := range strata {
			counts = append(counts, quadOf(strata[i].Counts))
			latencies = append(latencies, &strata[i].CanaryLatency, &strata[i].StableLatency)
			users(strata[i].Users)
		}
	}
	for _, h := range latencies {
		counts = append(counts, quad{h.Count()})
	}
	for _, q := range counts {
		if err := q.validate(); err != nil {
			return fmt.Errorf("samples: %w", err)
		}
	}
	if err := sums.validate(); err != nil {
		return fmt.Errorf("samples: %w", err)
	}
	return nil
}

// Validate returns an error unless the judge can go on: one for a judge that
// comes from outside, and that never judged.
func (j *Judge) Validate() error {
	waiting := []quad{
		quadOf(j.Block), quadOf(j.Spared.Block), quadOf(j.Block.Less(j.Spared.Block)), quadOf(j.Own.Block),
		j.Failure.Stretch, {j.Failure.New[0], j.Failure.New[1]},
		j.Excess.Stretch, {j.Excess.New[0], j.Excess.New[1]},
	}
	latencies := []*latencyTest{&j.Latency, &j.Early, &j.Own.Early}
	for i := range j.Strata {
		t := &j.Strata[i]
		waiting = append(waiting, t.Failure.Stretch, quad{t.Failure.New[0], t.Failure.New[1]})
		latencies = append(latencies, &t.Latency)
	}
	for _, t := range latencies {
		for at := 0; at < len(t.Block); at += 2 {
			waiting = append(waiting, quad{t.Block[at], t.Block[at+1]})
		}
	}
	for _, q := range waiting {
		if err := q.validate(); err != nil {
			return fmt.Errorf("judge: %w", err)
		}
	}
	if err := j.Users.validate(); err != nil {
		return fmt.Errorf("judge: %w", err)
	}
	return nil
}

// Validate returns an error unless the contest can go on, as that of a Judge.
func (c *Contest) Validate() error {
	if err := c.Block.validate(); err != nil {
		return fmt.Errorf("contest: %w", err)
	}
	return nil
}

func (t userTest) validate() error {
	for _, s := range []UserSum{t.Canary, t.Stable} {
		if s.Users < 0 || !(math.Abs(s.Failing) <= mostCounted) {
			return fmt.Errorf("nobody counts %d users of whom %v fail", s.Users, s.Failing)
		}
	}
	return nil
}

func (q quad) validate() error {
	for _, n := range q {
		if n < 0 || n > mostCounted {
			return fmt.Errorf("nobody counts %d requests: want 0 to %d", n, mostCounted)
		}
	}
	return nil
}
