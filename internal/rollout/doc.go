// Package rollout moves one release forward: a pure state machine from
// observations to decisions.
//
// Step takes the state and what was observed and returns the next state, with
// events for people. State.Want says what the world has to look like in that
// state: share of the canary, scale, revision of the stable copy. The caller
//
//  1. observes and calls Step,
//  2. writes the new State to where it survives a crash (see MustWrite), and
//     tries until that is done,
//  3. makes the world equal to Want, and makes the calls of hooks in it, again
//     and again.
//
// A crash between any two of these is harmless: before 2 nothing happened, and
// after 2 the next process makes the same world from the same state. Events,
// which are stored with the state until they are told, may be told twice; a call
// of a hook is repeated with the ID that it had.
// Where several processes may lead, one that takes over has to write the state
// once before it acts: the write of a leader that was not told is then refused.
//
// What can delay a run (gates, hooks that confirm, holds, evidence, capacity,
// a suspension) delays what raises the canary's share, and nothing else. The
// canary is judged in every phase in which it has traffic, and a failure, an
// abort or a deadline takes it back whatever is being waited for.
//
// The package reads no clock, does no I/O, draws no random numbers and imports
// nothing but the standard library and analysis, so a week of rollout replays
// in a millisecond. No phase waits without saying for what, and until when if
// anybody knows; each wait that another party could leave unanswered has a
// deadline.
//
// Read next: phases.go for the way of a run, progress.go, promote.go and back.go
// for its parts; passage.go for gates, set.go for releases with one verdict, hook.go for hooks, capacity.go for pods;
// testdata for what users see; sim for the proof that it holds together.
package rollout
