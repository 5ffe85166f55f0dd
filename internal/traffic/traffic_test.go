package traffic

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"serin.dev/serin/internal/analysis"
)

// holds checks the mean and the variance of many draws against what they
// should be, within four standard errors.
func holds(t *testing.T, what string, mean, variance float64, draw func() float64) {
	t.Helper()
	const n = 200_000
	var sum, squares float64
	for range n {
		x := draw() - mean
		sum, squares = sum+x, squares+x*x
	}
	if off := sum / n; math.Abs(off) > 4*math.Sqrt(variance/n) {
		t.Errorf("%s: mean %.4f; want %.4f", what, mean+off, mean)
	}
	// The variance of a variance depends on the shape; 4 % is beyond all here.
	if got := squares / n; math.Abs(got-variance) > 0.04*variance {
		t.Errorf("%s: variance %.4f; want %.4f", what, got, variance)
	}
}

func TestDrawsHaveTheirDistribution(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, p := range []struct {
		n int64
		p float64
	}{{1, 0.3}, {10, 0.01}, {1000, 0.002}, {60, 0.5}, {500, 0.1}, {100_000, 0.3}, {200, 0.97}} {
		mean := float64(p.n) * p.p
		holds(t, "binomial", mean, mean*(1-p.p), func() float64 { return float64(Binomial(r, p.n, p.p)) })
	}
	for _, mean := range []float64{0.1, 3, 11.9, 12.1, 200, 20_000} {
		holds(t, "Poisson", mean, mean, func() float64 { return float64(Poisson(r, mean)) })
	}
	for _, shape := range []float64{0.25, 1, 7} {
		holds(t, "gamma", shape, shape, func() float64 { return Gamma(r, shape) })
	}
}

