// Package metric asks the metric systems of others for one number, such as an
// error rate, of which a check then says whether it lies in its range.
//
// A [Template] is Flagger's MetricTemplate without Kubernetes: where to ask, with
// which credentials, and a query with placeholders. [Render] fills these in, New
// makes the [Provider] of a [Config], and Query asks once. Nothing is kept between
// two questions, so a Provider may be made anew for each.
//
// "There are no values" ([ErrNoValues]) and "the question failed" (any other error)
// are different answers, and neither says anything about the canary. This
// package never decides what an answer means for a release, never tries again
// by itself, and never lets a credential into an error.
//
// Read next: metric.go for the types, ask.go for how every provider speaks HTTP,
// then the file of one provider.
package metric
