package analysis

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// crowd are users who stay on a side, and ask again and again: the slow and
// obvious way to know what they say.
type crowd struct {
	r     *rand.Rand
	share float64
	each  int // requests of a user on average
	// of draws the rates at which users of stable, and of the canary, fail.
	of    [2]func(*rand.Rand) float64
	users []*member
	seen  Counts // what next saw
	news  Users
}

type member struct {
	canary             bool
	rate               float64
	requests, failures int64
}

// always fails so many of the users all the time, and the others never.
func always(part float64) func(*rand.Rand) float64 {
	return func(r *rand.Rand) float64 {
		if r.Float64() < part {
			return 1
		}
		return 0
	}
}

// alike fails every user at a rate.
func alike(rate float64) func(*rand.Rand) float64 {
	return func(*rand.Rand) float64 { return rate }
}

func (m *member) part() float64 { return float64(m.failures) / float64(max(1, m.requests)) }

// look is a look at one request.
func (c *crowd) look() Samples {
	c.next()
	news := c.news
	return Samples{Counts: c.seen, ByUser: true, Users: &news}
}

// next is one request: of a user who is new, or of one who is not.
func (c *crowd) next() {
	var m *member
	if len(c.users) == 0 || c.r.IntN(c.each) == 0 {
		m = &member{canary: c.r.Float64() < c.share}
		side := 0
		if m.canary {
			side = 1
		}
		m.rate = c.of[side](c.r)
		c.users = append(c.users, m)
	} else {
		m = c.users[int(float64(len(c.users))*math.Sqrt(c.r.Float64()))] // rather one of the later ones
	}
	before, first := m.part(), m.failures == 0
	m.requests++
	failed := c.r.Float64() < m.rate
	if failed {
		m.failures++
	}
	one := Counts{StableRequests: 1}
	if failed {
		one.StableFailures = 1
	}
	c.news = Users{}
	u := &c.news
	if m.requests == 1 {
		u.StableRequests, u.Stable.Users = 1, 1
	}
	if failed && first {
		u.StableFailures = 1
	}
	u.Stable.Failing = m.part() - before
	if m.canary {
		one.CanaryRequests, one.CanaryFailures, one.StableRequests, one.StableFailures = one.StableRequests, one.StableFailures, 0, 0
		u.CanaryRequests, u.CanaryFailures, u.StableRequests, u.StableFailures = u.StableRequests, u.StableFailures, 0, 0
		u.Canary, u.Stable = u.Stable, UserSum{}
	}
	c.seen = one
}

// TestConfidenceIsInUsersWhereTheyStay: a canary that fails as many more of what
// its users ask for as it must not passes in one run of twenty at most, however
// often each of them asks, and whether it fails some of them always or all of
// them at times. A good one passes.
func TestConfidenceIsInUsersWhereTheyStay(t *testing.T) {
	const runs, delta, confidence = 300, 0.2, 0.95
	users := 100
	passes := func(stable, canary func(*rand.Rand) float64, each int) (passed int) {
		for seed := range uint64(runs) {
			c := crowd{r: rand.New(rand.NewPCG(seed, uint64(each))), share: 0.3, each: each, of: [2]func(*rand.Rand) float64{stable, canary}}
			var test userTest
			for len(c.users) < users {
				n := len(c.users)
				c.next()
				test = test.add(&c.news)
				if (n < len(c.users) || c.r.IntN(8) == 0) && test.logE(delta) >= -math.Log(1-confidence) {
					passed++
					break
				}
			}
		}
		return passed
	}
	mean := (1 - confidence) * runs
	most := int(mean + 3*math.Sqrt(mean))
	for _, each := range []int{1, 30} {
		for _, bad := range []struct {
			what           string
			stable, canary func(*rand.Rand) float64
		}{
			{"20 % of the users always", always(0), always(0.2)},
			{"20 % of each one's requests", alike(0), alike(0.2)},
			{"24 % of the users, and stable 4 %", always(0.04), always(0.24)},
		} {
			if passed := passes(bad.stable, bad.canary, each); passed > most {
				t.Errorf("%d requests per user: the canary fails %s and passed in %d of %d runs; want at most %d", each, bad.what, passed, runs, most)
			} else {
				t.Logf("%d requests per user: the canary fails %s and passed in %d of %d runs", each, bad.what, passed, runs)
			}
		}
	}
	users = 400
	for _, each := range []int{1, 5} {
		for _, good := range []struct {
			what string
			both func(*rand.Rand) float64
		}{
			{"never", always(0)},
			{"2 % of the users always", always(0.02)},
			{"each user at 5 % of the requests", alike(0.05)},
		} {
			if passed := passes(good.both, good.both, each); passed < runs*9/10 {
				t.Errorf("%d requests per user: both fail %s and %d of %d passed; want nine of ten", each, good.what, passed, runs)
			}
		}
	}
}

// TestACanaryThatFailsSomeUsersIsNotGivenMore: three of ten of its users always,
// each of whom asks thirty times. By requests nearly all such canaries passed.
func TestACanaryThatFailsSomeUsersIsNotGivenMore(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, Tolerance: 0.05, Confidence: 0.95, Shares: []float64{0.25, 1}} // 20 % more
	const runs, users = 100, 40
	passed := 0
	for seed := range uint64(runs) {
		c := crowd{r: rand.New(rand.NewPCG(seed, 5)), share: 0.1, each: 30, of: [2]func(*rand.Rand) float64{always(0), always(0.3)}}
		j := Judge{}.NextStep(policy, c.share, start)
		for len(c.users) < users && j.Decide(policy, 0.25).Verdict != Pass {
			j = j.Observe(policy, c.look(), start)
		}
		if len(c.users) < users {
			passed++
		}
	}
	if passed > 10 {
		t.Errorf("%d of %d passed", passed, runs)
	}
}