// The tail of the binomial decides how often a good version looks bad.
func TestBinomialTail(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	const n, runs, limit = 1200, 200_000, 22
	p := 0.01
	want := 1.0 // P(X >= limit)
	for k := range limit {
		lg := func(x int) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
		want -= math.Exp(lg(n) - lg(k) - lg(n-k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	}
	got := 0.0
	for range runs {
		if Binomial(r, n, p) >= limit {
			got += 1. / runs
		}
	}
	if math.Abs(got-want) > 4*math.Sqrt(want/runs) {
		t.Errorf("P(X >= %d) = %.5f; want %.5f", limit, got, want)
	}
}

func TestDurationsHaveTheirQuantiles(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var h analysis.Histogram
	LogNormal(40*time.Millisecond, 0.4).Draw(r, 1_000_003, &h)
	if h.Count() != 1_000_003 {
		t.Errorf("%d durations; want 1,000,003", h.Count())
	}
	for q, want := range map[float64]float64{0.5: 40, 0.95: 77.2, 0.99: 101.5} {
		got := float64(h.Quantile(q)) / float64(time.Millisecond)
		if math.Abs(got/want-1) > 0.03 { // a bucket is 2.5 %
			t.Errorf("p%v = %.1f ms; want %.1f", 100*q, got, want)
		}
	}
}

// days have everything that a day can have.
func days() map[string]Day {
	outage := Day{Rate: 30, Stable: 0.01, Canary: 0.05}
	outage.Outage.Fails, outage.Outage.Lasts, outage.Outage.Within = 0.5, time.Minute, time.Minute
	outage.Flaps.Chance, outage.Flaps.Fails = 0.2, 0.3
	return map[string]Day{
		"rare":    {Rate: 0.05, Stable: 0.1, Canary: 0.5},
		"diurnal": {Rate: 40, Arrivals: Diurnal, Stable: 0.01, Canary: 0.02, Drift: 10, Length: time.Hour},
		"bursty":  {Rate: 40, Arrivals: Bursty, StableTakes: LogNormal(time.Millisecond, 1), CanaryTakes: LogNormal(time.Millisecond, 1)},
		"retries": {Rate: 40, Stable: 0.05, Canary: 0.1, Tries: 4},
		"sticky":  {Rate: 40, Stable: 0.05, Canary: 0.05, Tries: 4, Sticky: true},
		"parts": {Rate: 40, Endpoints: []Endpoint{
			{Name: "a", Part: 0.7, Stable: 0.1, Canary: 0.1}, {Name: "b", Part: 0.3, Canary: 1},
		}},
		"outage": outage,
		"dead":   {Rate: 2000, Canary: 1},
	}
}

// Whoever looks often sees the same requests as who asks once.
func TestLooksAddUpToTheSpell(t *testing.T) {
	for name, day := range days() {
		run := day.Begin(7)
		var callers, tries int64
		for range 200 {
			s := run.Next(10*time.Second, 0.2)
			if c, o := s.Durations(); c != nil && (c.Count() != s.Counts.CanaryRequests || o.Count() != s.Counts.StableRequests) {
				t.Fatalf("%s: %d and %d durations of %+v", name, c.Count(), o.Count(), s.Counts)
			}
			var sum analysis.Samples
			last := s.From
			for at, seen := range s.Looks(250 * time.Millisecond) {
				if at <= last || at > s.To {
					t.Fatalf("%s: a look at %v follows %v, in a spell until %v", name, at, last, s.To)
				}
				last = at
				sum = sum.Add(*seen)
			}
			if (sum.Users != nil) != day.Sticky {
				t.Fatalf("%s: users are %v", name, sum.Users)
			}
			if u := sum.Users; u != nil {
				callers, tries = callers+u.Failures(), tries+sum.Failures()
				if again := sum.Counts.Less(u.Counts); again.Requests() != again.Failures() || again.CanaryFailures < 0 || again.StableFailures < 0 {
					t.Fatalf("%s: users %+v of requests %+v: other than failures come again", name, u.Counts, sum.Counts)
				}
			}
			if sum.Counts != s.Counts {
				t.Fatalf("%s: looks saw %+v; want %+v", name, sum.Counts, s.Counts)
			}
			if c, _ := s.Durations(); c != nil && sum.CanaryLatency.Count() != s.Counts.CanaryRequests {
				t.Fatalf("%s: looks saw %d durations; want %d", name, sum.CanaryLatency.Count(), s.Counts.CanaryRequests)
			}
			var parts analysis.Counts
			for _, x := range sum.Strata {
				parts = parts.Add(x.Counts)
			}
			if len(day.Endpoints) > 0 && parts != s.Counts {
				t.Fatalf("%s: endpoints have %+v; want %+v", name, parts, s.Counts)
			}
		}
		if perUser := float64(tries) / float64(max(1, callers)); day.Sticky && math.Abs(perUser-day.Tries) > 0.2 {
			t.Errorf("%s: a user who fails does so %.2f times; want %v", name, perUser, day.Tries)
		}
	}
}

func TestTheSeedDecidesTheDay(t *testing.T) {
	for name, day := range days() {
		total := func(seed uint64, looking bool) (sum analysis.Counts) {
			run := day.Begin(seed)
			for range 100 {
				s := run.Next(10*time.Second, 0.2)
				if looking {
					for range s.Looks(time.Second) {
						break
					}
				}
				sum = sum.Add(s.Counts)
			}
			return sum
		}
		if a, b := total(1, false), total(1, true); a != b {
			t.Errorf("%s: %+v, and with somebody looking %+v; want the same", name, a, b)
		}
		if a, b := total(1, false), total(2, false); a == b {
			t.Errorf("%s: seeds 1 and 2 both give %+v", name, a)
		}
	}
}

// Rates and shares are what the day says, whatever the arrivals.
func TestADayHasItsRates(t *testing.T) {
	for name, want := range map[string]struct{ rps, stable, canary float64 }{
		"bursty":  {40, 0, 0},
		"retries": {42, 0.05 / 1.05, 0.1 / 1.05},
		"parts":   {40, 0.07, 0.37},
		"dead":    {2000, 0, 1},
	} {
		day := days()[name]
		var sum analysis.Counts
		const spells = 2000
		run := day.Begin(11)
		for range spells {
			sum = sum.Add(run.Next(10*time.Second, 0.2).Counts)
		}
		near := func(what string, got, want float64) {
			if math.Abs(got-want) > 0.08*want {
				t.Errorf("%s: %s %.4f; want %.4f", name, what, got, want)
			}
		}
		near("requests per second", float64(sum.Requests())/(10*spells), want.rps)
		near("share", float64(sum.CanaryRequests)/float64(sum.Requests()), 0.2)
		near("stable's failures", sum.StableRate(), want.stable)
		near("canary's failures", sum.CanaryRate(), want.canary)
	}
}

func TestLimit(t *testing.T) {
	for _, x := range []struct{ share, stable, canary, want float64 }{
		{0.1, 0, 0.5, 54}, {0.1, 0.001, 0.01, 6356}, {0.1, 0.01, 0.03, 6133}, {0.1, 0.01, 0.01, 0},
	} {
		d := Day{Stable: x.stable, Canary: x.canary}
		if got := math.Ceil(d.Limit(x.share, 0.001)); math.Abs(got-x.want) > 1 {
			t.Errorf("%+v: limit %v", x, got)
		}
	}
}
