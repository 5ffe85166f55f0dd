package telemetry

import (
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/mesh"
)

// Side is one of the two versions under comparison.
type Side uint8

// The sides.
const (
	StableSide Side = iota
	CanarySide
)

// TallySpec says what to count.
type TallySpec struct {
	Stable, Canary mesh.ServiceName // backends
	// Warm is the backend that may answer in the place of Stable; "" = none.
	Warm mesh.ServiceName
	// Routes are the objects that send the users' requests to one of the two.
	// A request that reached the canary otherwise was sent there by name.
	Routes []mesh.Origin
	// Service is the backend to which none of Routes sends a request; "" = there
	// is none. What other objects send there went past the two.
	Service mesh.ServiceName
	// Shared is the backend behind which the pods of both sides are, and draw
	// their share of the requests; "" = there is none. The canary's are those
	// of the workload CanaryWorkload.
	Shared         mesh.ServiceName
	CanaryWorkload string
	// Own is who sends own load: requests of no user, which count for the
	// comparison and for nothing else. The zero value: nobody. It waits
	// OwnTimeout for an answer.
	Own        mesh.Workload
	OwnTimeout time.Duration
	// WarmUp is for how long since the canary's first request durations of users
	// are not asked for: they have one each.
	WarmUp time.Duration
	// Failed is called after a failed request of either side was counted, on
	// the request's goroutine; it must not block. Of both, because looking
	// more often after one side's failures would favour the other. nil:
	// nobody is told.
	Failed func()
}

// Count of requests and of failures among them.
type Count struct{ Requests, Failures uint64 }

func (c *Count) add(failed bool) {
	c.Requests++
	if failed {
		c.Failures++
	}
}

// maxEndpoints bounds what one run remembers: services have tens of
// endpoints; a path that holds identifiers we cannot tell from words would
// otherwise grow without end. Requests beyond go to analysis.OtherEndpoints.
const maxEndpoints = analysis.MaxStrata

// Tally counts the requests of one run of a release. It is safe for
// concurrent use.
type Tally struct {
	hub  *Hub
	spec TallySpec

	mu        sync.Mutex
	base      Baseline
	taken     Increment
	takes     uint64    // how often what was taken began anew
	measured  [2]uint64 // split requests by side under the present baseline
	run       Run
	endpoints map[string]*endpointTally
	name      []byte // in which an endpoint's name is made
	sticky    *users // nil: the split draws each request
}

// Baseline says from when on requests count as samples.
type Baseline struct {
	// Snapshot is the first under which the present split is in effect
	// everywhere; requests routed under an earlier one are no samples. Zero:
	// none are.
	Snapshot mesh.SnapshotVersion
	// At is when the last proxy had it.
	At time.Time
	// CutOff: this split gives the canary nothing.
	CutOff bool
	// Matched: the users who get the canary were chosen, so the others' requests
	// are no samples.
	Matched bool
	// Mirrored: samples are the answers to copies, and to what was copied.
	Mirrored bool
}

// Increment is what was counted since it was taken last.
type Increment struct {
	Samples analysis.Samples // under the present baseline
	Arrived int64            // requests to either side, however answered; not those that chose the canary themselves
	Late    int64            // canary requests that began after a baseline that cuts it off
	Copies  Copies           // under the present baseline
	Served  map[string]int64 // good answers of stable pods by revision, under the baseline
	// Past are the users' requests to the Service that went past the two, by the
	// object that sent them there. They count as nothing else.
	Past map[mesh.Origin]int64
}

// Run is what a run has cost so far.
type Run struct {
	Canary, Stable Count
	// FirstCanary is when the first request that reached the canary began.
	FirstCanary time.Time
}

// Endpoint is what one endpoint did on both sides during a run, failures that a
// retry mended included.
type Endpoint struct {
	Name           string // as EndpointName makes it
	Canary, Stable Count
	// Example is a failed request of the canary, if there is one a user met; nil
	// without one.
	Example *Request
}

type endpointTally struct {
	name    string
	sides   [2]Count
	example *Request
	number  uint64 // of the endpoint, from 1
	// stratum is the endpoint's index in the samples of that take.
	stratum int
	take    uint64
}

// Close ends the counting; the counts remain readable.
func (t *Tally) Close() { t.hub.drop(t) }

