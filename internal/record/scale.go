package record

import "serin.dev/serin/internal/analysis"

// scaler turns samples of one split into those of another. It remembers the
// fractions of requests that it could not give yet, so that in the long run
// none is lost.
type scaler struct {
	strata map[string]*stratumScale
	spared stratumScale
	most   float64 // the largest factor
}

// stratumScale are those fractions for one endpoint.
type stratumScale struct{ canary, stable sideScale }

type sideScale struct{ requests, failures, latency float64 }

// samples are what was seen at a canary's share of had, as if it had been has;
// both are above 0. They are of requests alone: which users would have been on
// which side is not recorded.
func (s *scaler) samples(seen *analysis.Samples, had, has float64) analysis.Samples {
	if s.strata == nil {
		s.strata = map[string]*stratumScale{}
	}
	canary, stable := has/had, 0.0
	if had < 1 {
		stable = (1 - has) / (1 - had)
	}
	s.most = max(s.most, canary, stable)
	var out analysis.Samples
	rest := analysis.Stratum{Counts: seen.Counts, CanaryLatency: seen.CanaryLatency, StableLatency: seen.StableLatency}
	for i := range seen.Strata {
		o := &seen.Strata[i]
		take(&rest, o)
		scaled := s.stratum(o, canary, stable)
		out.Strata = append(out.Strata, scaled)
		add(&out, &scaled)
	}
	// Requests of no endpoint; where none are told apart, all of them.
	scaled := s.stratum(&rest, canary, stable)
	add(&out, &scaled)
	out.Spared = s.spare(&seen.Spared, &out.Counts, canary, stable)
	return out
}

// spare scales the part of the counts that users were spared.
func (s *scaler) spare(seen, of *analysis.Counts, canary, stable float64) (out analysis.Counts) {
	c, o := &s.spared.canary, &s.spared.stable
	out.CanaryRequests, out.CanaryFailures = c.tries(seen.CanaryRequests, seen.CanaryFailures, canary, of.CanaryFailures)
	out.StableRequests, out.StableFailures = o.tries(seen.StableRequests, seen.StableFailures, stable, of.StableFailures)
	return out
}

// take takes a part out of the whole.
func take(whole, part *analysis.Stratum) {
	whole.CanaryRequests -= part.CanaryRequests
	whole.CanaryFailures -= part.CanaryFailures
	whole.StableRequests -= part.StableRequests
	whole.StableFailures -= part.StableFailures
	for i := range part.CanaryLatency {
		whole.CanaryLatency[i] -= min(whole.CanaryLatency[i], part.CanaryLatency[i])
		whole.StableLatency[i] -= min(whole.StableLatency[i], part.StableLatency[i])
	}
}

func add(whole *analysis.Samples, part *analysis.Stratum) {
	whole.Counts = whole.Counts.Add(part.Counts)
	whole.CanaryLatency.Merge(&part.CanaryLatency)
	whole.StableLatency.Merge(&part.StableLatency)
}

func (s *scaler) stratum(seen *analysis.Stratum, canary, stable float64) analysis.Stratum {
	left := s.strata[seen.Name]
	if left == nil {
		left = &stratumScale{}
		s.strata[seen.Name] = left
	}
	out := analysis.Stratum{Name: seen.Name}
	out.CanaryRequests, out.CanaryFailures = left.canary.counts(seen.CanaryRequests, seen.CanaryFailures, canary)
	out.StableRequests, out.StableFailures = left.stable.counts(seen.StableRequests, seen.StableFailures, stable)
	left.canary.histogram(&out.CanaryLatency, &seen.CanaryLatency, canary)
	left.stable.histogram(&out.StableLatency, &seen.StableLatency, stable)
	return out
}

// counts multiplies requests and the failed ones among them.
func (s *sideScale) counts(requests, failures int64, factor float64) (int64, int64) {
	s.requests += float64(requests) * factor
	s.failures += float64(failures) * factor
	n := int64(s.requests + rounding)
	failed := min(n, int64(s.failures+rounding))
	s.requests -= float64(n)
	s.failures -= float64(failed)
	return n, failed
}

// tries multiplies failures that users were spared, which are most at most, and
// those among them that count as requests of their own.
func (s *sideScale) tries(requests, failures int64, factor float64, most int64) (int64, int64) {
	s.requests += float64(requests) * factor
	s.failures += float64(failures) * factor
	failed := min(most, int64(s.failures+rounding))
	n := min(failed, int64(s.requests+rounding))
	s.requests -= float64(n)
	s.failures -= float64(failed)
	return n, failed
}

// histogram multiplies counts of durations: of a fraction, every so manieth
// request is taken, the fast ones first.
func (s *sideScale) histogram(out, seen *analysis.Histogram, factor float64) {
	for i, n := range seen {
		if n == 0 {
			continue
		}
		s.latency += float64(n) * factor
		whole := uint32(s.latency + rounding)
		out[i] += whole
		s.latency -= float64(whole)
	}
}

// rounding keeps ten times a tenth a whole.
const rounding = 1e-9
