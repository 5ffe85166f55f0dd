package controller

import (
	"fmt"
	"strconv"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/telemetry"
)

// explains gives a cause where failed requests are the reason. What a version
// that was rolled back for something else failed besides would mislead.
func explains(kind analysis.Kind, canary v1alpha1.Version, endpoints []telemetry.Endpoint) *v1alpha1.Cause {
	switch kind {
	case analysis.Failures, analysis.Budget:
		return causeOf(canary, endpoints)
	case analysis.Latency, analysis.Checked, analysis.Hook:
	}
	return nil
}

// causeOf explains a rollback by what the tally saw: the endpoint with the
// most failures on the canary, both sides of it, and one failed request. It
// returns nil where no request of the canary failed. What it counts is more than
// what was judged, of which the reason tells, and it says so.
func causeOf(canary v1alpha1.Version, endpoints []telemetry.Endpoint) *v1alpha1.Cause {
	if len(endpoints) == 0 || endpoints[0].Canary.Failures == 0 {
		return nil
	}
	e := endpoints[0]
	c := &v1alpha1.Cause{
		Version:  nameOf(canary),
		Endpoint: e.Name,
		Canary:   count(e.Canary),
		Stable:   count(e.Stable),
		Example:  example(e.Example),
	}
	c.Summary = fmt.Sprintf("in the whole run %s fails %s of %s (%d of %d requests), stable %s (%d of %d)",
		c.Version, share(e.Canary), e.Name, e.Canary.Failures, e.Canary.Requests,
		share(e.Stable), e.Stable.Failures, e.Stable.Requests)
	if x := c.Example; x != nil {
		at := x.Time.UTC().Format("15:04:05.000Z")
		if x.Masked {
			c.Summary += fmt.Sprintf("; for example a try of %s %s at %s, which a retry masked", x.Method, x.Path, at)
			return c
		}
		c.Summary += fmt.Sprintf("; for example %s %s answered %d at %s", x.Method, x.Path, x.Code, at)
	}
	return c
}

func example(r *telemetry.Request) *v1alpha1.Example {
	if r == nil {
		return nil
	}
	x := &v1alpha1.Example{
		RequestID:  r.ID,
		Method:     r.Method,
		Path:       r.Path,
		Code:       int32(r.Code),
		Flags:      r.Flags,
		Source:     r.Source.Name,
		Pod:        r.Destination.Pod,
		DurationMS: strconv.FormatFloat(float64(r.Duration)/float64(time.Millisecond), 'f', 1, 64),
		Masked:     r.Masked != "" && !r.Failed(),
	}
	if x.Masked {
		x.Pod = "" // of the retry
	}
	x.Time.Time = r.Start
	return x
}

// share writes failures as people read them: "48.3 %".
func share(c telemetry.Count) string {
	if c.Requests == 0 {
		return "0 %"
	}
	return strconv.FormatFloat(100*float64(c.Failures)/float64(c.Requests), 'f', 1, 64) + " %"
}

func count(c telemetry.Count) v1alpha1.Count {
	return v1alpha1.Count{Requests: int64(c.Requests), Failures: int64(c.Failures)}
}

// nameOf is what people call a version.
func nameOf(v v1alpha1.Version) string {
	if v.Label != "" {
		return v.Label
	}
	return "revision " + v.Revision
}