// sideOf says whose request it was; ok is false where none of the two was
// reached.
func (t *Tally) sideOf(r *Request) (side Side, ok bool) {
	switch {
	case r.Backend == t.spec.Canary:
		return CanarySide, true
	case r.Backend != t.spec.Shared:
		return StableSide, true
	case r.Destination.Name == t.spec.CanaryWorkload:
		return CanarySide, true
	}
	return StableSide, r.Destination.Name != ""
}

// compares reports whether it was drawn at random which side gets the request.
func (t *Tally) compares(r *Request) bool {
	return r.Split && !t.base.Matched || r.Backend == t.spec.Shared
}

// users reports whether the request was for the service, not for the canary.
func (t *Tally) users(r *Request, side Side) bool {
	return side == StableSide || r.Split || r.Backend == t.spec.Shared || slices.Contains(t.spec.Routes, r.Route)
}

// Copies sum up the comparison of answers to copies with those of users.
type Copies struct {
	// Compared are pairs of the canary and stable, Differ those whose answers
	// were not the same; the others the same for pairs of stable and stable.
	Compared, Differ, NoiseCompared, NoiseDiffer int64
	// Example says how two of them differed.
	Example string
}

// addCopy counts a copy's answer beside that to the request, which is counted
// where it was made.
func (t *Tally) addCopy(r *Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.base.Snapshot == 0 || r.Snapshot < t.base.Snapshot || !t.base.Mirrored {
		return
	}
	c := &t.taken.Copies
	differs := r.Compared && r.Differs != ""
	if r.Kind == NoiseCopy {
		count(&c.NoiseCompared, r.Compared)
		count(&c.NoiseDiffer, differs)
		return
	}
	if t.run.FirstCanary.IsZero() || r.Start.Before(t.run.FirstCanary) {
		t.run.FirstCanary = r.Start
	}
	count(&c.Compared, r.Compared)
	count(&c.Differ, differs)
	if differs && c.Example == "" {
		c.Example = strings.Clone(r.Method) + " " + strings.Clone(r.Path) + ": " + strings.Clone(r.Differs)
	}
	s, failed := &t.taken.Samples, r.Failed()
	stratum := t.stratum(t.endpoint(r))
	addCanary(&s.Counts, &s.CanaryLatency, r.Duration, failed)
	addCanary(&stratum.Counts, &stratum.CanaryLatency, r.Duration, failed)
	addStable(&s.Counts, &s.StableLatency, r.Original.Duration, r.Original.Failed)
	addStable(&stratum.Counts, &stratum.StableLatency, r.Original.Duration, r.Original.Failed)
}

func count(n *int64, yes bool) {
	if yes {
		*n++
	}
}

// addOwn counts own load. It is sent to each version by its name, so it
// compares them whatever the split is.
func (t *Tally) addOwn(r *Request) {
	side, ok := t.sideOf(r)
	failed := r.Failed() || r.Masked != ""
	if r.Code == 0 && r.GRPC == "" { // nobody waits for the answer any more
		ok = ok && r.Duration >= t.spec.OwnTimeout // else it was we who stopped
		failed = true
	}
	if !ok {
		return
	}
	t.mu.Lock()
	if side == CanarySide && (t.run.FirstCanary.IsZero() || r.Start.Before(t.run.FirstCanary)) {
		t.run.FirstCanary = r.Start
	}
	e := t.addEndpoint(r, side, failed)
	if t.base.Snapshot != 0 && r.Snapshot >= t.base.Snapshot {
		t.addOwnSample(r, side, failed, e.name)
	}
	t.mu.Unlock()
	if failed && t.spec.Failed != nil {
		t.spec.Failed()
	}
}

func (t *Tally) addOwnSample(r *Request, side Side, failed bool, endpoint string) {
	own := &t.taken.Samples.Own
	i := slices.IndexFunc(own.Strata, func(o analysis.Stratum) bool { return o.Name == endpoint })
	if i < 0 {
		i = len(own.Strata)
		own.Strata = append(own.Strata, analysis.Stratum{Name: endpoint})
	}
	stratum := &own.Strata[i]
	if side == CanarySide {
		addCanary(&own.Counts, &own.CanaryLatency, r.Duration, failed)
		addCanary(&stratum.Counts, &stratum.CanaryLatency, r.Duration, failed)
	} else {
		addStable(&own.Counts, &own.StableLatency, r.Duration, failed)
		addStable(&stratum.Counts, &stratum.StableLatency, r.Duration, failed)
	}
}

