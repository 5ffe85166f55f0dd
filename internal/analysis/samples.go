package analysis

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
	// sides: these alone compare the versions fairly.
	Counts
	// DirectRequests reached the canary otherwise, such as a load test that
	// calls the canary's own service. They say what the canary does, and so
	// count for the checks, but not how it compares.
	DirectRequests, DirectFailures int64
	// Latency of the requests of each side, the canary's direct ones included.
	CanaryLatency Histogram
	StableLatency Histogram
}

// Add returns the sum of two samples.
func (s Samples) Add(t Samples) Samples {
	s.Counts = s.Counts.Add(t.Counts)
	s.DirectRequests += t.DirectRequests
	s.DirectFailures += t.DirectFailures
	s.CanaryLatency.Merge(&t.CanaryLatency)
	s.StableLatency.Merge(&t.StableLatency)
	return s
}
