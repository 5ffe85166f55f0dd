// Package analysis judges a canary against the stable version from counts of
// requests: pure statistics, from Samples to a Verdict with its Evidence.
//
// A Judge answers two questions, and may be asked after every request, because
// both answers hold at any time one chooses to look:
//
//   - Is the canary worse? failure.go: a conditional e-process. A version that
//     is no worse is failed with probability at most Policy.FalseAlarm over the
//     whole run.
//   - Is it shown to be good enough for the next share of traffic? bound.go: a
//     confidence sequence for the difference of the failure rates.
//
// Absolute limits in Flagger's manner are in check.go.
//
// The package reads no clock, does no I/O, draws no random numbers and imports
// the standard library alone: the same samples in the same order give the same
// verdict, on every machine. It never treats missing data as success or as
// failure.
//
// Read next: internal/rollout, which acts on verdicts.
package analysis