// addPast counts a request that was not ours to route, if an object says so.
func (t *Tally) addPast(r *Request) {
	own := r.Source == t.spec.Own && r.Source != mesh.Workload{}
	if own || r.Kind != UsersRequest || r.Route == (mesh.Origin{}) || slices.Contains(t.spec.Routes, r.Route) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken.Past == nil {
		t.taken.Past = map[mesh.Origin]int64{}
	}
	t.taken.Past[r.Route]++
}

func (t *Tally) add(r *Request) {
	side, ok := t.sideOf(r)
	if !ok {
		t.mu.Lock()
		t.taken.Arrived++
		t.mu.Unlock()
		return
	}
	failed := r.Failed()
	t.mu.Lock()
	t.addRun(r, side, failed)
	// What another try mended was no failure to a user, but it is one of the
	// version: with less luck, or with retries used up, the next user meets it.
	masked, at := r.Masked != "", side
	if masked && r.Backend == t.spec.Shared {
		at = StableSide
		if r.Masked == t.spec.CanaryWorkload {
			at = CanarySide
		}
	}
	bad := failed || masked && at == side
	e := t.addEndpoint(r, side, bad)
	if masked && at != side {
		t.addEndpoint(r, at, true)
	}
	if t.base.Snapshot != 0 && r.Snapshot >= t.base.Snapshot {
		t.addSample(r, side, bad, e)
		if masked && at != side {
			t.addTry(r, at, e)
		}
	}
	t.mu.Unlock()
	if (failed || masked) && t.spec.Failed != nil {
		t.spec.Failed()
	}
}

func (t *Tally) addRun(r *Request, side Side, failed bool) {
	users := t.users(r, side)
	if users {
		t.taken.Arrived++
	}
	if side == StableSide {
		t.run.Stable.add(failed)
		return
	}
	t.run.Canary.add(failed)
	if t.run.FirstCanary.IsZero() || r.Start.Before(t.run.FirstCanary) {
		t.run.FirstCanary = r.Start
	}
	if t.base.CutOff && users && r.Start.After(t.base.At) {
		t.taken.Late++
	}
}

func (t *Tally) addEndpoint(r *Request, side Side, failed bool) *endpointTally {
	e := t.endpoint(r)
	e.sides[side].add(failed)
	if failed && side == CanarySide && (e.example == nil || r.Failed() && !e.example.Failed()) {
		e.example = r.Clone()
	}
	return e
}

// endpoint finds the tally of the endpoint that the request called.
func (t *Tally) endpoint(r *Request) *endpointTally {
	t.name = appendEndpointName(t.name[:0], r.Method, r.Path)
	e := t.endpoints[string(t.name)] // looked up without making the string
	if e == nil {
		e = t.newEndpoint()
	}
	return e
}

// newEndpoint begins to count the endpoint of that name, or finds the one for
// all that are too many.
func (t *Tally) newEndpoint() *endpointTally {
	name := string(t.name)
	if len(t.endpoints) >= maxEndpoints {
		name = analysis.OtherEndpoints
		if e := t.endpoints[name]; e != nil {
			return e
		}
	}
	e := &endpointTally{name: name, number: uint64(len(t.endpoints)) + 1}
	t.endpoints[name] = e
	return e
}

// addSample counts a request on the side that answered the user.
func (t *Tally) addSample(r *Request, side Side, failed bool, e *endpointTally) {
	if side == StableSide && !r.Failed() {
		if t.taken.Served == nil {
			t.taken.Served = map[string]int64{}
		}
		t.taken.Served[r.Destination.Revision]++
	}
	s := &t.taken.Samples
	if !t.compares(r) { // chosen by somebody, not at random: it does not compare the sides
		if side == CanarySide {
			s.DirectRequests++
			took(&s.DirectLatency, r.Duration, failed)
			if failed {
				s.DirectFailures++
				count(&s.DirectSpared, !r.Failed() || !t.users(r, side))
			}
		}
		return
	}
	t.measured[side]++
	if t.base.Mirrored {
		return
	}
	t.addCompared(r, side, failed, e)
	if failed && !r.Failed() {
		spare(&s.Spared, side, 0)
	}
}

// addTry counts a try that failed on another side than the one that answered the
// user: for the judge a request of its own, for users none.
func (t *Tally) addTry(r *Request, side Side, e *endpointTally) {
	if t.base.Mirrored {
		return
	}
	t.addCompared(r, side, true, e)
	spare(&t.taken.Samples.Spared, side, 1)
}

