package telemetry

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/mesh"
)

func by(user uint64) func(*Request) { return func(r *Request) { r.User = user } }

// A user counts once as seen, once as failed and with one duration; in each
// endpoint as well.
func TestUsersOfAStickySplitCountOnce(t *testing.T) {
	var hub Hub
	warm := spec
	warm.WarmUp = 10 * time.Second
	tally := hub.Tally(warm)
	tally.Rebase(Baseline{Snapshot: 7, At: t0})
	later := at(10 * time.Second)
	hub.Record(request("music-canary.default", 200, by(1)))
	hub.Record(request("music-canary.default", 500, by(1), later))
	hub.Record(request("music-canary.default", 500, by(1), later, path("/albums")))
	hub.Record(request("music-canary.default", 200, by(1), later))
	hub.Record(request("music-stable.default", 200, by(2), later))
	hub.Record(request("music-stable.default", 200, by(2), later))
	hub.Record(request("music-stable.default", 500, later)) // of nobody that is known
	got := tally.Take().Samples
	if !got.ByUser {
		t.Fatal("users are not the evidence")
	}
	want := analysis.Counts{CanaryRequests: 1, CanaryFailures: 1, StableRequests: 2, StableFailures: 1}
	if diff := cmp.Diff(want, got.Users.Counts); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	sums := [2]analysis.UserSum{{Users: 1, Failing: 2. / 4}, {Users: 2, Failing: 1}}
	if diff := cmp.Diff(sums, [2]analysis.UserSum{got.Users.Canary, got.Users.Stable}); diff != "" {
		t.Errorf("sums over users (-want +got):\n%s", diff)
	}
	if c, s := got.Users.CanaryLatency.Count(), got.Users.StableLatency.Count(); c != 1 || s != 1 {
		t.Errorf("%d and %d durations; want one of each user, of an answer after the warm-up", c, s)
	}
	if got.CanaryRequests != 4 || got.CanaryLatency.Count() != 2 {
		t.Errorf("%d requests; want all 4, of which 2 were answered", got.CanaryRequests)
	}
	of := map[string]analysis.Counts{}
	for _, s := range got.Strata {
		of[s.Name] = s.Users.Counts
	}
	want = analysis.Counts{CanaryRequests: 1, CanaryFailures: 1}
	if diff := cmp.Diff(want, of["GET /albums"]); diff != "" {
		t.Errorf("users of the other endpoint (-want +got):\n%s", diff)
	}

	hub.Record(request("music-canary.default", 500, by(1), later)) // seen by no look before the next step
	tally.Rebase(Baseline{Snapshot: 8, At: t0})
	hub.Record(request("music-canary.default", 200, by(1), snapshot(8), later))
	hub.Record(request("music-canary.default", 500, by(2), snapshot(8), later)) // got the canary with the larger share
	got = tally.Take().Samples
	want = analysis.Counts{CanaryRequests: 2, CanaryFailures: 1}
	if diff := cmp.Diff(want, got.Users.Counts); diff != "" {
		t.Errorf("users of the next step, of whom one failed before (-want +got):\n%s", diff)
	}
	if n, grew := got.Users.Canary.Users, got.Users.Canary.Failing; n != 1 || math.Abs(grew-1) > 1e-9 {
		t.Errorf("%d users are new on the canary, and %v fail more; want 1, and no change of the other one's half", n, grew)
	}
}

// TestWhoAsksWithoutEndIsCounted: the part that failed stays the part.
func TestWhoAsksWithoutEndIsCounted(t *testing.T) {
	var p userPart
	for i := range 1_000_000 {
		p.add(i%4 == 0)
		if got := p.failing(); i > 100 && math.Abs(got-0.25) > 0.01 {
			t.Fatalf("after %d requests %v of them failed; want 0.25", i+1, got)
		}
	}
}

func TestRequestsThatAreDrawnHaveNoUsers(t *testing.T) {
	var hub Hub
	tally := hub.Tally(spec)
	tally.Rebase(Baseline{Snapshot: 7, At: t0})
	hub.Record(request("music-canary.default", 500))
	if got := tally.Take().Samples; got.ByUser || got.Users != nil || got.Strata[0].Users != nil {
		t.Errorf("samples = %+v; want no users", got)
	}
}

// Users who are taken for others are few, and as many on either side.
func TestUsersAreToldApart(t *testing.T) {
	var set userSet
	missed := [2]int{}
	const users = 20_000
	r := rand.New(rand.NewPCG(1, 2))
	for range users {
		user := r.Uint64()
		if !set.add(mix(user)) {
			missed[user%2]++ // as a split by halves chooses
		}
	}
	// Of 2^20 bits 20,000 take 190 twice on average.
	if all := missed[0] + missed[1]; all < 120 || all > 260 {
		t.Errorf("%d of %d users were taken for others; want about 190", all, users)
	}
	if off := missed[0] - missed[1]; off < -60 || off > 60 {
		t.Errorf("%d on one side and %d on the other", missed[0], missed[1])
	}
}

// Users differ: some call a hundred times as often as others, and a few fail
// always. By requests such a canary, no worse, is failed in many runs; by users it
// is as often as the policy allows, and one that is worse is found.
func TestUsersWhoFailAgainAndAgainAreNoFalseAlarm(t *testing.T) {
	const runs = 100
	policy := analysis.Policy{FalseAlarm: 0.05}
	play := func(seed uint64, worse float64, sticky bool) bool {
		var hub Hub
		tally := hub.Tally(spec)
		defer tally.Close()
		tally.Rebase(Baseline{Snapshot: 7, At: t0})
		r := rand.New(rand.NewPCG(seed, 1))
		var judge analysis.Judge
		judge = judge.NextStep(policy, 0.2, t0)
		side := map[int]mesh.ServiceName{}
		for i := range 2000 {
			user := int(400 * r.Float64() * r.Float64() * r.Float64())
			if side[user] == "" {
				side[user] = spec.Stable
				if r.Float64() < 0.2 {
					side[user] = spec.Canary
				}
			}
			code := 200
			if mix(uint64(user)^seed)%20 == 0 || side[user] == spec.Canary && r.Float64() < worse {
				code = 500
			}
			q := request(side[user], code)
			if sticky {
				q.User = uint64(user) + 1
			}
			hub.Record(q)
			if i%10 == 9 {
				judge = judge.Observe(policy, tally.Take().Samples, t0)
			}
		}
		return judge.Decide(policy, 1).Verdict == analysis.Fail
	}
	var byRequest, byUser, found int
	for seed := range uint64(runs) {
		for _, c := range []struct {
			count  *int
			worse  float64
			sticky bool
		}{{&byRequest, 0, false}, {&byUser, 0, true}, {&found, 0.2, true}} {
			if play(seed, c.worse, c.sticky) {
				*c.count++
			}
		}
	}
	if byUser > 12 { // 5 % of 100, with a standard deviation of 2.2
		t.Errorf("by users %d of %d equal versions were failed; want at most 5 %%", byUser, runs)
	}
	if byRequest < 12 {
		t.Errorf("by requests %d of %d equal versions were failed: the test is invalid", byRequest, runs)
	}
	if found < runs*9/10 {
		t.Errorf("by users %d of %d worse versions were found", found, runs)
	}
}
