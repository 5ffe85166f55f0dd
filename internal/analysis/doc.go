// Package analysis judges a canary against the stable version from counts of
// requests: pure statistics, from Samples to a Verdict with its Evidence.
//
// A Judge may be asked after every request, because what it answers holds at
// any time one chooses to look (what of this is proven, and what is measured, say
// the files):
//
//   - Does the canary fail more than stable? failure.go: a conditional
//     e-process (eprocess.go says what that is).
//   - Is it slower than the policy tolerates? latency.go: the same test on
//     requests over thresholds; and while it warms up, warmup.go.
//   - Is either so in one endpoint? strata.go, which also says how the chance of
//     a false alarm is shared out: a version that is neither worse nor slower is
//     failed with probability at most Policy.FalseAlarm over the whole run.
//   - What did it cost the users? cost.go: failed requests that it caused, and
//     a budget of them.
//   - Is it shown to be good enough for the next share of traffic? bound.go: a
//     confidence sequence for the difference of the failure rates; users.go where
//     users stay with a version.
//
// Which of several versions is the best one is asked pair by pair: contest.go.
//
// Limits in Flagger's manner, absolute or relative to stable, are in check.go.
//
// The package reads no clock, does no I/O, draws no random numbers and imports
// the standard library alone: the same samples in the same order give the same
// verdict, on every machine. It never treats missing data as success or as
// failure.
//
// Read next: internal/rollout, which acts on verdicts.
package analysis
