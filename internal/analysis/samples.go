package analysis

import (
	"slices"
	"time"
)

// Counts are requests, and the failures (5xx or no answer) among them, of both
// sides of one split over the same time.
type Counts struct {
	CanaryRequests int64 `json:"canaryRequests"`
	CanaryFailures int64 `json:"canaryFailures"`
	StableRequests int64 `json:"stableRequests"`
	StableFailures int64 `json:"stableFailures"`
}

// Add returns the sum of two counts.
func (c Counts) Add(d Counts) Counts {
	return Counts{
		CanaryRequests: c.CanaryRequests + d.CanaryRequests,
		CanaryFailures: c.CanaryFailures + d.CanaryFailures,
		StableRequests: c.StableRequests + d.StableRequests,
		StableFailures: c.StableFailures + d.StableFailures,
	}
}

// Less returns what is left of the counts without a part of them.
func (c Counts) Less(part Counts) Counts {
	return Counts{
		CanaryRequests: c.CanaryRequests - part.CanaryRequests,
		CanaryFailures: c.CanaryFailures - part.CanaryFailures,
		StableRequests: c.StableRequests - part.StableRequests,
		StableFailures: c.StableFailures - part.StableFailures,
	}
}

// Requests returns the requests of both sides.
func (c Counts) Requests() int64 { return c.CanaryRequests + c.StableRequests }

// Failures returns the failures of both sides.
func (c Counts) Failures() int64 { return c.CanaryFailures + c.StableFailures }

// CanaryRate returns the share of the canary's requests that failed, 0 to 1;
// 0 without requests.
func (c Counts) CanaryRate() float64 { return ratio(c.CanaryFailures, c.CanaryRequests) }

// StableRate returns the share of the stable version's requests that failed, 0
// to 1; 0 without requests.
func (c Counts) StableRate() float64 { return ratio(c.StableFailures, c.StableRequests) }