// TestAUserWhoFailsAfterAllIsTakenBack: those who were served well do not
// count as served well for ever.
func TestAUserWhoFailsAfterAllIsTakenBack(t *testing.T) {
	u := userTest{Canary: UserSum{Users: 30}, Stable: UserSum{Users: 270}}
	if logE := u.logE(0.2); logE < 3 {
		t.Fatalf("30 users without a failure: log e-value %v; want at least 3", logE)
	}
	u.Canary = u.Canary.add(UserSum{Failing: 9})
	if logE := u.logE(0.2); logE > 0 {
		t.Errorf("9 of them failed since: log e-value %v; want none", logE)
	}
}

// TestAnOutageShowsNothingOfUsers: that both fail alike is no evidence that the
// canary serves well.
func TestAnOutageShowsNothingOfUsers(t *testing.T) {
	u := userTest{Canary: UserSum{400, 380}, Stable: UserSum{3600, 3420}}
	if logE := u.logE(0.2); logE > 0 || !u.paused() {
		t.Errorf("log e-value %v while 95 %% fails", logE)
	}
}

// TestUserGuessesAreOneBet: the parts add up to what is bet, and each guess can be.
func TestUserGuessesAreOneBet(t *testing.T) {
	for _, delta := range []float64{0.001, 0.01, 0.05, 0.2, 0.9} {
		sum := 0.0
		userGuesses(delta, func(q1, q0, part float64) {
			sum += part
			if q1 < 0 || q1 > q0 || q0 >= 1 || part <= 0 {
				t.Errorf("delta %v: guess %v and %v with %v", delta, q1, q0, part)
			}
		})
		if math.Abs(sum-1) > 1e-12 {
			t.Errorf("delta %v: the parts add up to %v", delta, sum)
		}
	}
}

// TestWhatIsCollectedIsUsers: what the judge says it waits for is what it counts.
func TestWhatIsCollectedIsUsers(t *testing.T) {
	policy := Policy{FalseAlarm: 0.001, Tolerance: 0.05, Confidence: 0.95, Shares: []float64{0.5, 1}}
	j := Judge{}.NextStep(policy, 0.1, start)
	j = j.Observe(policy, Samples{
		Counts: Counts{CanaryRequests: 300, StableRequests: 2700}, ByUser: true,
		Users: &Users{Counts: Counts{CanaryRequests: 10, StableRequests: 90}, Canary: UserSum{Users: 10}, Stable: UserSum{Users: 90}},
	}, start)
	e := j.Decide(policy, 1)
	if want := "collecting evidence: 10 of about 80 canary users"; e.Verdict != Collecting || e.Reason != want || e.Needed < 70 || e.Needed > 90 {
		t.Errorf("%v: %q, needed %d; want %q", e.Verdict, e.Reason, e.Needed, want)
	}
	j = j.Observe(policy, Samples{}, start.Add(silent)) // a look at nothing
	if e := j.Decide(policy, 1); e.Reason != "collecting evidence: 10 of about 80 canary users, no new user for 1m" {
		t.Errorf("%q", e.Reason)
	}
	j = j.Observe(policy, Samples{
		Counts: Counts{CanaryRequests: 100, StableRequests: 900}, ByUser: true,
		Users: &Users{Canary: UserSum{Users: 100}, Stable: UserSum{Users: 900}},
	}, start.Add(silent))
	want := "at most 5 % more of the canary's requests fail, each user weighing the same, with 95 % confidence: canary failed 0 % of the requests of 110 users, stable 0 % of those of 990"
	if e := j.Decide(policy, 1); e.Verdict != Pass || e.Reason != want {
		t.Errorf("%v: %q; want %q", e.Verdict, e.Reason, want)
	}
}

// TestUsersWhoFailAlikeAreNoFalseAlarm: users differ in how often they fail, in
// how often they ask and in when they come, but not by side, and a look is taken
// after every request. The failure test ever meets 1/α in at most so many runs.
func TestUsersWhoFailAlikeAreNoFalseAlarm(t *testing.T) {
	const runs, requests = 400, 3000
	alphas := []float64{0.2, 0.05, 0.01}
	for _, each := range []int{1, 5, 30} {
		for _, share := range []float64{0.5, 0.1} {
			crossed := make(crossings, len(alphas))
			for seed := range uint64(runs) {
				c := crowd{r: rand.New(rand.NewPCG(seed, 13)), share: share, each: each}
				both := func(r *rand.Rand) float64 { // who comes early fails more
					return r.Float64() * r.Float64() * 20 / float64(20+len(c.users))
				}
				c.of = [2]func(*rand.Rand) float64{both, both}
				var test failureTest
				for range requests {
					c.next()
					test = test.observeUsers(c.news.Counts)
				}
				crossed.count(alphas, &test)
			}
			crossed.check(t, fmt.Sprintf("%d requests per user, share %v", each, share), alphas, runs)
		}
	}
}
