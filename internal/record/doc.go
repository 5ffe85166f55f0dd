// Package record keeps what a run of a release, or an experiment, was decided
// on, so that its decisions can be shown, replayed and, of a release, tried with
// another plan.
//
// A record is a file per run, one JSON value per line: who and what (the first
// line), the plan, the state before, and then each look: what was observed, as
// far as it differs from the look before, with what was decided on it. Because
// rollout.Step and experiment.Step are pure, these lines give the same decisions
// again on any machine by the same rules; by later rules they show where those
// differ.
//
// Records are evidence beside the journal, never in its place: nothing is
// decided by reading one, and a release goes on when its record cannot be
// written. A line is in the file before the decision on it takes effect; a
// crash leaves at most a part of the last line, which readers pass over, and
// the next process goes on in the same file. A look that cannot be written is
// missing, and the next one says so; the last one of a run, which has no next, is
// written later.
//
// Read next: store.go for the files, ending.go for last looks, line.go for what
// stands in the files, machine.go for what of it is a release's and what an
// experiment's, replay.go and backtest.go for what they are good for.
package record
