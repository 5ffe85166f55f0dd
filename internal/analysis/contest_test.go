package analysis

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// version draws answers: the chance to fail, and the median of the duration.
type version struct {
	fails  float64
	median time.Duration
}

func (v version) answer(r *rand.Rand) Side {
	s := Side{Requests: 1}
	if r.Float64() < v.fails {
		s.Failures = 1
	}
	s.Latency.Observe(time.Duration(float64(v.median) * math.Exp(0.5*r.NormFloat64())))
	return s
}

// contest plays looks of a few requests, and returns the evidence both ways.
func contest(seed uint64, m Metric, a, b version, share float64, looks int) (first, second float64) {
	r := rand.New(rand.NewPCG(seed, 7))
	var c Contest
	var past Side
	for range looks {
		var x, y Side
		for range 1 + r.IntN(4) {
			if r.Float64() < share {
				x = x.Add(a.answer(r))
			} else {
				y = y.Add(b.answer(r))
			}
		}
		c = c.Observe(m, x, y, past, share)
		past = past.Add(x).Add(y)
	}
	return c.LogE()
}

// TestTheBetterVersionIsFound: of two that differ, the better one is shown to
// be it within the requests that a small service has in minutes.
func TestTheBetterVersionIsFound(t *testing.T) {
	tests := []struct {
		name   string
		metric Metric
		a, b   version
		looks  int
	}{
		{"it fails 2 % of its requests, the other one 10 %", ErrorRate, version{fails: 0.02}, version{fails: 0.10}, 600},
		{"it takes 20 ms, the other one 30 ms", DurationP50, version{median: 20 * time.Millisecond}, version{median: 30 * time.Millisecond}, 600},
		{"its slow requests take two thirds as long", DurationP95, version{median: 20 * time.Millisecond}, version{median: 30 * time.Millisecond}, 1500},
	}
	const runs, alpha = 100, 0.001
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found, wrong := 0, 0
			for seed := range uint64(runs) {
				first, second := contest(seed, tt.metric, tt.a, tt.b, 0.5, tt.looks)
				if first >= math.Log(1/alpha) {
					found++
				}
				if second >= math.Log(1/alpha) {
					wrong++
				}
			}
			if found < 95 || wrong > 0 {
				t.Errorf("of %d runs, %d found the better version and %d the worse; want at least 95 and 0", runs, found, wrong)
			}
		})
	}
}

// TestEqualVersionsAreSeldomToldApart: with an allowed error of 5 % for each
// way, looking at each request, at most so many runs of equal versions end with
// a winner, whatever the metric and the split.
func TestEqualVersionsAreSeldomToldApart(t *testing.T) {
	same := version{fails: 0.05, median: 20 * time.Millisecond}
	runs := uint64(200)
	if testing.Short() {
		runs = 50
	}
	const alpha = 0.05
	for _, m := range []Metric{ErrorRate, DurationP50, DurationP99} {
		for _, share := range []float64{0.5, 0.1} {
			told := 0
			for seed := range runs {
				first, second := contest(seed, m, same, same, share, 300)
				for _, logE := range []float64{first, second} {
					if logE >= math.Log(1/alpha) {
						told++
					}
				}
			}
			// Two questions, each wrong at most alpha of the time; 4 standard
			// deviations above that never happen by chance.
			most := 2*alpha*float64(runs) + 4*math.Sqrt(2*alpha*float64(runs))
			if float64(told) > most {
				t.Errorf("%s at %v: %d of %d questions about equal versions were answered; want at most %.0f", m, share, told, 2*runs, most)
			}
		}
	}
}

// TestAContestIsSymmetrical: who comes first decides nothing.
func TestAContestIsSymmetrical(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	a, b := version{fails: 0.02, median: 20 * time.Millisecond}, version{fails: 0.2, median: 25 * time.Millisecond}
	for _, m := range []Metric{ErrorRate, DurationP90} {
		var c, swapped Contest
		var past Side
		for range 500 {
			x, y := a.answer(r), b.answer(r)
			c = c.Observe(m, x, y, past, 0.5)
			swapped = swapped.Observe(m, y, x, past, 0.5)
			past = past.Add(x).Add(y)
		}
		first, second := c.LogE()
		other, one := swapped.LogE()
		if first != one || second != other {
			t.Errorf("%s: evidence %v and %v; swapped %v and %v", m, first, second, one, other)
		}
	}
}

func TestAContestSurvivesStorage(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	v := version{fails: 0.3, median: time.Millisecond}
	var c Contest
	past := Side{}
	for range 40 {
		x, y := v.answer(r), v.answer(r)
		c = c.Observe(DurationP50, x, y, past, 0.5)
		past = past.Add(x).Add(y)
	}
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var read Contest
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, read); diff != "" {
		t.Errorf("written and read (-want +got):\n%s", diff)
	}
}

func TestMetricsThatCannotBeCompared(t *testing.T) {
	for _, m := range []Metric{"", SuccessRate, "songs"} {
		if err := CheckContest(m); err == nil {
			t.Errorf("CheckContest(%q) = nil; want a refusal", m)
		}
		c := Contest{}.Observe(m, Side{Requests: 100, Failures: 100}, Side{Requests: 100}, Side{}, 0.5)
		if first, second := c.LogE(); first != 0 || second != 0 || c.Block != (quad{}) {
			t.Errorf("%q was compared", m)
		}
	}
}