// spare counts a failure that users were spared, and the requests that it was
// counted as beside the user's own.
func spare(c *analysis.Counts, side Side, requests int64) {
	if side == CanarySide {
		c.CanaryRequests += requests
		c.CanaryFailures++
		return
	}
	c.StableRequests += requests
	c.StableFailures++
}

// addCompared counts what compares the two sides.
func (t *Tally) addCompared(r *Request, side Side, failed bool, e *endpointTally) {
	s, stratum := &t.taken.Samples, t.stratum(e)
	if side == CanarySide {
		addCanary(&s.Counts, &s.CanaryLatency, r.Duration, failed)
		addCanary(&stratum.Counts, &stratum.CanaryLatency, r.Duration, failed)
	} else {
		addStable(&s.Counts, &s.StableLatency, r.Duration, failed)
		addStable(&stratum.Counts, &stratum.StableLatency, r.Duration, failed)
	}
	if t.sticky == nil && r.User != 0 {
		t.sticky = new(users)
	}
	if t.sticky != nil {
		warm := !t.run.FirstCanary.IsZero() && r.Start.Sub(t.run.FirstCanary) >= t.spec.WarmUp
		s.ByUser = true
		s.Users = t.sticky.add(s.Users, r, 0, side, failed, warm)
		t.sticky.sum(s.Users, r, side, failed)
		stratum.Users = t.sticky.add(stratum.Users, r, e.number, side, failed, warm)
	}
}

func addCanary(c *analysis.Counts, latency *analysis.Histogram, d time.Duration, failed bool) {
	c.CanaryRequests++
	if failed {
		c.CanaryFailures++
	}
	took(latency, d, failed)
}

func addStable(c *analysis.Counts, latency *analysis.Histogram, d time.Duration, failed bool) {
	c.StableRequests++
	if failed {
		c.StableFailures++
	}
	took(latency, d, failed)
}

// took counts what a user waited for an answer. A failure is none: one that
// comes at once, as in an outage, makes nothing faster.
func took(latency *analysis.Histogram, d time.Duration, failed bool) {
	if !failed {
		latency.Observe(d)
	}
}

// stratum is the endpoint's part of the samples that are being counted.
func (t *Tally) stratum(e *endpointTally) *analysis.Stratum {
	strata := &t.taken.Samples.Strata
	if e.take != t.takes { // takes is at least 1, as there is a baseline
		e.take, e.stratum = t.takes, len(*strata)
		*strata = append(*strata, analysis.Stratum{Name: e.name})
	}
	return &(*strata)[e.stratum]
}

// Rebase begins a new measurement. Samples that were not taken yet are dropped,
// but for what changed in the sums over the users of the run.
func (t *Tally) Rebase(b Baseline) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.base = b
	users := t.taken.Samples.Users
	t.taken.Samples, t.taken.Copies = analysis.Samples{}, Copies{}
	if users != nil {
		t.taken.Samples.ByUser, t.taken.Samples.Users = true, &analysis.Users{Canary: users.Canary, Stable: users.Stable}
	}
	t.takes++
	t.taken.Served = nil
	t.measured = [2]uint64{}
	if t.sticky != nil {
		t.sticky.seen = userSet{}
	}
}

// Baseline returns the present one.
func (t *Tally) Baseline() Baseline {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.base
}

// Take returns what was counted since the last Take.
func (t *Tally) Take() Increment {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.taken
	t.taken = Increment{}
	t.takes++
	return i
}

// Measured is the canary's share of the split requests under the present baseline, between 0
// and 1; ok is false without traffic.
func (t *Tally) Measured() (share float64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.measured[CanarySide] + t.measured[StableSide]
	if all == 0 {
		return 0, false
	}
	return float64(t.measured[CanarySide]) / float64(all), true
}

// Run returns the cost so far.
func (t *Tally) Run() Run {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.run
}

// Endpoints lists what each endpoint did, the one with the most failures on
// the canary first.
func (t *Tally) Endpoints() []Endpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Endpoint, 0, len(t.endpoints))
	for name, e := range t.endpoints {
		out = append(out, Endpoint{Name: name, Canary: e.sides[CanarySide], Stable: e.sides[StableSide], Example: e.example})
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if a.Canary.Failures != b.Canary.Failures {
			return a.Canary.Failures > b.Canary.Failures
		}
		return a.Name < b.Name
	})
	return out
}