func ratio(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// Samples are what was seen since the last look: increments, not totals, of
// requests that were sent after every proxy acknowledged the present split.
type Samples struct {
	// Counts are of requests that a weighted split sent to one of the two
	// sides: these alone compare the versions fairly. A try that failed and was
	// made again counts as failed: with more of them retries are used up.
	Counts
	// Spared is the part of Counts that users were spared: failures that a retry
	// mended, and as requests the tries that were counted beside the user's own
	// request, because the other side answered that one.
	Spared Counts
	// Latency of those that did not fail: what users wait for answers. How long
	// a failure takes says how it failed, not how fast the version is.
	CanaryLatency, StableLatency Histogram
	// ByUser: the split keeps users on their side. Then Users, not requests, are
	// the evidence that the canary is worse.
	ByUser bool
	Users  *Users // nil: none says anything new
	// Strata are the same requests once more, by endpoint; their sums are the
	// totals above. Those without a request may be left out, and all of them
	// where nobody tells endpoints apart.
	Strata []Stratum

	// StableDown: for a part of the time no pod of stable was there to answer.
	// What failed then says nothing of the stable version, so that a canary
	// which fails less is not shown to be good by it.
	StableDown bool

	// DirectRequests reached the canary otherwise, such as a load test that
	// calls the canary's own service. They say what the canary does, and so
	// count for the checks, but not how it compares.
	DirectRequests, DirectFailures int64
	DirectLatency                  Histogram
	// DirectSpared is the part of DirectFailures that users were spared: those
	// that a retry mended, and those of requests that were no user's.
	DirectSpared int64

	// Own are requests that were sent to fill what users' leave missing. They
	// are in none of the counts above.
	Own Own

	// Measured are values of external metrics that were read since.
	Measured []Measured
}

// Own is own load: requests of nobody, each sent to one of the two sides by an
// even chance. Users are split otherwise and ask for other things, so counts of
// both are never put together: of two versions that are alike the one that gets
// more of the harder requests would look worse (Simpson's paradox).
type Own struct {
	Counts
	CanaryLatency, StableLatency Histogram
	Strata                       []Stratum // the same requests by endpoint
}

// ownShare is the canary's share of own load.
const ownShare = 0.5

// ownStratum is how strata of own load are named, so that they are not taken
// for those of users.
const ownStratum = "own load: "

// MaxStrata is how many endpoints a run tells apart. Whoever counts puts
// requests of further ones into OtherEndpoints.
const MaxStrata = 64

// OtherEndpoints is the name of the stratum of all endpoints beyond MaxStrata.
const OtherEndpoints = "other endpoints"

// Stratum is one endpoint's part of the samples. A fault in an endpoint that
// few requests ask for is lost in the total; here it is found, and named.
type Stratum struct {
	Name string // such as "GET /api/v1/music/{id}"
	Counts
	CanaryLatency, StableLatency Histogram
	Users                        *Users // as of Samples
}

// Users are the users of a split that keeps them on a side, as far as they tell
// something new. Requests are users who were seen for the first time since the
// step began, failures those who failed for the first time in the run,
// whichever side they were on; each user has one duration in a run.
type Users struct {
	Counts
	CanaryLatency, StableLatency Histogram
	// Canary and Stable are what their users met in all; of Samples.Users alone.
	Canary, Stable UserSum
}

// news is what users say that is new, nothing for nil.
func (u *Users) news() *Users {
	if u == nil {
		return &Users{}
	}
	return u
}

// add returns the sum in memory of its own; nil of two nils.
func (u *Users) add(o *Users) *Users {
	switch {
	case o == nil:
		return u
	case u == nil:
		u = &Users{}
	}
	sum := *u
	sum.Counts = sum.Counts.Add(o.Counts)
	sum.CanaryLatency.Merge(&o.CanaryLatency)
	sum.StableLatency.Merge(&o.StableLatency)
	sum.Canary, sum.Stable = sum.Canary.add(o.Canary), sum.Stable.add(o.Stable)
	return &sum
}

// NewUsers is what the samples say of users that is new. A request of nobody that
// is known was drawn by itself, and is as good as a user.
func (s *Samples) NewUsers() *Users {
	if s.ByUser {
		return s.Users.news()
	}
	return &Users{
		Counts: s.Counts, CanaryLatency: s.CanaryLatency, StableLatency: s.StableLatency,
		Canary: sumOf(s.CanaryRequests, s.CanaryFailures), Stable: sumOf(s.StableRequests, s.StableFailures),
	}
}

// Measured is one look at the metric of an external check: what a provider
// answered for each side, or why it did not. No value and an error are neither
// good nor bad; an error is never good.
type Measured struct {
	// Check is the index in Policy.Checks.
	Check int
	// Canary and Stable are the values, in the metric's own unit; NaN is none.
	// Stable's is needed for bounds relative to it alone.
	Canary, Stable       Value
	HasCanary, HasStable bool
	// Err is set when the provider could not be asked, or made no sense.
	Err string
	At  time.Time
}

// Add returns the sum of two samples. It leaves both as they are.
func (s Samples) Add(t Samples) Samples {
	s.Counts = s.Counts.Add(t.Counts)
	s.Spared = s.Spared.Add(t.Spared)
	s.CanaryLatency.Merge(&t.CanaryLatency)
	s.StableLatency.Merge(&t.StableLatency)
	s.ByUser = s.ByUser || t.ByUser
	s.Users = s.Users.add(t.Users)
	s.DirectRequests += t.DirectRequests
	s.DirectFailures += t.DirectFailures
	s.DirectLatency.Merge(&t.DirectLatency)
	s.DirectSpared += t.DirectSpared
	s.Measured = append(slices.Clip(s.Measured), t.Measured...)
	s.Strata = addStrata(s.Strata, t.Strata)
	s.Own = s.Own.add(&t.Own)
	return s
}

// add returns the sum of two. It leaves both as they are.
func (o Own) add(p *Own) Own {
	o.Counts = o.Counts.Add(p.Counts)
	o.CanaryLatency.Merge(&p.CanaryLatency)
	o.StableLatency.Merge(&p.StableLatency)
	o.Strata = addStrata(o.Strata, p.Strata)
	return o
}

// addStrata returns the sum of two lists of strata, each name once.
func addStrata(s, t []Stratum) []Stratum {
	s = slices.Clone(s)
	for i := range t {
		add := &t[i]
		at := slices.IndexFunc(s, func(o Stratum) bool { return o.Name == add.Name })
		if at < 0 {
			s = append(s, *add)
			continue
		}
		o := &s[at]
		o.Counts = o.Counts.Add(add.Counts)
		o.CanaryLatency.Merge(&add.CanaryLatency)
		o.StableLatency.Merge(&add.StableLatency)
		o.Users = o.Users.add(add.Users)
	}
	return s
}
